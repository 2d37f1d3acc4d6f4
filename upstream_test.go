package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func init() {
	caddy.RegisterModule(new(upstreamSwitch))
}

// upstreamSwitch is a circuit breaker that a test opens and closes: the one
// public way to make an upstream unavailable.
type upstreamSwitch struct {
	Server string `json:"server"`
	off    atomic.Bool
}

func (*upstreamSwitch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.circuit_breakers.upstream_test",
		New: func() caddy.Module { return new(upstreamSwitch) },
	}
}

func (s *upstreamSwitch) OK() bool                      { return !s.off.Load() }
func (*upstreamSwitch) RecordMetric(int, time.Duration) {}

// switchedPool makes upstreams that can be switched off, each in a handler of
// its own, since a handler has one circuit breaker.
func switchedPool(t testing.TB, names ...string) (reverseproxy.UpstreamPool, map[string]*upstreamSwitch) {
	t.Helper()
	base, err := caddy.ProvisionContext(&caddy.Config{Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{
		"default": {BaseLog: caddy.BaseLog{Level: "ERROR"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(base)
	t.Cleanup(cancel)

	var pool reverseproxy.UpstreamPool
	switches := make(map[string]*upstreamSwitch)
	for _, name := range names {
		module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(fmt.Sprintf(
			`{"circuit_breaker":{"type":"upstream_test","server":%q},"upstreams":[{"dial":%q}]}`, name, name)))
		if err != nil {
			t.Fatal(err)
		}
		h := module.(*reverseproxy.Handler)
		pool = append(pool, h.Upstreams[0])
		switches[name] = h.CB.(*upstreamSwitch)
	}
	return pool, switches
}

// plainPool makes upstreams that are always available.
func plainPool(names ...string) reverseproxy.UpstreamPool {
	var pool reverseproxy.UpstreamPool
	for _, name := range names {
		pool = append(pool, &reverseproxy.Upstream{Dial: name, Host: new(reverseproxy.Host)})
	}
	return pool
}

// testGroup makes a policy of servers written as "a:5 b c:1:backup d:1:down".
func testGroup(t testing.TB, servers string) (*UpstreamGroup, []string) {
	t.Helper()
	g := &UpstreamGroup{Servers: make(map[string]UpstreamServer)}
	var names []string
	for _, text := range strings.Fields(servers) {
		name, params, _ := strings.Cut(text, ":")
		weight, mark, _ := strings.Cut(params, ":")
		n, _ := strconv.Atoi(weight)
		names = append(names, name)
		g.Servers[name] = UpstreamServer{Weight: n, Backup: mark == "backup", Down: mark == "down"}
	}
	if err := g.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	return g, names
}

// selected names the servers of n requests in their order; "-" is none.
func selected(g *UpstreamGroup, pool reverseproxy.UpstreamPool, n int) []string {
	order := make([]string, n)
	for i := range order {
		order[i] = "-"
		if u := g.Select(pool, bareRequest, nil); u != nil {
			order[i] = u.Dial
		}
	}
	return order
}

// counted says how often each server is in the order, as in "a=5 b=1".
func counted(order []string, names ...string) string {
	counts := make(map[string]int)
	for _, name := range order {
		counts[name]++
	}
	var out []string
	for _, name := range append(names, "-") {
		if counts[name] > 0 {
			out = append(out, fmt.Sprintf("%s=%d", name, counts[name]))
		}
	}
	return strings.Join(out, " ")
}

func TestRoundRobinOrder(t *testing.T) {
	for servers, want := range map[string]string{
		"a":                     "a a a",
		"a b c":                 "a b c a b c",
		"a:5 b:1 c:1":           "a a b a c a a  a a b a c a a",
		"a:10 b:2 c:2":          "a a b a c a a  a a b a c a a",
		"a:2 b:3":               "b a b a b  b a b a b",
		"a:4 b:2 c:1":           "a b a c a b a  a b a c a b a",
		"x:1:down a b":          "a b a b",
		"x:9:backup a:2 b":      "a b a  a b a",
		"x:1:down y:5:backup":   "y y",
		"a:1:down":              "-",
		"a:1:backup b:2:down":   "a a",
		"a:65535 b:65535":       "a b a b",
		"a:3:backup b:1:backup": "a a b a  a a b a",
	} {
		g, names := testGroup(t, servers)
		want := strings.Fields(want)
		if got := selected(g, plainPool(names...), len(want)); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: got %v, want %v", servers, got, want)
		}
	}
}

func TestRoundRobinDistribution(t *testing.T) {
	for _, tt := range []struct{ servers, off, want string }{
		{"a:1 b:5 c:1", "a", "b=500 c=100"}, // Caddy's weighted_round_robin: 500 to 200
		{"a:1 b:5 c:1", "b", "a=300 c=300"},
		{"a:1 b:5 c:1", "b c", "a=600"},
		{"a:1 b:2 c:3 d:4", "d", "a=100 b=200 c=300"},
		{"a b x:1:backup", "", "a=300 b=300"},
		{"a b x:1:backup", "a", "b=600"},
		{"a b x:1:backup y:2:backup", "a b", "x=200 y=400"},
		{"a b x:1:backup y:2:backup", "a b y", "x=600"},
		{"a b:1:down", "a", "-=600"},
		{"a b", "a b", "-=600"},
		{"a x:1:backup", "a x", "-=600"},
	} {
		g, names := testGroup(t, tt.servers)
		pool, switches := switchedPool(t, names...)
		for _, name := range strings.Fields(tt.off) {
			switches[name].off.Store(true)
		}
		if got := counted(selected(g, pool, 600), names...); got != tt.want {
			t.Errorf("%s without %q: got %s, want %s", tt.servers, tt.off, got, tt.want)
		}
	}
}

func TestRoundRobinReturnsToItsOrder(t *testing.T) {
	g, names := testGroup(t, "a:5 b:1 c:1")
	pool, switches := switchedPool(t, names...)
	if got := strings.Join(selected(g, pool, 3), ""); got != "aab" {
		t.Fatalf("got %s", got)
	}
	switches["a"].off.Store(true)
	if got := counted(selected(g, pool, 100), names...); got != "b=50 c=50" {
		t.Errorf("without a: got %s", got)
	}
	switches["a"].off.Store(false)
	if got := strings.Join(selected(g, pool, 4), ""); got != "acaa" {
		t.Errorf("after the return: got %s, want the rest of the period", got)
	}
}

// A period that is too long for a table is as exact.
func TestRoundRobinLongPeriod(t *testing.T) {
	g, names := testGroup(t, "a:40000 b:30000 c:1")
	pool := plainPool(names...)
	if got := counted(selected(g, pool, 70001), names...); got != "a=40000 b=30000 c=1" {
		t.Error(got)
	}
	if rr := g.plan.Load().tiers[0].groupBalancer.(*smoothRoundRobin); rr.order != nil {
		t.Errorf("a table of %d turns", len(rr.order))
	}
}

func TestRoundRobinCursorWraps(t *testing.T) {
	g, names := testGroup(t, "a:5 b:1 c:1")
	pool := plainPool(names...)
	selected(g, pool, 1)
	rr := g.plan.Load().tiers[0].groupBalancer.(*smoothRoundRobin)
	rr.cursor.Store(math.MaxUint64 - 6)
	if got := counted(selected(g, pool, 7), names...); got != "a=5 b=1 c=1" {
		t.Error("up to the end:", got)
	}
	if got := strings.Join(selected(g, pool, 7), ""); got != "aabacaa" {
		t.Error("from the start:", got)
	}
}

// Dynamic upstreams are new values at every call.
func TestSelectPools(t *testing.T) {
	g, names := testGroup(t, "a:5 b:1 c:1")
	var order []string
	for range 14 {
		order = append(order, selected(g, plainPool(names...), 1)...)
	}
	if got := strings.Join(order, ""); got != "aabacaaaabacaa" {
		t.Errorf("the same addresses again: got %s", got)
	}
	if u := g.Select(nil, bareRequest, nil); u != nil {
		t.Error("an empty pool has", u)
	}

	// Other addresses at every call: nobody is always the first.
	counts := make(map[string]int)
	for i := range 4000 {
		pool := plainPool("d", "e")
		if i%2 == 1 {
			pool = plainPool("f", "g")
		}
		counts[g.Select(pool, bareRequest, nil).Dial]++
	}
	for _, name := range []string{"d", "e", "f", "g"} {
		if got := counts[name]; got < 800 || got > 1200 {
			t.Errorf("%s: %d of 4000 requests, want about 1000", name, got)
		}
	}
}

func TestSelectConcurrently(t *testing.T) {
	const goroutines, requests = 8, 700
	g, names := testGroup(t, "a:5 b:1 c:1 d:1:down")
	pool, switches := switchedPool(t, names...)
	run := func(also func(i int)) string {
		orders := make([][]string, goroutines)
		var wg sync.WaitGroup
		for i := range orders {
			wg.Go(func() {
				for range requests {
					also(i)
					orders[i] = append(orders[i], selected(g, pool, 1)...)
				}
			})
		}
		wg.Wait()
		var all []string
		for _, order := range orders {
			all = append(all, order...)
		}
		return counted(all, names...)
	}

	if got := run(func(int) {}); got != "a=4000 b=800 c=800" {
		t.Error("all available:", got)
	}
	other := plainPool("a", "b")
	got := run(func(i int) {
		if i == 0 {
			switches["a"].off.Store(rand.IntN(2) == 0)
			g.Select(other, bareRequest, nil)
		}
	})
	if strings.Contains(got, "d=") || strings.Contains(got, "-=") {
		t.Error("while servers come and go:", got)
	}
}

func TestSelectAllocates(t *testing.T) {
	for _, off := range []bool{false, true} {
		g, names := testGroup(t, "a:5 b:1 c:1")
		pool, switches := switchedPool(t, names...)
		switches["a"].off.Store(off)
		if n := testing.AllocsPerRun(100, func() { g.Select(pool, bareRequest, nil) }); n > 0 {
			t.Errorf("a off: %t: %v allocations", off, n)
		}
	}
}

// bareRequest is a request without a body, for policies that don't look at it.
var bareRequest = httptest.NewRequest(http.MethodGet, "/", nil)

// namedBackend is a server that answers with its name.
func namedBackend(t testing.TB, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s
}

// brokenBackend is a server that closes every connection, and counts them.
func brokenBackend(t testing.TB) (address string, tried *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	tried = new(atomic.Int64)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			tried.Add(1)
			conn.Close()
		}
	}()
	return ln.Addr().String(), tried
}

// runProxy runs Caddy with the group and the proxy_pass directive that uses
// it, and returns a function that sends a GET request and gives its answer. Its
// address is written to where.
func runProxy(t *testing.T, group string, where ...*string) func() string {
	t.Helper()
	var site string
	for attempt := 0; ; attempt++ {
		site = fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1)[0])
		config, err := adaptCaddyfile(t.TempDir(), fmt.Sprintf(
			"{\nadmin off\npersist_config off\nstorage file_system %s\nlog {\noutput discard\n}\nupstream web {\n%s\n}\n}\n%s {\nproxy_pass web\n}\n",
			t.TempDir(), group, site))
		if err != nil {
			t.Fatal(err)
		}
		// Another process may have taken the port in between.
		if err = caddy.Load(config, true); err == nil {
			break
		} else if attempt == 4 {
			t.Fatal(err)
		}
	}
	for _, w := range where {
		*w = site
	}
	client := &http.Client{Transport: new(http.Transport), Timeout: 30 * time.Second}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	return func() string {
		resp, err := client.Get(site)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		return string(body)
	}
}

// answers gives the answers to n requests, one after the other.
func answers(get func() string, n int) (all []string) {
	for range n {
		all = append(all, get())
	}
	return all
}

// TestProxyBrokenUploads has clients break off their uploads, and send bodies
// that are none: no server is to blame for it, and none is left out.
func TestProxyBrokenUploads(t *testing.T) {
	reader := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	var site string
	get := runProxy(t, "server "+reader("a")+"\nserver "+reader("b"), &site)
	for _, body := range []string{
		"Content-Length: 100000\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZZ\r\n",
	} {
		for range 4 {
			conn, err := net.Dial("tcp", strings.TrimPrefix(site, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\n%s", strings.TrimPrefix(site, "http://"), body)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn) // until the server has given up on it
			conn.Close()
		}
		if got := counted(answers(get, 4), "a", "b"); got != "a=2 b=2" {
			t.Errorf("%q: then the answers are %s", body, got)
		}
	}
}

// TestProxyBodyBegun has a server break off in the middle of a request's body:
// what it has read can't be sent to the next one, which is not to blame either.
func TestProxyBodyBegun(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			io.ReadFull(conn, make([]byte, 4096))
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	}()
	var site string
	get := runProxy(t, "server http://"+ln.Addr().String()+"\nserver "+namedBackend(t, "b").URL, &site)
	r, err := http.NewRequest(http.MethodGet, site, strings.NewReader(strings.Repeat("x", 200<<10)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: new(http.Transport), Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d", resp.StatusCode)
	}
	if got := counted(answers(get, 4), "b"); got != "b=4" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestProxyDistribution(t *testing.T) {
	a, b := namedBackend(t, "a"), namedBackend(t, "b")
	get := runProxy(t, "server "+a.URL+" weight=3\nserver "+b.URL)
	if got := strings.Join(answers(get, 8), ""); got != "aabaaaba" {
		t.Error("order:", got)
	}
	a.Close()
	if got := counted(answers(get, 20), "b"); got != "b=20" {
		t.Error("after the end of a:", got)
	}
}

func TestProxyBackup(t *testing.T) {
	a, b := namedBackend(t, "a"), namedBackend(t, "b")
	get := runProxy(t, "server "+a.URL+"\nserver "+b.URL+" backup")
	if got := counted(answers(get, 5), "a", "b"); got != "a=5" {
		t.Error(got)
	}
	a.Close()
	if got := counted(answers(get, 5), "a", "b"); got != "b=5" {
		t.Error("after the end of a:", got)
	}
}

func TestProxyMaxFails(t *testing.T) {
	for line, want := range map[string]int64{"": 1, "max_fails 3": 3, "max_fails 0": 10, "fail_duration 1h": 1} {
		address, tried := brokenBackend(t)
		get := runProxy(t, "server http://"+address+"\nserver "+namedBackend(t, "b").URL+"\n"+line)
		if got := counted(answers(get, 20), "b"); got != "b=20" {
			t.Errorf("%s: answers: %s", line, got)
		}
		if got := tried.Load(); got != want {
			t.Errorf("%s: the broken server was tried %d times, want %d", line, got, want)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProxyMaxConns(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-leave
		io.WriteString(w, "a")
	}))
	defer a.Close()
	get := runProxy(t, "server "+a.URL+" weight=9 max_conns=1\nserver "+namedBackend(t, "b").URL)

	first := make(chan string)
	go func() { first <- get() }()
	<-entered
	if got := counted(answers(get, 5), "a", "b"); got != "b=5" {
		t.Error("while a is full:", got)
	}
	close(leave)
	if got := <-first; got != "a" {
		t.Error("the request that filled a:", got)
	}
}

// BenchmarkSelect is the choice of a server for a request as Caddy hands it over.
func BenchmarkSelect(b *testing.B) {
	for _, method := range slices.Sorted(maps.Keys(balanceMethods)) {
		for _, n := range []int{3, 10, 1000} {
			var servers []string
			for i := range n {
				servers = append(servers, fmt.Sprintf("server%d:%d", i, 1+i%5))
			}
			g, names := groupOf(b, method, strings.Join(servers, " "))
			pool := plainPool(names...)
			b.Run(fmt.Sprintf("%s/servers=%d", method, n), func(b *testing.B) { benchmarkSelect(b, g, pool) })
			if method == defaultBalance {
				// As when one is not available: with the lock.
				g.Select(pool, bareRequest, nil)
				g.plan.Load().tiers[0].groupBalancer.(*smoothRoundRobin).order = nil
				b.Run(fmt.Sprintf("%s/servers=%d/locked", method, n), func(b *testing.B) { benchmarkSelect(b, g, pool) })
			}
		}
	}
}

func benchmarkSelect(b *testing.B, g *UpstreamGroup, pool reverseproxy.UpstreamPool) {
	choose := func() func() {
		r := proxied("/some/path", "192.0.2.1")
		vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
		return func() {
			delete(vars, triedForVar) // the request is new each time
			g.Select(pool, r, nil)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		one := choose()
		for b.Loop() {
			one()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			one := choose()
			for pb.Next() {
				one()
			}
		})
	})
}

// BenchmarkPlan is what the first request pays.
func BenchmarkPlan(b *testing.B) {
	members := make([]groupMember, 1000)
	for i := range members {
		members[i] = groupMember{index: i, weight: 1 + i%7}
	}
	for b.Loop() {
		newSmoothRoundRobin(members, 0, 0)
	}
}
