//go:build unix

package caddyhtpasswd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/tool"
)

// caddyTool runs "caddy htpasswd" as a process, and returns its exit code and
// what it writes.
func caddyTool(t testing.TB, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"htpasswd"}, args...)...)
	cmd.Env = append(os.Environ(), caddyVariable+"=1", "GORACE=atexit_sleep_ms=0") // otherwise the race detector waits a second
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestCommand checks that Caddy exits with the exit code of the tool, and adds nothing to
// its output.
func TestCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	page := writeFile(t, "<html>\n")
	for _, test := range []struct {
		name string
		args []string
		code tool.ExitCode
		said string
	}{
		{"a user is added", []string{"-cbs", path, "ann", "pw"}, 0, "Adding password for user ann\n"},
		{"the password is right", []string{"-vb", path, "ann", "pw"}, 0, "Password for user ann correct.\n"},
		{"no such file", []string{"-D", path + "2", "ann"}, tool.ExitFile, "caddy htpasswd: " + path + "2 does not exist\n"},
		{"wrong usage", []string{"-b", path, "ann"}, tool.ExitUsage, "caddy htpasswd: missing argument; expected <file> <user> <password>\nhelp: caddy htpasswd --help\n"},
		{"an unknown flag", []string{"--canary", path, "ann"}, tool.ExitUsage, "help: caddy htpasswd --help\n"},
		{"the password is wrong", []string{"-vb", path, "ann", "pw2"}, tool.ExitWrong, "caddy htpasswd: password verification failed\n"},
		{"a name that is too long", []string{"-bs", path, strings.Repeat("a", 256), "pw"}, tool.ExitTooLong, "caddy htpasswd: user name longer than 255 bytes\n"},
		{"no such user", []string{"-vb", path, "bob", "pw"}, tool.ExitIllegal, "caddy htpasswd: User bob not found\n"},
		{"not a password file", []string{"-D", page, "ann"}, tool.ExitNotAFile, "line 1: no colon between user name and hash\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, said := caddyTool(t, test.args...)
			if code != int(test.code) || !strings.HasSuffix(said, test.said) || strings.Contains(said, "canary") {
				t.Errorf("got exit code %d and %q, want %d and %q at the end", code, said, test.code, test.said)
			}
		})
	}
}

// TestToolAndServer checks that a running server follows the changes of the tool.
func TestToolAndServer(t *testing.T) {
	s := startServer(t, "")
	path := filepath.Join(s.dir, "users")
	act := func(args ...string) {
		t.Helper()
		if code, said := caddyTool(t, args...); code != 0 {
			t.Fatalf("%q: got exit code %d and %q, want 0", args, code, said)
		}
	}
	answers := func(user, password string, status int) {
		t.Helper()
		eventually(t, fmt.Sprint(user, " gets ", status), func() bool { return s.get("/", user, password).status == status })
	}
	act("-cb", "-C4", path, "ann", "one")
	must(t, s.reload("https://localhost:{https} {\nhtpasswd {\nfile {dir}/users\n}\nrespond ok\n}"))
	answers("ann", "one", 200)
	act("-b", "-C4", path, "bob", "two")
	answers("bob", "two", 200)
	act("-b", "-C4", path, "ann", "three")
	answers("ann", "one", 401)
	answers("ann", "three", 200)
	act("-D", path, "ann")
	answers("ann", "three", 401)
	answers("bob", "two", 200)
	act("-cb", "-C4", path, "carl", "four")
	answers("bob", "two", 401)
	answers("carl", "four", 200)
}

// TestToolAndSharedFile changes a file in Caddy's storage with the command, at a running
// server.
func TestToolAndSharedFile(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	s := startServer(t, "")
	must(t, s.reload(`{
	admin localhost:{admin}
	htpasswd {
		poll 100ms
	}
}
https://localhost:{https} {
	htpasswd {
		file storage://staff
	}
	respond ok
}`))
	act := func(code tool.ExitCode, want string, args ...string) {
		t.Helper()
		args = append([]string{"--address", fmt.Sprintf("localhost:%d", s.admin)}, args...)
		if got, said := caddyTool(t, args...); got != int(code) || !strings.Contains(said, want) || strings.Contains(said, "canary") {
			t.Errorf("%q: got exit code %d and %q, want %d and %q", args, got, said, code, want)
		}
	}
	answers := func(user, password string, status int) {
		t.Helper()
		eventually(t, fmt.Sprint(user, " gets ", status), func() bool { return s.get("/", user, password).status == status })
	}
	const file = "storage://staff"
	answers("ann", "canary1", 401)
	act(1, "has no copy on this machine yet; if nobody has written it, create its first user with: caddy htpasswd storage://staff USER", "--list", file)
	act(0, "Adding password for user ann\n", "-b", "-C4", file, "ann", "canary1")
	answers("ann", "canary1", 200)
	act(0, "Adding password for user bob\n", "-b", "-C4", file, "bob", "canary2")
	act(0, "Password for user bob correct.\n", "-vb", file, "bob", "canary2")
	act(tool.ExitWrong, "password verification failed", "-vb", file, "bob", "canary1")
	act(0, "ann\nbob\n", "--list", file)
	act(0, "storage://staff: users who can log in: 2\n  bcrypt 04: 2\n", "--check", file)
	act(0, "Updating password for user ann\n", "-b", "-C4", file, "ann", "canary3")
	answers("ann", "canary1", 401)
	answers("ann", "canary3", 200)
	act(0, "Deleting password for user ann\n", "-D", file, "ann")
	answers("ann", "canary3", 401)
	answers("bob", "canary2", 200)
	act(0, "bob:$2y$04$", "--export", file)
	disk := writeFile(t, "carl:"+shaSecret1+"\n")
	act(1, "has lines already; to replace all of them, use --import with -c", "--import", file, disk)
	act(0, "storage://staff has the text of "+disk+" (users who can log in: 1)\n", "--import", "-c", file, disk)
	answers("carl", "secret1", 200)
	answers("bob", "canary2", 401)
	act(1, "does not use fleet://staff", "--list", "fleet://staff")
	if status, body := s.ask("GET", "/htpasswd"); status != 200 || !strings.Contains(body, `"path":"storage://staff","kind":"users","users":1,`) || !strings.Contains(body, `/caddy/htpasswd/storage/staff"`) || !strings.Contains(body, `"checked":"2`) {
		t.Errorf("got %d %s, want the state of the file and its copy", status, body)
	}
	if log := s.log(); strings.Contains(log, "canary") || strings.Count(log, "file changed with the admin API") != 5 {
		t.Errorf("got %d lines of changes, want 5, and no password", strings.Count(log, "file changed with the admin API"))
	}
}

// TestToolsAtOnce adds and removes users of a file in Caddy's storage by 50 commands at
// once, and loses none of the changes.
func TestToolsAtOnce(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	const n = 50
	s := startServer(t, "")
	must(t, s.reload(`{
	admin localhost:{admin}
}
https://localhost:{https} {
	htpasswd {
		file storage://staff
	}
	respond ok
}`))
	var old strings.Builder
	for i := range n / 2 {
		fmt.Fprintf(&old, "old%d:%s\n", i, shaSecret1)
	}
	address := fmt.Sprintf("localhost:%d", s.admin)
	if code, said := caddyTool(t, "--address", address, "--import", "storage://staff", writeFile(t, old.String())); code != 0 {
		t.Fatalf("got exit code %d and %s, want 0", code, said)
	}
	var all sync.WaitGroup
	places := make(chan struct{}, 10) // processes at a time
	for i := range n {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			args := []string{"--address", address, "-bs", "storage://staff", fmt.Sprint("new", i), "secret1"}
			if i%2 == 1 {
				args = []string{"--address", address, "-D", "storage://staff", fmt.Sprint("old", i/2)}
			}
			if code, said := caddyTool(t, args...); code != 0 {
				t.Errorf("%q: got exit code %d and %s, want 0", args, code, said)
			}
		})
	}
	all.Wait()
	_, said := caddyTool(t, "--address", address, "--list", "storage://staff")
	got, want := strings.Fields(said), []string(nil)
	for i := 0; i < n; i += 2 {
		want = append(want, fmt.Sprint("new", i))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got the users %q, want %q", got, want)
	}
}
