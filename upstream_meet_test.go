package caddyhtpasswd

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	backend.Config.Protocols = protocols
	backend.Start()
	defer backend.Close()
	address := backend.Listener.Addr().String()
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
