package htfile

import (
	"fmt"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// Line is what one line of an htpasswd file says.
type Line struct {
	Number      int         // from 1
	Name        string      // "" if the line names nobody; of an invalid line it can be a hash
	Hash        string      // behind the first colon
	State       State       // of the line by itself; StateInvalid if IsDuplicate
	Class       crypt.Class // of the hash, if State is StateUsable
	Problem     string      // why the line is invalid, "" if it is not
	IsDuplicate bool        // an earlier line of the same name decides
}

// judge says what the hash is.
func (l *Line) judge() {
	if isLocked(l.Hash) {
		l.State = StateLocked
		return
	}
	class, err := crypt.Parse(l.Hash)
	if err != nil {
		l.Problem = err.Error() + hintAt(l.Hash)
		return
	}
	l.State, l.Class = StateUsable, class
}

// splitLine takes a line apart. Where there is a problem, name is the user whom the
// line is for, and "" if that is unclear or cannot be a user's name.
func splitLine(line string) (name, hash, problem string) {
	name, rest, found := strings.Cut(line, ":")
	switch {
	case name == "":
		return "", "", "no user name before the colon"
	case len(name) > MaxUserLen:
		return "", "", ErrNameTooLong.Error()
	case HasControl(name):
		return "", "", "control character in the user name"
	case name[len(name)-1] == ' ':
		return name, "", "blank at the end of the user name" // a header field would lose it, and mean another user
	case !found:
		return name, "", "no colon between user name and hash"
	case len(line) > MaxLineLen:
		return name, "", fmt.Sprintf("longer than %d bytes", MaxLineLen)
	}
	hash, _, _ = strings.Cut(rest, ":")
	return name, strings.Trim(hash, Whitespace), ""
}

// isLocked reports whether hash is one of the marks of a locked account, as in
// /etc/shadow: "*", "!", "!!", "x", nothing, a hash behind "!". It is strict: a
// text that is no htpasswd file must not pass for one.
func isLocked(hash string) bool {
	switch rest := strings.TrimLeft(hash, "!"); rest {
	case "", "*", "*LK*", "*NP*":
		return true
	case hash:
		return hash == "x"
	default:
		_, err := crypt.Parse(rest)
		return err == nil
	}
}
