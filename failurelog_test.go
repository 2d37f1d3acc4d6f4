package caddyhtpasswd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelog"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// TestFailureLog checks the log lines: one for each failed login and each exceeded limit.
// Under a flood, their number is bounded, and a line counts the rest.
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
		want := map[string]any{"client_ip": "192.0.2.1", "user": "alice", "reason": resultReasons[resultWrongPassword], "host": "", "realm": "Restricted"}
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
		want = map[string]any{"client_ip": "192.0.2.1", "user": "alice", "limit": "login", "failures": int64(10), "window": "1m0s", "host": "", "realm": "Restricted"}
		if !maps.Equal(got, want) {
			t.Errorf("limit exceeded: got %v, want %v", got, want)
		}
		if n := lines(""); n != 9+1 {
			t.Errorf("got %d lines for 9 failed logins and an exceeded limit, want 10", n)
		}
		// A client that goes away causes a line, too.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(hashTime/2, cancel)
		c := credentialsOf("bob", "guess")
		if _, err := h.check(ctx, origin{ip: "192.0.2.1"}, c); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		c.release()
		time.Sleep(hashTime)
		if n := lines("login failed"); n != 1 {
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
		if listed := len(slices.DeleteFunc(all, func(e observer.LoggedEntry) bool { return e.Message != "login failed" })); int64(listed)+leftOut != n {
			t.Errorf("flood: got %d lines and %d left out, want %d in all", listed, leftOut, n)
		}
	})
}

// TestFilterReadsFailedLogins has the expression of the fail2ban filter read lines with
// user names and hosts that are made to pass for other fields. Over HTTP/3 a host can
// have any characters.
func TestFilterReadsFailedLogins(t *testing.T) {
	t.Parallel()
	filter, err := os.ReadFile("examples/fail2ban/filter.d/caddy-htpasswd.conf")
	must(t, err)
	failregex := regexp.MustCompile(`(?m)^failregex = (.*)$`).FindSubmatch(filter)
	if failregex == nil {
		t.Fatal("the filter has no failregex")
	}
	expression := regexp.MustCompile(strings.Replace(string(failregex[1]), "<ADDR>", "([0-9a-f.:]+)", 1))
	const other = `{"level":"warn","ts":1795513717.481353,"logger":"http.handlers.htpasswd","msg":"login failed","client_ip":"198.51.100.1","user":"a","reason":"wrong password","host":"a","realm":"a"}`
	hostile := []string{
		"alice", "", `"client_ip":"198.51.100.1"`, `a","client_ip":"198.51.100.1","user":"a`, `a","repeated":true,"host":"a`, `a\`, `a\"`, `a\\","reason":"wrong password`,
		"a\n" + other, "a\r" + other, other, "a\xff\u2028\u00a0b", strings.Repeat(`"`, 100), strings.Repeat(`\`, 100),
	}
	var out bytes.Buffer
	encoder := zap.NewProductionEncoderConfig()
	core := zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.AddSync(&out), zap.DebugLevel)
	h := handlerOf(userStores{storeOf(t, "alice:"+shaSecret1+"\nlocked:!\ninvalid:rubbish")}, &cachePolicy{now: time.Now})
	h.logger = zap.New(core).Named("http.handlers.htpasswd")
	h.Realm = `a","reason":"wrong password`
	for i, result := range []result{resultWrongPassword, resultUnknownUser, resultLockedUser, resultInvalidLine, resultMalformed, resultForbidden} {
		for _, text := range hostile {
			for _, repeated := range []bool{false, true} {
				out.Reset()
				from, user := origin{ip: "2001:db8::1", host: text}, text
				if i%2 == 0 {
					from.ip = "192.0.2.1"
				}
				h.logFailure(from, []byte(user), verdict{result: result, repeated: repeated})
				var line map[string]any
				if err := json.Unmarshal(out.Bytes(), &line); err != nil || strings.Count(out.String(), "\n") != 1 {
					t.Fatalf("got %q (%v), want one line of JSON", out.String(), err)
				}
				if line["client_ip"] != from.ip || line["user"] != shown.Short(text) || line["host"] != shown.Short(text) || line["reason"] != resultReasons[result] {
					t.Errorf("%q: got the fields %v", text, line)
				}
				_, rest, _ := strings.Cut(out.String(), `"ts":`)
				got := expression.FindStringSubmatch(strings.TrimLeft(rest, "0123456789.e+"))
				isGuess := !repeated && result != resultMalformed && result != resultForbidden
				if (got != nil) != isGuess || isGuess && got[1] != from.ip {
					t.Errorf("%s: got %q, want it found: %v, with %s", out.String(), got, isGuess, from.ip)
				}
			}
		}
	}
}

// TestUpstreamFailureIsNoFailedLogin has an application that is down. This is no failed
// login.
func TestUpstreamFailureIsNoFailedLogin(t *testing.T) {
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
	if n := strings.Count(s.log(), "login failed"); n != 1 {
		t.Errorf("got %d failed logins in the log, want 1", n)
	}
}
