package tool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// terminal is where a person types.
type terminal struct {
	in    *os.File
	out   io.Writer
	close func()
}

// openTerminal returns the terminal that the process belongs to, wherever its
// standard streams lead, or standard input if that is one.
func (t *tool) openTerminal() (*terminal, error) {
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		return &terminal{tty, tty, func() { _ = tty.Close() }}, nil
	}
	if in, ok := t.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return &terminal{in, t.err, func() {}}, nil
	}
	return nil, failed(ExitUsage, "there is no terminal to ask for the password; with -i it is read from standard input\n%s", usageHint)
}

// typingAttempts is how often a new password can be typed in two ways.
const typingAttempts = 3

// askTwice asks for a new password until it is typed the same way twice.
func (t *terminal) askTwice(ctx context.Context) ([]byte, error) {
	for range typingAttempts {
		password, err := t.ask(ctx, "New password: ")
		if err != nil {
			return nil, err
		}
		again, err := t.ask(ctx, "Re-type new password: ")
		if err != nil {
			return nil, err
		}
		if string(password) == string(again) {
			return password, nil
		}
		_, _ = fmt.Fprintln(t.out, "These were two different passwords.")
	}
	return nil, failed(ExitWrong, "no password was typed the same way twice; nothing was changed")
}

// ask reads a line without showing it. However it ends, the terminal is as before.
func (t *terminal) ask(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(t.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, failed(ExitFile, "the terminal: %s", err)
	}
	_, _ = fmt.Fprint(t.out, prompt)
	line, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	_, _ = fmt.Fprintln(t.out)
	switch {
	case errors.Is(err, errInterrupted):
		restore(fd, before)
		return nil, err
	case err != nil:
		return nil, failed(ExitFile, "reading the password: %s", err)
	}
	return line, nil
}

// restore makes a terminal as it was before somebody began to read a password
// from it, which may be just about to switch its echo off.
func restore(fd int, before *term.State) {
	for range 100 {
		if now, err := term.GetState(fd); err != nil || *now != *before {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_ = term.Restore(fd, before)
}
