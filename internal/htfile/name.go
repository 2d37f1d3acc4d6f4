package htfile

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNameTooLong is returned for a user name of more than MaxUserLen bytes.
var ErrNameTooLong = fmt.Errorf("user name longer than %d bytes", MaxUserLen)

// CheckName returns an error if name cannot be a user name in an htpasswd file:
// the line "name:hash" would be parsed as something else.
func CheckName(name string) error {
	switch {
	case len(name) > MaxUserLen:
		return ErrNameTooLong
	case strings.Contains(name, ":"):
		return errors.New("user name contains ':', which separates it from the hash")
	case HasControl(name):
		return errors.New("user name contains a control character")
	}
	parsed := ""
	for _, line := range lines(name + ":*") {
		var problem string
		if parsed, _, problem = splitLine(line); problem != "" {
			return errors.New(problem)
		}
	}
	if parsed != name {
		return errors.New("user name begins with '#', whitespace or a byte order mark; the line would be a comment, or have another name")
	}
	return nil
}
