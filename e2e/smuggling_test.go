package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nginxBehind is an nginx as the application. It parses HTTP differently than Caddy,
// and logs each request.
type nginxBehind struct {
	t   testing.TB
	url string
	log string
}

func newNginxBehind(t testing.TB) *nginxBehind {
	t.Helper()
	p := startNginx(t, `log_format requests '$request user=$http_x_user authorization=$http_authorization';
	server {
		listen 127.0.0.1:{port};
		access_log {dir}/requests requests;
		location / {
			return 200 "nginx\n";
		}
	}`)
	return &nginxBehind{t, fmt.Sprintf("http://127.0.0.1:%d", p.Port), filepath.Join(p.Dir, "requests")}
}

// requests returns the requests since the start.
func (n *nginxBehind) requests() []string {
	n.t.Helper()
	text, err := os.ReadFile(n.log)
	must(n.t, err)
	return slices.Collect(strings.Lines(string(text)))
}

// rawly sends text over a new TLS connection. It returns the statuses of all
// answers, including 1xx, until the server closes the connection or is silent.
func (s *server) rawly(t testing.TB, text string) []int {
	t.Helper()
	config := s.Client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), config)
	must(t, err)
	defer c.Close()
	_, err = io.WriteString(c, text)
	must(t, err)
	var statuses []int
	answers := bufio.NewReader(c)
	for {
		// The first answer must arrive. More answers follow soon, or not at all.
		wait := time.Minute
		if len(statuses) > 0 {
			wait = 300 * time.Millisecond
		}
		must(t, c.SetReadDeadline(time.Now().Add(wait)))
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			if len(statuses) == 0 {
				t.Errorf("no answer: %v", err)
			}
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			return statuses
		}
	}
}

// onlyFrom checks the requests that nginx got: at least those that were answered, at
// most those that passed (a truncated body may end a request early). Each has the
// user's name and no password.
func (n *nginxBehind) onlyFrom(s *server, answered, passed int) {
	n.t.Helper()
	if ok := s.result("ok"); ok != float64(passed) {
		n.t.Errorf("%v requests passed, want %d", ok, passed)
	}
	eventually(n.t, "nginx has logged all requests", func() bool { return len(n.requests()) >= answered })
	requests := n.requests()
	if len(requests) > passed {
		n.t.Errorf("nginx got %d requests, and %d passed", len(requests), passed)
	}
	for _, r := range requests {
		if !strings.HasSuffix(r, " user=ann authorization=-\n") || strings.HasPrefix(r, "GET /smuggled ") {
			n.t.Errorf("nginx got %s", r)
		}
	}
}

// TestSmuggling sends framing that servers parse differently. No request without
// the password reaches nginx, alone or after a request with it.
func TestSmuggling(t *testing.T) {
	parallel(t)
	app := newNginxBehind(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(plain("ann")), 0o640))
	s := startIn(t, dir, unthrottled, behind(app.url))
	right := "Authorization: " + authorization("ann", "ann") + "\r\n"
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: ann\r\n\r\n"
	answered, passed := 0, 0
	for _, row := range []struct {
		name, text string // {auth}: the Authorization header, or nothing; {length}: that of the second request
	}{
		{"Content-Length and chunked", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled},
		{"chunked and Content-Length of all", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n" + smuggled},
		{"another encoding", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: {length}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled},
		{"two encodings", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled},
		{"encodings in a list", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled},
		{"space before the colon", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0\r\nTransfer-Encoding : chunked\r\n\r\n" + smuggled},
		{"folded encoding", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n" + smuggled},
		{"folded value", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + smuggled},
		{"folded password", "GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n {auth}\r\n" + smuggled},
		{"two lengths", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n" + smuggled},
		{"lengths in a list", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0, {length}\r\n\r\n" + smuggled},
		{"length with a sign", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: +0\r\n\r\n" + smuggled},
		{"negative length", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: -1\r\n\r\n" + smuggled},
		{"bare LF", strings.ReplaceAll("POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 0\r\n\r\n", "\r\n", "\n") + smuggled},
		{"bare LF hides a line", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}X: y\nContent-Length: {length}\r\n\r\n" + smuggled},
		{"bare CR hides a line", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}X: y\rContent-Length: {length}\r\n\r\n" + smuggled},
		{"NUL", "GET / HTTP/1.1\r\nHost: localhost\r\n{auth}X: \x00\r\n\r\n" + smuggled},
		{"chunk with a bare LF", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n1;a\nx\r\n0\r\n\r\n" + smuggled},
		{"chunk of another size", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n" + smuggled},
		{"chunk size that overflows", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + smuggled},
		{"user in a trailer", "POST / HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\nTrailer: X-User\r\n\r\n0\r\nX-User: root\r\n\r\n" + smuggled},
		{"one after the other", "GET / HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n" + smuggled},
		{"body of a GET", "GET / HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: {length}\r\n\r\n" + smuggled},
		{"no version", "GET /smuggled\r\n{auth}\r\n" + smuggled},
		{"unknown version", "GET / HTTP/1.2\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: localhost\r\n{auth}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled},
		{"password that the connection drops", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close, authorization, x-user\r\n{auth}\r\n" + smuggled},
		{"line in the path", "GET /%0d%0aHost:%20localhost%0d%0a%0d%0aGET%20/smuggled HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n" + smuggled},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := s.result("ok")
			text := strings.ReplaceAll(row.text, "{length}", fmt.Sprint(len(smuggled)))
			without := s.rawly(t, strings.ReplaceAll(text, "{auth}", ""))
			for _, status := range without {
				if status < 400 {
					t.Errorf("without a password: %d", without)
				}
			}
			if n := s.result("ok") - before; n != 0 {
				t.Errorf("without a password, %v requests passed", n)
			}
			with := s.rawly(t, strings.ReplaceAll(text, "{auth}", right))
			for i, status := range with {
				if status == 200 && i == 0 {
					answered++
				} else if status < 400 {
					t.Errorf("with a password for the first: %d", with)
				}
			}
			passed += int(s.result("ok") - before)
			t.Logf("without a password %d, with one %d", without, with)
		})
	}
	if answered < 5 {
		t.Errorf("only %d of the first requests were answered, too few for this test", answered)
	}
	app.onlyFrom(s, answered, passed)
}
