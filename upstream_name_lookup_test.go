package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/resolve"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestServerNameOf(t *testing.T) {
	for dial, want := range map[string]serverName{
		"app:80":                 {"", "app", "80"},
		"app.internal.:8080":     {"", "app.internal.", "8080"},
		"tcp/app:80":             {"", "app", "80"},
		"tcp4/app:80":            {"tcp4", "app", "80"},
		"tcp6/app:80":            {"tcp6", "app", "80"},
		"udp/app:443":            {"udp", "app", "443"},
		"10.0.0.1:80":            {},
		"[::1]:80":               {},
		"[fe80::1%eth0]:80":      {},
		"localhost:80":           {},
		"LocalHost.:80":          {},
		"a.localhost:80":         {},
		":80":                    {},
		"unix//run/app.sock":     {},
		"unix+h2c//run/app.sock": {},
		"fd/3":                   {},
		"{env.APP}:80":           {},
		"app:{env.PORT}":         {},
		"app:1-2":                {},
		"app:x":                  {},
		"":                       {},
	} {
		if got, isName := serverNameOf(dial); got != want || isName != (want != serverName{}) {
			t.Errorf("%q: got %+v, %v, want %+v", dial, got, isName, want)
		}
	}
}

func TestDialOfAnAddress(t *testing.T) {
	for _, tt := range []struct{ network, ip, want string }{
		{"", "10.0.0.1", "10.0.0.1:80"}, {"", "2001:db8::1", "[2001:db8::1]:80"}, {"tcp4", "10.0.0.1", "10.0.0.1:80"},
		{"udp", "10.0.0.1", "udp/10.0.0.1:80"}, {"", "fe80::1%eth0", "[fe80::1%eth0]:80"},
	} {
		got := serverName{tt.network, "app", "80"}.dial(netip.MustParseAddr(tt.ip))
		if got != tt.want {
			t.Errorf("%s, %s: got %s, want %s", tt.network, tt.ip, got, tt.want)
		}
		if address, err := caddy.ParseNetworkAddress(got); err != nil || address.PortRangeSize() != 1 {
			t.Errorf("%s: got error %v from Caddy, want one address", got, err)
		}
	}
}

func TestSameAddressInOtherSpellings(t *testing.T) {
	for a, b := range map[string]string{
		"10.0.0.1:80": "tcp/10.0.0.1:80", "[::ffff:10.0.0.1]:80": "10.0.0.1:80", "[2001:db8:0::1]:80": "[2001:DB8::1]:80",
	} {
		if canonicalDial(a) != canonicalDial(b) {
			t.Errorf("got %s and %s, want the same", canonicalDial(a), canonicalDial(b))
		}
	}
	for _, dial := range []string{"app:80", "unix//a", "10.0.0.1:1-2", "a:b:c"} {
		if got := canonicalDial(dial); got != dial {
			t.Errorf("%s: got %s, want the same", dial, got)
		}
	}
}

func TestMergedServers(t *testing.T) {
	member := func(weight, maxRequests int, mark string) followedMember {
		return followedMember{dial: mark, settings: UpstreamServer{Weight: weight, Backup: mark == "backup", Down: mark == "down"}, maxRequests: maxRequests}
	}
	for _, tt := range []struct{ a, b, want followedMember }{
		{member(0, 0, ""), member(0, 0, ""), member(2, 0, "")},
		{member(5, 10, ""), member(2, 20, ""), member(7, 30, "")},
		{member(1, 10, ""), member(1, 0, ""), member(2, 0, "")},
		{member(maxServerWeight, 0, ""), member(1, 0, ""), member(maxServerWeight, 0, "")},
		{member(5, 1, "backup"), member(2, 2, ""), member(2, 2, "")},
		{member(5, 1, ""), member(2, 2, "backup"), member(5, 1, "")},
		{member(5, 1, "down"), member(2, 2, "backup"), member(2, 2, "backup")},
		{member(5, 1, "backup"), member(2, 2, "backup"), member(7, 3, "backup")},
	} {
		if got := merged(tt.a, tt.b); got != tt.want {
			t.Errorf("%+v and %+v: got %+v, want %+v", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestHostFieldOfNames checks how the headers of a handler are changed.
func TestHostFieldOfNames(t *testing.T) {
	const name = `{"request":{"set":{"Host":["{http.reverse_proxy.upstream_group.hostport}"]}}}`
	for _, tt := range []struct {
		headers string
		isTLS   bool
		want    string
		sets    bool
	}{
		{``, false, ``, false},
		{``, true, name, true},
		{`{"request":{"set":{"X-A":["{http.reverse_proxy.upstream.hostport}"]}}}`, false, `{"request":{"set":{"X-A":["{http.reverse_proxy.upstream.hostport}"]}}}`, false},
		{`{"request":{"set":{"Host":["{http.reverse_proxy.upstream.hostport}"]}}}`, false, name, true},
		{`{"request":{"set":{"host":["{http.reverse_proxy.upstream.host}"]}},"response":{"delete":["A"]}}`, true, `{"request":{"set":{"host":["{http.reverse_proxy.upstream_group.host}"]}},"response":{"delete":["A"]}}`, true},
		{`{"request":{"set":{"Host":["fixed"]}}}`, true, `{"request":{"set":{"Host":["fixed"]}}}`, false},
		{`{"request":{"add":{"A":["b"]}}}`, true, `{"request":{"add":{"A":["b"]},"set":{"Host":["{http.reverse_proxy.upstream_group.hostport}"]}}}`, true},
		{`{"request":7}`, true, `{"request":7}`, false},
	} {
		fields := map[string]json.RawMessage{}
		if tt.headers != "" {
			fields["headers"] = json.RawMessage(tt.headers)
		}
		if sets := nameHost(fields, tt.isTLS); sets != tt.sets {
			t.Errorf("%s: got %v, want %v", tt.headers, sets, tt.sets)
		}
		if tt.want == "" {
			if fields["headers"] != nil {
				t.Errorf("got %s, want none", fields["headers"])
			}
			continue
		}
		sameJSON(t, string(fields["headers"]), tt.want)
	}
}

// TestNamesThatAreNotFollowed has groups whose names stay as they are.
func TestNamesThatAreNotFollowed(t *testing.T) {
	for _, tt := range []struct{ name, group, warning string }{
		{"only addresses", "server 127.0.0.1:9\nserver unix//run/a\nserver localhost:9", ""},
		{"down", "server 127.0.0.1:9\nserver app.test:9 down", ""},
		{"a proxy", "server app.test:9\ntransport http {\nnetwork_proxy url http://127.0.0.1:9\n}", "the HTTP proxy looks the names up"},
		{"several names with HTTP/3", "server https://app.test:9\nserver https://other.test\ntransport http {\nversions 3\n}", "with HTTP/3, several names need tls_server_name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dns := startNameServer(t)
			s := startNames(t, dns, tt.group)
			for proxy := range activeProxies(t) {
				if proxy.names != nil {
					t.Error("got names that are followed, want none")
				}
			}
			if log := s.log(); tt.warning != "" && !strings.Contains(log, tt.warning) {
				t.Errorf("got log\n%s\nwant %q", log, tt.warning)
			}
		})
	}
	t.Run("a proxy in the environment", func(t *testing.T) {
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"} {
			names := newServerNames()
			names.getenv = func(asked string) string {
				if asked == name {
					return "http://127.0.0.1:9"
				}
				return ""
			}
			if !names.usesProxy() {
				t.Errorf("%s: got no proxy, want one", name)
			}
		}
	})
}

// countOf returns how many values a pool has.
func countOf(pool *caddy.UsagePool) (n int) {
	pool.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}

// TestNamesInTheConfiguration checks what the reverse_proxy handler of a group with names
// gets.
func TestNamesInTheConfiguration(t *testing.T) {
	const policy = `"load_balancing":{"selection_policy":{"policy":"upstream_group"}}`
	for name, tt := range map[string]struct{ proxy, want string }{
		"plain": {
			`{"handler":"reverse_proxy","upstreams":[{"dial":"a.test:80"},{"dial":"10.0.0.1:80"}],` + policy + `}`,
			`{"handler":"reverse_proxy",` + policy + `}`,
		},
		"health checks": {
			`{"upstreams":[{"dial":"a.test:80"}],"health_checks":{"active":{"uri":"/"},"passive":{"max_fails":1}},` + policy + `}`,
			`{"health_checks":{"passive":{"max_fails":1}},` + policy + `}`,
		},
		"HTTP/3": {
			`{"upstreams":[{"dial":"a.test:80"},{"dial":"a.test:81"}],"transport":{"protocol":"http","versions":["3"],"tls":{"handshake_timeout":5}},` + policy + `}`,
			`{"transport":{"protocol":"http","versions":["3"],"tls":{"handshake_timeout":5,"server_name":"a.test"}},"headers":{"request":{"set":{"Host":["{http.reverse_proxy.upstream_group.hostport}"]}}},` + policy + `}`,
		},
		"another policy":    {`{"upstreams":[{"dial":"a.test:80"}],"load_balancing":{"selection_policy":{"policy":"random"}}}`, ""},
		"dynamic upstreams": {`{"upstreams":[{"dial":"a.test:80"}],"dynamic_upstreams":{"source":"a"},` + policy + `}`, ""},
		"not an object":     {`7`, ""},
		"a wrong type":      {`{"upstreams":7,` + policy + `}`, ""},
		"null":              {`null`, ""},
	} {
		proxy, names := json.RawMessage(tt.proxy), newServerNames()
		names.getenv = func(string) string { return "" }
		switch f := takeNames(&proxy, names, func(reason string) { t.Errorf("%s: got warning %s, want none", name, reason) }); {
		case (f != nil) != (tt.want != ""):
			t.Errorf("%s: got names followed %v, want %v", name, f != nil, tt.want != "")
		case f != nil:
			sameJSON(t, string(proxy), tt.want)
		case string(proxy) != tt.proxy:
			t.Errorf("%s: got %s, want no change", name, proxy)
		}
	}
}

// TestServersAndNamesAreReleased loads other configurations, and checks that nothing
// stays.
func TestServersAndNamesAreReleased(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	s := startNames(t, dns, "server app.test:"+apps.port+"\nslow_start 1m")
	s.wantShare("before", 4, "127.0.1.1=2 127.0.1.2=2")
	names := process.names
	if countOf(names.inUse) != 1 {
		t.Errorf("got %d names, want 1", countOf(names.inUse))
	}
	for range 3 {
		if err := s.reload(s.config(dns, "server app.test:"+apps.port+"\nserver app.test:1\nslow_start 1m")); err != nil {
			t.Fatal(err)
		}
	}
	if got := countOf(names.inUse); got != 1 {
		t.Errorf("two ports: got %d names, want 1", got)
	}
	if err := s.reload("http://localhost:{http} {\nrespond x\n}\n"); err != nil {
		t.Fatal(err)
	}
	if got := countOf(names.inUse) + countOf(process.servers); got != 0 {
		t.Errorf("without the group: got %d names and servers, want none", got)
	}
}

// TestAddressesChangeWhileRequestsRun is for the race detector. No request fails.
func TestAddressesChangeWhileRequestsRun(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3 127.0.1.4")
	dns.set("app.test", "127.0.1.1")
	s := startNames(t, dns, "server app.test:"+apps.port+"\nhealth_uri /health\nhealth_interval 5ms\nheader_up Host {upstream_hostport}")
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if a := s.plain("/", nil); a.status != http.StatusOK {
						t.Errorf("got status %d, want 200", a.status)
						return
					}
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		var some []string
		for i := range 4 {
			if random.IntN(2) == 0 {
				some = append(some, fmt.Sprint("127.0.1.", i+1))
			}
		}
		dns.set("app.test", strings.Join(some, " "))
		dns.lookAgain(1)
	}
	close(done)
	clients.Wait()
}

// TestFastCGIWithAName has a FastCGI server at each address of a name.
func TestFastCGIWithAName(t *testing.T) {
	dns := startNameServer(t)
	port := "0"
	for _, address := range []string{"127.0.1.1", "127.0.1.2"} {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
		testkit.Must(t, err)
		t.Cleanup(func() { listener.Close() })
		_, port, _ = net.SplitHostPort(listener.Addr().String())
		go fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, address) }))
	}
	process = newShared(time.Now)
	s := startServer(t, "")
	process.names.after = dns.after
	process.names.lookup = func(context.Context, []caddy.NetworkAddress, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.1.2"), netip.MustParseAddr("127.0.1.1")}, nil
	}
	site := &namedSite{s, t}
	if err := s.reload(site.config(dns, "server app.test:"+port+"\ntransport fastcgi {\nroot /srv\n}")); err != nil {
		t.Fatal(err)
	}
	site.wantShare("requests", 4, "127.0.1.1=2 127.0.1.2=2")
}

// TestNamesOfTheHostsFile looks up a name that only the hosts file of the machine has.
func TestNamesOfTheHostsFile(t *testing.T) {
	text, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	dns := startNameServer(t)
	resolver, err := caddy.ParseNetworkAddressWithDefaults(dns.address, "udp", 53)
	testkit.Must(t, err)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil || fields[1] == "localhost" {
			continue
		}
		network := "ip4"
		if ip.Is6() {
			network = "ip6"
		}
		for _, resolvers := range [][]caddy.NetworkAddress{nil, {resolver}} {
			got, err := lookupHost(t.Context(), resolvers, network, fields[1])
			if err != nil || !slices.Contains(resolve.Unique(got), ip) {
				t.Errorf("%s: got %v, %v, want %s", fields[1], got, err, ip)
			}
		}
		return
	}
	t.Skip("the hosts file has no other name")
}

// BenchmarkSelectWithNames chooses among the addresses of a name.
func BenchmarkSelectWithNames(b *testing.B) {
	for _, setsHost := range []bool{false, true} {
		b.Run(fmt.Sprintf("host=%v", setsHost), func(b *testing.B) {
			g := &UpstreamGroup{Balance: "round_robin"}
			pool := &followedPool{upstreams: plainPool("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), members: make([]followedMember, 3), recoveries: make([]*serverRecovery, 3)}
			pool.hosts = make(map[*reverseproxy.Upstream][2]any)
			for _, u := range pool.upstreams {
				pool.hosts[u] = [2]any{"app:80", "app"}
			}
			f := &followedGroup{names: newServerNames(), group: g, setsHost: setsHost}
			f.plan(pool)
			f.pool.Store(pool)
			r := proxied("/some/path", "192.0.2.1")
			vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
			b.ReportAllocs()
			for b.Loop() {
				stateOf(vars).request = nil // each request is new
				f.Select(nil, r, nil)
			}
		})
	}
}
