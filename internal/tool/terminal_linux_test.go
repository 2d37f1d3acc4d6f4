//go:build linux

package tool

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// screen is a terminal with a process on it: its output, and the keys.
type screen struct {
	t    *testing.T
	cmd  *exec.Cmd
	keys *os.File // the user's side
	tty  *os.File // the process's side

	mu    sync.Mutex
	shown bytes.Buffer
}

// onScreen starts "caddy htpasswd" on a new terminal, with standard input
// redirected if stdin is not "".
func onScreen(t *testing.T, stdin string, args ...string) *screen {
	t.Helper()
	return onScreenWith(t, func(cmd *exec.Cmd) {
		if stdin != "" {
			cmd.SysProcAttr.Ctty = 1
			cmd.Stdin = strings.NewReader(stdin)
		}
	}, args...)
}

// onScreenWith is like onScreen, and calls change before the process starts.
func onScreenWith(t *testing.T, change func(*exec.Cmd), args ...string) *screen {
	t.Helper()
	s := newScreen(t)
	s.cmd = toolProcess(args...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = s.tty, s.tty, s.tty
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	change(s.cmd)
	must(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	go s.watch()
	return s
}

// newScreen returns a terminal without a process.
func newScreen(t *testing.T) *screen {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { keys.Close() })
	must(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	must(t, err)
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { tty.Close() })

	return &screen{t: t, keys: keys, tty: tty}
}

// watch records the output of the process.
func (s *screen) watch() {
	buffer := make([]byte, 1024)
	for {
		n, err := s.keys.Read(buffer)
		s.mu.Lock()
		s.shown.Write(buffer[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// TestRestore checks that the echo is on after an interrupt just before a goroutine
// turns it off.
func TestRestore(t *testing.T) {
	s := newScreen(t)
	fd := int(s.tty.Fd())
	before, err := term.GetState(fd)
	must(t, err)
	begin := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-begin
		_, _ = term.ReadPassword(fd)
	}()
	close(begin)
	restore(fd, before)
	eventually(t, "the terminal echoes", s.echoes)
	s.press("x\n")
	<-done
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// shows waits until the screen shows text n times.
func (s *screen) shows(text string, n int) {
	s.t.Helper()
	eventually(s.t, text, func() bool { return strings.Count(s.text(), text) == n })
}

// echoes reports whether the terminal shows what is typed.
func (s *screen) echoes() bool {
	s.t.Helper()
	state, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	must(s.t, err)
	return state.Lflag&unix.ECHO != 0
}

// asked waits for the prompt to appear for the nth time, with echo off.
func (s *screen) asked(prompt string, n int) {
	s.t.Helper()
	s.shows(prompt, n)
	eventually(s.t, "echo is off", func() bool { return !s.echoes() })
}

func (s *screen) press(keys string) {
	s.t.Helper()
	_, err := s.keys.WriteString(keys)
	must(s.t, err)
}

// sets types a new password, and types it again.
func (s *screen) sets(password string) {
	s.t.Helper()
	s.asked("New password: ", 1)
	s.press(password + "\n")
	s.asked("Re-type new password: ", 1)
	s.press(password + "\n")
}

// ends waits for the end of the process, and checks its exit code, that the
// terminal is restored, and that no password was shown.
func (s *screen) ends(code ExitCode) {
	s.t.Helper()
	_ = s.cmd.Wait()
	if got := ExitCode(s.cmd.ProcessState.ExitCode()); got != code {
		s.t.Errorf("exit code %d (%s), the screen shows %q", got, s.cmd.ProcessState, s.text())
	}
	if !s.echoes() {
		s.t.Error("the echo is still off")
	}
	if strings.Contains(s.text(), "canary") {
		s.t.Errorf("a password on the screen: %q", s.text())
	}
}

// TestPrompts types passwords on a terminal.
func TestPrompts(t *testing.T) {
	const first, second, verify = "\r\nNew password: ", "Re-type new password: ", "Enter password: "
	newFile := func(t *testing.T) string { return writeFile(t, toolFile) }
	checks := func(t *testing.T, path, password string, code ExitCode) {
		t.Helper()
		if got := runTool(t, "", "-vb", path, "carl", password); got.code != code {
			t.Errorf("%q: %+v", password, got)
		}
	}
	t.Run("twice", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "", "-C4", path, "carl")
		s.sets("canary pä$s")
		s.shows("Adding password for user carl", 1)
		s.shows("Warning: the password has fewer than 15 characters; ", 1)
		s.ends(0)
		checks(t, path, "canary pä$s", 0)
	})
	t.Run("a good password, without a warning", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "", "-C4", path, "carl")
		s.sets("canary of nine blue lamps")
		s.shows("Adding password for user carl", 1)
		s.shows("Warning", 0)
		s.ends(0)
		checks(t, path, "canary of nine blue lamps", 0)
	})
	t.Run("generated, without a prompt", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "", "--generate", "-C4", path, "carl")
		s.shows("Adding password for user carl", 1)
		s.ends(0)
		eventually(t, "the password", func() bool { return strings.Count(s.text(), "\n") == 2 })
		checks(t, path, generatedIn(t, strings.ReplaceAll(s.text(), "\r\n", "\n")), 0)
	})
	t.Run("standard input is redirected", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "not this\n", "-C4", path, "carl")
		s.sets("canary")
		s.ends(0)
		checks(t, path, "canary", 0)
	})
	t.Run("asks again", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "", "-C4", path, "carl")
		s.asked("New password: ", 1)
		s.press("canary1\n")
		s.asked(second, 1)
		s.press("canary2\n")
		s.shows("The passwords do not match.", 1)
		s.asked(first, 1)
		s.press("canary3\n")
		s.asked(second, 2)
		s.press("canary3\n")
		s.ends(0)
		checks(t, path, "canary3", 0)
	})
	t.Run("never the same", func(t *testing.T) {
		path := newFile(t)
		s := onScreen(t, "", "-C4", path, "carl")
		for i := range typingAttempts {
			s.asked("New password: ", i+1)
			s.press("canary1\n")
			s.asked(second, i+1)
			s.press("canary2\n")
		}
		s.ends(ExitWrong)
		s.shows("did not match 3 times; nothing was changed", 1)
		if readText(t, path) != toolFile {
			t.Error("the file has changed")
		}
	})
	for _, test := range []struct {
		name, keys string
	}{{"Ctrl-C", "\x03"}, {"Ctrl-C after half a password", "canary\x03"}} {
		t.Run(test.name, func(t *testing.T) {
			path := newFile(t)
			s := onScreen(t, "", "-cC4", path, "carl")
			s.asked("New password: ", 1)
			s.press(test.keys)
			s.shows("interrupted; nothing was changed", 1)
			s.ends(ExitInterrupted)

			s = onScreen(t, "", "-cC4", path, "carl")
			s.asked("New password: ", 1)
			s.press("canary\n")
			s.asked(second, 1)
			s.press(test.keys)
			s.ends(ExitInterrupted)
			if readText(t, path) != toolFile {
				t.Error("the file has changed")
			}
		})
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			s := onScreen(t, "", "-n", "carl")
			s.asked("New password: ", 1)
			must(t, s.cmd.Process.Signal(signal))
			s.ends(ExitInterrupted)
		})
	}
	t.Run("standard error is redirected", func(t *testing.T) {
		path := newFile(t)
		s := onScreenWith(t, func(cmd *exec.Cmd) { cmd.Stderr = nil }, "-C4", path, "carl")
		s.sets("canary")
		s.ends(0)
		checks(t, path, "canary", 0)
	})
	t.Run("verify", func(t *testing.T) {
		path := newFile(t)
		for password, code := range map[string]ExitCode{"secret1": 0, "canary": ExitWrong} {
			s := onScreen(t, "", "-v", path, "bob")
			s.asked(verify, 1)
			s.press(password + "\n")
			s.ends(code)
		}
	})
	linked := newFile(t)
	must(t, os.Link(linked, linked+".copy"))
	for name, args := range map[string][]string{
		"no such file":       {filepath.Join(t.TempDir(), "none"), "carl"},
		"no such directory":  {"-c", filepath.Join(t.TempDir(), "none", "f"), "carl"},
		"cannot be replaced": {linked, "carl"},
	} {
		t.Run(name+", no prompt", func(t *testing.T) {
			s := onScreen(t, "", args...)
			s.ends(ExitFile)
			if strings.Contains(s.text(), "password:") {
				t.Errorf("%q", s.text())
			}
		})
	}
	t.Run("standard output has only the line", func(t *testing.T) {
		s := onScreen(t, "", "-nC4", "carl")
		s.sets("canary")
		s.shows("carl:$2y$04$", 1)
		s.ends(0)
	})
}
