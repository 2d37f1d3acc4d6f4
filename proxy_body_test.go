package caddyhtpasswd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProxySlowUploads has clients stop in the middle of a body.
func TestProxySlowUploads(t *testing.T) {
	for _, kind := range serverKinds {
		if kind.name == "HTTP/3" {
			continue // see docs/differences.md
		}
		t.Run(kind.name, func(t *testing.T) {
			g := newGuardedGroup(t, kind, "50ms", "")
			for n, row := range []malformedRow{
				{name: "a body", text: "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc", want: "408"},
				{name: "a chunked body", text: chunkedPost + "\r\n3\r\nab", want: "408"},
				{name: "no body after 100-continue", text: "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", want: "408"},
			} {
				g.check(t, row, kind.name, "HTTP/1.1", n, func(string) string {
					return sendHTTP1(t, fmt.Sprintf("127.0.0.1:%d", g.http), row.text)
				})
			}
		})
	}
}

// TestProxyServerHangsUpOnSlowUpload has a server close the connection of a slow upload
// without a response. Over HTTP/1.1, this is no failure of the server.
func TestProxyServerHangsUpOnSlowUpload(t *testing.T) {
	before := slowUpload
	slowUpload = 10 * time.Millisecond
	defer func() { slowUpload = before }()
	hungUp := make(chan struct{}, 2)
	impatient := func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { ln.Close() })
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				return
			}
			io.ReadFull(r.Body, make([]byte, 3))
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
			hungUp <- struct{}{}
		})}
		go s.Serve(ln)
		t.Cleanup(func() { s.Close() })
		return ln.Addr().String()
	}
	var site string
	runProxy(t, "server "+impatient()+"\nserver "+impatient()+"\nfail_duration 10m", &site)
	address := strings.TrimPrefix(site, "http://")
	for range 3 {
		c, err := net.Dial("tcp", address)
		must(t, err)
		must(t, c.SetDeadline(time.Now().Add(clientTimeout)))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+address+"\r\nContent-Length: 10\r\n\r\nabc")
		select {
		case <-hungUp:
		case <-time.After(clientTimeout):
			t.Fatal("got no server that took the request, want one")
		}
		time.Sleep(5 * slowUpload) // the client is slow
		io.WriteString(c, "defghij")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("the slow upload: got status %d, want 408", resp.StatusCode)
		}
		c.Close()
	}
	for range 4 {
		if got := sendHTTP1(t, address, "GET / HTTP/1.1\r\nHost: "+address+"\r\n\r\n"); got != "200" {
			t.Errorf("the next request: got %s, want 200", got)
		}
	}
}
