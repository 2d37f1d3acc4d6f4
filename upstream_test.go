package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
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

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

func init() {
	caddy.RegisterModule(new(upstreamSwitch))
}

// upstreamSwitch is a circuit breaker that a test opens and closes. It is the only
// exported way to make an upstream unavailable.
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

// switchedPool returns upstreams that can be made unavailable, each in its own handler,
// because a handler has one circuit breaker.
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

// plainPool returns upstreams that are always available.
func plainPool(names ...string) reverseproxy.UpstreamPool {
	var pool reverseproxy.UpstreamPool
	for _, name := range names {
		pool = append(pool, &reverseproxy.Upstream{Dial: name, Host: new(reverseproxy.Host)})
	}
	return pool
}

// testGroup returns a policy for servers written as "a:5 b c:1:backup d:1:down".
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

// groupOf is like testGroup, with a method.
func groupOf(t testing.TB, balance, servers string) (*UpstreamGroup, []string) {
	t.Helper()
	g, names := testGroup(t, servers)
	g.Balance = balance
	if balance == "hash" {
		g.HashKey = "{http.request.uri.path}"
	}
	if err := g.Validate(); err != nil {
		t.Fatal(err)
	}
	return g, names
}

// proxied returns a request as Caddy passes it to a policy.
func proxied(path, clientIP string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com"+path, nil)
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, clientIP)
	return r
}

// setRequests sets how many active requests a host has. Otherwise only Caddy's handler can
// count them.
func setRequests(host *reverseproxy.Host, n int) {
	field := reflect.ValueOf(host).Elem().FieldByName("numRequests")
	(*atomic.Int64)(field.Addr().UnsafePointer()).Store(int64(n))
}

// selected returns the names of the servers for n requests, in order; "-" stands for none.
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

// counted returns how often each server is in the order, as in "a=5 b=1".
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

// TestSelectFailsOver checks for every method that only available upstreams get requests,
// backups only while no other is available, and down servers never.
func TestSelectFailsOver(t *testing.T) {
	for _, method := range balance.Methods() {
		t.Run(string(method), func(t *testing.T) {
			g, names := groupOf(t, string(method), "a:2 b:1 c:1:backup d:1:backup e:1:down")
			pool, switches := switchedPool(t, names...)
			for _, step := range []struct{ off, may string }{
				{"", "ab"}, {"a", "b"}, {"ab", "cd"}, {"abc", "d"}, {"abcd", "-"}, {"bcd", "a"}, {"e", "ab"},
			} {
				for name, s := range switches {
					s.off.Store(strings.Contains(step.off, name))
				}
				got := make(map[string]bool)
				for i := range 400 {
					name := "-"
					if u := g.Select(pool, proxied(fmt.Sprint("/", i), fmt.Sprintf("192.0.%d.1", i%200)), nil); u != nil {
						name = u.Dial
					}
					got[name] = true
				}
				var chosen []string
				for name := range got {
					chosen = append(chosen, name)
				}
				slices.Sort(chosen)
				if strings.Join(chosen, "") != step.may {
					t.Errorf("without %q: got %v, want %s", step.off, chosen, step.may)
				}
			}
		})
	}
}

// TestSelectRetries checks for every method that a request that is retried is sent to each
// server once, then to the backups, and then to no server or to all again.
func TestSelectRetries(t *testing.T) {
	for _, method := range balance.Methods() {
		for _, once := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, each once: %v", method, once), func(t *testing.T) {
				g, names := groupOf(t, string(method), "a:5 b:1 c:1 d:1:backup")
				g.EachOnce = once
				pool := plainPool(names...)
				for i := range 50 {
					r := proxied(fmt.Sprint("/", i), fmt.Sprintf("192.0.%d.1", i))
					var order []string
					for range 8 {
						name := "-"
						if u := g.Select(pool, r, nil); u != nil {
							name = u.Dial
						}
						order = append(order, name)
					}
					first := slices.Sorted(slices.Values(order[:3]))
					rest := strings.Join(order[3:], "")
					if strings.Join(first, "") != "abc" || once && rest != "d----" || !once && (rest[0] != 'd' || strings.Contains(rest, "-") || rest[4] != 'd') {
						t.Fatalf("request %d: got %v, want each of a, b, c, then d and the next server", i, order)
					}
				}
			})
		}
	}
}

// TestTriedServersOfOnePass sends a request through the same handler twice, as with a
// named route. Caddy passes another copy of it, and the servers that the first pass has
// tried do not count in the second.
func TestTriedServersOfOnePass(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b")
	pool := plainPool(names...)
	r := proxied("/", "192.0.2.1")
	first := g.Select(pool, r, nil)
	again := *r
	if second := g.Select(pool, &again, nil); second != first {
		t.Errorf("got %s, then %s for a copy of the request, want the same", first.Dial, second.Dial)
	}
	if third := g.Select(pool, &again, nil); third == first {
		t.Errorf("a retry: got %s again, want another server", third.Dial)
	}
}

// TestTriedByAddress has a source that makes new upstreams for each try.
func TestTriedByAddress(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b c")
	r := proxied("/", "192.0.2.1")
	seen := make(map[string]bool)
	for range 3 {
		seen[g.Select(plainPool(names...), r, nil).Dial] = true
	}
	if len(seen) != 3 {
		t.Errorf("got servers %v, want three", seen)
	}
}

// TestTriedServersOfOneHandler sends a request through two handlers with the same servers.
// The servers that the first one has tried do not count in the second.
func TestTriedServersOfOneHandler(t *testing.T) {
	one, names := groupOf(t, "round_robin", "a b")
	two, _ := groupOf(t, "round_robin", "a b")
	pools := [2]reverseproxy.UpstreamPool{plainPool(names...), plainPool(names...)}
	for range 10 {
		r := proxied("/", "")
		first := one.Select(pools[0], r, nil)
		copied := *r // as each handler does
		second := two.Select(pools[1], &copied, nil)
		again := two.Select(pools[1], &copied, nil)
		if first.Dial != second.Dial || again.Dial == second.Dial {
			t.Fatalf("got %s, then %s and %s, want the same twice, then another", first.Dial, second.Dial, again.Dial)
		}
	}
}

func TestHashKeys(t *testing.T) {
	r := proxied("/a?q=1", "192.0.2.1")
	r.Header.Set("X-User", "alice")
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set("one", "1")
	for _, test := range []struct {
		key, same string
		equal     bool
	}{
		{"{one}", "1", true},
		{"x{one}", "x1", true},
		{"{one}{one}", "11", true},
		{"{one}", "2", false},
		{"{nothing}", "", true},
		{"plain", "plain", true},
		{"{http.vars.client_ip}", "192.0.2.1", true},
		{"{http.request.uri.path}", "/a", true},
		{"{http.request.header.X-User}", "alice", true},
	} {
		if got := newHashKey(test.key).of(r) == newHashKey(test.same).of(r); got != test.equal {
			t.Errorf("%s and %s: got the same key: %t, want %t", test.key, test.same, got, test.equal)
		}
	}
}

// TestHashWithoutKey sends requests without a key, such as requests without the cookie.
// They go to all servers in turn, not to one.
func TestHashWithoutKey(t *testing.T) {
	g, names := groupOf(t, "hash", "a:2 b c")
	g.HashKey = "{http.request.cookie.session}"
	pool := plainPool(names...)
	order := ""
	for range 8 {
		order += g.Select(pool, proxied("/", ""), nil).Dial
	}
	if order != "abcaabca" {
		t.Errorf("got %s, want abcaabca", order)
	}
}

// TestSelectUsesTheClientAddress has clients of ip_hash. Caddy determines their addresses,
// and there may be none.
func TestSelectUsesTheClientAddress(t *testing.T) {
	g, names := groupOf(t, "ip_hash", "a b c d")
	pool := plainPool(names...)
	for address, want := range map[string]string{"1.0.0.1": "c", "2.7.13.1": "b", "2001:db8:2::4": "d", "": "d"} {
		if got := g.Select(pool, proxied("/", address), nil).Dial; got != want {
			t.Errorf("client %q: got %s, want %s", address, got, want)
		}
	}
	if got, want := g.Select(pool, bareRequest, nil).Dial, g.Select(pool, proxied("/", ""), nil).Dial; got != want {
		t.Errorf("request without variables: got %s, want %s, as for a client without an address", got, want)
	}
}

// TestSlowStartOutlivesReload has a server come back, and then a reload. The state of the
// server stays while a configuration uses it.
func TestSlowStartOutlivesReload(t *testing.T) {
	for _, method := range balance.Methods() {
		if !method.HasSlowStart() {
			continue
		}
		t.Run(string(method), func(t *testing.T) {
			slowGroup := func() *UpstreamGroup {
				g, _ := groupOf(t, string(method), "a b")
				g.SlowStart = caddy.Duration(time.Hour)
				if err := g.Provision(caddy.Context{}); err != nil {
					t.Fatal(err)
				}
				return g
			}
			g := slowGroup()
			pool, switches := switchedPool(t, "a", "b")
			switches["a"].off.Store(true)
			selected(g, pool, 1)
			switches["a"].off.Store(false)
			starts := func(when string) {
				t.Helper()
				n := 0
				for _, name := range selected(g, pool, 100) {
					if name == "a" {
						n++
					}
				}
				if n > 2 {
					t.Errorf("%s: got %d of 100 requests for a, want hardly any, since it starts slowly", when, n)
				}
			}
			starts("before the reload")
			next := slowGroup()
			if err := g.Cleanup(); err != nil {
				t.Fatal(err)
			}
			g = next
			starts("after the reload")
			if err := g.Cleanup(); err != nil {
				t.Fatal(err)
			}
			if _, held := process.servers.References("a"); held {
				t.Error("after the last configuration: got a recovery that is still held, want none")
			}
		})
	}
}

// TestSlowStartOfOneHandler has two handlers with the same servers. One of them finds a
// server unhealthy, and the other continues to use it.
func TestSlowStartOfOneHandler(t *testing.T) {
	var groups [2]*UpstreamGroup
	var pools [2]reverseproxy.UpstreamPool
	var names []string
	for i := range groups {
		groups[i], names = groupOf(t, "round_robin", "a b")
		groups[i].SlowStart = caddy.Duration(time.Hour)
		if err := groups[i].Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { groups[i].Cleanup() })
	}
	pools[0] = plainPool(names...)
	pool, switches := switchedPool(t, names...)
	pools[1] = pool
	switches["a"].off.Store(true)
	var order []string
	for range 20 {
		groups[1].Select(pools[1], proxied("/", ""), nil)
		order = append(order, groups[0].Select(pools[0], proxied("/", ""), nil).Dial)
	}
	if got := counted(order, "a", "b"); got != "a=10 b=10" {
		t.Errorf("got %s, want a=10 b=10", got)
	}
}

// TestSelectPools has dynamic upstreams, which are new values in every call.
func TestSelectPools(t *testing.T) {
	g, names := testGroup(t, "a:5 b:1 c:1")
	var order []string
	for range 14 {
		order = append(order, selected(g, plainPool(names...), 1)...)
	}
	if got := strings.Join(order, ""); got != "aabacaaaabacaa" {
		t.Errorf("the same addresses again: got %s, want aabacaaaabacaa", got)
	}
	if u := g.Select(nil, bareRequest, nil); u != nil {
		t.Errorf("an empty pool: got %v, want none", u)
	}

	// Other addresses in every call: no server is always the first.
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
			t.Errorf("%s: got %d of 4000 requests, want about 1000", name, got)
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
		t.Errorf("all available: got %s, want a=4000 b=800 c=800", got)
	}
	other := plainPool("a", "b")
	got := run(func(i int) {
		if i == 0 {
			switches["a"].off.Store(rand.IntN(2) == 0)
			g.Select(other, bareRequest, nil)
		}
	})
	if strings.Contains(got, "d=") || strings.Contains(got, "-=") {
		t.Errorf("while servers come and go: got %s, want no d and nothing unanswered", got)
	}
}

func TestSelectAllocates(t *testing.T) {
	for _, off := range []bool{false, true} {
		g, names := testGroup(t, "a:5 b:1 c:1")
		pool, switches := switchedPool(t, names...)
		switches["a"].off.Store(off)
		if n := testing.AllocsPerRun(100, func() { g.Select(pool, bareRequest, nil) }); n > 0 {
			t.Errorf("a off: %t: got %v allocations, want none", off, n)
		}
	}
}

// bareRequest is a request without a body, for policies that ignore it.
var bareRequest = httptest.NewRequest(http.MethodGet, "/", nil)

// namedBackend is a server that responds with its name.
func namedBackend(t testing.TB, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s
}

// brokenBackend is a server that closes and counts every connection.
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

// runProxy runs Caddy with the group and a proxy_pass for it, and returns a function that
// sends a GET request and returns the response. where gets the address.
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
		// Another process may have taken the port.
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

// answers returns the responses to n requests, one after the other.
func answers(get func() string, n int) (all []string) {
	for range n {
		all = append(all, get())
	}
	return all
}

// TestProxyBrokenUploads has clients abort uploads and send invalid bodies. No server
// counts a failure.
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
			io.Copy(io.Discard, conn) // until the server closes it
			conn.Close()
		}
		if got := counted(answers(get, 4), "a", "b"); got != "a=2 b=2" {
			t.Errorf("%q: then got answers %s, want a=2 b=2", body, got)
		}
	}
}

// TestProxyBodyBegun has a server close the connection in the middle of a request body.
// The body cannot be sent to the next server, which counts no failure.
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
		t.Errorf("got status %d, want 502", resp.StatusCode)
	}
	if got := counted(answers(get, 4), "b"); got != "b=4" {
		t.Errorf("afterwards: got answers %s, want b=4", got)
	}
}

func TestProxyDistribution(t *testing.T) {
	a, b := namedBackend(t, "a"), namedBackend(t, "b")
	get := runProxy(t, "server "+a.URL+" weight=3\nserver "+b.URL)
	if got := strings.Join(answers(get, 8), ""); got != "aabaaaba" {
		t.Errorf("got answers %s, want aabaaaba", got)
	}
	a.Close()
	if got := counted(answers(get, 20), "b"); got != "b=20" {
		t.Errorf("after the end of a: got answers %s, want b=20", got)
	}
}

func TestProxyBackup(t *testing.T) {
	a, b := namedBackend(t, "a"), namedBackend(t, "b")
	get := runProxy(t, "server "+a.URL+"\nserver "+b.URL+" backup")
	if got := counted(answers(get, 5), "a", "b"); got != "a=5" {
		t.Errorf("got answers %s, want a=5", got)
	}
	a.Close()
	if got := counted(answers(get, 5), "a", "b"); got != "b=5" {
		t.Errorf("after the end of a: got answers %s, want b=5", got)
	}
}

func TestProxyMaxFails(t *testing.T) {
	for line, want := range map[string]int64{"": 1, "max_fails 3": 3, "max_fails 0": 10, "fail_duration 1h": 1} {
		address, tried := brokenBackend(t)
		get := runProxy(t, "server http://"+address+"\nserver "+namedBackend(t, "b").URL+"\n"+line)
		if got := counted(answers(get, 20), "b"); got != "b=20" {
			t.Errorf("%s: got answers %s, want b=20", line, got)
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
		t.Errorf("while a is full: got answers %s, want b=5", got)
	}
	close(leave)
	if got := <-first; got != "a" {
		t.Errorf("the request that filled a: got answer %s, want a", got)
	}
}

// BenchmarkSelect selects a server for a request as Caddy passes it.
func BenchmarkSelect(b *testing.B) {
	for _, method := range balance.Methods() {
		for _, n := range []int{3, 10, 1000} {
			var servers []string
			for i := range n {
				servers = append(servers, fmt.Sprintf("server%d:%d", i, 1+i%5))
			}
			g, names := groupOf(b, string(method), strings.Join(servers, " "))
			pool := plainPool(names...)
			b.Run(fmt.Sprintf("%s/servers=%d", method, n), func(b *testing.B) { benchmarkSelect(b, g, pool) })
			if method == balance.MethodRoundRobin {
				// One server is not available, which needs the lock.
				pool[0].MaxRequests = 1
				setRequests(pool[0].Host, 1)
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
			stateOf(vars).request = nil // each request is new
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
