package caddyhtpasswd

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestCredentials(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice + bob + userA + eve + juergenNFC + juergenNFD + juergenL1 + carol + locked1}, httpsSite(`
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
		{"only padding", []string{"Basic ===="}, 401, "", 0},
		{"only a colon", []string{basic("", "")}, 401, "", 1},
		{"space in the base64", []string{"Basic " + encoded[:4] + " " + encoded[4:]}, 401, "", 0},
		{"parameters after the credentials", []string{good + ", realm=x"}, 401, "", 0},
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
		{"two in one line, no space", []string{good + "," + good}, 401, "", 0},
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
		{"space after the user", []string{basic("alice ", "secret")}, 401, "", 1},
		{"space before the password", []string{basic("alice", " secret")}, 401, "", 1},
		{"password of 1,024 bytes", []string{basic("alice", strings.Repeat("p", 1024))}, 401, "", 1},
		{"password of 1,025 bytes", []string{basic("alice", strings.Repeat("p", 1025))}, 401, "", 0},
		{"right, and spaces up to 1,025 bytes", []string{basic("alice", "secret"+strings.Repeat(" ", 1019))}, 401, "", 0},
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
					t.Errorf("got %d hashes, want at most %d", computed, row.hashes)
				}
				if row.status != 200 {
					app.None(t)
					return
				}
				got := app.One(t)
				if user := got.Header["X-User"]; !slices.Equal(user, []string{row.user}) {
					t.Errorf("the application was told user %q, want %q", user, row.user)
				}
				if got.Header["Authorization"] != nil {
					t.Errorf("the application got Authorization %q, want none", got.Header["Authorization"])
				}
			})
		}
	}

	// HTTP/1.1 removes whitespace around a value, HTTP/2 keeps it.
	t.Run("whitespace around it", func(t *testing.T) {
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
				t.Errorf("%q: got status %d, want 400 or 401", c, a.status)
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
			if strings.Contains(line, "login failed") {
				found = strings.Contains(line, `"reason":"malformed credentials"`) && strings.Contains(line, `"user":"\"alice\\r\\n{\\\"level\\\"}\\x1b[31m`)
			}
			if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") || strings.Contains(line, "\x1b") {
				t.Errorf("got %q, want one line of JSON", line)
			}
		}
		if !found {
			t.Errorf("got no failed login with the user and the reason, want one, in %q", s.log()[before:])
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
			t.Errorf("got %+v, want another status or no body", a)
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
		t.Fatalf("got %d formats, want 16 or more", len(formats))
	}
	s := startSite(t, nil, map[string]string{"users": users.String()}, httpsSite(`
	htpasswd {
		file {dir}/users
	}
	respond {http.auth.user.id}`))
	for format := range formats {
		t.Run(format, func(t *testing.T) {
			s := s.in(t)
			for range 2 { // the second time the password is cached
				if a := s.get("/", format, "secret"); a.status != 200 || a.body != format {
					t.Errorf("right password: got %+v, want status 200 and %q", a, format)
				}
			}
			for _, wrong := range []string{"Secret", "secre", "secret ", "secreu", ""} {
				checkStatus(t, s.get("/", format, wrong), 401, restricted)
			}
		})
	}
	if log := s.log(); !strings.Contains(log, `"entries":{"descrypt":1,"md5crypt":1,"plain":1,"sha1":1}`) {
		t.Errorf("got no warning that counts the weak hashes, want one:\n%s", log)
	}
}

// TestMethods checks that the decision is the same for every method and kind of body, and
// that no part of the body is passed on before it.
func TestMethods(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice}, httpsSite(`
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
							t.Errorf("the application got %+v, want %s with the body that was sent", got, method)
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
		// Without "Connection: close", Caddy reads the body before it sends a response that did not need it.
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
					t.Errorf("got %d interim answers, want none", interim)
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
			t.Errorf("the application got %+v, want the body %q", got, "content")
		}
	})
}

// TestPaths checks that every path that the application takes for a protected path is
// protected, as far as the matcher reaches, and all paths of a protected site.
func TestPaths(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice}, `
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
				t.Errorf("got status %d %s, want 401 or 400", a.status, a.body)
			}
			app.None(t)
		})
		t.Run("htpasswd /admin/*: "+path, func(t *testing.T) {
			if a := raw("[::1]", path); a.status != 401 && a.status != 400 {
				t.Errorf("got status %d %s, want 401 or 400", a.status, a.body)
			}
			app.None(t)
		})
	}
	odd := []string{"/", "/admin", "/admin;/x", "/admin%00/x", `/admin\x`, "/admin/..;/x", "/%00", "/?x", "*", "/.", "/..", "//", "/%", "/\xff", "/public/../secret", "/public%2f..%2fsecret", "/public/%2e%2e%2fsecret", "/x/../../secret"}
	for _, host := range []string{"127.0.0.1", "localhost.localdomain"} {
		for _, path := range append(slices.Clone(protected), odd...) {
			if path == "https://localhost/admin/x" {
				continue // the other site
			}
			t.Run("whole site "+host+": "+path, func(t *testing.T) {
				if a := raw(host, path); a.status != 401 && a.status != 400 {
					t.Errorf("got status %d %s, want 401 or 400", a.status, a.body)
				}
				app.None(t)
			})
		}
	}
	t.Run("handle fails closed for what it doesn't cover", func(t *testing.T) {
		for _, path := range odd {
			if a := raw("localhost", path); a.status == 200 && a.body != "open" && a.body != "" {
				t.Errorf("%s: got %+v, want no status 200 but for %q", path, a, "open")
			}
		}
		app.None(t)
	})
	t.Run("the right password gets there", func(t *testing.T) {
		s := s.in(t)
		for _, path := range []string{"/admin/x", "//ADMIN/x", "/x/../admin/x"} {
			a, _ := s.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic("alice", "secret") + "\r\nConnection: close\r\n\r\n")
			if got := app.One(t); a.status != 200 || got.URI != path {
				t.Errorf("%s: got %+v and the application got %+v, want status 200 and the path", path, a, got)
			}
		}
	})
}
