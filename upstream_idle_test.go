package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestAdaptIdleConns checks the transport of a group.
func TestAdaptIdleConns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, group, directive, want string }{
		{"no transport", "server a", "", `{"protocol":"http","keep_alive":{"max_idle_conns_per_host":256}}`},
		{"https", "server https://a", "", `{"protocol":"http","tls":{},"keep_alive":{"max_idle_conns_per_host":256}}`},
		{"h2c", "server h2c://a", "", `{"protocol":"http","versions":["h2c","2"],"keep_alive":{"max_idle_conns_per_host":256}}`},
		{"unix+h2c", "server unix+h2c//a", "", `{"protocol":"http","versions":["h2c","2"],"keep_alive":{"max_idle_conns_per_host":256}}`},
		{"a lower number", "server a\ntransport http {\nkeepalive_idle_conns_per_host 8\n}", "", `{"protocol":"http","keep_alive":{"max_idle_conns_per_host":8}}`},
		{"in the directive", "server a", "transport http {\nkeepalive_idle_conns_per_host 8\n}", `{"protocol":"http","keep_alive":{"max_idle_conns_per_host":8}}`},
		{"off", "server a\ntransport http {\nkeepalive off\n}", "", `{"protocol":"http","keep_alive":{"enabled":false}}`},
		{"an empty transport", "server a\ntransport http", "", `null`},
		{"a transport with other settings", "server https://a\ntransport http {\ntls_server_name x\n}", "", `{"protocol":"http","tls":{"server_name":"x"}}`},
		{"FastCGI", "server a:9000\ntransport fastcgi {\nroot /srv\n}", "", `{"protocol":"fastcgi","root":"/srv"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := adaptedProxies(t, "{\nupstream web {\n"+tt.group+"\n}\n}\n:80 {\nproxy_pass web {\n"+tt.directive+"\n}\n}\n", nil)
			var h struct{ Transport json.RawMessage }
			must(t, json.Unmarshal([]byte(got), &h))
			if h.Transport == nil {
				h.Transport = json.RawMessage("null")
			}
			sameJSON(t, string(h.Transport), tt.want)
		})
	}
}

// countedListener counts the connections that it accepts and that are open.
type countedListener struct {
	net.Listener
	accepted, open atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted.Add(1)
	l.open.Add(1)
	return &countedConn{Conn: c, open: &l.open}, nil
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed sync.Once
}

func (c *countedConn) Close() error {
	c.closed.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// meetingServer is a server that answers a number of requests when all of them are there.
type meetingServer struct {
	*countedListener
	mu      sync.Mutex
	number  int
	waiting []chan struct{}
}

func newMeetingServer(t *testing.T, number int) *meetingServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	m := &meetingServer{countedListener: &countedListener{Listener: ln}, number: number}
	s := &httptest.Server{Listener: m.countedListener, Config: &http.Server{Handler: m}}
	s.Start()
	t.Cleanup(s.Close)
	return m
}

func (m *meetingServer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	all := make(chan struct{})
	m.mu.Lock()
	m.waiting = append(m.waiting, all)
	if len(m.waiting) == m.number {
		for _, other := range m.waiting {
			close(other)
		}
		m.waiting = nil
	}
	m.mu.Unlock()
	<-all
	_, _ = io.WriteString(w, "met")
}

// TestIdleConnsStay has 64 and 256 clients that send requests at the same time, in rounds.
// Each needs a connection to the server, and no further one later. Caddy would keep 32 of
// them. A lower number closes the others. After a reload, none stays open.
func TestIdleConnsStay(t *testing.T) {
	const ofCaddy = "\ntransport http" // the same as no transport in reverse_proxy
	for _, row := range []struct {
		clients   int
		group     string
		wantFirst int64
		wantMore  int64 // in each further round
	}{
		{64, "", 64, 0},
		{256, "", 256, 0},
		{64, "\ntransport http {\nkeepalive_idle_conns_per_host 48\n}", 64, 16},
		{64, ofCaddy, 64, 32},
	} {
		t.Run(fmt.Sprint(row.clients, row.group), func(t *testing.T) {
			m := newMeetingServer(t, row.clients)
			var site string
			runProxy(t, "server "+m.Addr().String()+row.group, &site)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: row.clients}, Timeout: 60 * time.Second}
			t.Cleanup(client.CloseIdleConnections)
			want := row.wantFirst
			for range 4 {
				var wg sync.WaitGroup
				for range row.clients {
					wg.Go(func() {
						resp, err := client.Get(site)
						if err != nil {
							t.Error(err)
							return
						}
						defer resp.Body.Close()
						if text, err := io.ReadAll(resp.Body); string(text) != "met" || err != nil {
							t.Errorf("got %q, error %v, want met", text, err)
						}
					})
				}
				wg.Wait()
				if got := m.accepted.Load(); got != want {
					t.Errorf("got %d connections, want %d", got, want)
				}
				want += row.wantMore
			}
			must(t, caddy.Stop())
			if row.group == ofCaddy {
				return // Caddy leaves them open until they are idle for two minutes
			}
			eventually(t, "all connections are closed", func() bool { return m.open.Load() == 0 })
		})
	}
}
