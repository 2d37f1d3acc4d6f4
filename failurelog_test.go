package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelog"
)

// TestFailureLog is about what is written: one line for each failure and for
// each limit that is exceeded, and under a flood a bounded number, with a
// count of the rest.
func TestFailureLog(t *testing.T) {
	t.Parallel()
	logger, logs := observed()
	lines := func(message string) (n int) {
		for _, entry := range logs.TakeAll() {
			if strings.Contains(entry.Message, message) {
				n++
			}
		}
		return n
	}
	settings := &App{Throttle: &Throttle{Client: &Limit{Off: true}, User: &Limit{Off: true}}}
	underFlood(t, settings, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.logger = logger
		h.expect("192.0.2.1", "alice", "guess", loginWrong)
		got := logs.All()[0].ContextMap()
		want := map[string]any{"client_ip": "192.0.2.1", "user": "alice", "reason": resultReasons[resultWrongPassword], "realm": "Restricted"}
		if logs.Len() != 1 || !maps.Equal(got, want) {
			t.Errorf("first failed login: got %d lines, the first with %v, want 1 with %v", logs.Len(), got, want)
		}
		h.expect("192.0.2.1", "alice", "guess", loginWrong)
		if got := logs.All()[1].ContextMap(); got["repeated"] != true || got["reason"] != resultReasons[resultWrongPassword] {
			t.Errorf("same password again: got %v, want it repeated, reason %q", got, resultReasons[resultWrongPassword])
		}
		logs.TakeAll()
		for i := range 20 {
			h.login("192.0.2.1", "alice", fmt.Sprint("guess", i))
		}
		got = logs.All()[logs.Len()-1].ContextMap()
		want = map[string]any{"client_ip": "192.0.2.1", "user": "alice", "budget": "login", "failures": int64(10), "window": "1m0s", "realm": "Restricted"}
		if !maps.Equal(got, want) {
			t.Errorf("limit exceeded: got %v, want %v", got, want)
		}
		if n := lines(""); n != 9+1 {
			t.Errorf("got %d lines for 9 failed logins and an exceeded limit, want 10", n)
		}
		// Who goes away leaves a line, too.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(hashTime/2, cancel)
		c := credentialsOf("bob", "guess")
		if _, err := h.check(ctx, "192.0.2.1", c); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		c.release()
		time.Sleep(hashTime)
		if n := lines("log-in failed"); n != 1 {
			t.Errorf("got %d lines for a client that went away, want 1", n)
		}
		// A flood.
		time.Sleep(time.Hour)
		logs.TakeAll()
		const n = 5000
		for i := range n {
			h.login("192.0.2.1", fmt.Sprint("user", i), "guess")
		}
		time.Sleep(2 * ratelog.SuppressedEvery)
		all := logs.TakeAll()
		leftOut := int64(0)
		for _, entry := range all {
			if n, ok := entry.ContextMap()["entries"].(int64); ok {
				leftOut += n
			}
		}
		counts := int(n * hashTime / ratelog.SuppressedEvery)
		if written := len(all); written > failureBurst+failureRate*int(n*hashTime/time.Second)+counts+2 {
			t.Errorf("flood: got %d lines, want at most %d", written, failureBurst+failureRate*int(n*hashTime/time.Second)+counts+2)
		}
		if listed := len(slices.DeleteFunc(all, func(e observer.LoggedEntry) bool { return e.Message != "log-in failed" })); int64(listed)+leftOut != n {
			t.Errorf("flood: got %d lines and %d left out, want %d in all", listed, leftOut, n)
		}
	})
}

// TestDeadApplication: a failure of the application is no failed login.
func TestDeadApplication(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	s := startSite(t, nil, map[string]string{"users": alice}, httpsSite(`
	htpasswd {
		file {dir}/users
	}
	reverse_proxy `+dead.Listener.Addr().String()))
	checkStatus(t, s.get("/", "", ""), 401, restricted)
	checkStatus(t, s.get("/", "alice", "wrong"), 401, restricted)
	checkStatus(t, s.get("/", "alice", "secret"), 502, "")
	if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 502, "") }); n != 0 {
		t.Errorf("got %d hashes, want none: the password is cached", n)
	}
	if n := strings.Count(s.log(), "log-in failed"); n != 1 {
		t.Errorf("got %d failed logins in the log, want 1", n)
	}
}
