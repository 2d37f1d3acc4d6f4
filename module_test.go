package caddyhtpasswd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// The lines of a password file, made with the commands beside them.
const (
	alice       = "alice:$2y$04$xHDgvM0aETVLuR1UST16J.BTodXPBkDyVmRgT5Id/zUd6cbG28vdm\n" // htpasswd -nbB -C 4 alice secret
	aliceOther  = "alice:$2y$04$lu7VIhfmLJUkEyKjHwimpesUnmCI2PjSP3NupduvcfeMTJcBRcP6a\n" // htpasswd -nbB -C 4 alice other
	aliceCanary = "alice:$2y$04$Mo1mims8ECyupLmpCqtd/ejufvSwEGYP3DBry1e6ELHoaGIy33Awm\n" // htpasswd -nbB -C 4 alice canary-PaSSw0rd-7f3a
	bob         = "bob:$apr1$Hskn4MzS$pvbG7hzhi8NQvHCYbzL7F.\n"                          // htpasswd -nbm bob hunter2
	bobSecret   = "bob:$2y$04$naPDtgEpoCajJyGjrjYQkOlOp7dxVL5Xjv8cMt7q4TZAeLSkVN0CS\n"   // htpasswd -nbB -C 4 bob secret
	carol       = "carol:{SHA}O6hCfsMLaweQqz5/hoXYDopRjKo=\n"                            // htpasswd -nbs carol carols
	userA       = "a:$2y$04$dPxoPO8IfezWkAkh6sm2KuN0G/T1GINbxdU4XckeWf83IRsRbYDCG\n"     // htpasswd -nbB -C 4 a :b
	eve         = "eve:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n"                              // htpasswd -nbs eve ""
	juergenNFC  = "jürgen:$apr1$wJgDyP8C$PuoKq22O8qVlZtzJhEgFf.\n"                       // htpasswd -nbm jürgen grün
	juergenNFD  = "ju\u0308rgen:{SHA}kcSJyyRfZifZfCyKBHOYAXiX6q4=\n"                     // htpasswd -nbs jürgen nfd
	juergenL1   = "j\xfcrgen:{SHA}qplx6EsTQNjsrx1/aQoHiKRRh6M=\n"                        // htpasswd -nbs $(printf 'j\xfcrgen') $(printf 'gr\xfcn')
	slow        = "slow:$2y$10$y50gpMbMy/iPGNN.EbZCfOdNm6siLIV8Bql6/Zperovck2ZxMx47e\n"  // htpasswd -nbB -C 10 slow secret
	locked1     = "mallory:!\n"
)

const restricted = `Basic realm="Restricted", charset="UTF-8"`

// site starts a server with these files and this Caddyfile, in which {app}
// stands for the address of the application.
func site(t testing.TB, app *testkit.Witness, files map[string]string, caddyfile string) *server {
	t.Helper()
	return siteWith(t, testkit.ServerOptions{}, app, files, caddyfile)
}

// siteWith is site with other options.
func siteWith(t testing.TB, options testkit.ServerOptions, app *testkit.Witness, files map[string]string, caddyfile string) *server {
	t.Helper()
	s := startServerWith(t, options, "")
	for name, text := range files {
		s.write(name, text)
	}
	if app != nil {
		caddyfile = strings.ReplaceAll(caddyfile, "{app}", app.Listener.Addr().String())
	}
	if err := s.reload(caddyfile); err != nil {
		t.Fatal(err)
	}
	return s
}

// https is a Caddyfile of one site.
func https(directives string) string {
	return "https://localhost:{https} {\n\ttls internal\n" + directives + "\n}\n"
}

// basic is the value of an Authorization header.
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func authorization(values ...string) http.Header { return http.Header{"Authorization": values} }

// hashes returns how many hashes were computed during f.
func hashes(f func()) int64 {
	before := process.guard.hashCount()
	f()
	return process.guard.hashCount() - before
}

// checkStatus checks the status, and that there is exactly one challenge with
// a 401, and none with anything else.
func checkStatus(t testing.TB, a answer, status int, challenge string) {
	t.Helper()
	var want []string
	if status == http.StatusUnauthorized {
		want = []string{challenge}
	}
	if a.status != status || !slices.Equal(a.header.Values("Www-Authenticate"), want) {
		t.Errorf("status %d with challenges %q, not %d with %q", a.status, a.header.Values("Www-Authenticate"), status, want)
	}
}

func TestCredentials(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{"users": alice + bob + userA + eve + juergenNFC + juergenNFD + juergenL1 + carol + locked1}, https(`
	htpasswd {
		file {dir}/users
		user_header X-User
	}
	reverse_proxy {app}`))
	good := basic("alice", "secret")
	encoded := strings.TrimPrefix(good, "Basic ")
	for _, row := range []struct {
		name   string
		header []string
		status int
		user   string
		hashes int64 // at most
	}{
		{"no header", nil, 401, "", 0},
		{"empty header", []string{""}, 401, "", 0},
		{"Bearer", []string{"Bearer " + encoded}, 401, "", 0},
		{"Digest", []string{`Digest username="alice"`}, 401, "", 0},
		{"no scheme", []string{encoded}, 401, "", 0},
		{"scheme that begins like it", []string{"Basically " + encoded}, 401, "", 0},
		{"scheme with a colon", []string{"Basic:" + encoded}, 401, "", 0},
		{"Basic alone", []string{"Basic"}, 401, "", 0},
		{"no base64", []string{"Basic !!!!"}, 401, "", 0},
		{"base64 of the URL alphabet", []string{"Basic " + base64.URLEncoding.EncodeToString([]byte("a:\xff\xfe\xfd"))}, 401, "", 0},
		{"one character of base64", []string{"Basic Y"}, 401, "", 0},
		{"no colon", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("alicesecret"))}, 401, "", 0},
		{"nothing but padding", []string{"Basic ===="}, 401, "", 0},
		{"nothing but a colon", []string{basic("", "")}, 401, "", 1},
		{"blank in the base64", []string{"Basic " + encoded[:4] + " " + encoded[4:]}, 401, "", 0},
		{"parameters behind", []string{good + ", realm=x"}, 401, "", 0},
		{"user name without end", []string{basic(strings.Repeat("u", 256), "x")}, 401, "", 0},
		{"header of 12 kB", []string{"Basic " + strings.Repeat("QUFB", 3_000)}, 401, "", 0},
		{"basic", []string{"basic " + encoded}, 200, "alice", 1},
		{"BASIC", []string{"BASIC " + encoded}, 200, "alice", 1},
		{"bAsIc", []string{"bAsIc " + encoded}, 200, "alice", 1},
		{"two spaces", []string{"Basic  " + encoded}, 200, "alice", 1},
		{"tab", []string{"Basic\t" + encoded}, 200, "alice", 1},
		{"without padding", []string{"Basic " + strings.TrimRight(basic("bob", "hunter2")[6:], "=")}, 200, "bob", 1},
		{"with padding", []string{basic("bob", "hunter2")}, 200, "bob", 1},
		{"right, then wrong", []string{good, basic("alice", "no")}, 400, "", 0},
		{"wrong, then right", []string{basic("alice", "no"), good}, 400, "", 0},
		{"the same twice", []string{good, good}, 400, "", 0},
		{"Bearer, then right", []string{"Bearer x", good}, 400, "", 0},
		{"right, then Bearer", []string{good, "Bearer x"}, 400, "", 0},
		{"right, then empty", []string{good, ""}, 400, "", 0},
		{"three", []string{good, good, good}, 400, "", 0},
		{"two in one line", []string{good + ", " + good}, 401, "", 0},
		{"two in one line, no blank", []string{good + "," + good}, 401, "", 0},
		{"a::b", []string{basic("a", ":b")}, 200, "a", 1},
		{"a: and b", []string{basic("a:", "b")}, 200, "a", 1}, // the same bytes
		{"empty password, wrong", []string{basic("alice", "")}, 401, "", 1},
		{"empty password, right", []string{basic("eve", "")}, 200, "eve", 1},
		{"NUL in the password", []string{basic("alice", "secret\x00")}, 401, "", 0},
		{"NUL in the middle", []string{basic("alice", "secret\x00secret")}, 401, "", 0},
		{"CR LF in the password", []string{basic("alice", "secret\r\n")}, 401, "", 0},
		{"NUL in the user", []string{basic("alice\x00", "secret")}, 401, "", 0},
		{"CR LF in the user", []string{basic("alice\r\nX-User: root", "secret")}, 401, "", 0},
		{"ESC in the user", []string{basic("\x1b[31malice", "secret")}, 401, "", 0},
		{"DEL in the user", []string{basic("alice\x7f", "secret")}, 401, "", 0},
		{"line separator in the user", []string{basic("alice\u2028\u0085", "secret")}, 401, "", 1},
		{"NFC", []string{basic("jürgen", "grün")}, 200, "jürgen", 1},
		{"NFC with the password of NFD", []string{basic("jürgen", "nfd")}, 401, "", 1},
		{"NFC with NFD in the password", []string{basic("jürgen", "gru\u0308n")}, 401, "", 1},
		{"NFD", []string{basic("ju\u0308rgen", "nfd")}, 200, "ju\u0308rgen", 1},
		{"Latin-1", []string{basic("j\xfcrgen", "gr\xfcn")}, 200, "j\xfcrgen", 1},
		{"Latin-1 user, UTF-8 password", []string{basic("j\xfcrgen", "grün")}, 401, "", 1},
		{"other case of the user", []string{basic("Alice", "secret")}, 401, "", 1},
		{"blank behind the user", []string{basic("alice ", "secret")}, 401, "", 1},
		{"blank before the password", []string{basic("alice", " secret")}, 401, "", 1},
		{"password of 1,024 bytes", []string{basic("alice", strings.Repeat("p", 1024))}, 401, "", 1},
		{"password of 1,025 bytes", []string{basic("alice", strings.Repeat("p", 1025))}, 401, "", 0},
		{"right, and blanks up to 1,025 bytes", []string{basic("alice", "secret"+strings.Repeat(" ", 1019))}, 401, "", 0},
		{"locked", []string{basic("mallory", "!")}, 401, "", 1},
		{"the hash as the password", []string{basic("alice", strings.TrimSpace(alice[6:]))}, 401, "", 1},
		{"unknown user", []string{basic("nobody", "secret")}, 401, "", 1},
	} {
		for version, client := range s.clients() {
			t.Run(row.name+", "+version, func(t *testing.T) {
				app.Taken()
				var a answer
				header := authorization(row.header...)
				if row.header == nil {
					header = nil
				}
				computed := hashes(func() { a = s.in(t, client).send("/", header) })
				checkStatus(t, a, row.status, restricted)
				if computed > row.hashes {
					t.Errorf("%d hashes computed", computed)
				}
				if row.status != 200 {
					app.None(t)
					return
				}
				got := app.One(t)
				if user := got.Header["X-User"]; !slices.Equal(user, []string{row.user}) {
					t.Errorf("the application was told %q", user)
				}
				if got.Header["Authorization"] != nil {
					t.Errorf("the application got %q", got.Header["Authorization"])
				}
			})
		}
	}

	// HTTP/1.1 takes white space around a value off, HTTP/2 leaves it.
	t.Run("blanks around it", func(t *testing.T) {
		s := s.in(t)
		app.Taken()
		a, _ := s.raw("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: \t " + good + " \t\r\nConnection: close\r\n\r\n")
		checkStatus(t, a, 200, "")
		app.One(t)
	})
	t.Run("raw control bytes in the header", func(t *testing.T) {
		s := s.in(t)
		app.Taken()
		for _, c := range []string{"\x00", "\x01", "\x0b", "\x7f", "\r", "\x1b"} {
			a, _ := s.raw("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + good + c + "\r\nConnection: close\r\n\r\n")
			if a.status != 400 && a.status != 401 {
				t.Errorf("%q: %d", c, a.status)
			}
		}
		app.None(t)
	})
	t.Run("one line of the log for each", func(t *testing.T) {
		s := s.in(t)
		before := len(s.log())
		s.send("/", authorization(basic("alice\r\n{\"level\"}\x1b[31m\u2028", "x")))
		var found bool
		for line := range strings.Lines(s.log()[before:]) {
			if strings.Contains(line, "log-in failed") {
				found = strings.Contains(line, `"reason":"malformed credentials"`) && strings.Contains(line, `"user":"\"alice\\r\\n{\\\"level\\\"}\\x1b[31m`)
			}
			if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") || strings.Contains(line, "\x1b") {
				t.Errorf("not one line of JSON: %q", line)
			}
		}
		if !found {
			t.Errorf("no such line in %q", s.log()[before:])
		}
	})
	t.Run("Proxy-Authorization", func(t *testing.T) {
		s := s.in(t)
		app.Taken()
		checkStatus(t, s.send("/", http.Header{"Proxy-Authorization": {good}}), 401, restricted)
		checkStatus(t, s.send("/", http.Header{"X-Authorization": {good}, "Cookie": {"Authorization=" + good}}), 401, restricted)
		app.None(t)
	})
	t.Run("user info in the URL", func(t *testing.T) {
		s := s.in(t)
		app.Taken()
		a, _ := s.raw(fmt.Sprintf("GET https://alice:secret@localhost:%d/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", s.port))
		checkStatus(t, a, 401, restricted)
		a, _ = s.raw("GET / HTTP/1.1\r\nHost: alice:secret@localhost\r\nConnection: close\r\n\r\n")
		if a.status == 200 && a.body != "" {
			t.Errorf("%+v", a)
		}
		app.None(t)
	})
}

// TestEveryFormat has users with hashes of all formats in one file.
func TestEveryFormat(t *testing.T) {
	text, err := os.ReadFile("internal/crypt/testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var users strings.Builder
	formats := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) == 4 && f[2] == `"secret"` && !formats[f[0]] {
			formats[f[0]] = true
			fmt.Fprintf(&users, "%s:%s\n", f[0], f[3])
		}
	}
	if len(formats) < 16 {
		t.Fatalf("only %d formats", len(formats))
	}
	s := site(t, nil, map[string]string{"users": users.String()}, https(`
	htpasswd {
		file {dir}/users
	}
	respond {http.auth.user.id}`))
	for format := range formats {
		t.Run(format, func(t *testing.T) {
			s := s.in(t)
			for range 2 { // the second time from memory
				if a := s.get("/", format, "secret"); a.status != 200 || a.body != format {
					t.Errorf("right password: %+v", a)
				}
			}
			for _, wrong := range []string{"Secret", "secre", "secret ", "secreu", ""} {
				checkStatus(t, s.get("/", format, wrong), 401, restricted)
			}
		})
	}
	if log := s.log(); !strings.Contains(log, `"entries":{"descrypt":1,"md5crypt":1,"plain":1,"sha1":1}`) {
		t.Error("no warning that counts the weak ones")
	}
}

// The decision is the same for every method and way to send a body, and
// nothing of the body goes anywhere before it.
func TestMethods(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{"users": alice}, https(`
	htpasswd {
		file {dir}/users
	}
	reverse_proxy {app}`))
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "TRACE", "get", "X"} {
		for version, client := range s.clients() {
			t.Run(method+", "+version, func(t *testing.T) {
				s := s.in(t)
				for _, row := range []struct {
					value  string
					status int
				}{{"", 401}, {basic("alice", "wrong"), 401}, {basic("alice", "secret"), 200}} {
					app.Taken()
					r := s.request(method, "/", nil)
					if method == "POST" || method == "PUT" {
						r = s.request(method, "/", strings.NewReader("content"))
					}
					if row.value != "" {
						r.Header.Set("Authorization", row.value)
					}
					a := s.in(t, client).do(r)
					checkStatus(t, a, row.status, restricted)
					if row.status == 200 {
						if got := app.One(t); got.Method != method || r.Body != nil && got.Body != "content" {
							t.Errorf("%+v", got)
						}
					} else {
						app.None(t)
					}
				}
			})
		}
	}
	for _, row := range []struct {
		name, head, body string
	}{
		// Without "Connection: close", Caddy waits for the body before it sends any answer that didn't need it.
		{"Expect: 100-continue", "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 7\r\n", ""},
		{"Expect: 100-continue, chunked", "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""},
		{"body sent along", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n", "content"},
		{"body that never ends", "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n", "7\r\ncontent\r\n"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: localhost\r\n", ""},
		{"WebSocket", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n", ""},
	} {
		for _, value := range []string{"", "Authorization: " + basic("alice", "wrong") + "\r\n"} {
			t.Run(row.name, func(t *testing.T) {
				s := s.in(t)
				app.Taken()
				a, interim := s.raw(row.head + value + "\r\n" + row.body)
				checkStatus(t, a, 401, restricted)
				if interim != 0 {
					t.Error("asked to go on")
				}
				app.None(t)
			})
		}
	}
	t.Run("Expect: 100-continue with the right password", func(t *testing.T) {
		s := s.in(t)
		r := s.request("POST", "/", strings.NewReader("content"))
		r.Header.Set("Expect", "100-continue")
		r.SetBasicAuth("alice", "secret")
		client := s.clients()["HTTP/1.1"]
		client.Transport.(*http.Transport).ExpectContinueTimeout = 10 * time.Second
		app.Taken()
		checkStatus(t, s.in(t, client).do(r), 200, "")
		if got := app.One(t); got.Body != "content" {
			t.Errorf("%+v", got)
		}
	})
}

// What a browser shows can't be forged into something else.
func TestRealm(t *testing.T) {
	files := map[string]string{"users": alice}
	s := site(t, nil, files, https(`
	route /quotes {
		htpasswd {
			file {dir}/users
			realm "The \"good\" C:\dir"
		}
	}
	route /host {
		htpasswd {
			file {dir}/users
			realm "Area of {host}"
		}
	}
	route /header {
		htpasswd {
			file {dir}/users
			realm "{header.X-Realm}"
		}
	}
	route /query {
		htpasswd {
			file {dir}/users
			realm "{query.q}"
		}
	}
	route /unknown {
		htpasswd {
			file {dir}/users
			realm "a{no.such}b {51"
		}
	}
	route /utf8 {
		htpasswd {
			file {dir}/users
			realm "Geschützt"
		}
	}`))
	for _, row := range []struct {
		name, path, header, realm string
	}{
		{"quotes and backslashes", "/quotes", "", `The \"good\" C:\\dir`},
		{"placeholder", "/host", "", "Area of localhost"},
		{"header with quotes", "/header", `x", error="\`, `x\", error=\"\\`},
		{"header with a tab", "/header", "a\tb", `ab`},
		{"header absent", "/header", "", ``},
		{"header with a placeholder", "/header", "{host}", `{host}`},
		{"query with control bytes", "/query?q=a%00b%0d%0aX-Evil:%201%7f%1b%22", "", `abX-Evil: 1\"`},
		{"query with UTF-8", "/query?q=%C3%BC", "", "ü"},
		{"unknown placeholder and a lone brace", "/unknown", "", "ab {51"},
		{"UTF-8", "/utf8", "", "Geschützt"},
	} {
		for version, client := range s.clients() {
			t.Run(row.name+", "+version, func(t *testing.T) {
				header := http.Header{}
				if row.header != "" {
					header.Set("X-Realm", row.header)
				}
				a := s.in(t, client).send(row.path, header)
				checkStatus(t, a, 401, `Basic realm="`+row.realm+`", charset="UTF-8"`)
				if a.header["X-Evil"] != nil {
					t.Error("header injected")
				}
			})
		}
	}
}

// The table of statuses of the design, and the ways round the password.
func TestRequireAndExempt(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{
		"users":  alice + bob + carol,
		"admins": "# admins\nadmins: alice\nstaff: alice bob\n",
		"more":   "audit: carol\n",
	}, "{\n\tservers {\n\t\ttrusted_proxies static 192.0.2.0/24\n\t}\n}\n"+https(`
	log
	@health path /health /ready
	@internal {
		remote_ip 127.0.0.1 ::1
		header X-Internal yes
	}
	@broken expression `+"`"+`1 / int({http.request.header.X-Number}) == 1`+"`"+`
	handle /user {
		htpasswd {
			file {dir}/users
			require user alice
			user_header X-User
		}
		reverse_proxy {app}
	}
	handle /group {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins {dir}/more
			require group admins audit
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /either {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins
			require user carol
			require group admins
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /any {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins {dir}/more
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /nogroups {
		htpasswd {
			file {dir}/users
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /broken {
		htpasswd {
			file {dir}/users
			exempt @broken
		}
		reverse_proxy {app}
	}
	handle {
		htpasswd {
			file {dir}/users
			exempt @health /public/* /favicon.ico
			exempt @internal
			exempt remote_ip 198.51.100.0/24
			exempt {
				path /both/*
				method GET
			}
			user_header X-User
		}
		reverse_proxy {app}
	}`))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		body                       string
	}{
		{"require user: named", "/user", "alice", "secret", 200, "application"},
		{"require user: another", "/user", "bob", "hunter2", 403, ""},
		{"require user: another, wrong password", "/user", "bob", "no", 401, ""},
		{"require user: nobody", "/user", "", "", 401, ""},
		{"require group: member", "/group", "alice", "secret", 200, "alice|admins,staff"},
		{"require group: member by the second file", "/group", "carol", "carols", 200, "carol|audit"},
		{"require group: of another one", "/group", "bob", "hunter2", 403, ""},
		{"require user and group: user", "/either", "carol", "carols", 200, "carol|"},
		{"require user and group: group", "/either", "alice", "secret", 200, "alice|admins,staff"},
		{"require user and group: neither", "/either", "bob", "hunter2", 403, ""},
		{"no require: groups are told", "/any", "bob", "hunter2", 200, "bob|staff"},
		{"no group files: an empty placeholder", "/nogroups", "bob", "hunter2", 200, "bob|"},
		{"no exempt matches", "/", "", "", 401, ""},
		{"no exempt matches, good user", "/", "alice", "secret", 200, "application"},
		{"exempt: named", "/health", "", "", 200, "application"},
		{"exempt: named, wrong password", "/health", "alice", "no", 200, "application"},
		{"exempt: path", "/public/x", "", "", 200, "application"},
		{"exempt: path, exactly", "/favicon.ico", "", "", 200, "application"},
		{"exempt: path, not quite", "/favicon.icon", "", "", 401, ""},
		{"exempt: block", "/both/x", "", "", 200, "application"},
		{"exempt: way back out of it", "/public/../secret", "", "", 401, ""},
		{"exempt: way back out of it, escaped", "/public/%2e%2e/secret", "", "", 401, ""},
		{"exempt: way back out of it, slash escaped", "/public%2f..%2fsecret", "", "", 401, ""},
		{"exempt: only the beginning", "/publicity", "", "", 401, ""},
		{"exempt: as a parameter", "/secret?/public/", "", "", 401, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			app.Taken()
			a := s.get(row.path, row.user, row.password)
			checkStatus(t, a, row.status, restricted)
			if row.status == 200 && a.body != row.body {
				t.Errorf("%q", a.body)
			}
			if row.status != 200 {
				app.None(t)
			}
		})
	}
	t.Run("exempt block: all of its matchers", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.do(s.request("DELETE", "/both/x", nil)), 401, restricted)
	})
	t.Run("exempt: a header in a named matcher", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.send("/", http.Header{"X-Internal": {"yes"}}), 200, "")
		checkStatus(t, s.send("/", http.Header{"X-Internal": {"no"}}), 401, restricted)
	})
	t.Run("exempt: remote_ip isn't what a stranger says", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.send("/", http.Header{"X-Forwarded-For": {"198.51.100.7"}}), 401, restricted)
	})
	t.Run("exempt: a matcher that fails", func(t *testing.T) {
		s := s.in(t)
		for header, status := range map[string]int{"1": 200, "2": 401, "0": 500, "x": 500, "": 500} {
			for _, user := range []string{"", "alice"} {
				app.Taken()
				r := s.request("GET", "/broken", nil)
				r.Header.Set("X-Number", header)
				want := status
				if user != "" {
					r.SetBasicAuth(user, "secret")
					want = map[int]int{200: 200, 401: 200, 500: 500}[status]
				}
				a := s.do(r)
				checkStatus(t, a, want, restricted)
				if want != 200 {
					app.None(t)
				}
			}
		}
	})
	t.Run("user_id in the access log", func(t *testing.T) {
		s := s.in(t)
		before := len(s.log())
		s.get("/?log", "alice", "secret")
		s.get("/health?log", "alice", "secret")
		s.get("/user?log", "bob", "hunter2")
		var got []string
		eventually(t, "three lines", func() bool {
			got = nil
			for line := range strings.Lines(s.log()[before:]) {
				if strings.Contains(line, "handled request") {
					_, user, _ := strings.Cut(line, `"user_id":"`)
					user, _, _ = strings.Cut(user, `"`)
					got = append(got, user)
				}
			}
			return len(got) == 3
		})
		if want := []string{"alice", "", ""}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
	t.Run("group file followed", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.get("/group", "bob", "hunter2"), 403, "")
		computed := hashes(func() {
			s.write("admins", "admins: bob\n")
			eventually(t, "bob is an admin", func() bool { return s.get("/group", "bob", "hunter2").status == 200 })
			checkStatus(t, s.get("/group", "alice", "secret"), 403, "")
		})
		if computed != 0 {
			t.Errorf("%d hashes computed", computed)
		}
	})
}

// Whoever the name belongs to, there is one hash and one answer.
func TestSameAnswer(t *testing.T) {
	s := site(t, nil, map[string]string{"users": alice + "bad:nonsense\n" + locked1}, https(`
	handle_errors {
		respond "{err.status_code} {err.status_text} {err.message} {err.trace} {http.auth.user.id}"
	}
	htpasswd {
		file {dir}/users
	}
	respond ok`))
	for version, client := range s.clients() {
		var first answer
		for _, row := range []struct{ name, user string }{
			{"known user", "alice"}, {"unknown user", "nobody"}, {"locked user", "mallory"}, {"bad line", "bad"}, {"empty user", ""},
			{"user name of 255 bytes", strings.Repeat("u", 255)},
		} {
			t.Run(row.name+", "+version, func(t *testing.T) {
				var a answer
				if computed := hashes(func() { a = s.in(t, client).send("/", authorization(basic(row.user, "wrong by "+version))) }); computed != 1 {
					t.Errorf("%d hashes computed, not one", computed)
				}
				checkStatus(t, a, 401, restricted)
				a.header.Del("Date")
				if first.header == nil {
					first = a
				}
				if a.body != first.body || !maps.EqualFunc(a.header, first.header, slices.Equal) {
					t.Errorf("%+v, not as for a known user: %+v", a, first)
				}
				if strings.Contains(a.body, row.user) && row.user != "" {
					t.Errorf("user in the answer: %q", a.body)
				}
			})
		}
	}
	t.Run("one hash for the right password, then none", func(t *testing.T) {
		s := s.in(t)
		if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 200, "") }); n != 1 {
			t.Errorf("%d hashes computed, not one", n)
		}
		if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 200, "") }); n != 0 {
			t.Errorf("%d hashes computed, not none", n)
		}
	})
}

// Who gets to see the password.
func TestAuthorizationHeader(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{"users": alice + bob}, https(`
	handle_errors {
		reverse_proxy {app}
	}
	handle /keep {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
			keep_authorization
			require user alice
		}
		reverse_proxy {app}
	}
	handle /echo {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
		}
		respond "[{http.request.header.Authorization}]"
	}
	handle /own {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app} {
			header_up Authorization "Basic b3du"
		}
	}
	handle {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
			require user alice
		}
		reverse_proxy {app}
	}`))
	good, bad := basic("alice", "secret"), basic("alice", "wrong")
	for _, row := range []struct {
		name, path string
		exempt     bool
		header     []string
		status     int
		want       []string // what the application gets
	}{
		{"removed", "/", false, []string{good}, 200, nil},
		{"removed, other case", "/", false, []string{"bASIC" + good[5:]}, 200, nil},
		{"kept", "/keep", false, []string{good}, 200, []string{good}},
		{"failing, wrong password", "/", false, []string{bad}, 401, nil},
		{"failing, malformed", "/", false, []string{"Basic !!"}, 401, nil},
		{"failing, Basic alone", "/", false, []string{"Basic"}, 401, nil},
		{"failing, no TAB is a way round", "/", false, []string{"Basic\t\t" + bad[6:]}, 401, nil},
		{"failing, wrong password, keep_authorization", "/keep", false, []string{bad}, 401, nil},
		{"failing, two headers", "/", false, []string{good, bad}, 400, nil},
		{"failing, two headers, keep_authorization", "/keep", false, []string{good, bad}, 400, nil},
		{"failing, Basic and Bearer", "/", false, []string{good, "Bearer t"}, 400, []string{"Bearer t"}},
		{"failing, not required", "/", false, []string{basic("bob", "hunter2")}, 403, nil},
		{"failing, not required, keep_authorization", "/keep", false, []string{basic("bob", "hunter2")}, 403, nil},
		{"exempt: Bearer untouched", "/", true, []string{"Bearer t"}, 200, []string{"Bearer t"}},
		{"exempt: two Bearers untouched", "/", true, []string{"Bearer t", "Bearer u"}, 200, []string{"Bearer t", "Bearer u"}},
		{"exempt: Basic removed", "/", true, []string{good}, 200, nil},
		{"exempt: wrong Basic removed", "/", true, []string{bad}, 200, nil},
		{"exempt: Bearer stays, Basic goes", "/", true, []string{"Bearer t", good}, 200, []string{"Bearer t"}},
		{"exempt: Basic kept", "/keep", true, []string{good}, 200, []string{good}},
		{"exempt: both kept", "/keep", true, []string{"Bearer t", good}, 200, []string{"Bearer t", good}},
		{"the proxy's own", "/own", false, []string{good}, 200, []string{"Basic b3du"}},
	} {
		for version, client := range s.clients() {
			t.Run(row.name+", "+version, func(t *testing.T) {
				app.Taken()
				header := authorization(row.header...)
				if row.exempt {
					header.Set("X-Exempt", "yes")
				}
				a := s.in(t, client).send(row.path, header)
				if row.status == 200 && a.status != 200 {
					t.Errorf("status %d", a.status)
				}
				if got := app.One(t); !slices.Equal(got.Header["Authorization"], row.want) {
					t.Errorf("the application got %q, not %q", got.Header["Authorization"], row.want)
				}
			})
		}
	}
	t.Run("no placeholder", func(t *testing.T) {
		s := s.in(t)
		for _, exempt := range []string{"", "yes"} {
			if a := s.send("/echo", http.Header{"Authorization": {good}, "X-Exempt": {exempt}}); a.body != "[]" || a.status != 200 {
				t.Errorf("%+v", a)
			}
		}
	})
	// HTTP/2 leaves white space where it is; whatever sends the request on over HTTP/1.1 takes it off.
	t.Run("blank before the scheme, HTTP/2", func(t *testing.T) {
		s := s.in(t)
		for _, row := range []struct {
			path, exempt string
		}{{"/", ""}, {"/", "yes"}} {
			app.Taken()
			a := s.send(row.path, http.Header{"Authorization": {" " + good}, "X-Exempt": {row.exempt}})
			if got := app.One(t); got.Header["Authorization"] != nil {
				t.Errorf("%d; the application got %q", a.status, got.Header["Authorization"])
			}
		}
	})
}

// Neither a password nor its hash is written anywhere.
func TestCanary(t *testing.T) {
	const password = "canary-PaSSw0rd-7f3a"
	const hash = "$2y$04$Mo1mims8ECyupLmpCqtd/ejufvSwEGYP3DBry1e6ELHoaGIy33Awm"
	app := testkit.NewWitness(t)
	dead := httptest.NewServer(nil)
	dead.Close()
	caddyfile := `{
	servers {
		LOGCREDENTIALS
	}
}
https://localhost:{https} {
	tls internal
	log
	log_append login {http.vars.htpasswd.login}
	log_append login2 htpasswd.login
	log_append sent {http.request.header.Authorization}
	handle_errors 401 403 500 502 {
		respond "{err.message}|{err}|{http.error}|{http.vars.htpasswd.login}|{http.request.header.Authorization}|{http.auth.user.id}|{http.request.header}"
	}
	handle /panic {
		htpasswd {
			file {dir}/users
		}
		test_panic
	}
	handle /dead {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy ` + dead.Listener.Addr().String() + `
	}
	handle /vars {
		htpasswd {
			file {dir}/users
		}
		vars again {http.vars.htpasswd.login}
		templates {
			mime text/plain
		}
		respond "{http.vars.htpasswd.login}|{http.vars.again}|{{placeholder ` + "`http.vars.htpasswd.login`" + `}}|{{.Req.Header}}"
	}
	@login vars {http.vars.htpasswd.login} *
	@cel expression ` + "`{http.vars.htpasswd.login} != ''`" + `
	handle /match {
		route {
			htpasswd {
				file {dir}/users
			}
			respond @login "matched"
			respond @cel "matched"
			respond none
		}
	}
	handle /bob {
		htpasswd {
			file {dir}/users
			require user bob
		}
		respond ok
	}
	handle /public {
		htpasswd {
			file {dir}/users
			exempt /public
		}
		reverse_proxy {app}
	}
	handle {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app}
	}
}
http://localhost:{http} {
	htpasswd {
		file {dir}/users
	}
	respond ok
}`
	for _, option := range []string{"", "log_credentials"} {
		t.Run(option, func(t *testing.T) {
			s := site(t, app, map[string]string{"users": aliceCanary + bob}, strings.Replace(caddyfile, "LOGCREDENTIALS", option, 1))
			good := basic("alice", password)
			encoded := good[len("Basic "):]
			var answers []string
			add := func(a answer) {
				answers = append(answers, fmt.Sprintf("%+v", a))
			}
			for _, path := range []string{"/", "/dead", "/vars", "/match", "/bob", "/public"} {
				for _, value := range []string{
					good, good[:len(good)-6], "Basic " + strings.TrimRight(encoded, "="), basic("alice", password+"x"), basic("nobody", password),
					basic("alice", password+"\x00"), "Basic !" + encoded, good + ", " + good,
				} {
					add(s.send(path, authorization(value)))
				}
				add(s.send(path, authorization(good, good)))
			}
			add(s.plain("/", authorization(good)))
			for _, value := range []string{good, basic("alice", "wrong")} {
				r := s.request("GET", "/panic", nil)
				r.Header.Set("Authorization", value)
				if resp, err := s.client.Do(r); err == nil {
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					add(answer{resp.StatusCode, resp.Header, string(text)})
				}
			}
			s.write("users", aliceCanary+bob+"alice:"+hash+"\nlong:"+hash+strings.Repeat("x", 9000)+"\nnone:"+hash[:20]+"\n:"+hash+"\n"+hash+"\n")
			eventually(t, "the file is read", func() bool { return strings.Contains(s.log(), "bad line skipped") })
			s.write("users", hash+"\n")
			eventually(t, "the broken file is refused", func() bool { return strings.Contains(s.log(), "file can't be used") })

			if a := s.get("/vars", "alice", password); a.status != 200 || !strings.HasPrefix(a.body, "|||map[") {
				t.Errorf("%+v", a)
			}
			text := s.log()
			for what, secret := range map[string]string{"password": password, "hash": hash, "salt and hash": hash[7:40], "part of the password": "PaSSw0rd"} {
				for line := range strings.Lines(text) {
					if strings.Contains(line, secret) {
						t.Errorf("%s in the log: %s", what, line)
					}
				}
				for _, a := range answers {
					if strings.Contains(a, secret) {
						t.Errorf("%s in an answer: %s", what, a)
					}
				}
			}
			for _, a := range answers {
				if strings.Contains(a, encoded[:12]) {
					t.Errorf("encoded in an answer: %s", a)
				}
			}
			for line := range strings.Lines(text) {
				if !strings.Contains(line, encoded[:12]) {
					continue
				}
				// The administrator has asked Caddy for it, and Caddy logs the request as it came. Nothing else does.
				_, rest, _ := strings.Cut(line, `"Authorization":[`)
				rest, _, _ = strings.Cut(rest, "]")
				asked := option == "log_credentials" && strings.Contains(line, `"logger":"http.log.`)
				if !asked || strings.Count(line, encoded[:12]) != strings.Count(rest, encoded[:12]) {
					t.Errorf("encoded in the log: %s", line)
				}
			}
			if !strings.Contains(text, `"logger":"http.log.access`) || !strings.Contains(text, "panic serving") || !strings.Contains(text, "handled request") {
				t.Error("not everything was tried that could be logged")
			}
		})
	}
}

// The challenge outlives what the administrator does about errors.
func TestHandleErrors(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{"users": alice, "401.html": "<h1>Please log in</h1>"}, https(`
	root {dir}
	handle_errors 401 {
		@page header X-Page yes
		handle @page {
			rewrite /401.html
			file_server {
				status 401
			}
		}
		respond "{err.status_code} {err.message}" 401
	}
	handle_errors {
		respond "{err.status_code} {err.message}"
	}
	htpasswd {
		file {dir}/users
		require user nobody
		exempt /open
	}
	reverse_proxy {app}`))
	for _, row := range []struct {
		name   string
		header http.Header
		status int
		body   string
	}{
		{"respond", nil, 401, "401 not authenticated"},
		{"page", http.Header{"X-Page": {"yes"}}, 401, "<h1>Please log in</h1>"},
		{"page, wrong password", http.Header{"X-Page": {"yes"}, "Authorization": {basic("alice", "no")}}, 401, "<h1>Please log in</h1>"},
		{"403", authorization(basic("alice", "secret")), 403, "403 the user is not among those required"},
		{"400", authorization("Basic a", "Basic b"), 400, "400 more than one Authorization header"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			a := s.send("/", row.header)
			checkStatus(t, a, row.status, restricted)
			if a.body != row.body {
				t.Errorf("%q", a.body)
			}
		})
	}
	app.None(t)
}

// A path that means the same to the application as a protected one is
// protected, as far as the matcher goes; a whole site altogether.
func TestPaths(t *testing.T) {
	app := testkit.NewWitness(t)
	s := site(t, app, map[string]string{"users": alice}, `
https://localhost:{https} {
	tls internal
	handle /admin/* {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app}
	}
	handle {
		respond open
	}
}
https://127.0.0.1:{https} {
	tls internal
	htpasswd {
		file {dir}/users
	}
	reverse_proxy {app}
}
https://localhost.localdomain:{https} {
	tls internal
	htpasswd {
		file {dir}/users
		exempt /public/*
	}
	reverse_proxy {app}
}
https://[::1]:{https} {
	tls internal
	htpasswd /admin/* {
		file {dir}/users
	}
	reverse_proxy {app}
}`)
	raw := func(host, path string) answer {
		a, _ := s.raw("GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		return a
	}
	protected := []string{
		"/admin/", "/admin/x", "//admin/x", "/admin//x", "///admin///x", "/ADMIN/x", "/Admin/X", "/%61dmin/x", "/%61%64%6d%69%6e/x", "/admin%2Fx", "/admin%2fx", "/%2Fadmin/x",
		"/./admin/x", "/x/../admin/x", "/x/%2e%2e/admin/x", "/x/..%2fadmin/x", "/%2e/admin/x", "/../admin/x", "/admin/x/../y", "/admin/x?y=../..", "/admin/%2e/x",
		"/x//..//admin/x", "/admin/./x", "/admin/../admin/x", "https://localhost/admin/x",
	}
	for _, path := range protected {
		t.Run("handle /admin/*: "+path, func(t *testing.T) {
			if a := raw("localhost", path); a.status != 401 && a.status != 400 {
				t.Errorf("%d %s", a.status, a.body)
			}
			app.None(t)
		})
		t.Run("htpasswd /admin/*: "+path, func(t *testing.T) {
			if a := raw("[::1]", path); a.status != 401 && a.status != 400 {
				t.Errorf("%d %s", a.status, a.body)
			}
			app.None(t)
		})
	}
	odd := []string{"/", "/admin", "/admin;/x", "/admin%00/x", `/admin\x`, "/admin/..;/x", "/%00", "/?x", "*", "/.", "/..", "//", "/%", "/\xff", "/public/../secret", "/public%2f..%2fsecret", "/public/%2e%2e%2fsecret", "/x/../../secret"}
	for _, host := range []string{"127.0.0.1", "localhost.localdomain"} {
		for _, path := range append(slices.Clone(protected), odd...) {
			if path == "https://localhost/admin/x" {
				continue // that is the other site
			}
			t.Run("whole site "+host+": "+path, func(t *testing.T) {
				if a := raw(host, path); a.status != 401 && a.status != 400 {
					t.Errorf("%d %s", a.status, a.body)
				}
				app.None(t)
			})
		}
	}
	t.Run("handle fails closed for what it doesn't cover", func(t *testing.T) {
		for _, path := range odd {
			if a := raw("localhost", path); a.status == 200 && a.body != "open" && a.body != "" {
				t.Errorf("%s: %+v", path, a)
			}
		}
		app.None(t)
	})
	t.Run("the right password gets there", func(t *testing.T) {
		s := s.in(t)
		for _, path := range []string{"/admin/x", "//ADMIN/x", "/x/../admin/x"} {
			a, _ := s.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic("alice", "secret") + "\r\nConnection: close\r\n\r\n")
			if got := app.One(t); a.status != 200 || got.URI != path {
				t.Errorf("%+v, %+v", a, got)
			}
		}
	})
}

// More than one htpasswd on the way of a request.
func TestTwoHandlers(t *testing.T) {
	app, auth := testkit.NewWitness(t), testkit.NewWitness(t)
	s := site(t, app, map[string]string{
		"site":   alice + bobSecret + carol,
		"admins": aliceOther + bobSecret,
		"same":   alice,
	}, strings.ReplaceAll(https(`
	handle_errors {
		reverse_proxy {app}
	}
	htpasswd {
		file {dir}/site
		user_header X-User
		realm Site
	}
	handle /admin/* {
		htpasswd {
			file {dir}/admins
			user_header X-User
			realm Admins
		}
		reverse_proxy {app}
	}
	htpasswd /overlap/* {
		file {dir}/admins
		realm Admins
	}
	handle /overlap/* {
		reverse_proxy {app}
	}
	handle /samefile/* {
		htpasswd {
			file {dir}/site
			require user alice
			user_header X-Admin
		}
		reverse_proxy {app}
	}
	handle /keepinner/* {
		htpasswd {
			file {dir}/site
			keep_authorization
		}
		reverse_proxy {app}
	}
	handle /exemptinner/* {
		htpasswd {
			file {dir}/admins
			exempt path_regexp ^/exempt
			user_header X-User
		}
		reverse_proxy {app}
	}
	handle /three/* {
		route {
			htpasswd {
				file {dir}/site
			}
			htpasswd {
				file {dir}/site
				exempt path_regexp ^/exempt
				user_header X-User
			}
			reverse_proxy {app}
		}
	}
	handle /exemptother/* {
		htpasswd {
			file {dir}/admins
			exempt path_regexp ^/exempt
			user_header X-Admin
		}
		reverse_proxy {app}
	}
	handle /between/* {
		route {
			request_header Authorization "Basic dXA6c3RyZWFt"
			request_header X-Other "other"
			htpasswd {
				file {dir}/site
				user_header X-Admin
			}
			reverse_proxy {app}
		}
	}
	handle /changed/* {
		route {
			request_header X-User "somebody else"
			htpasswd {
				file {dir}/site
				user_header X-User
			}
			reverse_proxy {app}
		}
	}
	handle /vars/* {
		route {
			vars htpasswd.login "Basic Ym9iOnNlY3JldA=="
			htpasswd {
				file {dir}/admins
				realm Admins
			}
			reverse_proxy {app}
		}
	}
	handle /forward/* {
		forward_auth {auth} {
			uri /check
			copy_headers X-Role
		}
		reverse_proxy {app}
	}
	handle {
		reverse_proxy {app}
	}`), "{auth}", auth.Listener.Addr().String()))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		realm                      string
		want                       http.Header // of these fields, what the application gets
	}{
		{"site only", "/", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"nobody", "/admin/x", "", "", 401, "Site", nil},
		{"good for both", "/admin/x", "bob", "secret", 200, "", http.Header{"X-User": {"bob"}}},
		{"good for the site only", "/admin/x", "carol", "carols", 401, "Admins", nil},
		{"same name, password of the site", "/admin/x", "alice", "secret", 401, "Admins", nil},
		{"same name, password of the admins", "/admin/x", "alice", "other", 401, "Site", nil},
		{"overlapping: good for both", "/overlap/x", "bob", "secret", 200, "", http.Header{"X-User": {"bob"}}},
		{"overlapping: good for one only", "/overlap/x", "alice", "other", 401, "", nil},
		{"same file twice, required", "/samefile/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}, "X-Admin": {"alice"}}},
		{"same file twice, not required", "/samefile/x", "bob", "secret", 403, "", nil},
		{"keep_authorization in the inner one only", "/keepinner/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"the inner one exempt: the outer one's user", "/exemptinner/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"the inner one exempt, with a field of its own", "/exemptother/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"one without user_header between", "/three/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"credentials for the application set between", "/between/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}, "X-Admin": {"alice"}, "Authorization": {"Basic dXA6c3RyZWFt"}}},
		{"forged between: the inner one still says who it is", "/changed/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"variable overwritten: fails closed", "/vars/x", "bob", "secret", 401, "Admins", nil},
		{"forward_auth behind", "/forward/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			app.Taken()
			auth.Taken()
			r := s.request("GET", row.path, nil)
			r.Header["X-User"] = []string{"root"}
			switch row.path {
			case "/samefile/x", "/between/x", "/exemptother/x":
				r.Header["X-Admin"] = []string{"root"}
			}
			if row.user != "" {
				r.SetBasicAuth(row.user, row.password)
			}
			a := s.do(r)
			got := app.One(t) // of an error, too, since handle_errors leads there
			if row.status == 200 {
				checkStatus(t, a, 200, "")
			}
			if row.status != 200 {
				if got.Header["Authorization"] != nil {
					t.Errorf("the application got %q", got.Header["Authorization"])
				}
				if slices.Contains(got.Header["X-User"], "root") {
					t.Errorf("the application got %q", got.Header["X-User"])
				}
				if row.realm != "" && a.header.Get("Www-Authenticate") != `Basic realm="`+row.realm+`", charset="UTF-8"` {
					t.Errorf("challenge %q", a.header.Values("Www-Authenticate"))
				}
				if row.status == 403 && a.header.Get("Www-Authenticate") != "" {
					t.Errorf("challenge %q", a.header.Values("Www-Authenticate"))
				}
				return
			}
			for _, field := range []string{"X-User", "X-Admin", "Authorization"} {
				if !slices.Equal(got.Header[field], row.want[field]) {
					t.Errorf("the application got %s: %q, not %q", field, got.Header[field], row.want[field])
				}
			}
			if strings.HasPrefix(row.path, "/forward/") {
				if asked := auth.One(t); asked.Header.Get("X-User") != "alice" || asked.Header["Authorization"] != nil {
					t.Errorf("forward_auth got %v", asked.Header)
				}
			}
		})
	}
	t.Run("keep_authorization in both, and in the outer one only", func(t *testing.T) {
		s := site(t, app, map[string]string{"site": alice}, https(`
	htpasswd {
		file {dir}/site
		keep_authorization
	}
	handle /both {
		htpasswd {
			file {dir}/site
			keep_authorization
		}
		reverse_proxy {app}
	}
	handle /outer {
		htpasswd {
			file {dir}/site
		}
		reverse_proxy {app}
	}`))
		app.Taken()
		checkStatus(t, s.get("/both", "alice", "secret"), 200, "")
		if got := app.One(t); got.Header.Get("Authorization") != basic("alice", "secret") {
			t.Errorf("%q", got.Header)
		}
		checkStatus(t, s.get("/outer", "alice", "secret"), 200, "")
		if got := app.One(t); got.Header["Authorization"] != nil {
			t.Errorf("%q", got.Header)
		}
	})
}

// A user in two files is two users.
func TestTwoFiles(t *testing.T) {
	s := site(t, nil, map[string]string{"one": alice, "two": aliceOther + carol}, https(`
	handle /one {
		htpasswd {
			file {dir}/one
		}
		respond one
	}
	handle /two {
		htpasswd {
			file {dir}/two
		}
		respond two
	}
	handle /onetwo {
		htpasswd {
			file {dir}/one {dir}/two
		}
		respond onetwo
	}
	handle /off {
		htpasswd {
			file {dir}/one
			cache off
		}
		respond off
	}`))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		hashes                     int64
	}{
		{"one", "/one", "alice", "secret", 200, 1},
		{"one, remembered", "/one", "alice", "secret", 200, 0},
		{"the password of one in two", "/two", "alice", "secret", 401, 1},
		{"two", "/two", "alice", "other", 200, 1},
		{"two, remembered", "/two", "alice", "other", 200, 0},
		{"the password of two in one", "/one", "alice", "other", 401, 1},
		{"both files: the first decides, as before", "/onetwo", "alice", "other", 401, 0},
		{"both files: remembered with the file", "/onetwo", "alice", "secret", 200, 0},
		{"both files: user of the second", "/onetwo", "carol", "carols", 200, 1},
		{"user of the second in the first", "/one", "carol", "carols", 401, 1},
		{"cache off: computed though remembered", "/off", "alice", "secret", 200, 1},
		{"cache off: computed again", "/off", "alice", "secret", 200, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			var a answer
			if n := hashes(func() { a = s.get(row.path, row.user, row.password) }); n != row.hashes {
				t.Errorf("%d hashes computed, not %d", n, row.hashes)
			}
			checkStatus(t, a, row.status, restricted)
		})
	}
}

// The application's failures aren't the user's.
func TestDeadApplication(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	s := site(t, nil, map[string]string{"users": alice}, https(`
	htpasswd {
		file {dir}/users
	}
	reverse_proxy `+dead.Listener.Addr().String()))
	checkStatus(t, s.get("/", "", ""), 401, restricted)
	checkStatus(t, s.get("/", "alice", "wrong"), 401, restricted)
	checkStatus(t, s.get("/", "alice", "secret"), 502, "")
	if n := hashes(func() { checkStatus(t, s.get("/", "alice", "secret"), 502, "") }); n != 0 {
		t.Errorf("%d hashes computed", n)
	}
	if n := strings.Count(s.log(), "log-in failed"); n != 1 {
		t.Errorf("%d failures logged, not one", n)
	}
}

// nextHandler is what stands behind a handler that is called without a server.
type nextHandler struct{ calls int }

func (n *nextHandler) ServeHTTP(http.ResponseWriter, *http.Request) error {
	n.calls++
	return nil
}

// handlerRequest returns a request as Caddy hands it to its handlers.
func handlerRequest(encrypted bool, header http.Header) *http.Request {
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	r.Header = header
	if encrypted {
		r.TLS = new(tls.ConnectionState)
	}
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	return r.WithContext(context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{}))
}

// emptyContext is the context of a configuration with nothing in it.
func emptyContext(t testing.TB) caddy.Context {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "FATAL"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// references returns how often the pool holds a file as users and as groups.
func references(path string) [2]int {
	users, _ := process.sources.pool.References(poolKey[*userStore]{path})
	groups, _ := process.sources.pool.References(poolKey[*groupStore]{path})
	return [2]int{users, groups}
}

// A handler whose settings or files are bad doesn't come into being, and
// leaves nothing behind.
func TestProvisionRefuses(t *testing.T) {
	ctx := emptyContext(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	good, good2, broken, groups := write("good", alice), write("good2", bob), write("broken", "<html>\n"), write("groups", "g: alice\n")
	missing := dir + "/missing"
	t.Setenv("HTPASSWD_TEST", good)
	for _, row := range []struct {
		name, json, want string
	}{
		{"no file", `{}`, "files: expected at least one password file, found none"},
		{"no file but others", `{"realm": "x", "group_files": ["GROUPS"]}`, "files: expected at least one password file, found none"},
		{"missing file", `{"files": ["MISSING"]}`, missing + ": no such file"},
		{"second file missing", `{"files": ["GOOD", "MISSING"]}`, missing + ": no such file"},
		{"first file missing", `{"files": ["MISSING", "GOOD"]}`, missing + ": no such file"},
		{"folder", `{"files": ["DIR"]}`, "is a folder"},
		{"empty name", `{"files": [""]}`, "is a folder"},
		{"broken file", `{"files": ["GOOD", "GOOD2", "BROKEN"]}`, broken + ": none of its 1 lines"},
		{"missing group file", `{"files": ["GOOD", "GOOD2"], "group_files": ["GROUPS", "MISSING"]}`, missing + ": no such file"},
		{"broken group file", `{"files": ["GOOD"], "group_files": ["BROKEN"]}`, broken + ": none of its 1 lines"},
		{"group file as a password file", `{"files": ["GOOD"], "group_files": ["GOOD"], "user_header": "Host"}`, "user_header"},
		{"unknown placeholder", `{"files": ["{env.HTPASSWD_NO_SUCH}/x"]}`, "env.HTPASSWD_NO_SUCH"},
		{"realm with a line end", `{"files": ["GOOD"], "realm": "a\nb"}`, "realm"},
		{"realm with a NUL", `{"files": ["GOOD"], "realm": "a\u0000{host}"}`, "realm"},
		{"realm with DEL", `{"files": ["GOOD"], "realm": "\u007f"}`, "realm"},
		{"user_header Authorization", `{"files": ["GOOD"], "user_header": "AUTHORIZATION"}`, "user_header"},
		{"user_header with an underscore for a field of its own", `{"files": ["GOOD"], "user_header": "Content_Length"}`, "user_header"},
		{"user_header with a blank", `{"files": ["GOOD"], "user_header": "X User"}`, "user_header"},
		{"user_header with a line end", `{"files": ["GOOD"], "user_header": "X-User\r\nX-Evil: 1"}`, "user_header"},
		{"user_header with a colon", `{"files": ["GOOD"], "user_header": "X-User:"}`, "user_header"},
		{"require nothing", `{"files": ["GOOD"], "require": {}}`, "require"},
		{"require empty lists", `{"files": ["GOOD"], "require": {"users": [], "groups": []}}`, "require"},
		{"require group without a group file", `{"files": ["GOOD"], "require": {"groups": ["g"]}}`, "group_file"},
		{"cache off and max_age", `{"files": ["GOOD"], "cache": {"off": true, "max_age": "5m"}}`, "cache"},
		{"cache below zero", `{"files": ["GOOD"], "cache": {"max_age": "-1s"}}`, "cache"},
		{"exempt everything", `{"files": ["GOOD"], "exempt": [{}]}`, "exempt"},
		{"exempt everything, behind another", `{"files": ["GOOD"], "exempt": [{"path": ["/x"]}, {}]}`, "exempt"},
		{"exempt null", `{"files": ["GOOD"], "exempt": [null]}`, "exempt"},
		{"exempt unknown matcher", `{"files": ["GOOD"], "exempt": [{"no_such": 1}]}`, "exempt"},
		{"exempt bad matcher", `{"files": ["GOOD"], "exempt": [{"remote_ip": {"ranges": ["nonsense"]}}]}`, "exempt"},
		{"unknown setting", `{"files": ["GOOD"], "exemptions": []}`, "exemptions"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.NewReplacer("GOOD2", good2, "GOOD", good, "BROKEN", broken, "MISSING", missing, "GROUPS", groups, "DIR", dir).Replace(row.json)
			_, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(text))
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "htpasswd") {
				t.Errorf("%v, not an error about %q", err, row.want)
			}
			for _, path := range []string{good, good2, broken, groups, missing, dir} {
				if n := references(path); n != [2]int{} {
					t.Errorf("%s is held %v times", path, n)
				}
			}
		})
	}

	// A good handler holds what it uses; one that fails beside it takes nothing of that away.
	h := &Handler{Files: []string{"{env.HTPASSWD_TEST}", good2}, GroupFiles: []string{groups}}
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	check := func(want int) {
		t.Helper()
		for _, path := range []string{good, good2} {
			if n := references(path); n != [2]int{want, 0} {
				t.Errorf("%s is held %v times, not %d", path, n, want)
			}
		}
		if n := references(groups); n != [2]int{0, want} {
			t.Errorf("%s is held %v times, not %d", groups, n, want)
		}
	}
	check(1)
	t.Run("Cleanup after a Provision that failed halfway, twice", func(t *testing.T) {
		failing := &Handler{Files: []string{good, missing, good2}}
		err := failing.Provision(ctx)
		if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for range 2 {
			if err := failing.Cleanup(); err != nil {
				t.Error(err)
			}
			check(1)
		}
		next := new(nextHandler)
		if err := failing.ServeHTTP(httptest.NewRecorder(), handlerRequest(true, authorization(basic("nobody", "x"))), next); err == nil || next.calls > 0 {
			t.Error("served")
		}
	})
	t.Run("Cleanup without Provision", func(t *testing.T) {
		if err := new(Handler).Cleanup(); err != nil {
			t.Error(err)
		}
		check(1)
	})
	t.Run("the same file twice in one handler", func(t *testing.T) {
		twice := &Handler{Files: []string{good, good}, GroupFiles: []string{groups, groups}}
		if err := twice.Provision(ctx); err != nil {
			t.Error(err)
		}
		if n := references(good); n != [2]int{3, 0} {
			t.Error(n)
		}
		for range 2 {
			if err := twice.Cleanup(); err != nil {
				t.Error(err)
			}
			check(1)
		}
	})
	t.Run("broken while in use", func(t *testing.T) {
		write("good2", "<html>\n")
		failing := &Handler{Files: []string{good2}}
		if err := failing.Provision(ctx); err == nil {
			t.Error("the broken file was taken")
		}
		if err := failing.Cleanup(); err != nil {
			t.Error(err)
		}
		check(1)
		next := new(nextHandler)
		if err := h.ServeHTTP(httptest.NewRecorder(), handlerRequest(true, authorization(basic("bob", "hunter2"))), next); err != nil || next.calls != 1 {
			t.Errorf("%v: the version before doesn't serve on", err)
		}
	})
	t.Run("called without a server", func(t *testing.T) {
		for _, row := range []struct {
			name      string
			encrypted bool
			header    http.Header
			status    int
		}{
			{"nothing", true, http.Header{}, 401},
			{"no header map", true, nil, 401},
			{"not encrypted", false, authorization(basic("alice", "secret")), 403},
			{"wrong", true, authorization(basic("alice", "no")), 401},
			{"two", true, authorization(basic("alice", "secret"), "x"), 400},
			{"right", true, authorization(basic("alice", "secret")), 200},
		} {
			next := new(nextHandler)
			err := h.ServeHTTP(httptest.NewRecorder(), handlerRequest(row.encrypted, row.header), next)
			status := 200
			if failure, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
				status = failure.StatusCode
			} else if err != nil {
				t.Error(row.name, err)
			}
			if status != row.status || (next.calls == 1) != (status == 200) || next.calls > 1 {
				t.Errorf("%s: status %d, next called %d times", row.name, status, next.calls)
			}
		}
	})
	t.Run("no exempt exempts nothing", func(t *testing.T) {
		for _, exempt := range []string{"", `, "exempt": []`, `, "exempt": null`} {
			module, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(`{"files": ["`+good+`"]`+exempt+`}`))
			if err != nil {
				t.Fatal(err)
			}
			next := new(nextHandler)
			if err := module.(*Handler).ServeHTTP(httptest.NewRecorder(), handlerRequest(true, http.Header{}), next); err == nil || next.calls > 0 {
				t.Errorf("%q: open to all", exempt)
			}
			if err := module.(*Handler).Cleanup(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	check(0)
}

// panicking is a handler that does what none should.
type panicking struct{}

func (panicking) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic", New: func() caddy.Module { return new(panicking) }}
}

func (panicking) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	panic("on purpose")
}

func init() {
	caddy.RegisterModule(panicking{})
	httpcaddyfile.RegisterHandlerDirective("test_panic", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return panicking{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic", httpcaddyfile.Before, "respond")
}

// TestExemptPlaceholders: a request that passes without a password has no
// name, also where one is filled in by a placeholder; unless another handler
// has asked for one.
func TestExemptPlaceholders(t *testing.T) {
	s := startServer(t, "")
	s.write("users", "bob:"+toolSHA+"\n")
	s.write("groups", "staff: bob\n")
	must(t, s.reload(`https://localhost:{https} {
	htpasswd /both/* {
		file {dir}/users
		group_file {dir}/groups
	}
	htpasswd {
		file {dir}/users
		exempt /open /both/open
	}
	respond "<{http.auth.user.id}> <{http.auth.user.groups}>"
}`))
	for _, test := range []struct{ path, user, want string }{
		{"/open", "", "<> <>"},
		{"/open", "bob", "<> <>"},
		{"/both/open", "bob", "<bob> <staff>"},
		{"/both/closed", "bob", "<bob> <staff>"},
	} {
		if a := s.get(test.path, test.user, "secret1"); a.status != 200 || a.body != test.want {
			t.Errorf("%s as %q: %d %s", test.path, test.user, a.status, a.body)
		}
	}
}
