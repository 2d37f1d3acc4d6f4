package caddyhtpasswd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// exampleServer runs an example in this process, with other ports, and with
// names that stand for others in its text.
func exampleServer(t *testing.T, name string, names ...string) *server {
	t.Helper()
	s := startServer(t, "")
	names = append(names, "localhost:8443", "localhost:{https}", "http_port 8080", "http_port {http}", "9001", fmt.Sprint(freePorts(t, 1)[0]))
	must(t, s.reload(strings.NewReplacer(names...).Replace(readText(t, "examples/"+name+"/Caddyfile"))))
	return s
}

// TestExampleReadWrite asks what the text says, and then with each method as
// each of the users.
func TestExampleReadWrite(t *testing.T) {
	e := loadExample(t, "read-write")
	e.start()
	const notes = "https://localhost:8443/notes/1"
	e.check([]exampleAnswer{
		{"curl -k -u alice:swordfish " + notes, 0, "GET by alice\n", nil},
		{"curl -k -u bob:swordfish " + notes, 0, "GET by bob\n", nil},
		{"curl -k -i -u carol:swordfish " + notes, 403, "", nil},
		{"curl -k -i -u alice:swordfish -X PUT " + notes, 403, "", nil},
		{"curl -k -u bob:swordfish -X PUT " + notes, 0, "PUT by bob\n", nil},
		{"curl -k -i -u alice:swordfish -X DELETE " + notes, 403, "", nil},
		{"curl -k -i -u alice:swordfish -X BREW " + notes, 403, "", nil},
		{"curl -k -u alice:swordfish -H 'X-HTTP-Method-Override: DELETE' " + notes, 0, "GET by alice\n", nil},
	})
	e.checkAll()
	t.Run("the field without the line", func(t *testing.T) {
		e := loadExample(t, "read-write")
		e.write("examples/read-write/Caddyfile", strings.Replace(e.replaced.Replace(e.text), "request_header -X-HTTP-Method*", "", 1))
		e.start()
		e.check([]exampleAnswer{
			{"curl -k -u alice:swordfish -H 'X-HTTP-Method-Override: DELETE' " + notes, 0, "DELETE by alice\n", nil},
		})
	})

	app := newWitness(t)
	s := exampleServer(t, "read-write", "server localhost:9001", "server "+app.Listener.Addr().String())
	const challenge = `Basic realm="Notes", charset="UTF-8"`
	overrides := []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	for version, client := range s.clients() {
		s := s.in(t, client)
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE", "TRACE", "PROPFIND", "MKCOL", "LOCK", "BREW", "get", "Head", "OPTIONSX"} {
			reads := method == "GET" || method == "HEAD" || method == "OPTIONS"
			for _, user := range []struct {
				name, password string
				reads, writes  int // the answer
			}{
				{"alice", "swordfish", 200, 403},
				{"bob", "swordfish", 200, 200},
				{"carol", "swordfish", 403, 403},
				{"bob", "wrong", 401, 401},
				{"", "", 401, 401},
			} {
				t.Run(fmt.Sprintf("%s as %q, %s", method, user.name, version), func(t *testing.T) {
					want := user.writes
					if reads {
						want = user.reads
					}
					s := s.in(t)
					r := s.request(method, "/notes/1", nil)
					if user.name != "" {
						r.SetBasicAuth(user.name, user.password)
					}
					for _, field := range overrides {
						r.Header.Set(field, "DELETE")
					}
					checkStatus(t, s.do(r), want, challenge)
					if want != http.StatusOK {
						app.none(t)
						return
					}
					got := app.one(t)
					if got.method != method || got.header.Get("X-Remote-User") != user.name {
						t.Errorf("the application got %s by %q", got.method, got.header.Get("X-Remote-User"))
					}
					for _, field := range overrides {
						if got.header[field] != nil {
							t.Errorf("the application got %s", field)
						}
					}
				})
			}
		}
	}
	a, _ := s.raw("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + basic("alice", "swordfish") + "\r\n\r\n")
	checkStatus(t, a, http.StatusForbidden, "")
	app.none(t)
}

// TestExampleWebSocket runs the application, too, and has it asked by curl, by
// a client in Go, and by a browser.
func TestExampleWebSocket(t *testing.T) {
	application := filepath.Join(t.TempDir(), "application")
	run(t, filepath.Join(goRoot(t), "bin", "go"), "build", "-o", application, "./examples/websocket")
	e := loadExample(t, "websocket", "go run ./examples/websocket", application)
	command := strings.Fields(e.replaced.Replace(e.said("go run ./examples/websocket -listen localhost:9001")))
	received := start(t, e.dir, e.env, command[0], command[1:]...)
	e.start()

	const upgrade = "-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' https://localhost:8443/socket"
	const curl, password = "curl -k -i --http1.1 ", "-u admin:swordfish "
	e.check([]exampleAnswer{
		{curl + upgrade, 401, "", nil},
		{curl + password + "-H 'Origin: https://evil.example' " + upgrade, 403, "", nil},
	})
	page := readText(t, "examples/websocket/page.html")
	e.checkAnswer("curl -k -i https://localhost:8443/", exampleAnswer{status: 401})
	e.checkAnswer("curl -k -i -u admin:swordfish https://localhost:8443/", exampleAnswer{status: 200, body: page})
	// To a file curl writes what it has only when it ends; stdbuf has it do so as on a screen.
	switched := start(t, e.dir, e.env, "sh", "-c", "exec "+program(t, "stdbuf")+" -oL "+e.replaced.Replace(e.said("curl -k -i -N --http1.1 "+password+upgrade)))
	eventually(t, "curl is connected", func() bool {
		return strings.HasPrefix(switched(), "HTTP/1.1 101 Switching Protocols\r\n") &&
			strings.Contains(switched(), "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") // the answer to that key in RFC 6455
	})
	e.checkAll()

	dial := func(user, password string) (*websocket.Conn, error) {
		t.Helper()
		origin := e.replaced.Replace("https://localhost:8443")
		config, err := websocket.NewConfig("wss"+strings.TrimPrefix(origin, "https")+"/socket", origin)
		must(t, err)
		config.TlsConfig = &tls.Config{InsecureSkipVerify: true}
		if user != "" {
			config.Header.Set("Authorization", basic(user, password))
		}
		config.Header.Set("X-Remote-User", "root")
		return websocket.DialConfig(config)
	}
	for _, wrong := range []string{"", "wrong"} {
		if conn, err := dial("admin", wrong); err == nil {
			conn.Close()
			t.Errorf("connected with the password %q", wrong)
		}
	}
	conn, err := dial("admin", "swordfish")
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	echoed := func(text string) {
		t.Helper()
		must(t, websocket.Message.Send(conn, text))
		var got string
		if err := websocket.Message.Receive(conn, &got); err != nil || got != "admin: "+text {
			t.Errorf("%q, %v", got, err)
		}
	}
	echoed("one")
	echoed("two")

	t.Run("browser", func(t *testing.T) {
		browser := program(t, "chromium")
		profile, err := os.MkdirTemp("", "browser")
		must(t, err)
		t.Cleanup(func() { // its processes may end after the first of them
			eventually(t, "the browser has ended", func() bool { return os.RemoveAll(profile) == nil })
		})
		start(t, profile, append(e.env, "HOME="+profile, "XDG_CONFIG_HOME="+profile), browser, "--headless", "--no-sandbox", "--disable-gpu",
			"--ignore-certificate-errors", "--user-data-dir="+profile, "--remote-debugging-port=0", e.replaced.Replace("https://admin:swordfish@localhost:8443/"))
		eventually(t, "the page was answered", func() bool { return strings.Contains(received(), `"admin: hello"`) })
	})

	ends := func(conn *websocket.Conn) {
		t.Helper()
		var got string
		if err := websocket.Message.Receive(conn, &got); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection does not end: %q, %v", got, err)
		}
	}
	e.write("examples/.htpasswd", alice) // instead of admin
	eventually(t, "admin can't connect any more", func() bool {
		other, err := dial("admin", "swordfish")
		if err == nil {
			other.Close()
		}
		return err != nil
	})
	echoed("still here")
	e.write("examples/websocket/Caddyfile", strings.Replace(e.replaced.Replace(e.text), "stream_timeout 12h", "stream_timeout 1s", 1))
	if out, ok := e.run("go run ./cmd/caddy reload --config examples/websocket/Caddyfile"); !ok {
		t.Fatal(out)
	}
	ends(conn)
	conn, err = dial("alice", "secret")
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	ends(conn)
}
