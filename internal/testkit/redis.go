//go:build unix

package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Redis is a real Redis or Sentinel that runs until the end of the test.
type Redis struct {
	Port    int // on 127.0.0.1
	Dir     string
	Process *Process

	program string
	auth    []string // arguments of redis-cli
	t       testing.TB
}

// StartRedis runs redis-server on a free port, with lines of configuration. It saves
// nothing: after a restart it is empty. The test is skipped if redis-server is not
// installed.
func StartRedis(t testing.TB, lines ...string) *Redis {
	t.Helper()
	return startRedis(t, "redis-server", append([]string{"save \"\""}, lines...))
}

// StartSentinel runs redis-sentinel on a free port, with lines of configuration.
func StartSentinel(t testing.TB, lines ...string) *Redis {
	t.Helper()
	return startRedis(t, "redis-sentinel", lines)
}

func startRedis(t testing.TB, program string, lines []string) *Redis {
	t.Helper()
	for _, name := range []string{program, "redis-cli"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	r := &Redis{Port: FreePorts(t, 1)[0], Dir: t.TempDir(), program: program, t: t}
	// A cluster's port for the other servers is 10,000 above.
	general := []string{"port " + fmt.Sprint(r.Port), "bind 127.0.0.1", "dir " + r.Dir, "daemonize no"}
	Must(t, os.WriteFile(r.conf(), []byte(strings.Join(append(general, lines...), "\n")+"\n"), 0o600))
	r.run()
	return r
}

func (r *Redis) conf() string { return filepath.Join(r.Dir, "redis.conf") }

// run starts the program, and waits until it answers.
func (r *Redis) run() {
	r.t.Helper()
	r.Process = Start(r.t, r.Dir, os.Environ(), r.program, r.conf())
	Eventually(r.t, r.program+" answers", func() bool {
		if r.Process.Ended() {
			r.t.Fatalf("%s has ended: %s", r.program, r.Process.Said())
		}
		out, _ := r.cli("ping").CombinedOutput()
		answer := string(out)
		return strings.Contains(answer, "PONG") || strings.Contains(answer, "NOAUTH") || strings.Contains(answer, "NOPERM")
	})
}

// Authenticate sets arguments of redis-cli for all following commands, such as --user.
func (r *Redis) Authenticate(args ...string) { r.auth = args }

func (r *Redis) cli(args ...string) *exec.Cmd {
	all := append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(r.Port)}, r.auth...)
	return exec.Command("redis-cli", append(all, args...)...) //nolint:gosec // a test
}

// Command runs a command of Redis, and returns the answer.
func (r *Redis) Command(args ...string) string {
	r.t.Helper()
	out, err := r.cli(args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("redis-cli %s: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Address returns host and port.
func (r *Redis) Address() string { return fmt.Sprintf("127.0.0.1:%d", r.Port) }

// Kill ends the server at once.
func (r *Redis) Kill() { r.Process.Stop(syscall.SIGKILL) }

// Restart starts it again after Kill.
func (r *Redis) Restart() {
	r.t.Helper()
	r.run()
}

// Hang stops the server without ending it, until Continue.
func (r *Redis) Hang() {
	r.Process.Signal(syscall.SIGSTOP)
	r.t.Cleanup(func() { _ = r.Process.cmd.Process.Signal(syscall.SIGCONT) }) // so that it can be ended
}

// Continue ends what Hang began.
func (r *Redis) Continue() { r.Process.Signal(syscall.SIGCONT) }
