//go:build unix

package caddyhtpasswd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
