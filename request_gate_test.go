package caddyhtpasswd

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// targets are request lines whose target is no path for matchers, with the status without
// a login. Everything below /private needs a password, and on a protected site also /.
var targets = []struct {
	name, line    string
	private, site int // status where /private* is protected, and where /* is
}{
	{"an ordinary path", "GET /private", 401, 401},
	{"a URL", "GET http://localhost/private", 401, 401},
	{"a URL of another scheme", "GET x://localhost/private", 401, 401},
	{"a URL without a host", "GET x:/private", 401, 401},
	{"a URL without a path", "GET http://localhost", 200, 401},
	{"a URL with a query and no path", "GET http://localhost?x=/private", 200, 401},
	{"a scheme and a query", "GET x:?x", 200, 401},
	{"a URL after a scheme", "GET x:http://localhost/private", 400, 400},
	{"a path without a slash after a scheme", "GET x:private", 400, 400},
	{"an asterisk with another method than OPTIONS", "GET *", 400, 400},
	{"CONNECT to a host", "CONNECT localhost:80", 405, 405},
	{"CONNECT with a path", "CONNECT /open", 405, 405},
	{"CONNECT with the path that is protected", "CONNECT /private", 405, 405},
}

// gatedSites are sites of which only /private* is protected, or everything.
var gatedSites = []struct {
	name, routes string
	isWhole      bool
}{
	{"the directive with a path", "htpasswd /private* {login}\nreverse_proxy {app}", false},
	{"handle with a path", "handle /private* {\nhtpasswd {login}\nreverse_proxy {app}\n}\nhandle {\nreverse_proxy {app}\n}", false},
	{"a matcher that excludes the path", "@open not path /private*\nhandle @open {\nreverse_proxy {app}\n}\nhandle {\nhtpasswd {login}\nreverse_proxy {app}\n}", false},
	{"an exemption that excludes the path", "htpasswd {\nfile {dir}/users\nexempt not path /private*\nallow_http\n}\nreverse_proxy {app}", false},
	{"a named route below a path", "handle /private* {\ninvoke login\n}\nhandle {\nreverse_proxy {app}\n}", false},
	{"a named route with a path in it", "encode gzip\ninvoke private", false},
	{"all paths", "htpasswd /* {login}\nreverse_proxy {app}", true},
	{"handle for all paths", "handle /* {\nhtpasswd {login}\nreverse_proxy {app}\n}\nreverse_proxy {app}", true},
	{"error routes that lead to the server", "handle_errors {\nrespond \"{http.request.uri}\"\n}\nhtpasswd /private* {login}\nreverse_proxy {app}", false},
}

// TestTargetsThatAreNoPaths sends the targets to sites without a host, whose routes are
// those of the server, and to sites with a host, whose routes are in a subroute.
func TestTargetsThatAreNoPaths(t *testing.T) {
	const named = `
	&(login) {
		route {
			htpasswd {login}
			reverse_proxy {app}
		}
	}
	&(private) {
		route {
			htpasswd /private* {login}
			reverse_proxy {app}
		}
	}
	`
	var private sync.Map // targets that reached the application without a login
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.RequestURI, "/private") && !strings.Contains(r.RequestURI, "?") {
			private.Store(r.Method+" "+r.RequestURI, true)
		}
	}))
	defer app.Close()
	for _, site := range gatedSites {
		for _, address := range []string{"http://:{http}", "http://localhost:{http}"} {
			t.Run(site.name+" of "+strings.TrimSuffix(address, ":{http}"), func(t *testing.T) {
				text := strings.NewReplacer("{login}", "{\nfile {dir}/users\nallow_http\n}", "{app}", app.Listener.Addr().String()).
					Replace("{\nhttp_port {http}\n}\n" + named + address + " {\n" + site.routes + "\n}\n")
				s := startServer(t, "")
				s.write("users", alice)
				must(t, s.reload(text))
				for _, target := range targets {
					want := target.private
					if site.isWhole {
						want = target.site
					}
					if got := rawStatus(t, s.http, target.line+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); got != want {
						t.Errorf("%s: %q: status %d, want %d", target.name, target.line, got, want)
					}
				}
				private.Range(func(line, _ any) bool {
					t.Errorf("the application got %q, want nothing private", line)
					return true
				})
				private.Clear()
			})
		}
	}
}

// TestNoRequestCarriesOthers sends CONNECT and upgrades. reverse_proxy would send the body
// of a CONNECT unchanged, so that an upstream takes it for further requests. An upstream
// that accepts an upgrade to HTTP/2 would get requests that Caddy does not see.
func TestNoRequestCarriesOthers(t *testing.T) {
	const inner = "DELETE /private HTTP/1.1\r\nHost: localhost\r\nX-User: root\r\nContent-Length: 0\r\n\r\n"
	for _, layout := range []struct {
		name       string
		errorRoute bool // which responds with the status
		directives string
	}{
		{"an exempt path", false, "htpasswd {\nfile {dir}/users\nuser_header X-User\nexempt /open\n}\nreverse_proxy {app}"},
		{"an open path", false, "handle /private* {\nhtpasswd {\nfile {dir}/users\nuser_header X-User\n}\nreverse_proxy {app}\n}\nhandle {\nreverse_proxy {app}\n}"},
		{"error routes that lead to the application", true, "handle_errors {\nrewrite * /error/{err.status_code}\nreverse_proxy {app} {\nheader_up X-Name {http.auth.user.id}\n}\n}\n" +
			"htpasswd {\nfile {dir}/users\nuser_header X-User\n}\nreverse_proxy {app}"},
	} {
		t.Run(layout.name, func(t *testing.T) {
			app := testkit.NewWitness(t)
			s := startSite(t, app, map[string]string{"users": alice}, httpsSite(layout.directives))
			address := fmt.Sprintf("localhost:%d", s.port)
			host := ":authority: localhost"
			for _, request := range []struct {
				name, want string
				send       func() string
			}{
				{"CONNECT with a length", "405", func() string {
					a, _ := s.raw(fmt.Sprintf("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: root\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner))
					return strconv.Itoa(a.status)
				}},
				{"CONNECT with a path and chunks", "405", func() string {
					a, _ := s.raw(fmt.Sprintf("CONNECT /open HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: root\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(inner), inner))
					return strconv.Itoa(a.status)
				}},
				{"CONNECT by HTTP/2", "405", func() string {
					c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
					must(t, err)
					return speakHTTP2(t, c, post(inner, host, ":method: CONNECT", ":path: ", ":scheme: ", "x-user: root"))
				}},
				{"CONNECT by HTTP/3", "405", func() string {
					return sendHTTP3(t, address, post(inner, host, ":method: CONNECT", ":path: ", ":scheme: ", "x-user: root"))
				}},
				{"CONNECT for another protocol by HTTP/3", "405", func() string {
					return sendHTTP3(t, address, post(inner, host, ":method: CONNECT", ":protocol: foo", ":path: /open", "x-user: root"))
				}},
				{"no path, with a body and the header of a user", "400", func() string {
					a, _ := s.raw(fmt.Sprintf("POST x:private?a=delete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: root\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner))
					return strconv.Itoa(a.status)
				}},
			} {
				app.Taken()
				got := request.send()
				if got != request.want && (!layout.errorRoute || got != "200") {
					t.Errorf("%s: got %s, want %s", request.name, got, request.want)
				}
				for _, seen := range app.Taken() {
					if !strings.HasPrefix(seen.URI, "/error/") || seen.Body != "" || seen.Header.Get("X-User") != "" || seen.Header.Get("X-Name") != "" {
						t.Errorf("%s: the application got %s %s as %q, named %q, with %q, want only error pages of nobody",
							request.name, seen.Method, seen.URI, seen.Header.Get("X-User"), seen.Header.Get("X-Name"), seen.Body)
					}
				}
			}
			app.Taken()
			_, _ = s.raw("GET /open HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
			for _, seen := range app.Taken() {
				if seen.Header.Get("Upgrade") != "" || seen.Header.Get("Http2-Settings") != "" {
					t.Errorf("the application is asked to upgrade, want no such field: %v", seen.Header)
				}
			}
		})
	}
}

// rawStatus sends bytes over plain HTTP and returns the status of the response.
func rawStatus(t *testing.T, port int, text string) int {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", port))
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, text)
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// TestGateLeavesForwardProxies checks that a forward proxy still gets CONNECT.
func TestGateLeavesForwardProxies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		allowConnect bool
		want         bool
	}{
		{"with a forward proxy", true, true},
		{"without", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodConnect, "localhost:80", nil)
			before := *r.URL
			got, err := requestGate{allowConnect: test.allowConnect}.MatchWithError(r)
			if got != test.want || (err == nil) != test.want {
				t.Errorf("got %t, %v, want %t", got, err, test.want)
			}
			if test.want && *r.URL != before {
				t.Errorf("the URL is now %v, want %v", r.URL, &before)
			}
		})
	}
	t.Run("a WebSocket over HTTP/2", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/chat", nil)
		r.Method, r.ProtoMajor = http.MethodConnect, 2
		r.Header[":protocol"] = []string{"websocket"}
		if got, err := (requestGate{}).MatchWithError(r); !got || err != nil {
			t.Errorf("got %t, %v, want true and no error", got, err)
		}
	})
}

// TestGateChangesNoRoute checks that a request takes the same route with and without the
// gate.
func TestGateChangesNoRoute(t *testing.T) {
	get, head := caddyhttp.MatchMethod{"GET"}, caddyhttp.MatchMethod{"HEAD"}
	for _, test := range []struct {
		name     string
		sets     caddyhttp.MatcherSets
		isLoaded bool // all routes are loaded
		want     map[string]bool
	}{
		{"no matcher", nil, false, map[string]bool{"GET": true, "PUT": true}},
		{"one matcher", caddyhttp.MatcherSets{{get}}, false, map[string]bool{"GET": true, "PUT": false}},
		{"two matchers", caddyhttp.MatcherSets{{get}, {head}}, false, map[string]bool{"GET": true, "HEAD": true, "PUT": false}},
		{"a set that is empty", caddyhttp.MatcherSets{{}, {head}}, false, map[string]bool{"GET": true, "PUT": true}},
		{"no matcher in a server that has put its routes together", nil, true, map[string]bool{"GET": true, "PUT": true}},
		{"one matcher in such a server", caddyhttp.MatcherSets{{get}}, true, map[string]bool{"GET": true, "PUT": false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := &caddyhttp.Server{Routes: caddyhttp.RouteList{{MatcherSets: test.sets}, {}}}
			if !test.isLoaded {
				server.Routes[1].HandlersRaw = []json.RawMessage{nil}
			}
			requestGate{}.putInFront(server)
			for method, want := range test.want {
				got, err := server.Routes[0].MatcherSets.AnyMatchWithError(httptest.NewRequest(method, "/a", nil))
				if err != nil || got != want {
					t.Errorf("%s: got %t, %v, want %t", method, got, err, want)
				}
			}
		})
	}
}
