package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExampleUserDirectories sends the requests of the text.
func TestExampleUserDirectories(t *testing.T) {
	parallel(t)
	e := loadExample(t, "user-directories")
	e.start()
	e.check([]exampleAnswer{
		{"curl -k -u alice:swordfish https://localhost:8443/notes.txt", 0, "alice's notes\n", nil},
		{"curl -k -u bob:swordfish https://localhost:8443/notes.txt", 0, "bob's notes\n", nil},
		{"curl -k -i -u alice:swordfish https://localhost:8443/plan.txt", 404, "", nil},
		{"curl -k -i -u alice:swordfish --path-as-is https://localhost:8443/../../bob/files/plan.txt", 404, "", nil},
		{"curl -k -i -u carol:swordfish https://localhost:8443/notes.txt", 404, "", nil},
		{"curl -k -i https://localhost:8443/notes.txt", 401, "", nil},
	})
	e.checkAll()
	if strings.Contains(e.log(), `"level":"warn","ts"`) && strings.Contains(e.log(), "below the root") {
		t.Errorf("got a warning about the example itself, want none: %s", e.log())
	}
}

// TestUserDirectoriesFailClosed sends requests and user names without a directory.
// None of them reaches bob's files.
func TestUserDirectoriesFailClosed(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	hash := sha1Hash("secret1")
	s.Write("users", "alice:"+hash+"\nbob:"+hash+"\n..:"+hash+"\n.:"+hash+"\n*:"+hash+"\n{http.request.header.X}:"+hash+"\n")
	must(t, os.MkdirAll(filepath.Join(s.Dir, "home", "bob", "files"), 0o755))
	s.Write("home/bob/files/plan", "plan of bob")
	must(t, s.Reload(secureSite("route {\nhtpasswd {\nfile {dir}/users\nexempt /open/* /bob/*\n}\nroot {dir}/home/{http.auth.user.id}/files\nfile_server browse\n}")))
	if got := s.get("/plan", "bob", "secret1"); got.Body != "plan of bob" {
		t.Fatalf("bob: got %d %q, want his plan", got.Status, got.Body)
	}
	for _, user := range []string{"alice", "..", ".", "*", "{http.request.header.X}", ""} {
		for _, path := range []string{"/plan", "/", "/bob/files/plan", "/open/../bob/files/plan", "/open/..%2fbob/files/plan", "/bob/plan", "/files/plan", "/%2e%2e/%2e%2e/bob/files/plan"} {
			r := s.Request("GET", path, nil)
			r.Header.Set("X", "bob")
			if user != "" {
				r.SetBasicAuth(user, "secret1")
			}
			if got := s.Do(r); got.Status < 300 || strings.Contains(got.Body, "plan") {
				t.Errorf("user %q, path %s: got %d %q, want nothing of bob's", user, path, got.Status, got.Body)
			}
		}
	}
}

// TestExampleUsersFromEnvironment sends the requests of the text, with users of each
// source.
func TestExampleUsersFromEnvironment(t *testing.T) {
	parallel(t)
	e := loadExample(t, "users-from-environment")
	e.start()
	e.check([]exampleAnswer{
		{"curl -k -u alice:swordfish https://localhost:8443/", 0, "Hello, alice.", nil},
		{"curl -k -u bob:swordfish https://localhost:8443/", 0, "Hello, bob.", nil},
		{"curl -k -u carol:swordfish https://localhost:8443/", 0, "Hello, carol.", nil},
		{"curl -k -i https://localhost:8443/", 401, "", nil},
	})
	add := e.said("go run ./cmd/caddy htpasswd -b -c examples/users-from-environment/users.d/guests.htpasswd dave swordfish")
	if out, ok := e.run(add); !ok {
		t.Fatalf("%s: %s", add, out)
	}
	e.check([]exampleAnswer{{"curl -k -u dave:swordfish https://localhost:8443/", 0, "Hello, dave.", nil}})
	remove := e.said("rm examples/users-from-environment/users.d/guests.htpasswd")
	if out, ok := e.run(remove); !ok {
		t.Fatalf("%s: %s", remove, out)
	}
	const refused = "curl -k -i -u dave:swordfish https://localhost:8443/"
	eventually(t, "dave cannot log in any more", func() bool { return e.ask(refused).Status == 401 })
	e.check([]exampleAnswer{{refused, 401, "", nil}})
	e.checkAll()
	if strings.Contains(e.log(), "$2y$") {
		t.Errorf("the log shows a hash: %s", e.log())
	}
}
