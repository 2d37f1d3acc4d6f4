package tool

import (
	"errors"
	"fmt"
)

// ExitCode is the code that the tool exits with. It is 0 if all went well.
type ExitCode int

// The codes are those of Apache's htpasswd.
const (
	ExitFile        ExitCode = 1 // the file, or standard output, cannot be read or written
	ExitUsage       ExitCode = 2 // wrong flags or arguments
	ExitWrong       ExitCode = 3 // wrong password, or two different ones were typed
	ExitInterrupted ExitCode = 4 // a signal ended the tool
	ExitTooLong     ExitCode = 5 // user name or password too long
	ExitIllegal     ExitCode = 6 // user name or password that cannot be, or no such user
	ExitNotAFile    ExitCode = 7 // not an htpasswd file, or one that a server would refuse
)

// exitError is a message for the user of the tool, with the code to exit with.
type exitError struct {
	code ExitCode
	text string
}

func (e *exitError) Error() string { return e.text }

func failed(code ExitCode, format string, args ...any) error {
	return &exitError{code, fmt.Sprintf(format, args...)}
}

// codeOf returns the code to exit with after an error.
func codeOf(err error) ExitCode {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	return ExitFile
}
