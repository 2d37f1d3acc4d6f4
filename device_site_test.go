package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// These tests check device cookies from the view of a browser, with a real Caddy.

const defaultDevice = defaultDeviceCookie + "="

// deviceOf returns the value of the device cookie that a response sets, or "".
func deviceOf(t testing.TB, a answer, name string) string {
	t.Helper()
	value := ""
	for _, text := range a.header["Set-Cookie"] {
		if rest, found := strings.CutPrefix(text, name+"="); found {
			if value != "" {
				t.Errorf("got %q, want one cookie", a.header["Set-Cookie"])
			}
			value, _, _ = strings.Cut(rest, ";")
		}
	}
	return value
}

// logIn logs in, and returns the value of the device cookie that the response sets.
func (s *server) logIn(path, user, password string, header http.Header) string {
	s.t.Helper()
	a := s.withCookie(path, user, password, "", header)
	checkStatus(s.t, a, 200, "")
	return deviceOf(s.t, a, defaultDeviceCookie)
}

// withCookie sends a request with a Cookie field, unless it is empty.
func (s *server) withCookie(path, user, password, cookie string, header http.Header) answer {
	s.t.Helper()
	h := http.Header{}
	for name, values := range header {
		h[name] = values
	}
	if user != "" {
		h["Authorization"] = []string{basic(user, password)}
	}
	if cookie != "" {
		h["Cookie"] = []string{cookie}
	}
	return s.send(path, h)
}

// deviceSite is a Caddyfile of one site with device cookies.
func deviceSite(global, inHandler, rest string) string {
	return "{\n" + global + "\n}\n" + httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t\tdevice_cookie\n"+inHandler+"\n\t}\n"+rest)
}

// TestDeviceCookieIsSet has a browser log in. It gets the cookie once, with these
// attributes, and with each protocol.
func TestDeviceCookieIsSet(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob}, deviceSite("", "", "\trespond ok\n"))
	for version, client := range s.clients() {
		t.Run(version, func(t *testing.T) {
			s := s.in(t, client)
			a := s.get("/", "alice", "secret")
			value := deviceOf(t, a, defaultDeviceCookie)
			want := defaultDevice + value + "; Path=/; Max-Age=7776000; HttpOnly; Secure; SameSite=Lax"
			if got := a.header["Set-Cookie"]; !slices.Equal(got, []string{want}) || len(value) != 60 {
				t.Fatalf("got %q, want %q with a token of 60 characters", got, want)
			}
			a = s.withCookie("/", "alice", "secret", defaultDevice+value, nil)
			if checkStatus(t, a, 200, ""); a.header["Set-Cookie"] != nil {
				t.Errorf("a browser with a token: got %q, want no cookie", a.header["Set-Cookie"])
			}
			second := deviceOf(t, s.withCookie("/", "bob", "hunter2", defaultDevice+value, nil), defaultDeviceCookie)
			if first, rest, _ := strings.Cut(second, "."); len(first) != 60 || rest != value {
				t.Errorf("another user of the browser: got %q, want a new token, and then %q", second, value)
			}
			for _, user := range [][2]string{{"alice", "secret"}, {"bob", "hunter2"}} {
				if a := s.withCookie("/", user[0], user[1], "a=1; "+defaultDevice+second, nil); a.status != 200 || a.header["Set-Cookie"] != nil {
					t.Errorf("%s with the cookie of both: got %d with %q, want 200 and no cookie", user[0], a.status, a.header["Set-Cookie"])
				}
			}
		})
	}
	if strings.Contains(s.log(), "device cookie") {
		t.Error("got a line in the log, want none for the default name")
	}
}

// TestDeviceCookieIsTaken checks that no upstream gets the cookie, and that it gets all
// others as they were.
func TestDeviceCookieIsTaken(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice + bob}, httpsSite(`
	handle_errors {
		reverse_proxy {app}
	}
	handle /none {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app}
	}
	handle /own {
		htpasswd {
			file {dir}/users
			device_cookie device
		}
		reverse_proxy {app}
	}
	handle {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
			require user alice
			keep_authorization
			device_cookie
		}
		reverse_proxy {app}
	}`))
	token := s.logIn("/", "alice", "secret", nil)
	app.Taken()
	many := strings.Repeat(defaultDevice+"x; ", 100)
	for _, row := range []struct {
		name, path, user, password string
		header                     http.Header
		cookies                    string
		status                     int
		want                       []string
	}{
		{"passed", "/", "alice", "secret", nil, defaultDevice + token, 200, nil},
		{"between others", "/", "alice", "secret", nil, `a="1"; ` + defaultDevice + token + "; b", 200, []string{`a="1"; b`}},
		{"exempt", "/", "", "", http.Header{"X-Exempt": {"yes"}}, defaultDevice + token + "; a=1", 200, []string{"a=1"}},
		{"no credentials", "/", "", "", nil, defaultDevice + token + "; a=1", 401, []string{"a=1"}},
		{"wrong password", "/", "alice", "wrong", nil, defaultDevice + token, 401, nil},
		{"not authorized", "/", "bob", "hunter2", nil, defaultDevice + token, 403, nil},
		{"forged", "/", "alice", "secret", nil, defaultDevice + "forged", 200, nil},
		{"a hundred", "/", "alice", "secret", nil, many + "a=1", 200, []string{"a=1"}},
		{"8 kB", "/", "alice", "secret", nil, defaultDevice + strings.Repeat("x", 8<<10), 200, nil},
		{"another name stays", "/", "alice", "secret", nil, "Device=1; " + strings.ToLower(defaultDevice) + "2", 200, []string{"Device=1; " + strings.ToLower(defaultDevice) + "2"}},
		{"a name of its own", "/own", "alice", "secret", nil, defaultDevice + "1; device=2; devices=3", 200, []string{defaultDevice + "1; devices=3"}},
		{"without device_cookie it stays", "/none", "alice", "secret", nil, defaultDevice + token, 200, []string{defaultDevice + token}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := s.in(t).withCookie(row.path, row.user, row.password, row.cookies, row.header)
			if a.status != row.status && row.status == 200 {
				t.Errorf("got status %d, want %d", a.status, row.status)
			}
			if got := app.One(t).Header["Cookie"]; !slices.Equal(got, row.want) {
				t.Errorf("the application got %q, want %q", got, row.want)
			}
		})
	}
	if !strings.Contains(s.log(), "without the prefix __Host-") {
		t.Error("got no warning of the name 'device'")
	}
	if strings.Contains(s.log(), token) {
		t.Error("a token is in the log")
	}
}

// TestDeviceCookieWhenNot has a row for each answer that must not set the cookie, and
// beside it one that does.
func TestDeviceCookieWhenNot(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.URL.Query() {
			if name != "status" {
				w.Header()[name] = values
			}
		}
		status := 200
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.Header().Set("Link", "</a>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(status)
	}))
	t.Cleanup(app.Close)
	s := startSite(t, nil, map[string]string{"users": alice + bob, "f": "text"}, strings.ReplaceAll(`{
	servers {
		trusted_proxies static private_ranges
		trusted_proxies_strict
	}
}
http://localhost:{http}, `+httpsSite(`
	header /outer >Cache-Control public
	htpasswd {
		file {dir}/users
		exempt /exempt
		require user alice
		allow_http
		device_cookie
	}
	handle_errors 404 {
		respond "not found"
	}
	handle /error {
		error 404
	}
	handle /inner {
		header >Cache-Control public
		respond ok
	}
	handle /file {
		root {dir}
		rewrite /f
		file_server
	}
	handle /outer {
		respond ok
	}
	handle {
		reverse_proxy {app}
	}`), "{app}", strings.TrimPrefix(app.URL, "http://")))
	for _, row := range []struct {
		name, path, user, password string
		header                     http.Header
		want                       bool
	}{
		{"an ordinary answer", "/", "alice", "secret", nil, true},
		{"a file", "/file", "alice", "secret", nil, true},
		{"not found, by the application", "/?status=404", "alice", "secret", nil, true},
		{"no body", "/?status=204", "alice", "secret", nil, true},
		{"redirect", "/?status=302", "alice", "secret", nil, true},
		{"not modified", "/?status=304", "alice", "secret", nil, false},
		{"an error that the next handler returns", "/error", "alice", "secret", nil, false},
		{"exempt", "/exempt", "alice", "secret", nil, false},
		{"no credentials", "/", "", "", nil, false},
		{"wrong password", "/", "alice", "wrong", nil, false},
		{"not authorized", "/", "bob", "hunter2", nil, false},
		{"cross-site", "/", "alice", "secret", http.Header{"Sec-Fetch-Site": {"cross-site"}}, false},
		{"same-site", "/", "alice", "secret", http.Header{"Sec-Fetch-Site": {"same-site"}}, true},
		{"typed", "/", "alice", "secret", http.Header{"Sec-Fetch-Site": {"none"}}, true},
		{"public", "/?Cache-Control=max-age=60,+PUBLIC", "alice", "secret", nil, false},
		{"s-maxage", "/?Cache-Control=s-maxage=60", "alice", "secret", nil, false},
		{"must-revalidate", "/?Cache-Control=must-revalidate", "alice", "secret", nil, false},
		{"private", "/?Cache-Control=private,+must-revalidate", "alice", "secret", nil, true},
		{"max-age", "/?Cache-Control=max-age=60", "alice", "secret", nil, true},
		{"CDN-Cache-Control", "/?Cdn-Cache-Control=max-age=60", "alice", "secret", nil, false},
		{"that of one CDN", "/?Example-Cdn-Cache-Control=max-age=60", "alice", "secret", nil, false},
		{"Surrogate-Control", "/?Surrogate-Control=max-age=60", "alice", "secret", nil, false},
		{"public, set within the handlers behind", "/inner", "alice", "secret", nil, false},
		{"public, set deferred further out: not seen", "/outer", "alice", "secret", nil, true},
		{"encrypted, but not all the way", "/", "alice", "secret", http.Header{"X-Forwarded-Proto": {"http"}}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := s.in(t).withCookie(row.path, row.user, row.password, "", row.header)
			if got := deviceOf(t, a, defaultDeviceCookie) != ""; got != row.want {
				t.Errorf("got status %d with %q, want a cookie: %t", a.status, a.header["Set-Cookie"], row.want)
			}
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		a := s.in(t).plain("/", authorization(basic("alice", "secret")))
		if a.status != 200 || a.header["Set-Cookie"] != nil {
			t.Errorf("got status %d with %q, want 200 without a cookie", a.status, a.header["Set-Cookie"])
		}
	})
	t.Run("plain HTTP behind a trusted proxy", func(t *testing.T) {
		a := s.in(t).plain("/", http.Header{"Authorization": {basic("alice", "secret")}, "X-Forwarded-Proto": {"https"}})
		if deviceOf(t, a, defaultDeviceCookie) == "" {
			t.Errorf("got status %d with %q, want a cookie", a.status, a.header["Set-Cookie"])
		}
	})
}

// TestDeviceCookieOfTwoHandlers sends requests through two handlers. Users with two
// passwords files have a token for each, in one cookie.
func TestDeviceCookieOfTwoHandlers(t *testing.T) {
	s := startSite(t, nil, map[string]string{"site": alice + bobSecret, "admins": "alice:" + shaSecret1 + "\n" + bobSecret}, httpsSite(`
	htpasswd {
		file {dir}/site
		device_cookie
	}
	handle /admin {
		htpasswd {
			file {dir}/admins
			device_cookie
		}
		respond ok
	}
	handle /other {
		htpasswd {
			file {dir}/site
			device_cookie __Host-other
		}
		respond "[{http.request.header.Cookie}]"
	}
	handle {
		respond "[{http.request.header.Cookie}]"
	}`))
	both := s.logIn("/admin", "bob", "secret", nil)
	if strings.Count(both, ".") != 0 {
		t.Errorf("got %q, want one token: the hash is the same in both files", both)
	}
	if a := s.withCookie("/admin", "bob", "secret", defaultDevice+both, nil); a.status != 200 || a.header["Set-Cookie"] != nil {
		t.Errorf("with the token: got %d and %q, want 200 and no cookie", a.status, a.header["Set-Cookie"])
	}
	refused := s.withCookie("/admin", "alice", "secret", "", nil) // right for the first handler only
	if refused.status != 401 || refused.header["Set-Cookie"] != nil {
		t.Errorf("refused by the second handler: got %d and %q, want 401 and no cookie", refused.status, refused.header["Set-Cookie"])
	}
	a := s.withCookie("/other", "alice", "secret", "", nil)
	first, second := deviceOf(t, a, defaultDeviceCookie), deviceOf(t, a, "__Host-other")
	if len(a.header["Set-Cookie"]) != 2 || first == "" || second == "" {
		t.Fatalf("two names: got %q, want two cookies", a.header["Set-Cookie"])
	}
	a = s.withCookie("/other", "alice", "secret", defaultDevice+first+"; a=1; __Host-other="+second, nil)
	if a.status != 200 || a.header["Set-Cookie"] != nil || a.body != "[a=1]" {
		t.Errorf("two names: got %d, %q and %s, want 200, no cookie, and the other cookie only", a.status, a.header["Set-Cookie"], a.body)
	}
}

// TestDeviceCookieOfTwoHashes has the same password with different hashes in the files of
// two handlers. One cookie has both tokens.
func TestDeviceCookieOfTwoHashes(t *testing.T) {
	s := startSite(t, nil, map[string]string{"site": alice, "admins": "alice:" + makeOf(t, "bcrypt", 4, "secret") + "\n"}, httpsSite(`
	htpasswd {
		file {dir}/site
		device_cookie
	}
	htpasswd /admin {
		file {dir}/admins
		device_cookie {
			max_age 100d
		}
	}
	respond ok`))
	a := s.withCookie("/admin", "alice", "secret", "", nil)
	value := deviceOf(t, a, defaultDeviceCookie)
	if len(a.header["Set-Cookie"]) != 1 || strings.Count(value, ".") != 1 || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=8640000") {
		t.Fatalf("got %q, want one cookie with two tokens, for 100 days", a.header["Set-Cookie"])
	}
	for _, path := range []string{"/", "/admin"} {
		if a := s.withCookie(path, "alice", "secret", defaultDevice+value, nil); a.status != 200 || a.header["Set-Cookie"] != nil {
			t.Errorf("%s: got %d and %q, want 200 and no cookie", path, a.status, a.header["Set-Cookie"])
		}
	}
}

// TestDeviceHolderGetsIn sends failed logins from the address of a user until nobody gets
// in. The user's browser with the cookie does.
func TestDeviceHolderGetsIn(t *testing.T) {
	from := func(address string) http.Header { return http.Header{"X-Forwarded-For": {address}} }
	config := deviceSite(behindProxies+"\nhtpasswd {\n\tsecret "+secretA+"\n}", "", "\trespond ok\n")
	start := func() *server {
		return startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, nil, map[string]string{"users": alice + bob}, config)
	}
	s := start()
	token := s.logIn("/", "alice", "secret", from("192.0.2.1"))
	attack := func(t *testing.T, s *server) {
		s.guess(30, "alice", from("192.0.2.1"))
		s.guess(30, "bob", from("192.0.2.1"))
		for i := range 100 {
			s.guess(1, "alice", from(fmt.Sprint("198.51.100.", i)))
		}
	}
	check := func(t *testing.T, s *server) {
		t.Helper()
		for _, address := range []string{"192.0.2.1", "203.0.113.7"} {
			checkStatus(t, s.withCookie("/", "alice", "secret", defaultDevice+token, from(address)), 200, "")
			checkThrottled(t, s.withCookie("/", "alice", "secret", defaultDevice+"x"+token[1:], from(strings.Replace(address, ".7", ".8", 1))), time.Hour)
		}
	}
	attack(t, s)
	check(t, s)
	t.Run("after a reload", func(t *testing.T) {
		must(t, s.reload(config))
		check(t, s.in(t))
	})
	t.Run("after a restart, or on another server", func(t *testing.T) {
		s := start()
		attack(t, s)
		check(t, s)
	})
	t.Run("with a new secret", func(t *testing.T) {
		s := start()
		must(t, s.reload(strings.Replace(config, secretA, secretB+" "+secretA, 1)))
		attack(t, s)
		a := s.withCookie("/", "alice", "secret", defaultDevice+token, from("203.0.113.7"))
		checkStatus(t, a, 200, "")
		renewed := deviceOf(t, a, defaultDeviceCookie)
		if renewed == "" || strings.Contains(renewed, token) {
			t.Errorf("got %q, want a new token", renewed)
		}
		must(t, s.reload(strings.Replace(config, secretA, secretB, 1)))
		checkStatus(t, s.withCookie("/", "alice", "secret", defaultDevice+renewed, from("203.0.113.8")), 200, "")
		checkThrottled(t, s.withCookie("/", "alice", "secret", defaultDevice+token, from("203.0.113.9")), time.Hour)
	})
}

// TestDeviceCookieVoid checks tokens that are no longer, or not yet, valid.
func TestDeviceCookieVoid(t *testing.T) {
	// The test is about what the handler passes on. The token's own checks are tested
	// with the package.
	s := startSite(t, nil, map[string]string{"users": alice + bob}, deviceSite("", "", "\trespond ok\n"))
	token := s.logIn("/", "alice", "secret", nil)
	renews := func(cookie string) bool {
		t.Helper()
		a := s.withCookie("/", "alice", "secret", defaultDevice+cookie, nil)
		checkStatus(t, a, 200, "")
		return deviceOf(t, a, defaultDeviceCookie) != ""
	}
	other := deviceOf(t, s.get("/", "bob", "hunter2"), defaultDeviceCookie)
	for name, value := range map[string]string{
		"forged": forged(token), "truncated": token[:59], "of another user": other, "empty": "", "quoted": `"` + token + `"`,
	} {
		if !renews(value) {
			t.Errorf("%s: got no new token", name)
		}
	}
	if renews(token) {
		t.Error("a valid token is renewed")
	}
	s.write("users", aliceOther)
	eventually(t, "alice has another password", func() bool { return s.get("/", "alice", "other").status == 200 })
	if a := s.withCookie("/", "alice", "other", defaultDevice+token, nil); a.status != 200 || deviceOf(t, a, defaultDeviceCookie) == "" {
		t.Error("from before a change of the password: got no new token")
	}
}
