package caddyhtpasswd

import (
	"fmt"
	"testing"
)

// TestProxyUpgrades requests other protocols. Only HTTP/1.1 has a header for it; for other
// transports, the request is sent without the header.
func TestProxyUpgrades(t *testing.T) {
	for _, kind := range serverKinds {
		t.Run(kind.name, func(t *testing.T) {
			g := newGuardedGroup(t, kind, "1m", "")
			passes := map[string]bool{"websocket": kind.name == "HTTP/1.1", "foo": kind.name == "HTTP/1.1"}
			for protocol, want := range passes {
				if kind.name == "HTTP/2" && protocol == "websocket" {
					want = true // Go's client requests the upgrade over HTTP/1.1
				}
				got := sendHTTP1(t, fmt.Sprintf("127.0.0.1:%d", g.http), "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
				if got != "200" {
					t.Errorf("%s: got %s, want 200", protocol, got)
				}
				for _, r := range g.taken() {
					if got := r.header.Get("Upgrade") != ""; got != want {
						t.Errorf("%s: Upgrade reached the server: got %t, want %t", protocol, got, want)
					}
				}
			}
			want := map[string]string{"HTTP/1.1": "200", "HTTP/2": "200", "h2c": "501", "HTTP/3": "501", "FastCGI": "501"}[kind.name]
			if got := sendHTTP3(t, fmt.Sprintf("localhost:%d", g.port), get(":method: CONNECT", ":protocol: websocket")); got != want {
				t.Errorf("a WebSocket by HTTP/3: got %s, want %s", got, want)
			}
			g.isWhole(t)
		})
	}
}
