package caddyhtpasswd

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// appFleet are applications that listen on the same port of several loopback addresses. Each
// answers with its address.
type appFleet struct {
	t       *testing.T
	port    string
	mu      sync.Mutex
	servers map[string]*httptest.Server
	hosts   map[string]bool // values of Host that were seen, without health checks
	checks  map[string]bool // "address host" of health checks
	sick    atomic.Pointer[string]
	block   chan struct{} // requests to /block wait until it is closed
	blocked atomic.Int64  // requests that wait
}

// startFleet starts applications on addresses, separated by spaces.
func startFleet(t *testing.T, addresses string) *appFleet {
	t.Helper()
	f := &appFleet{t: t, servers: make(map[string]*httptest.Server), hosts: make(map[string]bool), checks: make(map[string]bool), block: make(chan struct{})}
	none := ""
	f.sick.Store(&none)
	for address := range strings.FieldsSeq(addresses) {
		f.add(address)
	}
	return f
}

// add starts an application.
func (f *appFleet) add(address string) {
	f.t.Helper()
	port := f.port
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
	testkit.Must(f.t, err)
	if f.port == "" {
		_, f.port, _ = net.SplitHostPort(listener.Addr().String())
	}
	s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if r.URL.Path == "/health" {
			f.checks[address+" "+r.Host] = true
		} else {
			f.hosts[r.Host] = true
		}
		f.mu.Unlock()
		if r.URL.Path == "/health" && *f.sick.Load() == address {
			w.WriteHeader(http.StatusInternalServerError)
		}
		if r.URL.Path == "/block" {
			f.blocked.Add(1)
			<-f.block
		}
		io.WriteString(w, address)
	})}}
	s.Start()
	f.t.Cleanup(s.Close)
	f.servers[address] = s
}

// seen returns the values of Host that were seen, and forgets them.
func (f *appFleet) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Sorted(maps.Keys(f.hosts))
	clear(f.hosts)
	return all
}

// namedSite is a Caddy whose group has names that the name server knows.
type namedSite struct {
	*server
	t *testing.T
}

// startNames runs Caddy with a group.
func startNames(t *testing.T, dns *nameServer, group string) *namedSite {
	t.Helper()
	s := startServer(t, "")
	process.names.after = dns.after
	process.names.getenv = func(string) string { return "" }
	site := &namedSite{s, t}
	if err := s.reload(site.config(dns, group)); err != nil {
		t.Fatal(err)
	}
	return site
}

// config returns a Caddyfile with a group.
func (s *namedSite) config(dns *nameServer, group string) string {
	if !strings.Contains(group, "transport") {
		group += "\ntransport http {\nresolvers " + dns.address + "\n}"
	}
	return "{\nupstream app {\n" + group + "\n}\n}\nhttp://localhost:{http} {\nproxy_pass app\n}\n"
}

// share sends n requests, and returns how many each application got.
func (s *namedSite) share(n int) string {
	s.t.Helper()
	counts := make(map[string]int)
	for i := range n {
		a := s.plain(fmt.Sprint("/", i), nil)
		if a.status == http.StatusOK {
			counts[a.body]++
		} else {
			counts[fmt.Sprint("status ", a.status)]++
		}
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s=%d", name, counts[name]))
	}
	return strings.Join(parts, " ")
}

// wantShare compares the result of share.
func (s *namedSite) wantShare(what string, n int, want string) {
	s.t.Helper()
	if got := s.share(n); got != want {
		s.t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func TestEachAddressOfANameIsAServer(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3 127.0.1.4")
	dns.set("app.test", "127.0.1.3 127.0.1.1 127.0.1.2")
	s := startNames(t, dns, "server app.test:"+apps.port+" resolve")
	s.wantShare("three addresses", 30, "127.0.1.1=10 127.0.1.2=10 127.0.1.3=10")

	dns.set("app.test", "127.0.1.3 127.0.1.1")
	dns.lookAgain(1)
	s.wantShare("one removed", 30, "127.0.1.1=15 127.0.1.3=15")

	dns.set("app.test", "127.0.1.4 127.0.1.3 127.0.1.1")
	dns.lookAgain(1)
	s.wantShare("one added", 30, "127.0.1.1=10 127.0.1.3=10 127.0.1.4=10")

	for name, code := range map[string]dnsmessage.RCode{"NXDOMAIN": dnsmessage.RCodeNameError, "SERVFAIL": dnsmessage.RCodeServerFailure, "REFUSED": dnsmessage.RCodeRefused} {
		dns.fail("app.test", code)
		dns.lookAgain(1)
		s.wantShare(name, 30, "127.0.1.1=10 127.0.1.3=10 127.0.1.4=10")
	}
	dns.set("app.test", "")
	dns.lookAgain(1)
	s.wantShare("nothing", 30, "127.0.1.1=10 127.0.1.3=10 127.0.1.4=10")

	dns.set("app.test", "127.0.1.2")
	dns.lookAgain(1)
	s.wantShare("another one", 30, "127.0.1.2=30")
}

func TestIPv6AndIPv4AddressesOfAName(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 ::1")
	dns.set("app.test", "127.0.1.1 ::1")
	p := ":" + apps.port
	for _, tt := range []struct{ server, want string }{
		{"app.test" + p, "127.0.1.1=4 ::1=4"},
		{"tcp4/app.test" + p, "127.0.1.1=8"},
		{"tcp6/app.test" + p, "::1=8"},
		{"app.test" + p + "\nserver [::1]" + p, "127.0.1.1=3 ::1=6"},
	} {
		s := startNames(t, dns, "server "+tt.server)
		n := 8
		if strings.Contains(tt.server, "server") {
			n = 9
		}
		s.wantShare(tt.server, n, tt.want)
	}
}

func TestReloadKeepsTheAddresses(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	s := startNames(t, dns, "server app.test:"+apps.port)
	s.wantShare("before", 10, "127.0.1.1=5 127.0.1.2=5")
	dns.fail("app.test", dnsmessage.RCodeServerFailure)
	if err := s.reload(s.config(dns, "server app.test:"+apps.port+" weight=2")); err != nil {
		t.Fatal(err)
	}
	s.wantShare("after", 10, "127.0.1.1=5 127.0.1.2=5")
}

func TestNameThatDoesNotResolveAtLoad(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	s := startNames(t, dns, "server app.test:"+apps.port)
	if want := "cannot resolve upstream name; connecting by name until it has an address"; !strings.Contains(s.log(), want) {
		t.Errorf("got log\n%s\nwant %q", s.log(), want)
	}
	s.wantShare("without an address", 2, "status 502=2")
	dns.set("app.test", "127.0.1.2 127.0.1.1")
	dns.lookAgain(1)
	s.wantShare("with addresses", 10, "127.0.1.1=5 127.0.1.2=5")

	t.Run("another server of the group works", func(t *testing.T) {
		s := &namedSite{s.in(t), t}
		if err := s.reload(s.config(dns, "server unknown.test:"+apps.port+"\nserver 127.0.1.2:"+apps.port)); err != nil {
			t.Fatal(err)
		}
		s.wantShare("all requests", 10, "127.0.1.2=10")
	})
}

func TestTwoHundredAddresses(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1")
	var all []string
	for i := range 200 {
		address := fmt.Sprint("127.0.1.", i+1)
		all = append(all, address)
		if i > 0 && i < 64 {
			apps.add(address)
		}
	}
	dns.set("app.test", strings.Join(all, " "))
	s := startNames(t, dns, "server app.test:"+apps.port)
	used := all[:64]
	slices.Sort(used)
	s.wantShare("two rounds", 128, strings.Join(used, "=2 ")+"=2")
	if !strings.Contains(s.log(), "upstream name has too many addresses") {
		t.Errorf("got log\n%s\nwant a warning", s.log())
	}
}

// TestAddressOfTwoServers has names with addresses that other servers of the group have.
func TestAddressOfTwoServers(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("a.test", "127.0.1.1 127.0.1.2")
	dns.set("b.test", "127.0.1.2 127.0.1.3")
	p := ":" + apps.port
	for _, tt := range []struct{ name, group, want string }{
		{"two names", "server a.test" + p + "\nserver b.test" + p + " weight=2", "127.0.1.1=2 127.0.1.2=6 127.0.1.3=4"},
		{"an address and a name", "server 127.0.1.1" + p + " weight=3\nserver a.test" + p, "127.0.1.1=8 127.0.1.2=2"},
		{"a backup", "server a.test" + p + "\nserver b.test" + p + " backup", "127.0.1.1=5 127.0.1.2=5"},
		{"a backup first", "server b.test" + p + " backup\nserver a.test" + p, "127.0.1.1=5 127.0.1.2=5"},
		{"down", "server a.test" + p + "\nserver 127.0.1.1" + p + " down", "127.0.1.1=5 127.0.1.2=5"},
		{"a name that is down", "server a.test" + p + " down\nserver b.test" + p, "127.0.1.2=5 127.0.1.3=5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNames(t, dns, tt.group)
			n := 10
			if strings.Contains(tt.name, "two") {
				n = 12
			}
			s.wantShare("requests", n, tt.want)
		})
	}
}

// TestMethodsWithNames checks for the other methods that they see each address.
func TestMethodsWithNames(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("app.test", "127.0.1.1 127.0.1.2 127.0.1.3")
	p := ":" + apps.port
	for _, method := range []string{"least_conn", "random", "hash {uri}"} {
		t.Run(method[:4], func(t *testing.T) {
			s := startNames(t, dns, "server app.test"+p+"\nbalance "+method)
			got := s.share(90)
			for _, address := range []string{"127.0.1.1", "127.0.1.2", "127.0.1.3"} {
				if !strings.Contains(got, address+"=") {
					t.Errorf("got %s, want each address", got)
				}
			}
			if method != "hash {uri}" {
				return
			}
			if again := s.share(90); again != got {
				t.Errorf("got %s, then %s, want the same", got, again)
			}
		})
	}
	t.Run("ip_hash", func(t *testing.T) {
		s := startNames(t, dns, "server app.test"+p+"\nbalance ip_hash")
		if got := s.share(10); strings.Contains(got, " ") {
			t.Errorf("got %s, want one address", got)
		}
	})
	t.Run("slow_start", func(t *testing.T) {
		s := startNames(t, dns, "server app.test"+p+"\nslow_start 1m")
		s.wantShare("all healthy", 9, "127.0.1.1=3 127.0.1.2=3 127.0.1.3=3")
		dns.set("app.test", "127.0.1.1 127.0.1.2")
		dns.lookAgain(1)
		s.wantShare("one removed", 8, "127.0.1.1=4 127.0.1.2=4")
	})
}

// TestFailuresCountForEachAddress has an address without a server.
func TestFailuresCountForEachAddress(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	dns.set("app.test", "127.0.1.1 127.0.1.2 127.0.1.3")
	s := startNames(t, dns, "server app.test:"+apps.port+"\nfail_duration 1h")
	if got := s.share(30); strings.Contains(got, "status") {
		t.Errorf("got %s, want no error", got)
	}
	var failed *followedPool
	for proxy := range activeProxies(t) {
		failed = proxy.names.pool.Load()
	}
	for _, u := range failed.upstreams {
		want := 0
		if strings.HasPrefix(u.Dial, "127.0.1.3:") {
			want = 1
		}
		if u.Fails() != want {
			t.Errorf("%s: got %d failures, want %d", u.Dial, u.Fails(), want)
		}
	}
	// Another address keeps the failures of this one.
	dns.set("app.test", "127.0.1.1 127.0.1.3")
	dns.lookAgain(1)
	s.wantShare("one removed", 10, "127.0.1.1=10")
}

// TestRetriesAtTheAddressesOfAName has a name with twelve addresses, all without a server.
func TestRetriesAtTheAddressesOfAName(t *testing.T) {
	dns := startNameServer(t)
	address, tried := brokenBackend(t)
	_, port, _ := net.SplitHostPort(address)
	var all []string
	for i := range 12 {
		all = append(all, fmt.Sprint("127.0.1.", i+1))
	}
	dns.set("app.test", strings.Join(all, " "))
	for _, tt := range []struct {
		group string
		want  int
	}{
		{"server app.test:" + port, 8},
		{"server app.test:" + port + "\nserver " + address, 9},
		{"server app.test:" + port + "\nlb_retries 2", 3},
		{"server app.test:" + port + "\nserver " + address + "\nlb_retries 0", 1},
	} {
		tried.Store(0)
		s := startNames(t, dns, tt.group+"\nmax_fails 3")
		s.plain("/", nil)
		pool := &followedPool{}
		for proxy := range activeProxies(t) {
			pool = proxy.names.pool.Load()
		}
		failed := 0
		for _, u := range pool.upstreams {
			failed += u.Fails()
		}
		if failed != tt.want {
			t.Errorf("%q: got %d servers tried, want %d", tt.group, failed, tt.want)
		}
	}
}

// TestOneAddressIgnoresFailures has a name with one address, as most names have. As in
// nginx, its failures do not take it out.
func TestOneAddressIgnoresFailures(t *testing.T) {
	dns := startNameServer(t)
	address, tried := brokenBackend(t)
	_, port, _ := net.SplitHostPort(address)
	dns.set("app.test", "127.0.0.1")
	s := startNames(t, dns, "server app.test:"+port)
	s.wantShare("a server that closes connections", 3, "status 502=3")
	if got := tried.Load(); got != 3 {
		t.Errorf("got %d connections, want 3: one for each request", got)
	}
}

// TestLimitsCountForEachAddress has requests that stay.
func TestLimitsCountForEachAddress(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	s := startNames(t, dns, "server app.test:"+apps.port+" max_conns=1")
	unblock := sync.OnceFunc(func() { close(apps.block) })
	t.Cleanup(unblock) // before the applications are closed
	var blocked sync.WaitGroup
	for i := range int64(2) {
		blocked.Go(func() { s.plain("/block", nil) })
		testkit.Eventually(t, "a request waits", func() bool { return apps.blocked.Load() == i+1 })
	}
	if got := s.plain("/", nil).status; got != http.StatusServiceUnavailable {
		t.Errorf("both are full: got status %d, want 503", got)
	}

	apps.add("127.0.1.3")
	dns.set("app.test", "127.0.1.1 127.0.1.3")
	dns.lookAgain(1)
	s.wantShare("a new address", 4, "127.0.1.3=4")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	dns.lookAgain(1)
	if got := s.plain("/", nil).status; got != http.StatusServiceUnavailable {
		t.Errorf("an address that left and came back with its request: got status %d, want 503", got)
	}
	unblock()
	blocked.Wait()
	testkit.Eventually(t, "both are free", func() bool { return s.share(2) == "127.0.1.1=1 127.0.1.2=1" })
}

// TestHealthChecksOfEachAddress has a sick application among those of a name.
func TestHealthChecksOfEachAddress(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	dns.set("other.test", "127.0.1.3")
	sick := "127.0.1.2"
	apps.sick.Store(&sick)
	s := startNames(t, dns, "server app.test:"+apps.port+"\nserver other.test:"+apps.port+"\nhealth_uri /health\nhealth_interval 20ms")
	testkit.Eventually(t, "the sick application gets no requests", func() bool { return s.share(8) == "127.0.1.1=4 127.0.1.3=4" })
	none := ""
	apps.sick.Store(&none)
	testkit.Eventually(t, "the healthy application gets requests", func() bool { return s.share(9) == "127.0.1.1=3 127.0.1.2=3 127.0.1.3=3" })
	apps.mu.Lock()
	defer apps.mu.Unlock()
	got := strings.Join(slices.Sorted(maps.Keys(apps.checks)), ", ")
	want := strings.NewReplacer("PORT", apps.port).Replace("127.0.1.1 app.test:PORT, 127.0.1.2 app.test:PORT, 127.0.1.3 other.test:PORT")
	if got != want {
		t.Errorf("got health checks %s, want %s", got, want)
	}
}

// TestHostOfANameInARequest checks the Host field that applications see.
func TestHostOfANameInARequest(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("a.test", "127.0.1.1 127.0.1.2")
	dns.set("b.test", "127.0.1.2")
	p := ":" + apps.port
	site := startNames(t, dns, "server a.test"+p)
	for _, tt := range []struct{ line, want string }{
		{"", fmt.Sprint("localhost:", site.http)},
		{"header_up Host {upstream_hostport}", "127.0.1.3" + p + " a.test" + p},
		{"header_up Host {http.reverse_proxy.upstream.host}", "127.0.1.3 a.test"},
		{"header_up host x.{upstream_hostport}", "x.127.0.1.3" + p + " x.a.test" + p},
		{"header_up Host fixed.test", "fixed.test"},
	} {
		if err := site.reload(site.config(dns, "server a.test"+p+"\nserver 127.0.1.3"+p+"\n"+tt.line)); err != nil {
			t.Fatal(err)
		}
		apps.seen()
		site.share(6)
		if got := strings.Join(apps.seen(), " "); got != tt.want {
			t.Errorf("%q: got Host %s, want %s", tt.line, got, tt.want)
		}
	}
}

// activeProxies returns the proxy_pass handlers of the active configuration.
func activeProxies(t *testing.T) func(yield func(*ProxyPass) bool) {
	t.Helper()
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	testkit.Must(t, err)
	return func(yield func(*ProxyPass) bool) {
		for _, server := range app.(*caddyhttp.App).Servers {
			lists := []caddyhttp.RouteList{server.Routes}
			for len(lists) > 0 {
				list := lists[0]
				lists = lists[1:]
				for i := range list {
					for _, handler := range list[i].Handlers {
						if proxy, ok := handler.(*ProxyPass); ok && !yield(proxy) {
							return
						}
						lists = append(lists, listsIn(handler)...)
					}
				}
			}
		}
	}
}

// TestReloadsWhileAddressesChange has two groups with the same name. No request fails.
func TestReloadsWhileAddressesChange(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("app.test", "127.0.1.1")
	s := startNames(t, dns, "server app.test:"+apps.port)
	group := s.config(dns, "server app.test:"+apps.port)
	two := strings.Replace(group, "proxy_pass app", "handle /other* {\nproxy_pass app\n}\nhandle {\nproxy_pass app\n}", 1)
	for i := range 12 {
		dns.set("app.test", fmt.Sprintf("127.0.1.%d 127.0.1.%d", 1+i%3, 1+(i+1)%3))
		dns.lookAgain(1)
		config := two
		if i%2 == 0 {
			config = group
		}
		if err := s.reload(config); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/", "/other"} {
			for range 4 {
				if a := s.plain(path, nil); a.status != http.StatusOK {
					t.Errorf("got status %d, want 200", a.status)
				}
			}
		}
	}
}
