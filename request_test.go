package caddyhtpasswd

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestForgedUserHeader checks that the application gets the user only from htpasswd.
func TestForgedUserHeader(t *testing.T) {
	app := testkit.NewWitness(t)
	caddyfile := `{
	servers {
		OPTIONS
	}
}
https://localhost:{https} {
	tls internal
	handle_errors {
		reverse_proxy {app}
	}
	htpasswd {
		file {dir}/users
		user_header x-uSER-name
		exempt /exempt/*
	}
	reverse_proxy {app}
}`
	const field = "X-User-Name"
	for _, options := range []string{"", "expected_underscore_headers X_User_Name X-User_Name x_user*", "expected_dot_headers X.User.Name X-User.Name", "expected_underscore_headers X_User.Name"} {
		t.Run(options, func(t *testing.T) {
			s := startSite(t, app, map[string]string{"users": alice}, strings.Replace(caddyfile, "OPTIONS", options, 1))
			good := "Authorization: " + basic("alice", "secret") + "\r\n"
			for _, row := range []struct{ name, head, body string }{
				{"nothing forged", "", ""},
				{"canonical", "X-User-Name: root\r\n", ""},
				{"lower case", "x-user-name: root\r\n", ""},
				{"upper case", "X-USER-NAME: root\r\n", ""},
				{"underscores", "X_User_Name: root\r\n", ""},
				{"one underscore", "X-User_Name: root\r\n", ""},
				{"dots", "X.User.Name: root\r\n", ""},
				{"one dot", "X-User.Name: root\r\n", ""},
				{"underscore and dot", "X_User.Name: root\r\n", ""},
				{"other characters of a token", "X~User!Name: root\r\n", ""},
				{"repeated", "X-User-Name: root\r\nx-user-name: admin\r\nX_USER_NAME: root\r\n", ""},
				{"with the value of the user", "X-User-Name: alice\r\nX-User-Name: root\r\n", ""},
				{"empty", "X-User-Name:\r\n", ""},
				{"Connection", "Connection: X-User-Name\r\n", ""},
				{"Connection with others", "Connection: keep-alive, x-user-name , foo\r\n", ""},
				{"two Connection headers", "Connection: keep-alive\r\nConnection:X-User-Name\r\n", ""},
				{"Keep-Alive and TE", "Connection: TE, X-User-Name\r\nTE: trailers\r\nX-User-Name: root\r\n", ""},
				{"announced trailer", "Transfer-Encoding: chunked\r\nTrailer: X-User-Name\r\n", "3\r\nabc\r\n0\r\nX-User-Name: root\r\n\r\n"},
				{"announced trailer with others", "Transfer-Encoding: chunked\r\nTrailer: X-Sum, x-user-name, X_User_Name, X.User.Name\r\n", "3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-user-name: root\r\nX_User_Name: root\r\nX.User.Name: root\r\n\r\n"},
				{"another trailer announced", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-User-Name: root\r\nX_User_Name: root\r\n\r\n"},
				{"trailer not announced", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-User-Name: root\r\n\r\n"},
				{"trailer of an empty body", "Transfer-Encoding: chunked\r\nTrailer: X-User-Name, X-Sum\r\n", "0\r\nX-User-Name: root\r\nX-Sum: 1\r\n\r\n"},
				{"Authorization as a trailer", "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", "0\r\nAuthorization: Basic cm9vdDpyb290\r\n\r\n"},
				{"trailer announced, but Content-Length", "Content-Length: 3\r\nTrailer: X-User-Name\r\n", "abc"},
			} {
				for _, kind := range []struct {
					name, path, head string
					want             []string
				}{
					{"good", "/", good, []string{"alice"}},
					{"exempt", "/exempt/x", "", nil},
					{"exempt, valid", "/exempt/x", good, nil},
					{"failing", "/", "", nil},
				} {
					if options != "" && kind.name != "good" && kind.name != "exempt" {
						continue
					}
					t.Run(row.name+", "+kind.name, func(t *testing.T) {
						s := s.in(t)
						app.Taken()
						s.raw("POST " + kind.path + " HTTP/1.1\r\nHost: localhost\r\n" + kind.head + row.head + "\r\n" + row.body)
						got := app.One(t)
						checkIdentity(t, got, field, kind.want)
						if strings.Contains(row.body, "X-Sum") && got.Trailer.Get("X-Sum") != "1" {
							t.Errorf("the application got trailers %v, want X-Sum: 1 too", got.Trailer)
						}
						if strings.Contains(row.body, "abc") && got.Body != "abc" {
							t.Errorf("the application got body %q, want %q", got.Body, "abc")
						}
					})
				}
			}
		})
	}
	s := startSite(t, app, map[string]string{"users": alice}, strings.Replace(caddyfile, "OPTIONS", "expected_underscore_headers X_User_Name", 1))
	for _, path := range []string{"/", "/exempt/x"} {
		for _, announced := range []bool{true, false} {
			t.Run(fmt.Sprintf("HTTP/2, %s, trailer announced: %t", path, announced), func(t *testing.T) {
				s := s.in(t)
				app.Taken()
				trailer := http.Header{"X-Sum": nil}
				if announced {
					trailer["X-User-Name"] = nil
				}
				body := &trailing{Reader: strings.NewReader("abc"), atEOF: func() { trailer["X-Sum"] = []string{"1"}; trailer["X-User-Name"] = []string{"root"} }}
				r := s.request("POST", path, body)
				r.Trailer = trailer
				r.Header = http.Header{"X-User-Name": {"root", "admin"}, "X_user_name": {"root"}, "Authorization": {basic("alice", "secret")}}
				checkStatus(t, s.do(r), 200, "")
				got := app.One(t)
				want := []string{"alice"}
				if path != "/" {
					want = nil
				}
				checkIdentity(t, got, field, want)
				if got.Trailer.Get("X-Sum") != "1" || got.Body != "abc" {
					t.Errorf("the application got %+v, want the trailer X-Sum: 1 and the body %q", got, "abc")
				}
			})
		}
	}
}

// checkIdentity checks that the application got these users, and no other user in any
// other spelling or place.
func checkIdentity(t *testing.T, got testkit.Witnessed, field string, want []string) {
	t.Helper()
	for name, values := range got.Header {
		if name != field && squash(name) == squash(field) {
			t.Errorf("the application got %s: %q, want no other spelling of %s", name, values, field)
		}
		if slices.Contains(values, "root") {
			t.Errorf("the application got %s: %q, want nothing forged", name, values)
		}
	}
	if !slices.Equal(got.Header[field], want) {
		t.Errorf("the application was told %q, not %q", got.Header[field], want)
	}
	for name, values := range got.Trailer {
		if squash(name) == squash(field) || name == "Authorization" {
			t.Errorf("the application got the trailer %s: %q, want none of that name", name, values)
		}
	}
	if got.Header["Authorization"] != nil {
		t.Errorf("the application got Authorization %q, want none", got.Header["Authorization"])
	}
}

// squash returns the name of a header as a careless application compares it.
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
}

// trailing is a body that calls a function at its end.
type trailing struct {
	io.Reader
	atEOF func()
}

func (r *trailing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.atEOF()
	}
	return n, err
}

// TestEncryption checks that no password is requested or checked where others can read it.
func TestEncryption(t *testing.T) {
	app := testkit.NewWitness(t)
	files := map[string]string{"users": alice}
	plain := `
http://localhost:{http} {
	htpasswd {
		file {dir}/users
		exempt /open
	}
	reverse_proxy {app}
}
http://127.0.0.1:{http} {
	htpasswd {
		file {dir}/users
		allow_http
	}
	reverse_proxy {app}
}`
	forwarded := func(values ...string) http.Header {
		return http.Header{"Authorization": {basic("alice", "secret")}, "X-Forwarded-Proto": values}
	}
	type row struct {
		name   string
		header http.Header
		status int
	}
	run := func(s *server, rows []row) {
		t.Helper()
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				s := s.in(t)
				app.Taken()
				var a answer
				computed := hashes(func() { a = s.plain("/", row.header) })
				checkStatus(t, a, row.status, restricted)
				if row.status == 403 {
					app.None(t)
					if computed != 0 {
						t.Errorf("got %d hashes, want none", computed)
					}
				}
			})
		}
	}
	s := startSite(t, app, files, plain)
	run(s, []row{
		{"nothing", nil, 403},
		{"right password", authorization(basic("alice", "secret")), 403},
		{"wrong password", authorization(basic("alice", "wrong")), 403},
		{"two headers", authorization("Basic a", "Basic b"), 403},
		{"untrusted X-Forwarded-Proto", forwarded("https"), 403},
	})
	t.Run("exempt", func(t *testing.T) { checkStatus(t, s.in(t).plain("/open", nil), 200, "") })
	t.Run("allow_http", func(t *testing.T) {
		s := s.in(t)
		for _, row := range []row{{"", nil, 401}, {"", authorization(basic("alice", "wrong")), 401}, {"", authorization(basic("alice", "secret")), 200}} {
			r, err := http.NewRequest("GET", fmt.Sprintf("http://127.0.0.1:%d/", s.http), nil)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(r.Header, row.header)
			checkStatus(t, s.do(r), row.status, restricted)
		}
	})
	if err := s.reload(strings.ReplaceAll("{\n\tservers {\n\t\ttrusted_proxies static 127.0.0.0/8 ::1\n\t\ttrusted_proxies_strict\n\t}\n}\n"+plain, "{app}", app.Listener.Addr().String())); err != nil {
		t.Fatal(err)
	}
	run(s, []row{
		{"trusted: none", authorization(basic("alice", "secret")), 403},
		{"trusted: https", forwarded("https"), 200},
		{"trusted: HTTPS", forwarded("HTTPS"), 200},
		{"trusted: https, https", forwarded("https, https"), 200},
		{"trusted: two headers https", forwarded("https", "https"), 200},
		{"trusted: http", forwarded("http"), 403},
		{"trusted: empty", forwarded(""), 403},
		{"trusted: https, http", forwarded("https, http"), 403},
		{"trusted: http,https", forwarded("http,https"), 403},
		{"trusted: https and a comma", forwarded("https,"), 403},
		{"trusted: two headers, https and http", forwarded("https", "http"), 403},
		{"trusted: two headers, http and https", forwarded("http", "https"), 403},
		{"trusted: https and an empty header", forwarded("https", ""), 403},
		{"trusted: httpsx", forwarded("httpsx"), 403},
		{"trusted: wss", forwarded("wss"), 403},
		{"trusted: wrong password", http.Header{"Authorization": {basic("alice", "no")}, "X-Forwarded-Proto": {"https"}}, 401},
		{"trusted: other headers", http.Header{"Authorization": {basic("alice", "secret")}, "Forwarded": {"proto=https"}, "X-Forwarded-Ssl": {"on"}, "X-Forwarded-Scheme": {"https"}, "X_forwarded_proto": {"https"}}, 403},
	})
	if err := s.reload("{\n\tservers {\n\t\ttrusted_proxies static 192.0.2.1\n\t}\n}\n" + strings.ReplaceAll(plain, "{app}", app.Listener.Addr().String())); err != nil {
		t.Fatal(err)
	}
	run(s, []row{{"another proxy is trusted", forwarded("https"), 403}})

	t.Run("the redirect wins", func(t *testing.T) {
		s := s.in(t)
		if err := s.reload("{\n\thttp_port {http}\n\thttps_port {https}\n}\nlocalhost {\n\ttls internal\n\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond ok\n}\n"); err != nil {
			t.Fatal(err)
		}
		var a answer
		if n := hashes(func() { a = s.plain("/x", authorization(basic("alice", "secret"))) }); n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
		if a.status != 308 || !strings.HasPrefix(a.header.Get("Location"), "https://localhost") || a.header["Www-Authenticate"] != nil {
			t.Errorf("got %+v, want a redirect to HTTPS without a challenge", a)
		}
	})
}

func TestIsEncrypted(t *testing.T) {
	for _, row := range []struct {
		name    string
		tls     bool
		trusted any
		proto   []string
		want    bool
	}{
		{"TLS", true, nil, nil, true},
		{"plain", false, nil, nil, false},
		{"untrusted", false, false, []string{"https"}, false},
		{"trusted", false, true, []string{"https"}, true},
		{"trusted, white space", false, true, []string{" https\t,  HTTPS "}, true},
		{"trusted, none", false, true, nil, false},
		{"trusted, empty list", false, true, []string{}, false},
		{"trusted, one http", false, true, []string{"https", "https,http"}, false},
		{"variable of another type", false, "true", []string{"https"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := handlerRequest(row.tls, http.Header{"X-Forwarded-Proto": row.proto})
			if row.trusted != nil {
				caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, row.trusted)
			}
			if got := isEncrypted(r); got != row.want {
				t.Errorf("got %t, want %t", got, row.want)
			}
		})
	}
	if r := httptest.NewRequest("GET", "/", nil); isEncrypted(r) {
		t.Error("a request without Caddy's variables: got true, want false")
	}
}

// TestTakeCredentials checks what is removed from a request and what stays, for one handler
// and for later handlers.
func TestTakeCredentials(t *testing.T) {
	for _, row := range []struct {
		name          string
		first         []string // what the client sent
		left          []string // after the first handler
		between       []string // the header that the second handler gets, if not nil
		sent, further []string // what the second handler checks, and what it leaves
	}{
		{"nothing", nil, nil, nil, nil, nil},
		{"Basic", []string{"Basic a"}, nil, nil, []string{"Basic a"}, nil},
		{"basic, tab", []string{"bASIC\ta"}, nil, nil, []string{"bASIC\ta"}, nil},
		{"Basic alone", []string{"Basic"}, nil, nil, []string{"Basic"}, nil},
		{"Bearer", []string{"Bearer a"}, []string{"Bearer a"}, nil, []string{"Bearer a"}, []string{"Bearer a"}},
		{"Basicx", []string{"Basicx a"}, []string{"Basicx a"}, nil, []string{"Basicx a"}, []string{"Basicx a"}},
		{"both", []string{"Basic a", "Bearer b", "basic c"}, []string{"Bearer b"}, nil, []string{"Basic a", "Bearer b", "basic c"}, []string{"Bearer b"}},
		{"kept between", []string{"Basic a"}, nil, []string{"Basic a"}, []string{"Basic a"}, nil},
		{"another set between", []string{"Basic a"}, nil, []string{"Basic b"}, []string{"Basic a"}, []string{"Basic b"}},
		{"another set between, from nothing", nil, nil, []string{"Basic b"}, nil, []string{"Basic b"}},
		{"two between", []string{"Basic a"}, nil, []string{"Basic a", "Basic b"}, []string{"Basic a"}, []string{"Basic b"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			header := http.Header{}
			if row.first != nil {
				header = authorization(slices.Clone(row.first)...)
			}
			r := handlerRequest(true, header)
			one := takeCredentials(r, r.Header["Authorization"], "")
			if !slices.Equal(one.values, row.first) || !slices.Equal(r.Header["Authorization"], row.left) {
				t.Errorf("took %q and left %q, want %q and %q", one.values, r.Header["Authorization"], row.first, row.left)
			}
			if row.between != nil {
				r.Header["Authorization"] = row.between
			}
			two := takeCredentials(r, r.Header["Authorization"], "")
			if !slices.Equal(two.values, row.sent) || !slices.Equal(r.Header["Authorization"], row.further) {
				t.Errorf("further down: took %q and left %q, want %q and %q", two.values, r.Header["Authorization"], row.sent, row.further)
			}
			if two != one {
				t.Error("further down: got another login, want the same")
			}
			if _, ok := r.Header["Authorization"]; ok && row.further == nil {
				t.Error("got a header without values, want none")
			}
			// No part of the credentials is printed.
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				if got := fmt.Sprintf(format, one); got != "" {
					t.Errorf("%s: got %q, want nothing", format, got)
				}
			}
		})
	}
	bare := httptest.NewRequest("GET", "/", nil) // without Caddy's variables
	bare.Header.Set("Authorization", "Basic a")
	bare.TLS = new(tls.ConnectionState)
	if l := takeCredentials(bare, bare.Header["Authorization"], ""); !slices.Equal(l.values, []string{"Basic a"}) || bare.Header["Authorization"] != nil {
		t.Errorf("took %q and left %q, want %q and nothing", l.values, bare.Header, "Basic a")
	}
}

// TestUserWithSpaces checks that a user "alice " does not become "alice" on the way to the
// application, because HTTP removes whitespace around a value.
func TestUserWithSpaces(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": aliceOther + "alice " + alice[len("alice"):] + "bob\t" + bob[len("bob"):]}, httpsSite(`
	htpasswd {
		file {dir}/users
		user_header X-User
	}
	reverse_proxy {app}`))
	for _, row := range [][2]string{{"alice ", "secret"}, {"bob\t", "hunter2"}, {"bob", "hunter2"}} {
		t.Run(fmt.Sprintf("user %q", row[0]), func(t *testing.T) {
			app.Taken()
			if a := s.in(t).get("/", row[0], row[1]); a.status == 200 {
				if got := app.One(t).Header["X-User"]; !slices.Equal(got, []string{row[0]}) {
					t.Errorf("the application was told user %q, want %q", got, row[0])
				}
			}
		})
	}
}
