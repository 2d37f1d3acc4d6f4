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

// terminal is the terminal on which a password is typed.
type terminal struct {
	in    *os.File
	out   io.Writer
	close func()
}

// openTerminal returns the controlling terminal of the process, even if the
// standard streams are redirected, or standard input if that is a terminal.
func (t *tool) openTerminal() (*terminal, error) {
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		return &terminal{tty, tty, func() { _ = tty.Close() }}, nil
	}
	if in, ok := t.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return &terminal{in, t.err, func() {}}, nil
	}
	return nil, failed(ExitUsage, "no terminal to ask for the password; use -i to read it from standard input\n%s", usageHint)
}

// typingAttempts is how often the user may type a new password twice.
const typingAttempts = 3

// askTwice asks for a new password twice, and again if the two differ.
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
		_, _ = fmt.Fprintln(t.out, "The passwords do not match.")
	}
	return nil, failed(ExitWrong, "the passwords did not match %d times; nothing was changed", typingAttempts)
}

// ask reads a line without echo. It always restores the terminal.
func (t *terminal) ask(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(t.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, failed(ExitFile, "terminal: %s", err)
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

// restore restores a terminal from which a goroutine is reading a password. That
// goroutine may be just about to turn the echo off, so restore waits for it.
func restore(fd int, before *term.State) {
	for range 100 {
		if now, err := term.GetState(fd); err != nil || *now != *before {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_ = term.Restore(fd, before)
}
