package caddyhtpasswd

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProxyKinds uses all kinds of servers that a group can have, each with a second
// server of the same kind that is down.
func TestProxyKinds(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	dir := t.TempDir()

	socket, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	unix := &httptest.Server{Listener: socket, Config: &http.Server{Handler: answer}}
	unix.Start()
	t.Cleanup(unix.Close)

	secure := httptest.NewTLSServer(answer)
	t.Cleanup(secure.Close)
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}

	clear2 := httptest.NewUnstartedServer(answer)
	clear2.Config.Protocols = new(http.Protocols)
	clear2.Config.Protocols.SetUnencryptedHTTP2(true)
	clear2.Start()
	t.Cleanup(clear2.Close)

	plain := httptest.NewServer(answer)
	t.Cleanup(plain.Close)
	t.Setenv("CADDY_HTPASSWD_TEST_SERVER", plain.Listener.Addr().String())

	dead, _ := brokenBackend(t)
	for _, row := range []struct{ name, group, want string }{
		{"unix socket", "server unix/" + filepath.Join(dir, "s") + "\nserver unix/" + filepath.Join(dir, "nobody"), "HTTP/1.1"},
		{"https with a private CA", "server " + secure.URL + "\nserver https://" + dead + "\ntransport http {\ntls_trust_pool file " + ca + "\n}", "HTTP/1.1"},
		{"h2c", "server h2c://" + clear2.Listener.Addr().String() + "\nserver h2c://" + dead, "HTTP/2.0"},
		{"placeholder", "server {env.CADDY_HTPASSWD_TEST_SERVER}\nserver " + dead, "HTTP/1.1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			get := runProxy(t, row.group)
			if got := counted(answers(get, 6), row.want); got != row.want+"=6" {
				t.Errorf("got answers %s, want %s=6", got, row.want)
			}
		})
	}
	t.Run("https without that CA", func(t *testing.T) {
		get := runProxy(t, "server "+secure.URL)
		if got := get(); !strings.HasPrefix(got, "502") {
			t.Errorf("got %s, want 502", got)
		}
	})
}

// TestProxyWebSocket upgrades a connection through a group whose first server is down, and
// sends in both directions.
func TestProxyWebSocket(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testProxyWebSocket(t, "") })
	t.Run("sticky", func(t *testing.T) { testProxyWebSocket(t, "\nsticky cookie srv") })
}

func testProxyWebSocket(t *testing.T, sticky string) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		for {
			line, err := buffered.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(conn, strings.ToUpper(line))
		}
	}))
	t.Cleanup(app.Close)
	dead, _ := brokenBackend(t)
	var site string
	runProxy(t, "server "+dead+"\nserver "+app.Listener.Addr().String()+sticky, &site)
	conn, err := net.Dial("tcp", strings.TrimPrefix(site, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", strings.TrimPrefix(site, "http://"))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, error %v, want status 101", resp, err)
	}
	if got := resp.Header["Set-Cookie"]; (len(got) == 1) != (sticky != "") {
		t.Errorf("got the cookies %q, want one if it is sticky", got)
	}
	for _, line := range []string{"hello\n", "again\n"} {
		fmt.Fprint(conn, line)
		if got, err := r.ReadString('\n'); err != nil || got != strings.ToUpper(line) {
			t.Errorf("got %q, error %v, want %q", got, err, strings.ToUpper(line))
		}
	}
}

// TestProxyStreams has a server send the second part of its response after the client has
// got the first one, and the same with the request body.
func TestProxyStreams(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testProxyStreams(t, "") })
	t.Run("sticky", func(t *testing.T) { testProxyStreams(t, "\nsticky cookie srv") })
}

func testProxyStreams(t *testing.T, sticky string) {
	came, read := make(chan string), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		buffer := make([]byte, 5)
		for range 2 {
			if _, err := io.ReadFull(r.Body, buffer); err != nil {
				t.Error(err)
				return
			}
			came <- string(buffer)
		}
		if rest, err := io.ReadAll(r.Body); err != nil || len(rest) > 0 {
			t.Errorf("then got %q, error %v, want the end of the body", rest, err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "first\n")
		_ = controller.Flush()
		<-read
		fmt.Fprint(w, "second\n")
	}))
	t.Cleanup(app.Close)
	var site string
	runProxy(t, "server "+app.Listener.Addr().String()+"\nserver "+namedBackend(t, "b").Listener.Addr().String()+" backup"+sticky, &site)
	body, send := io.Pipe()
	r, err := http.NewRequest(http.MethodPost, site, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, part := range []string{"one..", "two.."} {
			io.WriteString(send, part)
			if got := <-came; got != part {
				t.Errorf("got %q, want %q", got, part)
			}
		}
		send.Close()
	}()
	resp, err := (&http.Client{Transport: new(http.Transport), Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if got, err := lines.ReadString('\n'); err != nil || got != "first\n" {
		t.Fatalf("got %q, error %v, want %q", got, err, "first\n")
	}
	close(read)
	if got, err := lines.ReadString('\n'); err != nil || got != "second\n" {
		t.Errorf("got %q, error %v, want %q", got, err, "second\n")
	}
}
