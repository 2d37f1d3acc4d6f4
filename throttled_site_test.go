package caddyhtpasswd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// These tests check rate limits from the view of a client, with a real Caddy.

// throttleSite is a Caddyfile of one site with settings in global options.
func throttleSite(global, rest string) string {
	return "{\n" + global + "\n}\n" + httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond ok\n"+rest)
}

const (
	threePerHour = "htpasswd {\n\tthrottle login 3 1h\n}"

	behindProxies = "servers {\n\ttrusted_proxies static private_ranges\n\ttrusted_proxies_strict\n}\n"
)

// guess sends different wrong passwords, and returns the last response.
func (s *server) guess(n int, user string, header http.Header) (a answer) {
	s.t.Helper()
	for range n {
		s.guesses++
		h := http.Header{"Authorization": {basic(user, fmt.Sprint("guess", s.guesses))}}
		for name, values := range header {
			h[name] = values
		}
		a = s.send("/", h)
	}
	return a
}

func checkThrottled(t testing.TB, a answer, most time.Duration) {
	t.Helper()
	checkStatus(t, a, http.StatusTooManyRequests, "")
	after, err := strconv.Atoi(a.header.Get("Retry-After"))
	if err != nil || after < 1 || time.Duration(after)*time.Second > most {
		t.Errorf("Retry-After: %q, want 1 to %s", a.header["Retry-After"], most)
	}
}

func TestThrottledAnswers(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, app, map[string]string{"users": alice + bob}, httpsSite(`
	handle_errors 429 {
		respond "{err.status_code} {err.message}"
	}
	htpasswd {
		file {dir}/users
		exempt /open
	}
	reverse_proxy {app}`))
	for version, client := range s.clients() {
		t.Run(version, func(t *testing.T) {
			s := s.in(t, client)
			user := map[string]string{"HTTP/1.1": "alice", "HTTP/2": "nobody"}[version]
			checkStatus(t, s.guess(10, user, nil), 401, restricted)
			n := hashes(func() {
				a := s.guess(20, user, nil)
				checkThrottled(t, a, time.Minute)
				if a.body != "429 too many failed logins" {
					t.Errorf("got %q, want %q", a.body, "429 too many failed logins")
				}
				checkThrottled(t, s.get("/", user, "secret"), time.Minute)
			})
			if n != 0 {
				t.Errorf("got %d hashes over the limit, want none", n)
			}
			checkStatus(t, s.get("/", "", ""), 401, restricted)
			app.None(t)
			checkStatus(t, s.get("/open", "", ""), 200, "")
			checkStatus(t, s.get("/open", user, "guess"), 200, "")
			app.Taken()
		})
	}
	s.get("/", "bob", "hunter2")
	if seen := app.Taken(); len(seen) != 1 {
		t.Errorf("bob, who has not failed: got through %d times, want once", len(seen))
	}
	lines := strings.Count(s.log(), `"login failed"`)
	locks := regexp.MustCompile(`"login rate limit exceeded; .*"limit":"login","failures":10,"window":"1m0s","host":"localhost:[0-9]+"`).FindAllString(s.log(), -1)
	if lines != 20 || len(locks) != 2 {
		t.Errorf("got %d lines for failed logins and %d for exceeded limits, want 20 and 2", lines, len(locks))
	}
	for _, secret := range []string{"guess1", "secret", "Basic "} {
		if strings.Contains(strings.ReplaceAll(s.log(), `Basic realm`, ""), secret) {
			t.Errorf("got %q in the log, want it nowhere", secret)
		}
	}
}

// TestForwardedFor has clients send addresses in X-Forwarded-For. The address that a
// trusted proxy has seen counts.
func TestForwardedFor(t *testing.T) {
	from := func(addresses ...string) http.Header {
		return http.Header{"X-Forwarded-For": {strings.Join(addresses, ", ")}}
	}
	for _, row := range []struct {
		name   string
		global string
		test   func(t *testing.T, s *server)
	}{
		{"an untrusted client cannot choose its address", threePerHour, func(t *testing.T, s *server) {
			for i := range 3 {
				checkStatus(t, s.guess(1, "alice", from(fmt.Sprint("192.0.2.", i))), 401, restricted)
			}
			checkThrottled(t, s.guess(1, "alice", from("192.0.2.9")), time.Hour)
		}},
		{"behind a trusted proxy the client's address counts", behindProxies + threePerHour, func(t *testing.T, s *server) {
			checkThrottled(t, s.guess(4, "alice", from("192.0.2.1")), time.Hour)
			checkStatus(t, s.guess(1, "alice", from("192.0.2.2")), 401, restricted)
			checkStatus(t, s.send("/", http.Header{"X-Forwarded-For": {"192.0.2.2"}, "Authorization": {basic("alice", "secret")}}), 200, "")
		}},
		{"what the client adds on the left does not count", behindProxies + threePerHour, func(t *testing.T, s *server) {
			for i := range 3 {
				checkStatus(t, s.guess(1, "alice", from(fmt.Sprint("198.51.100.", i), "192.0.2.1")), 401, restricted)
			}
			checkThrottled(t, s.guess(1, "alice", from("198.51.100.9", "192.0.2.1")), time.Hour)
			// The client whose address the attacker has sent is not locked out.
			checkThrottled(t, s.guess(5, "alice", from("203.0.113.7", "192.0.2.1")), time.Hour)
			checkStatus(t, s.send("/", http.Header{"X-Forwarded-For": {"203.0.113.7"}, "Authorization": {basic("alice", "secret")}}), 200, "")
		}},
		{"one /64 is one client", behindProxies + threePerHour, func(t *testing.T, s *server) {
			for i := range 3 {
				checkStatus(t, s.guess(1, "alice", from(fmt.Sprintf("2001:db8:1:1:%x::1", i))), 401, restricted)
			}
			checkThrottled(t, s.guess(1, "alice", from("2001:db8:1:1:9::1")), time.Hour)
			checkStatus(t, s.guess(1, "alice", from("2001:db8:1:2::1")), 401, restricted)
		}},
		{"one user from everywhere", behindProxies + "htpasswd {\n\tthrottle login off\n\tthrottle client off\n\tthrottle user 5 1h\n}", func(t *testing.T, s *server) {
			good := func(address string) answer {
				return s.send("/", http.Header{"X-Forwarded-For": {address}, "Authorization": {basic("alice", "secret")}})
			}
			checkStatus(t, good("203.0.113.7"), 200, "")
			for i := range 5 {
				checkStatus(t, s.guess(1, "alice", from(fmt.Sprint("192.0.2.", i))), 401, restricted)
			}
			checkThrottled(t, s.guess(1, "alice", from("192.0.2.99")), time.Hour)
			checkThrottled(t, good("192.0.2.98"), time.Hour)
			checkStatus(t, good("203.0.113.7"), 200, "")
		}},
		{"many users from one address", behindProxies + "htpasswd {\n\tthrottle client 5 1h\n}", func(t *testing.T, s *server) {
			for i := range 5 {
				checkStatus(t, s.guess(1, fmt.Sprint("user", i), from("192.0.2.1")), 401, restricted)
			}
			checkThrottled(t, s.guess(1, "alice", from("192.0.2.1")), time.Hour)
			checkStatus(t, s.guess(1, "alice", from("192.0.2.2")), 401, restricted)
		}},
		{"throttle off", "htpasswd {\n\tthrottle off\n}", func(t *testing.T, s *server) {
			checkStatus(t, s.guess(150, "alice", nil), 401, restricted)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.test(t, startSite(t, nil, map[string]string{"users": alice}, throttleSite(row.global, "")))
		})
	}
}

// TestForwardedForWarning uses Caddy's default, with which a client can choose its
// address.
func TestForwardedForWarning(t *testing.T) {
	const warning = "trusted_proxies without trusted_proxies_strict"
	for global, want := range map[string]int{
		"servers {\n\ttrusted_proxies static private_ranges\n}": 1,
		behindProxies: 0,
		"":            0,
	} {
		s := startSite(t, nil, map[string]string{"users": alice}, throttleSite(global, ""))
		for range 3 {
			s.get("/", "", "")
		}
		if got := strings.Count(s.log(), warning); got != want {
			t.Errorf("%q: %d warnings, not %d", global, got, want)
		}
	}
}

// TestThrottleAcrossReloads checks that failed logins stay counted across a reload, and
// that the new limits apply immediately.
func TestThrottleAcrossReloads(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob}, throttleSite(threePerHour, ""))
	checkThrottled(t, s.guess(4, "alice", nil), time.Hour)
	if err := s.reload(throttleSite(threePerHour, "\theader X-Version 2\n")); err != nil {
		t.Fatal(err)
	}
	checkThrottled(t, s.get("/", "alice", "secret"), time.Hour)
	for _, refused := range []string{
		throttleSite("htpasswd {\n\tthrottle off\n}", "\tnonsense\n"),
		strings.ReplaceAll(throttleSite("htpasswd {\n\tthrottle off\n}", ""), "{dir}/users", "{dir}/missing"),
		throttleSite("htpasswd {\n\tthrottle login 0 1h\n}", ""),
	} {
		if err := s.reload(refused); err == nil {
			t.Fatalf("got no error, want one, for %s", refused)
		}
		checkThrottled(t, s.get("/", "alice", "secret"), time.Hour)
		checkStatus(t, s.guess(1, "bob", nil), 401, restricted)
	}
	// A configuration that Caddy abandons after the start without stopping it.
	config, err := s.adapt(throttleSite("htpasswd {\n\tthrottle off\n}", ""))
	if err != nil {
		t.Fatal(err)
	}
	missing := httptest.NewServer(http.NotFoundHandler()) // Caddy retries a server that is down for seconds
	t.Cleanup(missing.Close)
	config = []byte(strings.Replace(string(config), `"config":{"persist"`, `"config":{"load":{"module":"http","url":"`+missing.URL+`"},"persist"`, 1))
	if err := caddy.Load(config, true); err == nil || !strings.Contains(err.Error(), "HTTP 404") {
		t.Fatalf("got error %v, want one about HTTP 404", err)
	}
	checkThrottled(t, s.get("/", "alice", "secret"), time.Hour)
	checkThrottled(t, s.guess(1, "bob", nil), time.Hour) // the fourth
	if err := s.reload(throttleSite("htpasswd {\n\tthrottle login 4 1h\n}", "")); err != nil {
		t.Fatal(err)
	}
	checkStatus(t, s.get("/", "alice", "secret"), 200, "")
	checkStatus(t, s.guess(1, "bob", nil), 401, restricted)
	checkThrottled(t, s.get("/", "bob", "hunter2"), time.Hour)
	// A change of the line resets the limit.
	s.write("users", alice+"bob:"+shaSecret1+"\n")
	eventually(t, "bob has another password", func() bool {
		return s.get("/", "bob", "secret1").status == 200
	})
}

// TestMoreWorkers starts a configuration with more worker slots while a login waits for
// one. The new slots are used immediately.
func TestMoreWorkers(t *testing.T) {
	config := func(n int) string {
		return throttleSite(fmt.Sprintf("htpasswd {\n\tmax_hashes %d\n\tthrottle off\n}", n), "")
	}
	s := startSite(t, nil, map[string]string{"users": alice}, config(1))
	held, end := make(chan struct{}, 2), make(chan struct{})
	process.guard.verify = func(crypt.Class, string, []byte) bool {
		held <- struct{}{}
		<-end
		return false
	}
	statuses := make(chan int)
	for i := range 2 {
		go func() { statuses <- s.send("/", authorization(basic("alice", fmt.Sprint("guess", i)))).status }()
	}
	<-held
	eventually(t, "one waits", func() bool {
		_, waiting := process.guard.queue.State()
		return waiting == 1
	})
	app := &App{MaxHashes: 2}
	app.setDefaults(zap.NewNop())
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "the hash of the second login starts", func() { <-held })
	close(end)
	for range 2 {
		if got := <-statuses; got != 401 {
			t.Errorf("got status %d, want 401", got)
		}
	}
	if err := app.Stop(); err != nil {
		t.Error(err)
	}
}

// TestUnixSocket has a site without client addresses. Only user names can be told apart.
func TestUnixSocket(t *testing.T) {
	s := startServer(t, "")
	s.write("users", alice+bob)
	socket := filepath.Join(s.dir, "s")
	if err := s.reload("{\n\thtpasswd {\n\t\tthrottle login 1 1h\n\t\tthrottle client 2 1h\n\t\tthrottle user 3 1h\n\t}\n}\n" +
		"http://localhost {\n\tbind unix/{dir}/s\n\thtpasswd {\n\t\tfile {dir}/users\n\t\tallow_http\n\t}\n\trespond ok\n}\n"); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(client.CloseIdleConnections)
	s.client = client
	get := func(user, password string) answer {
		r, err := http.NewRequest(http.MethodGet, "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		return s.do(r)
	}
	checkStatus(t, get("alice", "secret"), 200, "")
	for i := range 3 {
		for _, user := range []string{"alice", "nobody"} {
			checkStatus(t, get(user, fmt.Sprint("guess", i)), 401, restricted)
		}
	}
	for _, user := range []string{"alice", "nobody"} {
		checkThrottled(t, get(user, "secret"), time.Hour)
	}
	checkStatus(t, get("bob", "hunter2"), 200, "")
}

// TestNothingSpent checks what is no failed login: malformed credentials, credentials over
// plain HTTP, and a user who is not authorized.
func TestNothingSpent(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob}, "{\n"+threePerHour+"\n}\n"+httpsSite(`
	htpasswd {
		file {dir}/users
		require user bob
	}
	respond ok`)+"http://localhost:{http} {\n\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond ok\n}\n")
	long := strings.Repeat("x", 1025)
	for _, row := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"no credentials", nil, 401},
		{"malformed", authorization("Basic !"), 401},
		{"two", authorization(basic("bob", "1"), basic("bob", "2")), 400},
		{"control character", authorization(basic("bob", "x\r\n")), 401},
		{"NUL", authorization(basic("bob", "hunter2\x00hunter2")), 401},
		{"too long", authorization(basic("bob", long)), 401},
		{"not authorized", authorization(basic("alice", "secret")), 403},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			for range 5 {
				checkStatus(t, s.send("/", row.header), row.status, restricted)
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		s := s.in(t)
		if n := hashes(func() {
			for i := range 5 {
				checkStatus(t, s.plain("/", authorization(basic("bob", fmt.Sprint(i)))), 403, "")
			}
		}); n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
	})
	checkStatus(t, s.guess(2, "bob", nil), 401, restricted)
	checkStatus(t, s.get("/", "bob", "hunter2"), 200, "")
	checkStatus(t, s.get("/", "alice", "secret"), 403, "")
}
