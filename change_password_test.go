package caddyhtpasswd

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpage"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// newPassword is a password that the page accepts.
const newPassword = "walnut-kettle-orbit-93"

// cheapHash makes hashes that take little time.
func cheapHash(format string, _ int, password []byte) (string, error) {
	return crypt.Make(format, 4, password)
}

// changeSite is a site with a page for changing the password.
func changeSite(more string) string {
	return httpsSite(`
	htpasswd {
		file {dir}/users
		change_password /account/password
		` + more + `
	}
	reverse_proxy {app}`)
}

// passwordForm returns the fields of a form.
func passwordForm(current, next string) url.Values {
	return url.Values{
		passwordpage.FieldCurrent: {current},
		passwordpage.FieldNew:     {next},
		passwordpage.FieldAgain:   {next},
	}
}

// formRequest returns a request as a browser sends it from the page.
func (s *server) formRequest(path, user, password string, form url.Values) *http.Request {
	s.t.Helper()
	r := s.request(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.SetBasicAuth(user, password)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", fmt.Sprintf("https://localhost:%d", s.port))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// changePassword sends the form of the page as a browser does.
func (s *server) changePassword(user, current, next string) answer {
	s.t.Helper()
	return s.do(s.formRequest("/account/password", user, current, passwordForm(current, next)))
}

// checkPage checks the status and the problem of a page, and what every page has.
func checkPage(t *testing.T, what string, a answer, status int, text string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, text) {
		t.Errorf("%s: got %d, want %d with %q: %s", what, a.status, status, text, a.body)
	}
	for name, value := range map[string]string{
		"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
		"Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s: got %s %q, want %q", what, name, got, value)
		}
	}
	if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Errorf("%s: got the policy %q", what, policy)
	}
}

// TestChangePassword changes passwords over both versions of HTTP.
func TestChangePassword(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": "# staff\n" + alice + carol + "unknown line\n"}, changeSite(""))
	passwords := []string{"secret", newPassword, newPassword + "-2"}
	i := 0
	for version, client := range s.clients() {
		t.Run(version, func(t *testing.T) {
			s := s.in(t, client)
			old, next := passwords[i], passwords[i+1]
			i++
			form := s.get("/account/password", "alice", old)
			checkPage(t, "the form", form, 200, `name="new_password"`)
			checkPage(t, "the change", s.changePassword("alice", old, next), 200, "The password of alice has been changed.")
			if a := s.get("/", "alice", old); a.status != 401 {
				t.Errorf("the old password: got %d, want 401", a.status)
			}
			if a := s.get("/", "alice", next); a.status != 200 {
				t.Errorf("the new password: got %d, want 200", a.status)
			}
			if taken := app.Taken(); len(taken) != 1 {
				t.Errorf("the application got %d requests, want 1: %v", len(taken), taken)
			}
		})
	}
	text := readText(t, filepath.Join(s.dir, "users"))
	if !strings.HasPrefix(text, "# staff\nalice:$2y$10$") || !strings.HasSuffix(text, "\n"+carol+"unknown line\n") {
		t.Errorf("the file is now %q", text)
	}
	log := s.log()
	lines := 0
	for line := range strings.Lines(log) {
		if !strings.Contains(line, `"msg":"password changed"`) {
			continue
		}
		lines++
		for _, want := range []string{`"level":"info"`, `"user":"alice"`, `"client_ip":"`, `"file":"` + filepath.Join(s.dir, "users") + `"`, `"host":"localhost:`} {
			if !strings.Contains(line, want) {
				t.Errorf("the line about a change does not contain %s: %s", want, line)
			}
		}
	}
	if lines != 2 {
		t.Errorf("got %d lines about changes, want 2", lines)
	}
	for _, secret := range passwords[1:] {
		if strings.Contains(log, secret) || strings.Contains(log, url.QueryEscape(secret)) {
			t.Error("the log contains a password")
		}
	}
	if strings.Contains(log, "$2y$") {
		t.Error("the log contains a hash")
	}
}

// TestChangePasswordIsOnlyForItsPath requests paths that are not that of the page, and
// the page without a login.
func TestChangePasswordIsOnlyForItsPath(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice + bobSecret}, changeSite("require user alice\nexempt {\nheader X-Exempt yes\n}"))
	for _, path := range []string{"/", "/account/password/", "/account", "/Account/Password", "/account//password", "/account/password/x", "/account/./password"} {
		if a := s.get(path, "alice", "secret"); a.status != 200 || len(app.Taken()) != 1 {
			t.Errorf("%s: got %d, want the application's answer", path, a.status)
		}
	}
	for _, test := range []struct {
		name, user, password string
		status               int
	}{{"no login", "", "", 401}, {"a wrong password", "alice", "wrong", 401}, {"an unknown user", "eve", "secret", 401}, {"a user whom require excludes", "bob", "secret", 403}} {
		if a := s.get("/account/password", test.user, test.password); a.status != test.status || a.body != "" {
			t.Errorf("%s: got %d with %q, want %d", test.name, a.status, a.body, test.status)
		}
		a := s.do(s.formRequest("/account/password", test.user, test.password, passwordForm("secret", newPassword)))
		if a.status != test.status {
			t.Errorf("%s, POST: got %d, want %d", test.name, a.status, test.status)
		}
	}
	app.None(t)
	r := s.request("GET", "/account/password?x=y", nil)
	r.SetBasicAuth("alice", "secret")
	checkPage(t, "with a query", s.do(r), 200, "<form")
	r = s.request("GET", "/account/password", nil)
	r.Header.Set("X-Exempt", "yes")
	r.SetBasicAuth("alice", "secret")
	if a := s.do(r); a.status != 200 || len(app.Taken()) != 1 {
		t.Errorf("an exempt request: got %d, want the application's answer", a.status)
	}
	if text := readText(t, filepath.Join(s.dir, "users")); text != alice+bobSecret {
		t.Error("the file has changed")
	}
}

func TestChangePasswordMethods(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice}, changeSite(""))
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "post"} {
		r := s.request(method, "/account/password", nil)
		r.SetBasicAuth("alice", "secret")
		a := s.do(r)
		checkPage(t, method, a, 405, "Open this page in a browser")
		if got := a.header.Get("Allow"); got != "GET, HEAD, POST" {
			t.Errorf("%s: got Allow %q", method, got)
		}
	}
	r := s.request("HEAD", "/account/password", nil)
	r.SetBasicAuth("alice", "secret")
	get := s.get("/account/password", "alice", "secret")
	if a := s.do(r); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != fmt.Sprint(len(get.body)) {
		t.Errorf("HEAD: got %d, %q, %v", a.status, a.body, a.header)
	}
	app.None(t)
}

// TestChangePasswordRefuses sends forms after which nothing may be changed.
func TestChangePasswordRefuses(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice}, changeSite(""))
	good := passwordForm("secret", newPassword)
	with := func(name, value string) url.Values {
		form := maps.Clone(good)
		form.Set(name, value)
		return form
	}
	without := func(name string) url.Values {
		form := maps.Clone(good)
		form.Del(name)
		return form
	}
	twice := func(name string) url.Values {
		form := maps.Clone(good)
		form[name] = append([]string{good.Get(name)}, good.Get(name))
		return form
	}
	own := fmt.Sprintf("https://localhost:%d", s.port)
	header := func(values ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
			for i := 0; i < len(values); i += 2 {
				r.Header.Add(values[i], values[i+1])
			}
		}
	}
	contentType := func(values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header["Content-Type"] = values }
	}
	for _, test := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		text   string
	}{
		{"neither Origin nor Sec-Fetch-Site", good, header(), 403, "not sent by this page"},
		{"another site", good, header("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"), 403, "not sent by this page"},
		{"another origin only", good, header("Origin", "https://evil.example"), 403, "not sent by this page"},
		{"another port", good, header("Origin", "https://localhost:1"), 403, "not sent by this page"},
		{"another scheme", good, header("Origin", strings.Replace(own, "https", "http", 1)), 403, "not sent by this page"},
		{"another subdomain", good, header("Origin", strings.Replace(own, "localhost", "x.localhost", 1), "Sec-Fetch-Site", "same-site"), 403, "not sent by this page"},
		{"cross-site", good, header("Origin", own, "Sec-Fetch-Site", "cross-site"), 403, "not sent by this page"},
		{"same-site", good, header("Origin", own, "Sec-Fetch-Site", "same-site"), 403, "not sent by this page"},
		{"typed by the user", good, header("Origin", own, "Sec-Fetch-Site", "none"), 403, "not sent by this page"},
		{"origin null", good, header("Origin", "null"), 403, "not sent by this page"},
		{"origin null of the same site", good, header("Origin", "null", "Sec-Fetch-Site", "same-origin"), 403, "not sent by this page"},
		{"an empty origin", good, header("Origin", ""), 403, "not sent by this page"},
		{"two origins", good, header("Origin", own, "Origin", own), 403, "not sent by this page"},
		{"two origins in one field", good, header("Origin", own+" "+own), 403, "not sent by this page"},
		{"two values of Sec-Fetch-Site", good, header("Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "same-origin"), 403, "not sent by this page"},
		{"a forged host of a proxy", good, header("Origin", "https://evil.example", "X-Forwarded-Host", "evil.example"), 403, "not sent by this page"},
		{"no content type", good, contentType(), 415, "not of the type"},
		{"plain text", good, contentType("text/plain"), 415, "not of the type"},
		{"multipart", good, contentType("multipart/form-data; boundary=x"), 415, "not of the type"},
		{"JSON", good, contentType("application/json"), 415, "not of the type"},
		{"two content types", good, contentType("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"), 415, "not of the type"},
		{"Latin-1", good, contentType("application/x-www-form-urlencoded; charset=iso-8859-1"), 415, "not of the type"},
		{"compressed", good, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 415, "not of the type"},
		{"no current password", without(passwordpage.FieldCurrent), nil, 400, "not complete"},
		{"no new password", without(passwordpage.FieldNew), nil, 400, "not complete"},
		{"not typed twice", without(passwordpage.FieldAgain), nil, 400, "not complete"},
		{"two current passwords", twice(passwordpage.FieldCurrent), nil, 400, "a field twice"},
		{"two new passwords", twice(passwordpage.FieldNew), nil, 400, "a field twice"},
		{"two new passwords again", twice(passwordpage.FieldAgain), nil, 400, "a field twice"},
		{"another user", with(passwordpage.FieldUser, "bob"), nil, 409, "for another user"},
		{"two different new passwords", with(passwordpage.FieldAgain, newPassword+"x"), nil, 422, `id="new_password_again_problem">This is not the same`},
		{"a wrong current password", with(passwordpage.FieldCurrent, "wrong"), nil, 422, `id="current_password_problem">The current password is not correct.`},
		{"an empty current password", with(passwordpage.FieldCurrent, ""), nil, 422, "The current password is not correct."},
		{"a current password with a line break", with(passwordpage.FieldCurrent, "secret\r\n"), nil, 422, "The current password is not correct."},
		{"a current password of 1 MB", with(passwordpage.FieldCurrent, strings.Repeat("x", 1<<20)), nil, 413, "too large"},
		{"a current password of 2,000 bytes", with(passwordpage.FieldCurrent, strings.Repeat("x", 2000)), nil, 422, "The current password is not correct."},
		{"14 characters", passwordForm("secret", newPassword[:14]), nil, 422, `id="new_password_problem">The password has fewer than 15 characters`},
		{"73 bytes", passwordForm("secret", strings.Repeat(newPassword, 4)[:73]), nil, 422, "more than 72 bytes"},
		{"a control character", passwordForm("secret", newPassword+"\t"), nil, 422, "control character"},
		{"NUL", passwordForm("secret", newPassword+"\x00"), nil, 422, "control character"},
		{"not UTF-8", passwordForm("secret", newPassword+"\xff"), nil, 422, "not encoded in UTF-8"},
		{"one character", passwordForm("secret", strings.Repeat("a", 20)), nil, 422, "easy to guess"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			r := s.formRequest("/account/password", "alice", "secret", test.form)
			if test.edit != nil {
				test.edit(r)
			}
			a := s.do(r)
			checkPage(t, test.name, a, test.status, test.text)
			for _, values := range test.form {
				for _, value := range values {
					if len(value) > 5 && value != "secret" && strings.Contains(a.body, value) {
						t.Errorf("the page contains the password %q", value)
					}
				}
			}
		})
	}
	checkPage(t, "the current password as the new one", s.changePassword("alice", "secret", "secret"), 422, "fewer than 15")
	if text := readText(t, filepath.Join(s.dir, "users")); text != alice {
		t.Error("the file has changed")
	}
	app.None(t)
	if strings.Contains(s.log(), newPassword[:14]) {
		t.Error("the log contains a password")
	}
}

// TestChangePasswordAccepts sends forms that differ from the usual one.
func TestChangePasswordAccepts(t *testing.T) {
	app := testkit.NewWitness(t)
	own := func(s *server) string { return fmt.Sprintf("https://localhost:%d", s.port) }
	for _, test := range []struct {
		name string
		edit func(s *server, r *http.Request)
		next string
	}{
		{"Sec-Fetch-Site alone", func(_ *server, r *http.Request) { r.Header.Del("Origin") }, newPassword},
		{"Origin alone", func(_ *server, r *http.Request) { r.Header.Del("Sec-Fetch-Site") }, newPassword},
		{"Origin in upper case", func(s *server, r *http.Request) { r.Header.Set("Origin", strings.ToUpper(own(s))) }, newPassword},
		{"a content type with a charset", func(_ *server, r *http.Request) {
			r.Header.Set("Content-Type", "Application/X-WWW-form-urlencoded; charset=UTF-8")
		}, newPassword},
		{"a query", func(_ *server, r *http.Request) { r.URL.RawQuery = "current_password=x" }, newPassword},
		{"letters with accents", nil, "Zwölf Bären naschen Öl"},
		{"other scripts", nil, "пароль для двоих друзей"},
		{"emoji", nil, "walnut 🐫 kettle 🚲 orbit"},
		{"colons and quotes", nil, `a:"b"<c>&d=e+f%20g;h'i`},
		{"spaces around", nil, " walnut kettle orbit "},
		{"72 bytes", nil, strings.Repeat(newPassword, 4)[:71] + "!"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, app, map[string]string{"users": alice}, changeSite(""))
			process.guard.makeHash = cheapHash
			r := s.formRequest("/account/password", "alice", "secret", passwordForm("secret", test.next))
			if test.edit != nil {
				test.edit(s, r)
			}
			checkPage(t, test.name, s.do(r), 200, "has been changed")
			if a := s.get("/", "alice", test.next); a.status != 200 {
				t.Errorf("the new password: got %d, want 200", a.status)
			}
			if a := s.get("/", "alice", "secret"); a.status != 401 {
				t.Errorf("the old password: got %d, want 401", a.status)
			}
		})
	}
}

// TestChangePasswordBytes sends every byte value in each field. What is no text of a prompt
// is refused. Every printable character of Latin-1 is in a password that can log in.
func TestChangePasswordBytes(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	process.guard.makeHash = cheapHash
	send := func(name, value string) answer {
		t.Helper()
		form := passwordForm("secret", newPassword)
		form.Set(name, value)
		return s.do(s.formRequest("/account/password", "alice", "secret", form))
	}
	for b := range 256 {
		value := string([]byte{byte(b)})
		for name, sent := range map[string]string{
			passwordpage.FieldCurrent: "secret" + value, passwordpage.FieldNew: newPassword + value + "\xff", passwordpage.FieldAgain: newPassword + value,
		} {
			if a := send(name, sent); a.status != 422 {
				t.Fatalf("byte %#x in %s: got %d, want 422: %s", b, name, a.status, a.body)
			}
		}
		if a := send(passwordpage.FieldUser, "alice"+value); a.status != 409 {
			t.Fatalf("byte %#x in the user name: got %d, want 409", b, a.status)
		}
	}
	if text := readText(t, filepath.Join(s.dir, "users")); text != alice {
		t.Error("the file has changed")
	}
	current, next := "secret", ""
	for c := rune(' '); c <= 0xff; c++ {
		if c == 0x7f {
			c = 0xa0 // after the control characters
		}
		// In another order than that of the alphabet, which would be easy to guess.
		if next += string(rune(' ') + (c-' ')*37%95); c >= 0xa0 {
			next = strings.ToValidUTF8(next[:len(next)-1], "") + string(c)
		}
		if len(next) < 60 && c < 0xff {
			continue
		}
		if next = next + "walnut"; len(next) < 30 {
			next += "-kettle-orbit"
		}
		checkPage(t, next, s.changePassword("alice", current, next), 200, "has been changed")
		if a := s.get("/", "alice", next); a.status != 200 {
			t.Fatalf("%q: got %d, want 200", next, a.status)
		}
		current, next = next, ""
	}
}

// TestChangePasswordReplay sends the same form again. The password in its Authorization
// header is the old one.
func TestChangePasswordReplay(t *testing.T) {
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	process.guard.makeHash = cheapHash
	checkPage(t, "the change", s.changePassword("alice", "secret", newPassword), 200, "has been changed")
	text := readText(t, filepath.Join(s.dir, "users"))
	for range 50 { // more often than the limits allow
		if a := s.changePassword("alice", "secret", newPassword); a.status != 401 {
			t.Fatalf("the same form: got %d, want 401", a.status)
		}
		if a := s.get("/", "alice", "secret"); a.status != 401 {
			t.Fatalf("an open page with the old password: got %d, want 401", a.status)
		}
	}
	if got := process.guard.counts(); got != [scopeCount]int{} {
		t.Errorf("the old password counts as %v failed logins, want none", got)
	}
	a := s.do(s.formRequest("/account/password", "alice", newPassword, passwordForm("secret", newPassword+"x")))
	checkPage(t, "the form again after the login", a, 422, "The current password is not correct.")
	if readText(t, filepath.Join(s.dir, "users")) != text {
		t.Error("the file has changed")
	}
}

// TestChangePasswordLimits guesses the current password on the page.
func TestChangePasswordLimits(t *testing.T) {
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	s.get("/", "alice", "secret")
	limited := 0
	for i := range 20 {
		a := s.do(s.formRequest("/account/password", "alice", "secret", passwordForm(fmt.Sprint("guess", i), newPassword)))
		switch a.status {
		case 422:
			if limited > 0 {
				t.Errorf("guess %d was compared after the limit", i)
			}
		case 429:
			limited++
			// The request itself can be refused, too.
			if a.header.Get("Retry-After") == "" {
				t.Error("got no Retry-After")
			}
		default:
			t.Errorf("guess %d: got %d", i, a.status)
		}
	}
	if limited != 10 {
		t.Errorf("%d of 20 guesses were limited, want 10", limited)
	}
	if readText(t, filepath.Join(s.dir, "users")) != alice {
		t.Error("the file has changed")
	}
	log := s.log()
	if n := strings.Count(log, `"msg":"login failed"`); n != 10 {
		t.Errorf("got %d lines about failed logins, want 10", n)
	}
}

// TestChangePasswordKeepsTheUserLimit counts failed logins of other clients before the
// change.
func TestChangePasswordKeepsTheUserLimit(t *testing.T) {
	s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, testkit.NewWitness(t), map[string]string{"users": alice},
		`{
	servers {
		trusted_proxies static private_ranges
		client_ip_headers X-Client
	}
}
`+changeSite(""))
	from := func(r *http.Request, ip string) *http.Request {
		r.Header.Set("X-Client", ip)
		return r
	}
	get := func(ip, password string) int {
		r := from(s.request("GET", "/", nil), ip)
		r.SetBasicAuth("alice", password)
		return s.do(r).status
	}
	for i := range 99 {
		if got := get(fmt.Sprintf("192.0.2.%d", i), fmt.Sprint("wrong", i)); got != 401 {
			t.Fatalf("failed login %d: got %d, want 401", i, got)
		}
	}
	if got := get("198.51.100.1", "secret"); got != 200 {
		t.Fatalf("got %d, want 200", got)
	}
	a := s.do(from(s.formRequest("/account/password", "alice", "secret", passwordForm("secret", newPassword)), "198.51.100.1"))
	checkPage(t, "the change", a, 200, "has been changed")
	if got := get("203.0.113.1", "wrong again"); got != 401 {
		t.Errorf("the 100th failed login: got %d, want 401", got)
	}
	if got := get("203.0.113.2", newPassword); got != 429 {
		t.Errorf("another client after 100 failed logins: got %d, want 429", got)
	}
	if got := get("198.51.100.1", newPassword); got != 200 {
		t.Errorf("the client that has changed the password: got %d, want 200", got)
	}
}

// TestChangePasswordHashes changes passwords with hashes of several formats.
func TestChangePasswordHashes(t *testing.T) {
	app := testkit.NewWitness(t)
	for _, test := range []struct {
		format string
		cost   int
		want   string
	}{
		{"sha1", 0, "$2y$10$"}, {"apr1", 0, "$2y$10$"}, {"descrypt", 0, "$2y$10$"}, {"plain", 0, "$2y$10$"},
		{"sha512crypt", 0, "$2y$10$"}, {"bcrypt", 4, "$2y$10$"}, {"bcrypt", 11, "$2y$11$"}, {"argon2id", 0, "$argon2id$"},
	} {
		hash, err := crypt.Make(test.format, test.cost, []byte("secret"))
		must(t, err)
		s := startSite(t, app, map[string]string{"users": "alice:" + hash + ":comment\n"}, changeSite(""))
		checkPage(t, test.format, s.changePassword("alice", "secret", newPassword), 200, "has been changed")
		if text := readText(t, filepath.Join(s.dir, "users")); !strings.HasPrefix(text, "alice:"+test.want) || !strings.HasSuffix(text, ":comment\n") {
			t.Errorf("%s: the line is now %q, want a hash with %s, and the comment", test.format, text, test.want)
		}
		if a := s.get("/", "alice", newPassword); a.status != 200 {
			t.Errorf("%s: got %d with the new password", test.format, a.status)
		}
	}
}

// TestChangePasswordWithRehash uses the cost of rehash, and changes a password whose weak
// hash is being replaced.
func TestChangePasswordWithRehash(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": carol}, changeSite("rehash 11"))
	checkPage(t, "the change", s.changePassword("carol", "carols", newPassword), 200, "has been changed")
	if text := readText(t, filepath.Join(s.dir, "users")); !strings.HasPrefix(text, "carol:$2y$11$") {
		t.Errorf("the file is now %q, want a hash of cost 11", text)
	}
	for password, want := range map[string]int{newPassword: 200, "carols": 401} {
		if a := s.get("/", "carol", password); a.status != want {
			t.Errorf("%s: got %d, want %d", password, a.status, want)
		}
	}
}

// TestChangePasswordOfSeveralLines changes the password of a user who is in two files, and
// twice in the first of them.
func TestChangePasswordOfSeveralLines(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": bobSecret + alice + alice, "more": aliceOther}, strings.Replace(changeSite(""), "{dir}/users", "{dir}/users {dir}/more", 1))
	checkPage(t, "the change", s.changePassword("alice", "secret", newPassword), 200, "has been changed")
	text := readText(t, filepath.Join(s.dir, "users"))
	if strings.Count(text, "alice:$2y$10$") != 2 || readText(t, filepath.Join(s.dir, "more")) != aliceOther {
		t.Errorf("the files are now %q and %q", text, readText(t, filepath.Join(s.dir, "more")))
	}
	for password, want := range map[string]int{newPassword: 200, "secret": 401, "other": 401} {
		if a := s.get("/", "alice", password); a.status != want {
			t.Errorf("%s: got %d, want %d", password, a.status, want)
		}
	}
}

// TestChangePasswordAtOnce sends two forms at the same time, many times.
func TestChangePasswordAtOnce(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	process.guard.makeHash = cheapHash
	current := "secret"
	for round := range 5 {
		next := []string{fmt.Sprintf("first-%d-kettle-orbit", round), fmt.Sprintf("second-%d-kettle-orbit", round)}
		var answers [2]answer
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() { answers[i] = s.changePassword("alice", current, next[i]) })
		}
		group.Wait()
		won := -1
		for i, a := range answers {
			switch a.status {
			case 200:
				if won >= 0 {
					t.Error("both forms have changed the same password")
				}
				won = i
			case 401, 409, 422: // later than the other
			default:
				t.Errorf("got %d: %s", a.status, a.body)
			}
		}
		if won < 0 {
			t.Fatalf("got %d and %d, want one change", answers[0].status, answers[1].status)
		}
		for i := range answers {
			want := map[bool]int{true: 200, false: 401}[i == won]
			if a := s.get("/", "alice", next[i]); a.status != want {
				t.Errorf("password %d: got %d, want %d", i, a.status, want)
			}
		}
		current = next[won]
	}
}

// TestChangePasswordOfUnwritableFiles cannot replace the file: the page says so before
// anybody types a password, and the log says what to do.
func TestChangePasswordOfUnwritableFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(t *testing.T, path string)
		log  string
	}{
		{"a second hard link", func(t *testing.T, path string) { must(t, os.Link(path, path+".link")) }, "hard links"},
		{"the file is gone", func(t *testing.T, path string) { must(t, os.Remove(path)) }, "restore the file"},
		{"the file is a directory", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		}, "is a directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
			test.do(t, filepath.Join(s.dir, "users"))
			form := s.get("/account/password", "alice", "secret")
			checkPage(t, "the page", form, 503, "the server cannot write the password file")
			if strings.Contains(form.body, "<form") {
				t.Error("the page has a form")
			}
			checkPage(t, "a form", s.changePassword("alice", "secret", newPassword), 503, "Your password was not changed.")
			if a := s.get("/", "alice", "secret"); a.status != 200 {
				t.Errorf("the old password: got %d, want 200", a.status)
			}
			if log := s.log(); !strings.Contains(log, `"msg":"password page cannot replace the file"`) || !strings.Contains(log, test.log) {
				t.Errorf("the log does not contain the message with %q", test.log)
			}
		})
	}
}

// TestChangePasswordAfterAnEdit edits the file while the form is open.
func TestChangePasswordAfterAnEdit(t *testing.T) {
	for _, test := range []struct {
		name, text string
		status     int
	}{
		{"the administrator has reset the password", aliceOther, 401},
		{"the user is locked", "alice:!\n" + bobSecret, 401},
		{"the user is removed", bobSecret, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
			checkPage(t, "the form", s.get("/account/password", "alice", "secret"), 200, "<form")
			replace(t, filepath.Join(s.dir, "users"), test.text)
			if a := s.get("/", "alice", "another"); a.status != 401 { // waits until the new version is loaded
				t.Fatalf("got %d, want 401", a.status)
			}
			if a := s.changePassword("alice", "secret", newPassword); a.status != test.status {
				t.Errorf("got %d, want %d", a.status, test.status)
			}
			if text := readText(t, filepath.Join(s.dir, "users")); text != test.text {
				t.Errorf("the file is now %q", text)
			}
		})
	}
}

// TestChangePasswordWhileTheFileIsBroken has a version on disk that cannot be loaded. The
// previous version lets users in, but must not replace what somebody is editing.
func TestChangePasswordWhileTheFileIsBroken(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	replace(t, filepath.Join(s.dir, "users"), "<html>\n")
	checkPage(t, "the change", s.changePassword("alice", "secret", newPassword), 409, "changed at the same time, so your password was not changed")
	if readText(t, filepath.Join(s.dir, "users")) != "<html>\n" {
		t.Error("the file has changed")
	}
	if a := s.get("/", "alice", "secret"); a.status != 200 {
		t.Errorf("the old password: got %d, want 200", a.status)
	}
	if log := s.log(); !strings.Contains(log, `"msg":"password not changed; the user's line was changed at the same time"`) {
		t.Error("the log does not say why")
	}
}

// TestChangePasswordAfterAnotherHash gives the user another hash of the same password in
// the moment before the new hash is written, as rehash does: the change goes on.
func TestChangePasswordAfterAnotherHash(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	current, made := "secret", 0
	makeHash := cheapHash
	process.guard.makeHash = func(format string, cost int, password []byte) (string, error) {
		made++
		hash, err := crypt.Make("bcrypt", 4, []byte(current))
		must(t, err)
		replace(t, filepath.Join(s.dir, "users"), "alice:"+hash+"\n"+bobSecret)
		return makeHash(format, cost, password)
	}
	for round := range 3 {
		next := fmt.Sprintf("orbit-%d-walnut-kettle", round)
		checkPage(t, "the change", s.changePassword("alice", current, next), 200, "has been changed")
		if made != round+1 {
			t.Errorf("got %d hashes of new passwords, want %d", made, round+1)
		}
		for password, want := range map[string]int{next: 200, current: 401} {
			if a := s.get("/", "alice", password); a.status != want {
				t.Errorf("%s: got %d, want %d", password, a.status, want)
			}
		}
		current = next
	}
	if text := readText(t, filepath.Join(s.dir, "users")); !strings.HasSuffix(text, "\n"+bobSecret) {
		t.Errorf("the other change of the file is lost: %q", text)
	}
}

// TestChangePasswordAfterAReset replaces the user's line by one with another password, in
// the moment before the new hash is written.
func TestChangePasswordAfterAReset(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite("cache off"))
	path := filepath.Join(s.dir, "users")
	verify, n := process.guard.verify, 0
	process.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
		if n++; n == 2 { // after the login of the request: that of the form
			defer replace(t, path, aliceOther)
		}
		return verify(class, hash, password)
	}
	a := s.changePassword("alice", "secret", newPassword)
	checkPage(t, "the change", a, 422, "The current password is not correct.")
	if readText(t, path) != aliceOther {
		t.Error("the administrator's hash was replaced")
	}
}

// TestChangePasswordOverPlainHTTP changes a password without TLS, where that is allowed.
func TestChangePasswordOverPlainHTTP(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, `http://localhost:{http} {
	htpasswd {
		file {dir}/users
		allow_http
		change_password /account/password
	}
	reverse_proxy {app}
}
`)
	send := func(origin string) answer {
		r, err := http.NewRequest("POST", fmt.Sprintf("http://localhost:%d/account/password", s.http), strings.NewReader(passwordForm("secret", newPassword).Encode()))
		must(t, err)
		r.SetBasicAuth("alice", "secret")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		return s.do(r)
	}
	checkPage(t, "an origin with TLS", send(fmt.Sprintf("https://localhost:%d", s.http)), 403, "not sent by this page")
	checkPage(t, "the own origin", send(fmt.Sprintf("http://localhost:%d", s.http)), 200, "has been changed")
	if a := s.plain("/", authorization(basic("alice", newPassword))); a.status != 200 {
		t.Errorf("the new password: got %d, want 200", a.status)
	}
}

// TestChangePasswordBehindAProxy sends what a proxy in front sends that terminates TLS.
func TestChangePasswordBehindAProxy(t *testing.T) {
	const site = `http://:{http} {
	htpasswd {
		file {dir}/users
		allow_http
		change_password /account/password
	}
	reverse_proxy {app}
}
`
	const trusting = "{\nservers {\ntrusted_proxies static private_ranges\ntrusted_proxies_strict\n}\n}\n"
	for _, test := range []struct {
		name, options, origin, host, proto, forwarded string
		status                                        int
	}{
		{"host and scheme of a trusted proxy", trusting, "https://example.com", "internal:8080", "https", "example.com", 200},
		{"a proxy that keeps the host", trusting, "https://example.com", "example.com", "https", "", 200},
		{"the default port", trusting, "https://example.com", "internal", "https", "example.com:443", 200},
		{"another port", trusting, "https://example.com:8443", "internal", "https", "example.com:8443", 200},
		{"two proxies", trusting, "https://example.com", "internal", "https, https", "example.com, inner", 200},
		{"an IPv6 address", trusting, "https://[2001:db8::1]", "internal", "https", "[2001:0DB8::1]:443", 200},
		{"a proxy that says plain HTTP", trusting, "https://example.com", "example.com", "http", "", 403},
		{"plain HTTP", trusting, "http://example.com", "example.com", "http", "", 200},
		{"the host of the proxy's upstream", trusting, "https://internal", "internal", "https", "example.com", 403},
		{"another site", trusting, "https://evil.example", "internal", "https", "example.com", 403},
		{"a proxy that is not trusted", "", "https://example.com", "example.com", "https", "example.com", 403},
		{"a host of a proxy that is not trusted", "", "http://evil.example", "example.com", "http", "evil.example", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, test.options+site)
			r, err := http.NewRequest("POST", fmt.Sprintf("http://127.0.0.1:%d/account/password", s.http), strings.NewReader(passwordForm("secret", newPassword).Encode()))
			must(t, err)
			r.SetBasicAuth("alice", "secret")
			r.Host = test.host
			for name, value := range map[string]string{
				"Content-Type": "application/x-www-form-urlencoded", "Origin": test.origin, "X-Forwarded-Proto": test.proto, "X-Forwarded-Host": test.forwarded,
				"X-Forwarded-For": "192.0.2.1", "Sec-Fetch-Site": "same-origin",
			} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if a := s.do(r); a.status != test.status {
				t.Errorf("got %d, want %d: %s", a.status, test.status, a.body)
			}
		})
	}
}

// TestChangePasswordOfTheHandlerThatServesIt has two handlers on a request, with different
// files. The page belongs to one of them.
func TestChangePasswordOfTheHandlerThatServesIt(t *testing.T) {
	files := map[string]string{"site": alice, "admins": alice}
	s := startSite(t, testkit.NewWitness(t), files, httpsSite(`
	htpasswd {
		file {dir}/site
	}
	handle_path /admin/* {
		htpasswd {
			file {dir}/admins
			change_password /password
		}
		reverse_proxy {app}
	}`))
	a := s.do(s.formRequest("/admin/password", "alice", "secret", passwordForm("secret", newPassword)))
	checkPage(t, "the page behind handle_path", a, 200, "has been changed")
	if strings.Contains(s.get("/admin/password", "alice", "secret").body, "action=") {
		t.Error("the form names its path, which can differ from the path in the browser")
	}
	if readText(t, filepath.Join(s.dir, "site")) != alice || readText(t, filepath.Join(s.dir, "admins")) == alice {
		t.Error("want a new hash in the file of the second handler only")
	}
}

// TestChangePasswordBodies sends bodies that are too long or do not come.
func TestChangePasswordBodies(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	r := s.formRequest("/account/password", "alice", "secret", nil)
	huge := &zeros{left: 10 << 20}
	r.Body, r.ContentLength = huge, -1 // chunked
	if a, err := testkit.Send(s.client, r); err == nil && a.Status != 413 {
		t.Errorf("10 MB: got %d, want 413", a.Status)
	}
	head := "POST /account/password HTTP/1.1\r\nHost: localhost:" + fmt.Sprint(s.port) + "\r\nOrigin: https://localhost:" + fmt.Sprint(s.port) +
		"\r\nAuthorization: " + basic("alice", "secret") + "\r\nContent-Type: application/x-www-form-urlencoded\r\n"
	t.Run("raw", func(t *testing.T) { // each of them takes ten seconds, because the client sends nothing more
		for _, test := range []struct {
			name, request string
			status        int
		}{
			{"10 MB announced", head + "Content-Length: 10485760\r\nExpect: 100-continue\r\n\r\n", 413},
			{"another origin", strings.Replace(head, "Origin: https://", "Origin: https://evil.", 1) + "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n", 403},
			{"a body that does not end", head + "Content-Length: 100\r\n\r\ncurrent_password=x", 400},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				if a, interim := s.in(t).raw(test.request); a.status != test.status || interim != 0 {
					t.Errorf("got %d, and %d interim responses, want %d and none: %s", a.status, interim, test.status, a.body)
				}
			})
		}
	})
	if readText(t, filepath.Join(s.dir, "users")) != alice {
		t.Error("the file has changed")
	}
}

// zeros is a body.
type zeros struct{ left int }

func (z *zeros) Read(b []byte) (int, error) {
	if z.left <= 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	n := min(len(b), z.left)
	clear(b[:n])
	z.left -= n
	return n, nil
}

func (*zeros) Close() error { return nil }
