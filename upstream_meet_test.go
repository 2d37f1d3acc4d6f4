package caddyhtpasswd

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// TestSettingsOfAddressesThatMove has an address that moves from one name to two. The list
// of addresses stays the same.
func TestSettingsOfAddressesThatMove(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	for _, tt := range []struct{ first, second, before, after string }{
		{"weight=3", "", "127.0.1.1=21 127.0.1.2=7", "127.0.1.1=12 127.0.1.2=16"}, // 3 and 3+1
		{"", "backup", "127.0.1.1=28", "127.0.1.1=14 127.0.1.2=14"},
		{"", "drain", "127.0.1.1=28", "127.0.1.1=14 127.0.1.2=14"},
	} {
		dns.set("a.test", "127.0.1.1")
		dns.set("b.test", "127.0.1.2")
		s := startNames(t, dns, "server a.test:"+apps.port+" "+tt.first+"\nserver b.test:"+apps.port+" "+tt.second)
		s.wantShare(tt.first+tt.second+" before", 28, tt.before)
		dns.set("a.test", "127.0.1.1 127.0.1.2")
		dns.lookAgain(2)
		s.wantShare(tt.first+tt.second+" after", 28, tt.after)
	}
}

// TestFailuresBesideDrainingAddress has one server that gets new requests, and one that
// drains. As without names, failures do not take the first one out.
func TestFailuresBesideDrainingAddress(t *testing.T) {
	dns := startNameServer(t)
	address, tried := brokenBackend(t)
	_, port, _ := strings.Cut(address, ":")
	dns.set("app.test", "127.0.0.1")
	s := startNames(t, dns, "server app.test:"+port+"\nserver 127.0.1.9:"+port+" drain")
	s.wantShare("a server that closes connections", 3, "status 502=3")
	if got := tried.Load(); got != 3 {
		t.Errorf("got %d connections, want 3: one for each request", got)
	}
}

// TestDeadlineIsNoAnswerOfAServer has a gRPC call whose time is over before the server
// responds. The end of the call sets no sticky cookie, and is no time of the server.
func TestDeadlineIsNoAnswerOfAServer(t *testing.T) {
	newSlowClock()
	address := startH2C(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	var site string
	runProxy(t, "server h2c://"+address+"\nsticky cookie srv\nbalance least_time", &site)
	for _, body := range []string{"", "message"} {
		r, err := http.NewRequest(http.MethodPost, site, strings.NewReader(body))
		must(t, err)
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Grpc-Timeout": {"1m"}}
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Grpc-Status") != "4" {
			t.Fatalf("body %q: got status %d, gRPC status %q, want 200 and 4", body, resp.StatusCode, resp.Header.Get("Grpc-Status"))
		}
		if cookies := resp.Header["Set-Cookie"]; cookies != nil {
			t.Errorf("body %q: got cookies %q, want none", body, cookies)
		}
		if got := timeOf(t, address); got != 0 {
			t.Errorf("body %q: got time %v, want none", body, got)
		}
	}
}

// TestDeadlineOfOtherRequests has requests that a gRPC server could take for a call, and
// that clients send only to harm. The server gets more time for all of them, and none has
// an answer that a cache could store.
func TestDeadlineOfOtherRequests(t *testing.T) {
	var timeout atomic.Value
	address := startH2C(t, func(_ http.ResponseWriter, r *http.Request) {
		timeout.Store(r.Header.Get("Grpc-Timeout"))
		<-r.Context().Done()
	})
	var site string
	runProxy(t, "server h2c://"+address, &site)
	for _, tt := range []struct {
		method string
		types  []string
	}{
		{http.MethodGet, []string{"application/grpc"}},
		{http.MethodGet, nil},
		{http.MethodPut, []string{"application/grpc"}},
		{http.MethodPost, []string{"text/plain", "application/grpc"}},
		{http.MethodPost, []string{"Application/GRPC"}},
	} {
		r, err := http.NewRequest(tt.method, site, nil)
		must(t, err)
		r.Header = http.Header{"Content-Type": tt.types, "Grpc-Timeout": {"300m"}}
		timeout.Store("")
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("%s, %q: got status %d, want 504", tt.method, tt.types, resp.StatusCode)
		}
		if got := timeout.Load(); got != "1300000u" {
			t.Errorf("%s, %q: got timeout %q at the server, want 1.3s", tt.method, tt.types, got)
		}
	}
}

// startH2C starts a server that speaks only HTTP/2 without TLS, and returns its address.
func startH2C(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = protocols
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// stickyNames is a browser at a namedSite.
type stickyNames struct{ cookie string }

// get returns the application that responds.
func (b *stickyNames) get(s *namedSite) string {
	s.t.Helper()
	header := make(http.Header)
	if b.cookie != "" {
		header.Set("Cookie", b.cookie)
	}
	a := s.plain("/", header)
	if a.status != http.StatusOK {
		return fmt.Sprint("status ", a.status)
	}
	if set := a.header["Set-Cookie"]; len(set) != 1 {
		s.t.Errorf("got cookies %q, want one", set)
	} else {
		b.cookie, _, _ = strings.Cut(set[0], ";")
	}
	return a.body
}

// TestStickyWithNames has sessions at the addresses of a name, with each method, while the
// addresses change and the configuration is reloaded.
func TestStickyWithNames(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3 127.0.1.4")
	for _, method := range balance.Methods() {
		line := "\nbalance " + string(method)
		if method == balance.MethodHash {
			line += " {header.Cookie}"
		}
		for _, route := range []string{"", " route=all"} {
			t.Run(string(method)+route, func(t *testing.T) {
				dns.set("app.test", "127.0.1.1 127.0.1.2 127.0.1.3")
				server := "server app.test:" + apps.port + route
				rest := "\nsticky cookie srv" + line
				s := startNames(t, dns, server+rest)
				sessions, at := make([]stickyNames, 9), make([]string, 9)
				for i := range sessions {
					at[i] = sessions[i].get(s)
				}
				stay := func(when string, except string) {
					t.Helper()
					for i := range sessions {
						got := sessions[i].get(s)
						if got != at[i] && at[i] != except || got == except || strings.Contains(got, "status") {
							t.Errorf("%s: session %d: got %s, was at %s", when, i, got, at[i])
						}
						at[i] = got
					}
				}
				stay("again", "")
				dns.set("app.test", "127.0.1.4 127.0.1.2 127.0.1.3 127.0.1.1")
				dns.lookAgain(1)
				stay("one address more", "")
				must(t, s.reload(s.config(dns, server+" weight=2"+rest)))
				stay("reload", "")
				dns.set("app.test", "127.0.1.2 127.0.1.3")
				dns.lookAgain(1)
				stay("two addresses less", "127.0.1.1")
				stay("again", "")
				must(t, s.reload(s.config(dns, server+" drain"+rest+"\nserver 127.0.1.4:"+apps.port)))
				stay("the name drains", "")
				if got := new(stickyNames).get(s); got != "127.0.1.4" {
					t.Errorf("a new session while the name drains: got %s, want 127.0.1.4", got)
				}
				dns.set("app.test", "127.0.1.3")
				dns.lookAgain(1)
				stay("the name drains, one address less", "127.0.1.2")
			})
		}
	}
}

// TestLeastTimeWithNames has an address that is slow. The times stay when the addresses
// change and when the configuration is reloaded, and nothing is kept afterwards.
func TestLeastTimeWithNames(t *testing.T) {
	dns := startNameServer(t)
	apps := startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	for _, sticky := range []string{"", "\nsticky cookie srv"} {
		dns.set("app.test", "127.0.1.1 127.0.1.2")
		group := "server app.test:" + apps.port + sticky + "\nbalance least_time\nslow_start 1ms"
		s := startNames(t, dns, group)
		if got := s.share(10); !strings.Contains(got, "127.0.1.1=") || !strings.Contains(got, "127.0.1.2=") {
			t.Errorf("got %s, want both addresses", got)
		}
		one, two := "127.0.1.1:"+apps.port, "127.0.1.2:"+apps.port
		if timeOf(t, one) == 0 || timeOf(t, two) == 0 {
			t.Errorf("got times %v and %v, want both measured", timeOf(t, one), timeOf(t, two))
		}
		state, _, err := process.servers.LoadOrNew(one, nil)
		must(t, err)
		for range 8 {
			state.(*serverRecovery).time.Add(time.Hour, process.guard.now().UnixNano())
		}
		_, err = process.servers.Delete(one)
		must(t, err)
		slow := func(when, want string) {
			t.Helper()
			if got := s.share(10); got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		slow("one is slow", "127.0.1.2=10")
		must(t, s.reload(s.config(dns, group+"\nfail_duration 5s")))
		slow("reload", "127.0.1.2=10")
		dns.set("app.test", "127.0.1.1 127.0.1.2 127.0.1.3")
		dns.lookAgain(1)
		if got := s.share(10); strings.Contains(got, "127.0.1.1") {
			t.Errorf("an address more: got %s, want none at the slow one", got)
		}
		must(t, caddy.Stop())
		process.servers.Range(func(key, _ any) bool {
			t.Errorf("after the end: the state of %v is kept", key)
			return true
		})
		process.names.inUse.Range(func(key, _ any) bool {
			t.Errorf("after the end: %v is followed", key)
			return true
		})
	}
}

// TestRefusedReloadsWithNames has configurations that fail after some servers were made, or
// after all were. The active one goes on, and nothing is kept after its end.
func TestRefusedReloadsWithNames(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2")
	dns.set("app.test", "127.0.1.1 127.0.1.2")
	group := "server app.test:" + apps.port + "\nserver 127.0.1.2:" + apps.port + "\nbalance least_time\nsticky cookie srv"
	s := startNames(t, dns, group)
	used := func() map[any]int {
		refs := make(map[any]int)
		for _, pool := range []*caddy.UsagePool{process.servers, process.names.inUse} {
			pool.Range(func(key, _ any) bool {
				refs[key], _ = pool.References(key)
				return true
			})
		}
		return refs
	}
	before := used()
	good := s.config(dns, group)
	for _, bad := range []string{
		s.config(dns, group+"\nhealth_uri /health\nhealth_body ("),
		strings.Replace(good, "proxy_pass app", "proxy_pass app\nlog_append x {", 1),
		strings.Replace(good, "proxy_pass app", "proxy_pass app\ntls /no/such/file /no/such/key", 1),
		strings.Replace(good, "resolvers "+dns.address, "resolvers 127.0.0.1:x", 1),
		good + "https://localhost:{https} {\nproxy_pass app\ntls /no/such/file /no/such/key\n}\n",
	} {
		for range 2 {
			if s.reload(bad) == nil {
				t.Fatalf("got no error for\n%s", bad)
			}
		}
		if got := used(); !maps.Equal(got, before) {
			t.Errorf("got uses %v, want %v, after\n%s", got, before, bad)
		}
		if got := s.share(4); strings.Contains(got, "status") {
			t.Errorf("got %s, want no error", got)
		}
	}
	must(t, caddy.Stop())
	if got := used(); len(got) > 0 {
		t.Errorf("after the end: got uses %v, want none", got)
	}
}

// TestEverythingAtOnceWithNames has sessions while the addresses change and the
// configuration is reloaded. No request fails.
func TestEverythingAtOnceWithNames(t *testing.T) {
	dns, apps := startNameServer(t), startFleet(t, "127.0.1.1 127.0.1.2 127.0.1.3")
	dns.set("app.test", "127.0.1.1")
	group := "server app.test:" + apps.port + " max_conns=100\nserver 127.0.1.3:" + apps.port + " backup route=b\nsticky cookie srv\nbalance least_time\nslow_start 1ms"
	s := startNames(t, dns, group)
	done := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		client := &http.Client{Transport: new(http.Transport)} // reload replaces that of s
		t.Cleanup(client.CloseIdleConnections)
		s := &namedSite{s.in(t, client), t}
		clients.Go(func() {
			session := new(stickyNames)
			for {
				select {
				case <-done:
					return
				default:
				}
				if got := session.get(s); strings.HasPrefix(got, "status") {
					t.Errorf("got %s, want no error", got)
				}
			}
		})
	}
	for i := range 12 {
		dns.set("app.test", fmt.Sprintf("127.0.1.%d 127.0.1.%d", 1+i%3, 1+(i+1)%3))
		dns.lookAgain(1)
		if i%3 == 2 {
			if err := s.reload(s.config(dns, fmt.Sprintf("%s\nfail_duration %ds", group, i+1))); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	clients.Wait()
}
