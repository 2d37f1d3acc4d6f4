// Package testkit has what the tests here and those in e2e share: real
// programs, ports that are free, waiting for what others do.
package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Must ends the test at an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until ok, at most for the time that a change of a file may
// take and then some.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond) // polling what another goroutine, or process, does
	}
}

// BrowserDir returns a new folder for a browser, whose processes may write to
// it for a while after the first of them has ended.
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
	t.Skipf("%s is not here; 'make tools' installs it where it can", name)
	return ""
}

// NginxCommand writes a configuration of an nginx into a folder, in which http
// is what stands in its http block, and returns the command that runs it there,
// in the foreground.
func NginxCommand(t testing.TB, dir, http string) []string {
	t.Helper()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the files of tests are often the test's alone
	}
	file := filepath.Join(dir, "nginx.conf")
	Must(t, os.WriteFile(file, fmt.Appendf(nil, `%s
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	%s
}
`, user, http), 0o600))
	return []string{Program(t, "nginx"), "-p", dir, "-e", filepath.Join(dir, "nginx.log"), "-c", file}
}

// Run runs a program to its end and returns what it says.
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
	ended  sync.Once
}

// Start starts a program in a folder. At the end of the test it is asked to
// end; if the test has failed, what it said is shown.
func Start(t testing.TB, dir string, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...) //nolint:gosec // a test names it
	cmd.Dir, cmd.Env = dir, env
	return StartCommand(t, cmd)
}

// StartCommand is Start for who wants more of a command, such as another user.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{t: t, cmd: cmd, output: filepath.Join(t.TempDir(), "output")}
	out, err := os.Create(p.output)
	Must(t, err)
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	Must(t, p.cmd.Start())
	t.Cleanup(func() {
		p.Stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), p.Said())
		}
	})
	return p
}

// Said returns what the program has said so far.
func (p *Process) Said() string {
	text, err := os.ReadFile(p.output)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the process a signal.
func (p *Process) Signal(signal os.Signal) { Must(p.t, p.cmd.Process.Signal(signal)) }

// Stop sends the process a signal and waits for its end; if it takes longer
// than 20 s it is killed.
func (p *Process) Stop(signal os.Signal) {
	p.ended.Do(func() {
		kill := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
		defer kill.Stop()
		_ = p.cmd.Process.Signal(signal)
		_ = p.cmd.Wait()
	})
}

// ExitCode returns how the process ended, after Stop: -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }
