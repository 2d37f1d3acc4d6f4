package caddyhtpasswd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// slowClock is a clock that only servers move: by the time that a response takes them.
type slowClock struct{ passed atomic.Int64 }

// newSlowClock makes Caddy measure with a slowClock. The test must not run in parallel.
func newSlowClock() *slowClock {
	c := new(slowClock)
	begin := time.Now()
	process = newShared(func() time.Time { return begin.Add(time.Duration(c.passed.Load())) })
	return c
}

func (c *slowClock) pass(d time.Duration) { c.passed.Add(int64(d)) }

// slowServer is a server that takes some time for each response.
type slowServer struct {
	name  string
	clock *slowClock
	takes atomic.Int64
}

func newSlowServer(name string, clock *slowClock, takes time.Duration) *slowServer {
	s := &slowServer{name: name, clock: clock}
	s.takes.Store(int64(takes))
	return s
}

func (s *slowServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.clock.pass(time.Duration(s.takes.Load()))
	_, _ = io.WriteString(w, s.name)
}

// timeOf returns the average time of a server, by its address.
func timeOf(t *testing.T, address string) time.Duration {
	t.Helper()
	state, known, err := process.servers.LoadOrNew(address, func() (caddy.Destructor, error) { return new(serverRecovery), nil })
	must(t, err)
	if !known {
		t.Fatalf("%s: got no state, want one", address)
	}
	_, err = process.servers.Delete(address)
	must(t, err)
	return state.(*serverRecovery).time.Average(process.guard.now().UnixNano())
}

// TestLeastTimeOfKinds has a server that is 150 ms slower, for all kinds of servers. It
// gets about one request in ten, until it is as fast as the other one.
func TestLeastTimeOfKinds(t *testing.T) {
	for _, kind := range serverKinds {
		t.Run(kind.name, func(t *testing.T) {
			clock := newSlowClock()
			fast, slow := newSlowServer("a", clock, time.Millisecond), newSlowServer("b", clock, 151*time.Millisecond)
			one, two := kind.run(t, fast), kind.run(t, slow)
			get := runProxy(t, fmt.Sprintf("server %s%s\nserver %[1]s%[3]s\nbalance least_time\n%[4]s", kind.scheme, one, two, kind.lines))
			if got := counted(answers(get, 10), "a", "b"); got != "a=9 b=1" && got != "a=8 b=2" {
				t.Errorf("the first ten: got answers %s, want a=9 b=1 or a=8 b=2", got)
			}
			if got := counted(answers(get, 100), "a", "b"); got != "a=89 b=11" && got != "a=90 b=10" {
				t.Errorf("then: got answers %s, want a=89 b=11 or a=90 b=10", got)
			}
			if got := timeOf(t, two); got != 151*time.Millisecond {
				t.Errorf("the average of the slow server: got %v, want 151ms", got)
			}
			slow.takes.Store(int64(time.Millisecond))
			answers(get, 100)
			var b int
			if _, err := fmt.Sscanf(counted(answers(get, 100), "b"), "b=%d", &b); err != nil || b < 45 || b > 50 {
				t.Errorf("after it became fast: got %d of 100 for b, error %v, want 45 to 50", b, err)
			}
		})
	}
}

// TestLeastTimeOfStreams has servers that send the rest of a response a minute after its
// header. The average has the time to the header, even before the response ends.
func TestLeastTimeOfStreams(t *testing.T) {
	for _, kind := range serverKinds {
		t.Run(kind.name, func(t *testing.T) {
			clock := newSlowClock()
			seen := make(chan struct{})
			address := kind.run(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				clock.pass(30 * time.Millisecond)
				_, _ = io.WriteString(w, "first")
				_ = http.NewResponseController(w).Flush()
				<-seen
				clock.pass(time.Minute)
				_, _ = io.WriteString(w, " second")
			}))
			var site string
			runProxy(t, "server "+kind.scheme+address+"\nbalance least_time\nflush_interval -1\n"+kind.lines, &site)
			client := &http.Client{Transport: new(http.Transport), Timeout: 30 * time.Second}
			t.Cleanup(client.CloseIdleConnections)
			resp, err := client.Get(site)
			must(t, err)
			defer resp.Body.Close()
			if got := timeOf(t, address); got != 30*time.Millisecond {
				t.Errorf("before the end: got %v, want 30ms", got)
			}
			close(seen)
			if text, err := io.ReadAll(resp.Body); string(text) != "first second" || err != nil {
				t.Errorf("got %q, error %v, want the whole response", text, err)
			}
			clock.pass(-time.Minute)
			if got := timeOf(t, address); got != 30*time.Millisecond {
				t.Errorf("after the end: got %v, want 30ms", got)
			}
		})
	}
}

// TestLeastTimeOfRetries has a server that takes three seconds to fail. Only the server
// that responds is measured, and only from the second attempt on.
func TestLeastTimeOfRetries(t *testing.T) {
	clock := newSlowClock()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			clock.pass(3 * time.Second)
			conn.Close()
		}
	}()
	broken := ln.Addr().String()
	works := runTestServer(t, newSlowServer("b", clock, 7*time.Millisecond), nil)
	get := runProxy(t, "server "+broken+" weight=9\nserver "+works+"\nbalance least_time")
	if got := get(); got != "b" {
		t.Errorf("got %s, want b", got)
	}
	if got := timeOf(t, broken); got != 0 {
		t.Errorf("the server that failed: got %v, want no time", got)
	}
	if got := timeOf(t, works); got != 7*time.Millisecond {
		t.Errorf("the server that responded: got %v, want 7ms", got)
	}
}

// TestLeastTimeOfRetriedStatuses has a server that responds quickly with a status that is
// retried. That is no response for the client, so it is not measured.
func TestLeastTimeOfRetriedStatuses(t *testing.T) {
	clock := newSlowClock()
	busy := runTestServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), nil)
	works := runTestServer(t, newSlowServer("b", clock, 7*time.Millisecond), nil)
	get := runProxy(t, "server "+busy+" weight=9\nserver "+works+"\nbalance least_time\nlb_retry_match {\nexpression {rp.status_code} == 503\n}")
	if got := get(); got != "b" {
		t.Errorf("got %s, want b", got)
	}
	if got := []time.Duration{timeOf(t, busy), timeOf(t, works)}; got[0] != 0 || got[1] != 7*time.Millisecond {
		t.Errorf("got times %v, want 0 and 7ms", got)
	}
}

// TestLeastTimeOfNoAnswer has no server that responds, and error routes that do.
func TestLeastTimeOfNoAnswer(t *testing.T) {
	newSlowClock()
	one, _ := brokenBackend(t)
	two, _ := brokenBackend(t)
	get := runProxy(t, "server "+one+"\nserver "+two+"\nbalance least_time")
	for range 4 {
		if got := get(); !strings.HasPrefix(got, "50") {
			t.Errorf("got %s, want 502 or 503", got)
		}
	}
	if got := []time.Duration{timeOf(t, one), timeOf(t, two)}; got[0] != 0 || got[1] != 0 {
		t.Errorf("got times %v, want none", got)
	}
}

// TestLeastTimeOfGroups has a server in two groups, and then a reload. They share its
// time, which also stays after the reload. Without any group it is forgotten.
func TestLeastTimeOfGroups(t *testing.T) {
	newSlowClock()
	newGroup := func(servers string) (*UpstreamGroup, []string) {
		g, names := groupOf(t, "least_time", servers)
		must(t, g.Provision(caddy.Context{}))
		return g, names
	}
	g, names := newGroup("a b")
	pool := plainPool(names...)
	for i, took := range []time.Duration{time.Millisecond, 151 * time.Millisecond} {
		for range 10 {
			g.recoveries[names[i]].time.Add(took, process.guard.now().UnixNano())
		}
	}
	check := func(what string) {
		t.Helper()
		if got := counted(selected(g, pool, 100), names...); got != "a=90 b=10" && got != "a=89 b=11" {
			t.Errorf("%s: got %s, want a=89 b=11 or a=90 b=10", what, got)
		}
	}
	check("measured")
	first := g
	g, _ = newGroup("a b")
	check("another group")
	must(t, first.Cleanup())
	check("after a reload")
	must(t, g.Cleanup())
	if _, held := process.servers.References("a"); held {
		t.Error("after the last configuration: got a time that is still held, want none")
	}
}

// TestLeastTimeOfChangingPools has dynamic servers, of which some go and others come. Those
// that stay keep their times.
func TestLeastTimeOfChangingPools(t *testing.T) {
	newSlowClock()
	g, _ := groupOf(t, "least_time", "")
	timeIn := func(name string) time.Duration {
		plan := g.plan.Load()
		for i, u := range plan.pool {
			if u.Dial == name {
				return plan.times[i].Average(process.guard.now().UnixNano())
			}
		}
		t.Fatalf("%s: got no server, want one", name)
		return 0
	}
	g.Select(plainPool("a", "b"), proxied("/", ""), nil)
	for i, took := range []time.Duration{time.Second, 2 * time.Second} {
		g.plan.Load().times[i].Add(took, process.guard.now().UnixNano())
	}
	g.Select(plainPool("c", "b", "a"), proxied("/", ""), nil)
	if got := []time.Duration{timeIn("a"), timeIn("b"), timeIn("c")}; got[0] != time.Second || got[1] != 2*time.Second || got[2] != 0 {
		t.Errorf("got times %v, want 1s, 2s and none", got)
	}
	g.Select(plainPool("b"), proxied("/", ""), nil)
	g.Select(plainPool("b", "a"), proxied("/", ""), nil)
	if got := []time.Duration{timeIn("a"), timeIn("b")}; got[0] != 0 || got[1] != 2*time.Second {
		t.Errorf("after a was gone: got times %v, want none and 2s", got)
	}
}

// TestLeastTimeOfUploads has a client that is slow to send its body. Its time is not the
// server's.
func TestLeastTimeOfUploads(t *testing.T) {
	clock := newSlowClock()
	for _, row := range []struct {
		name   string
		during func(u *upload)
		want   time.Duration
	}{
		{"all of it was sent before", func(*upload) { clock.pass(5 * time.Millisecond) }, 5 * time.Millisecond},
		{"slowly", func(u *upload) { clock.pass(2005 * time.Millisecond); u.waited += 2 * time.Second }, 5 * time.Millisecond},
		{"a response before its end", func(u *upload) { clock.pass(time.Second); u.reading <- struct{}{} }, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, names := groupOf(t, "least_time", "a b")
			r := httptest.NewRequest(http.MethodPost, "http://example.com/", strings.NewReader("body"))
			body := newUpload(r)
			body.waited = time.Hour // before the attempt
			r = caddyhttp.PrepareRequest(body.in(r, false), caddy.NewReplacer(), nil, nil)
			pool := plainPool(names...)
			w := g.timed(httptest.NewRecorder())
			// As Caddy's proxy does, which is given a uploadWriter.
			guarded := &uploadWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, body: body}
			if u := g.Select(pool, r, guarded); u.Dial != "a" {
				t.Fatalf("got %s, want a", u.Dial)
			}
			row.during(body)
			guarded.WriteHeader(http.StatusOK)
			times := g.plan.Load().times
			now := process.guard.now().UnixNano()
			if got := times[0].Average(now); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
			if got := times[1].Average(now); got != 0 {
				t.Errorf("the other server: got %v, want none", got)
			}
		})
	}
}

// TestLeastTimeOfHeaders has the ways in which a response begins. Each is measured once.
func TestLeastTimeOfHeaders(t *testing.T) {
	clock := newSlowClock()
	for _, row := range []struct {
		name  string
		write func(w http.ResponseWriter)
		want  time.Duration
	}{
		{"a status", func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, 2 * time.Millisecond},
		{"the body", func(w http.ResponseWriter) { _, _ = w.Write(nil) }, 2 * time.Millisecond},
		{"a flush", func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }, 2 * time.Millisecond},
		{"an upgrade", func(w http.ResponseWriter) { w.WriteHeader(http.StatusSwitchingProtocols) }, 2 * time.Millisecond},
		{"early hints, then a status", func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			clock.pass(time.Second)
			w.WriteHeader(http.StatusOK)
		}, 1002 * time.Millisecond},
		{"the client has gone", func(w http.ResponseWriter) { w.WriteHeader(statusClientClosed) }, 0},
		{"nothing", func(http.ResponseWriter) {}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			g, names := groupOf(t, "least_time", "a")
			w := g.timed(httptest.NewRecorder())
			g.Select(plainPool(names...), proxied("/", ""), w)
			clock.pass(2 * time.Millisecond)
			row.write(w)
			clock.pass(time.Second)
			_, _ = io.WriteString(w, "more")
			got := g.plan.Load().times[0].Average(process.guard.now().UnixNano())
			if row.name == "nothing" { // then "more" is the header
				row.want = 1002 * time.Millisecond
			}
			if got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

// TestLeastTimeOfOneHandler sends a request from one group to another one, as a handler
// for responses can. Each group measures its own servers.
func TestLeastTimeOfOneHandler(t *testing.T) {
	clock := newSlowClock()
	outer, names := groupOf(t, "least_time", "a")
	inner, _ := groupOf(t, "least_time", "a")
	pool := plainPool(names...)
	w := outer.timed(httptest.NewRecorder())
	outer.Select(pool, proxied("/", ""), w)
	clock.pass(10 * time.Millisecond)
	within := inner.timed(w)
	inner.Select(pool, proxied("/", ""), within)
	clock.pass(3 * time.Millisecond)
	within.WriteHeader(http.StatusOK)
	now := process.guard.now().UnixNano()
	if got := inner.plan.Load().times[0].Average(now); got != 3*time.Millisecond {
		t.Errorf("the inner group: got %v, want 3ms", got)
	}
	if got := outer.plan.Load().times[0].Average(now); got != 13*time.Millisecond {
		t.Errorf("the outer group: got %v, want 13ms", got)
	}
	// Without the guard, there is nothing that could measure.
	if u := outer.Select(pool, proxied("/", ""), httptest.NewRecorder()); u == nil {
		t.Error("without a guard: got no server, want one")
	}
}

// TestOtherMethodsMeasureNothing checks that a response is wrapped for least_time only.
func TestOtherMethodsMeasureNothing(t *testing.T) {
	for _, method := range balance.Methods() {
		g, names := groupOf(t, string(method), "a b")
		g.Select(plainPool(names...), proxied("/", ""), nil)
		if got, want := g.plan.Load().times != nil, method == balance.MethodLeastTime; got != want {
			t.Errorf("%s: got times: %t, want %t", method, got, want)
		}
		if got, want := g.measuresTime(), method == balance.MethodLeastTime; got != want {
			t.Errorf("%s: got measured: %t, want %t", method, got, want)
		}
	}
	w := httptest.NewRecorder()
	if got := (*UpstreamGroup)(nil).timed(w); got != w {
		t.Errorf("got %T, want the writer itself", got)
	}
}

// TestLeastTimeConcurrently sends requests to HTTP and FastCGI servers of different speed,
// from many clients. It is for the race detector.
func TestLeastTimeConcurrently(t *testing.T) {
	handler := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 { // package fcgi gives all requests without a body the same reader
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(w, name)
		})
	}
	fast := func(h http.Handler) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { ln.Close() })
		go fcgi.Serve(ln, h)
		return ln.Addr().String()
	}
	for _, row := range []struct{ name, group string }{
		{"HTTP", fmt.Sprintf("server %s weight=2\nserver %s max_conns=3\nserver %s backup", namedBackend(t, "a").Listener.Addr(), namedBackend(t, "b").Listener.Addr(), namedBackend(t, "c").Listener.Addr())},
		{"FastCGI", fmt.Sprintf("server %s\nserver %s\ntransport fastcgi {\nroot /srv\nsplit .php\n}", fast(handler("a")), fast(handler("b")))},
	} {
		t.Run(row.name, func(t *testing.T) {
			process = newShared(time.Now)
			var site string
			runProxy(t, row.group+"\nbalance least_time\nslow_start 1s", &site)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 30 * time.Second}
			t.Cleanup(client.CloseIdleConnections)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for j := range 40 {
						var body io.Reader
						if (i+j)%2 == 0 {
							body = strings.NewReader("body")
						}
						r, err := http.NewRequest(http.MethodPut, site, body)
						if err != nil {
							t.Error(err)
							return
						}
						resp, err := client.Do(r)
						if err != nil {
							t.Error(err)
							return
						}
						text, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						if got := string(text); got != "a" && got != "b" {
							t.Errorf("got status %d, %q, want a or b", resp.StatusCode, got)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkSelectAndRespond selects one of three servers and writes the header of a
// response, as the guard does: with least_time it is measured, with least_conn it is not.
func BenchmarkSelectAndRespond(b *testing.B) {
	for _, method := range []string{"least_conn", "least_time"} {
		b.Run(method, func(b *testing.B) {
			g, names := groupOf(b, method, "a b c")
			pool := plainPool(names...)
			p := new(ProxyPass)
			if g.measuresTime() {
				p.times = g
			}
			r := proxied("/some/path", "192.0.2.1")
			vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
			under := new(discardingWriter)
			b.ReportAllocs()
			for b.Loop() {
				stateOf(vars).request = nil // each request is new
				w := g.timed(under)
				g.Select(pool, r, w)
				w.WriteHeader(http.StatusOK)
			}
		})
	}
}

// discardingWriter is a ResponseWriter that does nothing.
type discardingWriter struct{}

func (*discardingWriter) Header() http.Header         { return nil }
func (*discardingWriter) Write(p []byte) (int, error) { return len(p), nil }
func (*discardingWriter) WriteHeader(int)             {}
