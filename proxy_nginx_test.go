package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// nginxAnswers are the responses of nginx to http1Rows, by name, where they differ from
// the ones here. None of them counts as a failure of a server in nginx.
var nginxAnswers = map[string]string{
	"a method in lower case": "400",
	"CONNECT":                "400 or 405",
	"CONNECT with a body":    "400 or 405",
	"a NUL in the path":      "400",
	"a header of 25 kB":      "400",
	"an unknown expectation": "200",
	"two encodings":          "400",
	"bare LF in chunks":      "200 or 400", // by version
	"a folded line":          "400",
	"no version":             sawClosed, // it speaks HTTP/0.9
	// nginx does not respond to a client that sends no more.
	"100-continue and no body":       sawClosed,
	"a chunked body that breaks off": sawClosed,
	"a body that breaks off":         sawClosed,
	"a long body that breaks off":    sawClosed,
	// nginx neither passes on nor checks trailers.
	"a trailer whose name cannot be":         "200",
	"a trailer whose name cannot be, by GET": "200",
	"Content-Length announced as a trailer":  "200",
	"a trailer with a control character":     "200",
	"a trailer without a colon":              "200",
	"a trailer of 5 kB":                      "200",
}

// TestMalformedAsNginx sends the same requests to a real nginx. It is not in e2e, because
// it uses the requests and clients of TestProxyBlamesNoServerForClients.
func TestMalformedAsNginx(t *testing.T) {
	program(t, "nginx")
	var upstream strings.Builder
	for _, name := range []string{"a", "b"} {
		s := &recordingServer{name: name, begun: make(map[string]int)}
		fmt.Fprintf(&upstream, "server %s fail_timeout=10m;\n", runTestServer(t, s, nil))
	}
	peer := testkit.StartPeer(t, t.TempDir(), `
		large_client_header_buffers 4 16k;
		upstream app {
			`+upstream.String()+`
		}
		server {
			listen 127.0.0.1:{port};
			client_max_body_size 64k;
			location / {
				proxy_pass http://app;
			}
		}`, testkit.NginxCommand)
	address := fmt.Sprintf("127.0.0.1:%d", peer.Port)
	for _, row := range http1Rows {
		t.Run(row.name, func(t *testing.T) {
			want := row.wanted("HTTP/1.1", "HTTP/1.1")
			if other, ok := nginxAnswers[row.name]; ok {
				want = strings.Split(other, " or ")
			}
			if got := sendHTTP1(t, address, row.text); !slices.Contains(want, got) {
				t.Errorf("nginx answers %s, want %s", got, strings.Join(want, " or "))
			}
			seen := make(map[string]bool)
			for range 4 {
				resp, err := http.Get("http://" + address + "/")
				must(t, err)
				resp.Body.Close()
				seen[resp.Header.Get("X-Server")] = true
			}
			if !seen["a"] || !seen["b"] {
				t.Errorf("then nginx asks %v, want both servers", seen)
			}
		})
	}
}
