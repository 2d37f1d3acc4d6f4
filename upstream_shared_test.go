package caddyhtpasswd

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// startGroups runs a Caddy with a group for each path. It returns a function that sends n
// requests to a path and counts the answers, and one that reloads the configuration.
func startGroups(t *testing.T, groups map[string]string) (send func(path string, n int) string, reload func()) {
	t.Helper()
	var options, routes strings.Builder
	for name, lines := range groups {
		fmt.Fprintf(&options, "upstream %s {\n%s\n}\n", name, lines)
		fmt.Fprintf(&routes, "proxy_pass /%s* %s\n", name, name)
	}
	site := "{\nhttp_port {http}\n" + options.String() + "}\nhttp://localhost:{http} {\n" + routes.String()
	s := startServer(t, site+"}\n")
	send = func(path string, n int) string {
		var order []string
		for range n {
			a := s.plain(path, nil)
			if a.status != http.StatusOK {
				a.body = fmt.Sprint(a.status)
			}
			order = append(order, a.body)
		}
		return counted(order, "a", "b", "502", "503")
	}
	return send, func() { must(t, s.reload(site+"}\n")) }
}

// TestGroupsShareFailures has groups that name the same server. The failures are counted by
// address, as docs/reference/upstream.md says.
func TestGroupsShareFailures(t *testing.T) {
	dead, tried := brokenBackend(t)
	b := strings.TrimPrefix(namedBackend(t, "b").URL, "http://")
	both := "\nserver " + b + "\nfail_duration 1h\n"
	send, reload := startGroups(t, map[string]string{
		"first":  "server " + dead + both,
		"second": "server " + dead + both,
		"more":   "server " + dead + both + "max_fails 3",
		"off":    "server " + dead + both + "max_fails 0",
		"other":  "server tcp/" + dead + both, // another spelling
	})
	for _, step := range []struct {
		path     string
		attempts int64
	}{
		{"/off", 4},    // tries it every second time, and counts nothing
		{"/first", 1},  // the first failure
		{"/second", 0}, // which counts here, too
		{"/more", 2},   // until there are three
		{"/off", 4},    // does not look at the count
		{"/other", 1},  // has a count of its own
	} {
		before := tried.Load()
		if got := send(step.path, 8); got != "b=8" {
			t.Errorf("%s: got answers %s, want b=8", step.path, got)
		}
		if got := tried.Load() - before; got != step.attempts {
			t.Errorf("%s: the broken server was tried %d times, want %d", step.path, got, step.attempts)
		}
	}
	before := tried.Load()
	reload()
	eventually(t, "the failures are forgotten after a reload", func() bool {
		send("/first", 2)
		return tried.Load() > before
	})
}

// TestGroupsShareMaxConns has two groups that name the same server. Each compares the
// requests of both with its own limit.
func TestGroupsShareMaxConns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/wait") {
			entered <- struct{}{}
			<-leave
		}
		io.WriteString(w, "a")
	}))
	t.Cleanup(a.Close)
	b := "\nserver " + strings.TrimPrefix(namedBackend(t, "b").URL, "http://") + " backup"
	address := a.Listener.Addr().String()
	send, _ := startGroups(t, map[string]string{
		"first":  "server " + address + " max_conns=1" + b,
		"second": "server " + address + " max_conns=1" + b,
		"more":   "server " + address + " max_conns=2" + b,
		"other":  "server tcp/" + address + " max_conns=1" + b,
	})
	done := make(chan string)
	go func() { done <- send("/first/wait", 1) }()
	<-entered
	for path, want := range map[string]string{"/first": "b=3", "/second": "b=3", "/more": "a=3", "/other": "a=3"} {
		if got := send(path, 3); got != want {
			t.Errorf("%s, with a request of the first group at a: got answers %s, want %s", path, got, want)
		}
	}
	close(leave)
	if got := <-done; got != "a=1" {
		t.Errorf("got answer %s, want a=1", got)
	}
}
