package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
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
