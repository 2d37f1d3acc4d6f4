package tool

import (
	"errors"
	"fmt"
)

// ExitCode is the exit code of the tool. 0 means success.
type ExitCode int

// The codes are those of Apache's htpasswd.
const (
	ExitFile        ExitCode = 1 // the file or standard output cannot be read or written
	ExitUsage       ExitCode = 2 // wrong flags or arguments
	ExitWrong       ExitCode = 3 // wrong password, or the two typed passwords differ
	ExitInterrupted ExitCode = 4 // ended by a signal
	ExitTooLong     ExitCode = 5 // user name or password too long
	ExitIllegal     ExitCode = 6 // invalid user name or password, or no such user
	ExitNotAFile    ExitCode = 7 // not an htpasswd file, or a server would refuse it
)

// exitError is an error message with the exit code.
type exitError struct {
	code ExitCode
	text string
}

func (e *exitError) Error() string { return e.text }

func failed(code ExitCode, format string, args ...any) error {
	return &exitError{code, fmt.Sprintf(format, args...)}
}

// codeOf returns the exit code for an error.
func codeOf(err error) ExitCode {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return ExitFile
}
