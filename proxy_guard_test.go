package caddyhtpasswd

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// recordingServer is one of the servers of a group under test. It reads each
// request to its end, and keeps it.
type recordingServer struct {
	name string

	mu       sync.Mutex
	begun    map[string]int // requests by their X-Row
	requests []recordedRequest
}

type recordedRequest struct {
	method, target  string
	header, trailer http.Header
	body            string
	err             error
}

func (s *recordingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.begun[r.Header.Get("X-Row")]++
	s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests = append(s.requests, recordedRequest{r.Method, r.RequestURI, r.Header.Clone(), r.Trailer.Clone(), string(body), err})
	s.mu.Unlock()
	if r.Header.Get("Content-Type") == "application/grpc" {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
	w.Header().Set("X-Server", s.name)
}

// taken returns the requests since the last call.
func (s *recordingServer) taken() []recordedRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.requests
	s.requests = nil
	return taken
}

// serverKind is a way to run a server, and how a group says it.
type serverKind struct {
	name, scheme, lines string
	run                 func(t *testing.T, h http.Handler) (address string)
}

var serverKinds = []serverKind{
	{"HTTP/1.1", "http://", "", func(t *testing.T, h http.Handler) string { return runTestServer(t, h, nil) }},
	{"HTTP/2", "https://", "transport http {\ntls_insecure_skip_verify\n}", func(t *testing.T, h http.Handler) string {
		return runTestServer(t, h, func(s *httptest.Server) { s.EnableHTTP2 = true })
	}},
	{"h2c", "h2c://", "", func(t *testing.T, h http.Handler) string {
		return runTestServer(t, h, func(s *httptest.Server) {
			s.Config.Protocols = new(http.Protocols)
			s.Config.Protocols.SetUnencryptedHTTP2(true)
		})
	}},
	{"HTTP/3", "https://", "transport http {\nversions 3\ntls_insecure_skip_verify\n}", func(t *testing.T, h http.Handler) string {
		lend := httptest.NewUnstartedServer(h) // for its certificate
		lend.StartTLS()
		t.Cleanup(lend.Close)
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(t, err)
		s := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: lend.TLS.Certificates})}
		go s.Serve(c)
		t.Cleanup(func() { s.Close(); c.Close() })
		return c.LocalAddr().String()
	}},
	{"FastCGI", "", "transport fastcgi {\nroot /srv\nsplit .php\n}", func(t *testing.T, h http.Handler) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { ln.Close() })
		go fcgi.Serve(ln, h)
		return ln.Addr().String()
	}},
}

func runTestServer(t *testing.T, h http.Handler, change func(*httptest.Server)) string {
	s := httptest.NewUnstartedServer(h)
	if change != nil {
		change(s)
	}
	if s.EnableHTTP2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// guardedGroup is a Caddy with a group of two servers of one kind.
type guardedGroup struct {
	*server
	servers []*recordingServer
}

func newGuardedGroup(t *testing.T, kind serverKind, readBody, lines string) *guardedGroup {
	t.Helper()
	g := &guardedGroup{}
	var group strings.Builder
	for _, name := range []string{"a", "b"} {
		s := &recordingServer{name: name, begun: make(map[string]int)}
		g.servers = append(g.servers, s)
		fmt.Fprintf(&group, "server %s%s\n", kind.scheme, kind.run(t, s))
	}
	directives := `{
		request_body {
			max_size 64KiB
		}
		proxy_pass app {
			` + lines + `
		}
	}
	`
	g.server = startServer(t, `{
		admin localhost:{admin}
		http_port {http}
		https_port {https}
		auto_https disable_redirects
		servers :{http} {
			protocols h1 h2 h2c
			timeouts {
				read_body `+readBody+`
			}
		}
		upstream app {
			`+group.String()+kind.lines+`
			fail_duration 10m
		}
	}
	http://:{http} `+directives+`https://localhost:{https} {
		tls internal
		respond ok
	}
	https://:{https} `+directives)
	return g
}

// failures returns the failures of each server, as Caddy's admin API has them.
func (g *guardedGroup) failures() (all []int) {
	g.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://localhost:%d/reverse_proxy/upstreams", g.admin))
	must(g.t, err)
	defer resp.Body.Close()
	var upstreams []struct{ Fails int }
	must(g.t, json.NewDecoder(resp.Body).Decode(&upstreams))
	for _, u := range upstreams {
		all = append(all, u.Fails)
	}
	return all
}

// begun returns how many requests the servers have got for a row.
func (g *guardedGroup) begun(row string) (n int) {
	for _, s := range g.servers {
		s.mu.Lock()
		n += s.begun[row]
		s.mu.Unlock()
	}
	return n
}

// taken returns the requests that the servers have had since the last call.
func (g *guardedGroup) taken() (all []recordedRequest) {
	for _, s := range g.servers {
		all = append(all, s.taken()...)
	}
	return all
}

// isWhole checks that both servers are healthy and respond.
func (g *guardedGroup) isWhole(t *testing.T) {
	t.Helper()
	if got := g.failures(); slices.Max(got) > 0 || len(got) != len(g.servers) {
		t.Errorf("failures of the servers: got %d, want none", got)
	}
	seen := make(map[string]bool)
	for range 2 * len(g.servers) {
		a := g.plain("/", nil)
		if a.status != http.StatusOK {
			t.Errorf("the next request: got status %d, want 200", a.status)
		}
		seen[a.header.Get("X-Server")] = true
	}
	if got := slices.Sorted(maps.Keys(seen)); len(got) != len(g.servers) {
		t.Errorf("the next requests: got answers of %q, want of both servers", got)
	}
	g.taken()
}

// malformedRow is a client's request that can make a proxy fail.
type malformedRow struct {
	name    string
	text    string            // over HTTP/1.1
	request rawRequest        // over HTTP/2 and HTTP/3
	want    string            // what the client gets
	want3   string            // over HTTP/3, if different
	kinds   map[string]string // by the kind of the servers, if different
}

// wanted returns what the client may see: one thing, or several with "or" in between.
func (row malformedRow) wanted(kind, front string) []string {
	want := row.want
	if front == "HTTP/3" && row.want3 != "" {
		want = row.want3
	}
	if front != "HTTP/3" || row.want3 == "" {
		if other, ok := row.kinds[kind]; ok {
			want = other
		}
	}
	return strings.Split(want, " or ")
}

// breaksBody reports whether a row is about a body.
func (row malformedRow) breaksBody() bool {
	_, body, _ := strings.Cut(row.text, "\r\n\r\n")
	hasLength := slices.ContainsFunc(row.request.fields, func(f [2]string) bool { return f[0] == "content-length" })
	return hasLength || row.want != "200" && (body != "" || row.request.data != nil)
}

func onFastCGI(want string) map[string]string { return map[string]string{"FastCGI": want} }

const hiddenRequest = "GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"

const chunkedPost = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"

// http1Rows are requests over HTTP/1.1.
var http1Rows = []malformedRow{
	{name: "an allowed change", text: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200"},
	{name: "a body", text: chunkedPost + "\r\n3\r\nabc\r\n0\r\n\r\n", want: "200"},
	{name: "a method of its own", text: "FOO / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200"},
	{name: "a method in lower case", text: "post / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200", kinds: onFastCGI("400")},
	{name: "a method that is no token", text: "G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "CONNECT", text: "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", want: "405"},
	{name: "CONNECT with a body", text: "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", want: "405"},
	{name: "a target without a path", text: "GET x:y HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "a URL inside a URL", text: "GET x:http://localhost/secret HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "a whole URL without a path", text: "GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200"},
	{name: "a whole URL whose host cannot be", text: "GET http://\xff/ HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "a whole URL whose host is in Unicode", text: "GET http://\u00e4/ HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "an asterisk as the target of GET", text: "GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "a NUL in the path", text: "GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200", kinds: onFastCGI("400")},
	{name: "another script behind an escaped slash", text: "GET /a.php%2F..%2Fb.php HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200", kinds: onFastCGI("400")},
	{name: "an escaped slash", text: "GET /a.php%2Fx HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "200"},
	{name: "an empty host", text: "GET / HTTP/1.1\r\nHost: \r\n\r\n", want: "200 or 400"},
	{name: "a host with a space", text: "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", want: "400"},
	{name: "no host in HTTP/1.0", text: "GET / HTTP/1.0\r\n\r\n", want: "200"},
	{name: "a header of 15 kB", text: "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 15000) + "\r\n\r\n", want: "200"},
	{name: "a header of 25 kB", text: "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 25000) + "\r\n\r\n", want: "431"},
	{name: "an upgrade to a WebSocket", text: "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", want: "200"},
	{name: "an upgrade to something else", text: "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n", want: "200"},
	{name: "two upgrades", text: "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\nUpgrade: foo\r\n\r\n", want: "200"},
	{name: "TE", text: "GET / HTTP/1.1\r\nHost: localhost\r\nTe: gzip, trailers\r\n\r\n", want: "200"},
	{name: "an unknown expectation", text: "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\nContent-Length: 3\r\n\r\nabc", want: "417"},
	{name: "100-continue and a body", text: "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", want: "200"},
	{name: "100-continue and no body", text: "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n" + breaksOff, want: "400 or 499"},
	{name: "a Content-Length above max_size", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\nabc" + breaksOff, want: "413"},
	{name: "a chunked body above max_size", text: chunkedPost + "\r\n11170\r\n" + strings.Repeat("x", 70000) + "\r\n0\r\n\r\n", want: "413", kinds: onFastCGI("411")},
	{name: "a chunked body of 5 kB", text: chunkedPost + "\r\n1388\r\n" + strings.Repeat("x", 5000) + "\r\n0\r\n\r\n", want: "200", kinds: onFastCGI("411")},
	{name: "a chunk size that is none", text: chunkedPost + "\r\nzz\r\nabc\r\n0\r\n\r\n", want: "400"},
	{name: "a chunk of another size", text: chunkedPost + "\r\n3\r\nabcd\r\n0\r\n\r\n", want: "400"},
	{name: "a chunked body that breaks off", text: chunkedPost + "\r\n3\r\nabc\r\n" + breaksOff, want: "400 or 499"},
	{name: "a body that breaks off", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc" + breaksOff, want: "400 or 499"},
	{name: "a long body that breaks off", text: "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 50000) + breaksOff, want: "400 or 499"},
	{name: "Content-Length and chunked", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: "200 or 400"},
	{name: "two lengths", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 7\r\n\r\ncontent", want: "400"},
	{name: "a length with a sign", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +7\r\n\r\ncontent", want: "400"},
	{name: "an unknown encoding", text: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n" + hiddenRequest, want: "501"},
	{name: "two encodings", text: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + hiddenRequest, want: "501"},
	{name: "a space before the colon", text: "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n" + hiddenRequest, want: "400"},
	{name: "a length, chunked and a hidden request", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hiddenRequest, want: "200 or 400"},
	{name: "bare LF", text: "GET / HTTP/1.1\r\nHost: localhost\nConnection: close\n\n", want: "200"},
	{name: "bare LF in chunks", text: chunkedPost + "\r\n7\ncontent\n0\n\n", want: "400"},
	{name: "bare CR", text: "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\rX-B: b\r\n\r\n", want: "400"},
	{name: "a NUL in a value", text: "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n", want: "400"},
	{name: "a folded line", text: "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\r\n X-B: b\r\n\r\n", want: "200"},
	{name: "a folded first line", text: "GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", want: "400"},
	{name: "no version", text: "GET /\r\n\r\n", want: "400"},
	{name: "a chunk size that overflows", text: chunkedPost + "\r\n10000000000000000\r\n", want: "400"},
	{name: "a path that is not escaped well", text: "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", want: "400"},
	{name: "a trailer whose name cannot be", text: chunkedPost + "Trailer: bad name\r\n\r\n0\r\n\r\n", want: "400"},
	{name: "a trailer whose name cannot be, by GET", text: "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: bad name\r\n\r\n0\r\n\r\n", want: "400"},
	{name: "a trailer", text: chunkedPost + "Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", want: "200"},
	{name: "Content-Length announced as a trailer", text: chunkedPost + "Trailer: Content-Length\r\n\r\n0\r\nContent-Length: 7\r\n\r\n", want: "400"},
	{name: "trailers that must not be", text: chunkedPost + "Trailer: X-Sum, Host\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\nHost: other\r\nCookie: a=b\r\n\r\n", want: "200"},
	{name: "a trailer with a control character", text: chunkedPost + "Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: a\x01b\r\n\r\n", want: "400"},
	{name: "a trailer without a colon", text: chunkedPost + "Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum\r\n\r\n", want: "400"},
	{name: "a trailer of 5 kB", text: chunkedPost + "Trailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: " + strings.Repeat("x", 5000) + "\r\n\r\n", want: "400"},
}

// framedRows are requests over HTTP/2 and HTTP/3.
var framedRows = []malformedRow{
	{name: "an allowed change", request: get(), want: "200"},
	{name: "a body", request: post("abc"), want: "200"},
	{name: "gRPC", request: post("abc", "content-type: application/grpc", "te: trailers"), want: "200"},
	{name: "a method in lower case", request: get(":method: get"), want: "200", kinds: onFastCGI("400")},
	{name: "a method that is no token", request: get(":method: GE T"), want: "400", want3: sawReset},
	{name: "no method", request: get(":method: "), want: sawReset},
	{name: "CONNECT", request: get(":method: CONNECT", ":path: ", ":scheme: "), want: "405"},
	{name: "CONNECT with a body", request: post("GET /smuggled HTTP/1.1", ":method: CONNECT", ":path: ", ":scheme: "), want: "405"},
	{name: "CONNECT for another protocol", request: get(":method: CONNECT", ":protocol: foo"), want: sawReset, want3: "501"},
	{name: "a protocol without CONNECT", request: get(":protocol: foo"), want: sawReset},
	{name: "a host with a space", request: get(":authority: a b"), want: sawReset, want3: "400"},
	{name: "a host with a slash", request: get(":authority: a/b"), want: sawReset, want3: "400"},
	{name: "a host in Unicode", request: get(":authority: \u00e4"), want: sawReset, want3: "400"},
	{name: "a host that cannot be", request: get(":authority: \xff"), want: sawReset, want3: "400"},
	{name: "a host with a user", request: get(":authority: u@h"), want: sawReset},
	{name: "no host", request: get(":authority: "), want: "200", want3: sawReset},
	{name: "a bad host in the header", request: get(":authority: ", "host: a b"), want: sawReset, want3: "400"},
	{name: "a target without a path", request: get(":path: x:y"), want: sawReset},
	{name: "a URL inside a URL", request: get(":path: x:http://localhost/secret"), want: sawReset},
	{name: "a whole URL", request: get(":path: http://localhost/"), want: sawReset},
	{name: "an asterisk as the target of GET", request: get(":path: *"), want: "400", want3: sawReset},
	{name: "a relative path", request: get(":path: x"), want: sawReset},
	{name: "a space in the path", request: get(":path: /a b"), want: "200"},
	{name: "a space in the query", request: get(":path: /?a b"), want: "400"},
	{name: "a control character in the path", request: get(":path: /\x01"), want: sawReset},
	{name: "a NUL in the path", request: get(":path: /%00"), want: "200", kinds: onFastCGI("400"), want3: "200 or 400"},
	{name: "another scheme", request: get(":scheme: foo"), want: sawReset, want3: "200"},
	{name: "a Content-Length without a body", request: get("content-length: 5"), want: "200", kinds: onFastCGI("400"), want3: "400"},
	{name: "a Content-Length that is no number", request: post("abc", "content-length: x"), want: "200 or " + sawReset, kinds: onFastCGI("400 or " + sawReset), want3: sawReset},
	{name: "a body shorter than its Content-Length", request: post("abc", "content-length: 10"), want: "400"},
	{name: "a body longer than its Content-Length", request: post("abcdef", "content-length: 3"), want: "400 or " + sawReset},
	{name: "a longer one in two frames", request: rawRequest{fields: post("", "content-length: 3").fields, data: []string{"abc", "def"}}, want: "400 or " + sawReset},
	{name: "connection", request: get("connection: upgrade", "upgrade: websocket"), want: "400", want3: sawReset},
	{name: "upgrade", request: get("upgrade: foo"), want: "400", want3: sawReset},
	{name: "transfer-encoding", request: get("transfer-encoding: chunked"), want: "400", want3: sawReset},
	{name: "te", request: get("te: gzip"), want: "400", want3: sawReset},
	{name: "a field name with a space", request: get("x y: z"), want: sawReset},
	{name: "a field name in upper case", request: get("X: y"), want: sawReset},
	{name: "a field with a control character", request: get("x: a\x01b"), want: sawReset},
	{name: "a header of 15 kB", request: get("x: " + strings.Repeat("x", 15000)), want: "200"},
	{name: "an expectation", request: post("abc", "expect: 100-continue"), want: "200"},
	{name: "an unknown expectation", request: post("abc", "expect: more"), want: "200", kinds: map[string]string{"HTTP/1.1": "417"}},
	{name: "a body that the client takes back", request: post("abc").thatResets(), want: sawClosed + " or 499 or 400", want3: sawReset},
	{name: "a body above max_size", request: post(strings.Repeat("x", 70000)), want: "413", kinds: onFastCGI("411"), want3: "411 or 413"},
	{name: "a body of 5 kB without a Content-Length", request: post(strings.Repeat("x", 5000)), want: "200", kinds: onFastCGI("411"), want3: "200 or 411"},
	{name: "a trailer", request: post("abc", "trailer: x-sum").withTrailers("x-sum: 1"), want: "200"},
	{name: "a trailer whose name cannot be, announced", request: post("abc", "trailer: bad name"), want: "400"},
	{name: "a trailer whose name cannot be", request: post("abc", "trailer: bad name").withTrailers("bad name: x"), want: "400 or " + sawReset},
	{name: "trailers that must not be, announced", request: post("abc", "trailer: x-sum, host, cookie").withTrailers("x-sum: 1", "cookie: a=b"), want: "200"},
	{name: "trailers that must not be", request: post("abc", "trailer: x-sum, content-length").withTrailers("x-sum: 1", "content-length: 7"), want: "400 or " + sawReset},
	{name: "a trailer with a control character", request: post("abc", "trailer: x-sum").withTrailers("x-sum: a\x01b"), want: "400 or " + sawReset},
}

// TestProxyBlamesNoServerForClients sends all kinds of requests that make a proxy fail
// because of the client. No server counts a failure, no request is retried, and the group
// stays available.
func TestProxyBlamesNoServerForClients(t *testing.T) {
	for _, kind := range serverKinds {
		t.Run(kind.name, func(t *testing.T) {
			g := newGuardedGroup(t, kind, "1m", "")
			g.isWhole(t)
			plain := fmt.Sprintf("127.0.0.1:%d", g.http)
			n := 0
			for _, row := range http1Rows {
				if kind.name == "HTTP/3" && row.breaksBody() {
					continue // see docs/differences.md
				}
				n++
				g.check(t, row, kind.name, "HTTP/1.1", n, func(id string) string {
					return sendHTTP1(t, plain, strings.Replace(row.text, "\r\n", "\r\nX-Row: "+id+"\r\n", 1))
				})
			}
			for _, row := range framedRows {
				if kind.name == "HTTP/3" && row.breaksBody() {
					continue
				}
				for front, send := range map[string]func(rawRequest) string{
					"HTTP/2": func(r rawRequest) string { return sendHTTP2(t, plain, r) },
					"HTTP/3": func(r rawRequest) string { return sendHTTP3(t, fmt.Sprintf("localhost:%d", g.port), r) },
				} {
					n++
					g.check(t, row, kind.name, front, n, func(id string) string {
						r := row.request
						r.fields = append(slices.Clone(r.fields), [2]string{"x-row", id})
						return send(r)
					})
				}
			}
			for id := range n { // after the last requests have arrived
				if begun := g.begun(fmt.Sprint(id)); begun > 1 {
					t.Errorf("request %d: the servers got it %d times, want once at most", id, begun)
				}
			}
		})
	}
}

// check sends a request, and looks at what it has done to the group.
func (g *guardedGroup) check(t *testing.T, row malformedRow, kind, front string, n int, send func(id string) string) {
	t.Run(front+", "+row.name, func(t *testing.T) {
		g.taken()
		if got, want := send(fmt.Sprint(n)), row.wanted(kind, front); !slices.Contains(want, got) {
			t.Errorf("got %s, want %s", got, strings.Join(want, " or "))
		}
		for _, r := range g.taken() {
			for name := range r.trailer {
				if name != "X-Sum" {
					t.Errorf("the server got the trailer %s, want X-Sum only", name)
				}
			}
			if r.target != "" && strings.Contains(r.target, "secret") || strings.Contains(r.target, " ") {
				t.Errorf("the server got the target %q, want none of another request", r.target)
			}
		}
		g.isWhole(t)
	})
}

// TestProxyLogIsBounded has clients cause errors of each status. Caddy would log a line
// with the whole header for each.
func TestProxyLogIsBounded(t *testing.T) {
	const requests = 3 * failureBurst
	deadAddress, _ := brokenBackend(t)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	for _, row := range []struct {
		name, group, want string
	}{
		{"502", "server " + deadAddress, "502"},
		{"503", "server " + deadAddress + "\nserver 127.0.0.1:1\nfail_duration 10m", "503"},
		{"504", "server " + silent.Listener.Addr().String() + "\ntransport http {\nresponse_header_timeout 1ms\n}", "504"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, "")
			now := time.Now() // without a change of the rate
			process = newShared(func() time.Time { return now })
			must(t, s.reload(`{
				http_port {http}
				upstream app {
					`+row.group+`
				}
			}
			http://127.0.0.1:{http} {
				proxy_pass app
			}`))
			secret := "Authorization: Basic c2VjcmV0OnNlY3JldA==\r\nX-Fill: " + strings.Repeat("x", 10000) + "\r\n"
			address := fmt.Sprintf("127.0.0.1:%d", s.http)
			ask := func() string {
				return sendHTTP1(t, address, "GET /uri HTTP/1.1\r\nHost: "+address+"\r\n"+secret+"\r\n")
			}
			ask()
			for range requests {
				if got := ask(); got != row.want {
					t.Fatalf("got %s, want %s", got, row.want)
				}
			}
			var lines, length int
			for line := range strings.Lines(s.log()) {
				if strings.Contains(line, `"level":"debug"`) {
					continue
				}
				if strings.Contains(line, "X-Fill") || strings.Contains(line, "c2VjcmV0") {
					t.Fatalf("got a line that shows the header, want none: %.200s", line)
				}
				if strings.Contains(line, "request to upstream group failed") {
					lines++
					length = max(length, len(line))
					for _, field := range []string{`"status":50`, `"group":"app"`, `"client_ip":"127.0.0.1"`, `"method":"GET"`, `"uri":"/uri"`} {
						if !strings.Contains(line, field) {
							t.Fatalf("got no %s, want it in %s", field, line)
						}
					}
				}
			}
			if lines != failureBurst || length > 1000 {
				t.Errorf("got %d lines of at most %d bytes, want %d of at most 1000", lines, length, failureBurst)
			}
		})
	}
}

// TestProxyErrorRoutes checks that error routes respond for a group.
func TestProxyErrorRoutes(t *testing.T) {
	dead, _ := brokenBackend(t)
	s := startServer(t, `{
		http_port {http}
		upstream app {
			server `+dead+`
		}
	}
	http://127.0.0.1:{http} {
		handle_errors {
			respond "route {err.status_code}"
		}
		handle_path /sub/* {
			proxy_pass app
		}
		proxy_pass app {
			@none status 599
			handle_response @none {
				respond never
			}
		}
	}`)
	for path, want := range map[string]string{"/": "route 502", "/sub/x": "route 502", "/?a": "route 502"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", s.http, path))
		must(t, err)
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want || resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: got %d %q, want %q", path, resp.StatusCode, body, want)
		}
	}
	if got := sendHTTP1(t, fmt.Sprintf("127.0.0.1:%d", s.http), "GET * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); got != "400" {
		t.Errorf("a request that cannot be sent: got %s, want 400", got)
	}
}

// TestProxyPassJSON refuses handlers that ProxyPass cannot wrap.
func TestProxyPassJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "proxy: expected a reverse_proxy handler, found none",
		`{"proxy": {"handler": "static_response"}}`:                         "proxy: expected a reverse_proxy handler, found *caddyhttp.StaticResponse",
		`{"proxy": {"handler": "reverse_proxy", "trusted_proxies": ["x"]}}`: "invalid IP address",
		`{"proxy": {"handler": "reverse_proxy"}}`:                           "",
	} {
		var p ProxyPass
		must(t, json.Unmarshal([]byte(text), &p))
		err := p.Provision(configContext(t))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// BenchmarkGuard prepares an ordinary request of a browser.
func BenchmarkGuard(b *testing.B) {
	p := &ProxyPass{proxy: new(reverseproxy.Handler), maxFieldSize: maxFieldSize, canUpgrade: true, canWebSocket: true}
	r := newRequest("/some/path?with=a&query=string")
	for name, value := range map[string]string{
		"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Accept":          "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
		"Accept-Language": "en-US,en;q=0.5",
		"Accept-Encoding": "gzip, deflate, br, zstd",
		"Referer":         "https://localhost/some/other/path",
		"Cookie":          "session=0123456789abcdef0123456789abcdef; theme=dark",
		"Sec-Fetch-Dest":  "document",
		"Sec-Fetch-Mode":  "navigate",
		"Sec-Fetch-Site":  "same-origin",
	} {
		r.Header.Set(name, value)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.prepare(r); err != nil {
			b.Fatal(err)
		}
	}
}
