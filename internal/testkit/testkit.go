// Package testkit contains helpers that the tests of more than one package use: a Caddy
// under test ([Server]), the same together with a real nginx or Apache ([Twins]), an
// application that records its requests ([Witness]), programs ([Process]), free ports,
// and waiting for other processes ([Eventually]).
//
// It does not depend on Caddy: a test provides the [Caddy] of its Server. Everything
// that is started ends with the test.
package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Must fails the test if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// patience is how long a test waits for other processes before it fails: much longer
// than they take, even on a busy machine.
const patience = time.Minute

// Eventually waits until ok returns true. After a minute it fails the test, with what
// it has waited for.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond) // polls what another goroutine or process does
	}
}

// ReadText returns the text of a file.
func ReadText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // a test names it
	Must(t, err)
	return string(text)
}

// BrowserDir returns a new directory for a browser. Its removal waits for processes of
// the browser that still write to it.
func BrowserDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browser")
	Must(t, err)
	t.Cleanup(func() {
		Eventually(t, "the browser has ended", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// Program returns the path of a program, or skips the test.
func Program(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed; 'make tools' installs it where possible", name)
	return ""
}

// Run runs a program and returns its output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(Program(t, name), args...).CombinedOutput() //nolint:gosec // a test names it
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// Process is a program that runs until the end of the test.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	output string
	ended  chan struct{} // closed when it has ended
}

// Start starts a program in a directory. At the end of the test it is stopped, and if
// the test has failed, its output is logged.
func Start(t testing.TB, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...) //nolint:gosec // a test names it
	cmd.Dir, cmd.Env = dir, env
	return StartCommand(t, cmd)
}

// StartCommand is like Start for a prepared command, for example with another user.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, output: filepath.Join(t.TempDir(), "output"), ended: make(chan struct{})}
	out, err := os.Create(p.output)
	Must(t, err)
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	Must(t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // ExitCode tells how
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), p.Said())
		}
	})
	return p
}

// Said returns the output of the program so far.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.output)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// Pid returns the process ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the process a signal.
func (p *Process) Signal(signal os.Signal) { Must(p.t, p.cmd.Process.Signal(signal)) }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// Stop sends the process a signal and waits for its end. After a minute it kills the
// process. It does nothing if the process has ended.
func (p *Process) Stop(signal os.Signal) {
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// ExitCode returns the exit code after the end of the process, or -1 if a signal ended
// it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }
