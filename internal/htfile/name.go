package htfile

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNameTooLong is for a user name of more than MaxUserLen bytes.
var ErrNameTooLong = fmt.Errorf("user name longer than %d bytes", MaxUserLen)

// CheckName returns why no line can give a user this name, nil if one can. A
// line "name:hash" with a name that passes is read as it is written.
func CheckName(name string) error {
	switch {
	case len(name) > MaxUserLen:
		return ErrNameTooLong
	case strings.Contains(name, ":"):
		return errors.New("user name with a colon, where the hash would begin")
	case HasControl(name):
		return errors.New("control character in the user name")
	}
	named := ""
	for _, line := range lines(name + ":*") {
		var problem string
		if named, _, problem = splitLine(line); problem != "" {
			return errors.New(problem)
		}
	}
	if named != name {
		return errors.New("user name that begins with #, a blank or a byte order mark: a server would take the line for another name, or for a comment")
	}
	return nil
}
