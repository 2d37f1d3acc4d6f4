package caddyhtpasswd

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// restartedServer is a server that responds with its name, and can be stopped and started
// at the same address.
type restartedServer struct {
	name, address string
	server        *http.Server
}

func newRestartedServer(t testing.TB, name string) *restartedServer {
	t.Helper()
	s := &restartedServer{name: name, address: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])}
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *restartedServer) start(t testing.TB) {
	t.Helper()
	var ln net.Listener
	eventually(t, s.address+" is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", s.address)
		return err == nil
	})
	s.server = &http.Server{Handler: s}
	go s.server.Serve(ln)
}

func (s *restartedServer) stop(t testing.TB) {
	t.Helper()
	must(t, s.server.Close())
}

// ServeHTTP responds as the path says.
func (s *restartedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Server", s.name)
	w.Header().Add("Set-Cookie", "app=1; Path=/")
	switch r.URL.Path {
	case "/304":
		w.WriteHeader(http.StatusNotModified)
		return
	case "/public":
		w.Header().Set("Cache-Control", "public, max-age=60")
	case "/php":
		w.Header().Set("Cache-Control", "no-store, no-cache, must-revalidate")
	case "/early":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
	case "/500":
		w.WriteHeader(http.StatusInternalServerError)
	case "/retry":
		if s.name == "a" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	io.WriteString(w, s.name)
}

// stickySite is a Caddy with a group, and its servers.
type stickySite struct {
	*server
	servers []*restartedServer
	file    string
}

// newStickySite starts a site. Each line of the group with @name has the address of that
// server instead.
func newStickySite(t testing.TB, group string) *stickySite {
	t.Helper()
	site := &stickySite{}
	var pairs []string
	for _, name := range []string{"a", "b", "c"} {
		s := newRestartedServer(t, name)
		site.servers = append(site.servers, s)
		pairs = append(pairs, "@"+name, s.address)
	}
	site.file = `{
	http_port {http}
	https_port {https}
	auto_https disable_redirects
	htpasswd {
		secret ` + string(stickySecret) + `
	}
	upstream app {
		` + strings.NewReplacer(pairs...).Replace(group) + `
	}
}
http://localhost:{http}, https://localhost:{https} {
	proxy_pass app
}
`
	site.server = startServer(t, site.file)
	return site
}

// stickySession is a browser with its cookie.
type stickySession struct{ cookie, server string }

// next sends the next request of the session, and reports whether it stayed at its server.
func (s *stickySession) next(t testing.TB, site *stickySite) bool {
	t.Helper()
	header := make(http.Header)
	if s.cookie != "" {
		header.Set("Cookie", "theme=dark; "+s.cookie)
	}
	a := site.plain("/", header)
	if a.status != http.StatusOK {
		t.Fatalf("got status %d, want 200", a.status)
	}
	for _, text := range a.header["Set-Cookie"] {
		if pair, _, _ := strings.Cut(text, ";"); strings.HasPrefix(pair, "srv=") {
			s.cookie = pair
		}
	}
	before := s.server
	s.server = a.body
	return before == a.body || before == ""
}

// TestStickySessions has 30 sessions with every method. They stay through a reload, through
// a restart of Caddy, and through the restart of another server.
func TestStickySessions(t *testing.T) {
	for _, method := range []string{"round_robin", "least_conn", "ip_hash", "hash {uri}", "random"} {
		t.Run(strings.Fields(method)[0], func(t *testing.T) {
			site := newStickySite(t, "server @a weight=2\nserver @b\nserver @c route=third\nsticky cookie srv\nbalance "+method)
			sessions := make([]stickySession, 30)
			stayed := func(when string, also func(s *stickySession) bool) {
				t.Helper()
				n, want := 0, 0
				for i := range sessions {
					may := also == nil || also(&sessions[i])
					if may {
						want++
					}
					if sessions[i].next(t, site) && may {
						n++
					}
				}
				if n != want {
					t.Errorf("%s: %d of %d sessions stayed, want all", when, n, want)
				}
			}
			stayed("the first requests", nil)
			stayed("the next requests", nil)
			must(t, site.reload(site.file))
			stayed("after a reload", nil)
			must(t, site.reload(strings.Replace(site.file, "sticky cookie", "lb_retries 2\n\t\tsticky cookie", 1)))
			stayed("after a reload with a change", nil)

			must(t, caddy.Stop())
			process = newShared(time.Now) // as in a new process
			must(t, site.reload(site.file))
			stayed("after a restart of Caddy", nil)

			for i := range sessions { // so that each server has some, where the method allows it
				sessions[i] = stickySession{}
				for range 3 * len(sessions) {
					if sessions[i].next(t, site); sessions[i].server == []string{"a", "b", "c"}[i%3] || strings.Contains(method, "hash") {
						break
					}
					sessions[i] = stickySession{}
				}
			}
			lost := sessions[0].server
			isElsewhere := func(s *stickySession) bool { return s.server != lost }
			down := site.servers[slices.Index([]string{"a", "b", "c"}, lost)]
			down.stop(t)
			stayed("while "+lost+" restarts", isElsewhere)
			stayed("and in the request after that", nil)
			down.start(t)
			stayed("after the restart of "+lost, nil)
		})
	}
}

// TestStickyResponses has the cookie, or no cookie, in the responses to real requests.
func TestStickyResponses(t *testing.T) {
	site := newStickySite(t, `server @a route=a
		server @b route=b
		server @c route=c
		lb_retry_match {
			method GET HEAD
			expression {rp.status_code} == 503
		}
		sticky cookie srv expires=1h`)
	cookiesOf := func(header http.Header) (ours []string) {
		for _, text := range header["Set-Cookie"] {
			if strings.HasPrefix(text, "srv=") {
				ours = append(ours, text)
			}
		}
		return ours
	}
	const plain = "; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
	const secure = "; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"
	for _, row := range []struct {
		path, cookie, server, want string
	}{
		{"/", "srv=a", "a", "srv=a"},
		{"/", "srv=b", "b", "srv=b"},
		{"/500", "srv=b", "b", "srv=b"},
		{"/php", "srv=b", "b", "srv=b"},
		{"/early", "srv=b", "b", "srv=b"},
		{"/304", "srv=b", "b", ""},
		{"/public", "srv=b", "b", ""},
	} {
		header := http.Header{"Cookie": {row.cookie}}
		for attributes, a := range map[string]answer{plain: site.plain(row.path, header), secure: site.send(row.path, header)} {
			want := []string{row.want + attributes}
			if row.want == "" {
				want = nil
			}
			if got := cookiesOf(a.header); !slices.Equal(got, want) || a.header.Get("X-Server") != row.server {
				t.Errorf("%s with %s: got %d of %s with %q, want of %s with %q", row.path, row.cookie, a.status, a.header.Get("X-Server"), got, row.server, want)
			}
			if got := a.header["Set-Cookie"]; !slices.Contains(got, "app=1; Path=/") {
				t.Errorf("%s: got %q, want the application's cookie, too", row.path, got)
			}
		}
	}

	// A server that is retried, by its answer or because it is gone: one cookie, of the
	// server that answered.
	a := site.plain("/retry", http.Header{"Cookie": {"srv=a"}})
	if got, server := cookiesOf(a.header), a.header.Get("X-Server"); a.status != 200 || server == "a" || !slices.Equal(got, []string{"srv=" + server + plain}) {
		t.Errorf("after a retry: got %d of %s with %q, want of another server with its cookie", a.status, server, got)
	}
	site.servers[1].stop(t)
	a = site.plain("/", http.Header{"Cookie": {"srv=b"}})
	if got, server := cookiesOf(a.header), a.header.Get("X-Server"); a.status != 200 || server == "b" || !slices.Equal(got, []string{"srv=" + server + plain}) {
		t.Errorf("while b is down: got %d of %s with %q, want of another server with its cookie", a.status, server, got)
	}
	site.servers[0].stop(t)
	site.servers[2].stop(t)
	for range 3 {
		a = site.plain("/", http.Header{"Cookie": {"srv=b"}})
		if a.status < 500 || a.header["Set-Cookie"] != nil {
			t.Errorf("while all are down: got %d with %q, want an error without a cookie", a.status, a.header["Set-Cookie"])
		}
	}
}

// TestStickyTransports has servers of each kind.
func TestStickyTransports(t *testing.T) {
	for _, kind := range serverKinds {
		t.Run(kind.name, func(t *testing.T) {
			kind.lines += "\nsticky cookie srv"
			g := newGuardedGroup(t, kind, "1m", "")
			first := g.plain("/", nil)
			cookie, _, _ := strings.Cut(first.header.Get("Set-Cookie"), ";")
			for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
				for range 3 {
					text := ""
					if method == http.MethodPost {
						text = "hello"
					}
					r, err := http.NewRequest(method, fmt.Sprintf("http://localhost:%d/", g.http), strings.NewReader(text))
					must(t, err)
					r.Header.Set("Cookie", cookie)
					a := g.do(r)
					if got := a.header["Set-Cookie"]; a.header.Get("X-Server") != first.header.Get("X-Server") || len(got) != 1 || !strings.HasPrefix(got[0], cookie+";") {
						t.Errorf("%s: got %s with %q, want %s with %s", method, a.header.Get("X-Server"), got, first.header.Get("X-Server"), cookie)
					}
				}
			}
		})
	}
}

// TestStickySecureBehindProxy has X-Forwarded-Proto from a trusted proxy, and from others.
func TestStickySecureBehindProxy(t *testing.T) {
	site := newStickySite(t, "server @a\nsticky cookie srv")
	proto := http.Header{"X-Forwarded-Proto": {"https"}}
	isSecure := func() bool {
		return strings.Contains(strings.Join(site.plain("/", proto).header["Set-Cookie"], "\n"), "; Secure")
	}
	if isSecure() {
		t.Error("of anybody: got Secure, want none")
	}
	must(t, site.reload(strings.Replace(site.file, "\tupstream app", "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/8 ::1\n\t}\n\tupstream app", 1)))
	if !isSecure() {
		t.Error("of a trusted proxy: got no Secure, want it")
	}
}

// TestStickyWithoutStorage has a storage that is down. Sessions stay through a reload of
// this process, and through the moment when the secret can be loaded.
func TestStickyWithoutStorage(t *testing.T) {
	site := newStickySite(t, "server @a\nserver @b\nserver @c\nsticky cookie srv")
	must(t, caddy.Stop())
	process = newShared(time.Now)
	without := strings.Replace(site.file, "\thtpasswd {\n\t\tsecret "+string(stickySecret)+"\n\t}\n", "", 1)
	storage := filepath.Join(site.dir, "storage", "htpasswd")
	must(t, os.RemoveAll(storage))
	must(t, os.WriteFile(storage, nil, 0o600)) // no directory, so the secret cannot be loaded
	must(t, site.reload(without))
	sessions := make([]stickySession, 9)
	for range 2 {
		for i := range sessions {
			if !sessions[i].next(t, site) {
				t.Errorf("session %d moved while the storage is down", i)
			}
		}
		must(t, site.reload(without))
	}
	local := sessions[0].cookie
	must(t, os.Remove(storage))
	must(t, site.reload(without))
	for i := range sessions {
		if !sessions[i].next(t, site) {
			t.Errorf("session %d moved when the storage came back", i)
		}
	}
	if sessions[0].cookie == local {
		t.Error("got the same cookie with the secret of the storage, want another")
	}
}

// TestStickyUploads sends bodies, which take another way through the guard.
func TestStickyUploads(t *testing.T) {
	site := newStickySite(t, "server @a route=a\nserver @b route=b\nsticky cookie srv")
	for range 4 {
		r := site.request(http.MethodPost, "/", strings.NewReader("hello"))
		r.Header.Set("Cookie", "srv=b")
		a := site.do(r)
		if got := a.header["Set-Cookie"]; a.body != "b" || len(got) != 2 || !strings.HasPrefix(got[1], "srv=b;") {
			t.Errorf("got %q with %q, want b with its cookie", a.body, got)
		}
	}
	// The upload breaks off: 400, which no server gave.
	a, _ := site.raw("POST / HTTP/1.1\r\nHost: localhost\r\nCookie: srv=b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n")
	if a.status != 400 || a.header["Set-Cookie"] != nil {
		t.Errorf("a broken upload: got %d with %q, want 400 without a cookie", a.status, a.header["Set-Cookie"])
	}
}

// TestStickyFullServer has a server at max_conns: the request goes elsewhere, and the
// session stays.
func TestStickyFullServer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(leave) })
	full := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-leave
		}
		io.WriteString(w, "full")
	}))
	t.Cleanup(full.Close)
	t.Cleanup(once)
	site := newStickySite(t, "server "+full.Listener.Addr().String()+" max_conns=1 route=full\nserver @a route=a\nsticky cookie srv")
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		if resp, err := http.Get(fmt.Sprintf("http://localhost:%d/wait", site.http)); err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	a := site.plain("/", http.Header{"Cookie": {"srv=full"}})
	if got := a.header["Set-Cookie"]; a.body != "a" || !strings.HasPrefix(got[len(got)-1], "srv=full;") {
		t.Errorf("while it is full: got %s with %q, want a with the cookie of full", a.body, got)
	}
	once()
	<-waiting
	eventually(t, "the session is back", func() bool { return site.plain("/", http.Header{"Cookie": {"srv=full"}}).body == "full" })
}

// TestStickyDrain has a server that drains, and then all of them.
func TestStickyDrain(t *testing.T) {
	for _, method := range balance.Methods() {
		line := "balance " + string(method)
		if method == balance.MethodHash {
			line += " {uri}"
		}
		site := newStickySite(t, "server @a route=a drain\nserver @b route=b\nserver @c route=c\nsticky cookie srv\n"+line)
		for i := range 6 {
			if got := site.plain(fmt.Sprint("/", i), http.Header{"Cookie": {"srv=a"}}); got.body != "a" {
				t.Errorf("%s, a session: got %s, want a", method, got.body)
			}
			if got := site.plain(fmt.Sprint("/", i), nil); got.body == "a" || got.status != 200 {
				t.Errorf("%s, without a session: got %d of %s, want b or c", method, got.status, got.body)
			}
		}
		must(t, site.reload(strings.NewReplacer("route=b", "route=b drain", "route=c", "route=c drain").Replace(site.file)))
		if got := site.plain("/", http.Header{"Cookie": {"srv=b"}}); got.body != "b" {
			t.Errorf("%s, all drain, a session: got %d %s, want b", method, got.status, got.body)
		}
		if got := site.plain("/", nil); got.status != http.StatusServiceUnavailable || got.header["Set-Cookie"] != nil {
			t.Errorf("%s, all drain, without a session: got %d, want 503 without a cookie", method, got.status)
		}
		must(t, caddy.Stop())
	}
}

// TestStickyRouteOfJSESSIONID has the route at the end of the application's cookie or of
// the path, as with Apache and Tomcat.
func TestStickyRouteOfJSESSIONID(t *testing.T) {
	site := newStickySite(t, "server @a route=a\nserver @b route=b.x\nserver @c route=c\nsticky route {route_of_cookie} {route_of_path}")
	site.file = strings.Replace(site.file, "\tproxy_pass", `	map {cookie.JSESSIONID} {route_of_cookie} {
		~^[^.]*\.(.+)$ "${1}"
		default ""
	}
	map {uri} {route_of_path} {
		~;jsessionid=[^.;?/]*\.([^;?/]+) "${1}"
		default ""
	}
	proxy_pass`, 1)
	must(t, site.reload(site.file))
	for _, row := range []struct{ path, cookie, want string }{
		{"/", "JSESSIONID=0123.a", "aaaaaa"},
		{"/", "JSESSIONID=0123.b.x", "bbbbbb"},
		{"/page;jsessionid=0123.c?x=1", "", "cccccc"},
		{"/page;jsessionid=0123.c", "JSESSIONID=0123.a", "aaaaaa"},
		{"/", "JSESSIONID=0123", ""},
		{"/", "JSESSIONID=0123.none", ""},
		{"/", "JSESSIONID=.", ""},
		{"/", "", ""},
	} {
		header := make(http.Header)
		if row.cookie != "" {
			header.Set("Cookie", row.cookie)
		}
		got := ""
		for range 6 {
			a := site.plain(row.path, header)
			got += a.body
			if len(a.header["Set-Cookie"]) != 1 {
				t.Errorf("%s %s: got %q, want no cookie of ours", row.path, row.cookie, a.header["Set-Cookie"])
			}
		}
		if row.want == "" && strings.Count(got, "a") == 2 && strings.Count(got, "b") == 2 {
			continue
		}
		if got != row.want {
			t.Errorf("%s %s: got %s, want %s", row.path, row.cookie, got, row.want)
		}
	}
}

// TestStickyNeedsNoHtpasswd has no option and no directive htpasswd. The key is in the
// storage.
func TestStickyNeedsNoHtpasswd(t *testing.T) {
	site := newStickySite(t, "server @a\nserver @b\nserver @c\nsticky cookie srv")
	without := strings.Replace(site.file, "\thtpasswd {\n\t\tsecret "+string(stickySecret)+"\n\t}\n", "", 1)
	must(t, site.reload(without))
	sessions := make([]stickySession, 6)
	for i := range sessions {
		sessions[i].next(t, site)
	}
	must(t, caddy.Stop())
	process = newShared(time.Now) // as in a new process, with the same storage
	must(t, site.reload(without))
	for i := range sessions {
		if !sessions[i].next(t, site) {
			t.Errorf("session %d moved to %s with a secret in the storage, want it to stay", i, sessions[i].server)
		}
	}
}
