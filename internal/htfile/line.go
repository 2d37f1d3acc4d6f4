package htfile

import (
	"fmt"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// Line is one line of an htpasswd file.
type Line struct {
	Number      int         // from 1
	Name        string      // "" if the line has no user name; of an invalid line it can be a hash
	Hash        string      // text after the first colon
	State       State       // of this line alone; StateInvalid if IsDuplicate
	Class       crypt.Class // of the hash, if State is StateUsable
	Problem     string      // reason why the line is invalid; "" if it is valid
	IsDuplicate bool        // an earlier line has the same name
}

// parseHash sets State, Class and Problem from the hash.
func (l *Line) parseHash() {
	if isLocked(l.Hash) {
		l.State = StateLocked
		return
	}
	class, err := crypt.Parse(l.Hash)
	if err != nil {
		l.Problem = err.Error() + hashHint(l.Hash)
		return
	}
	l.State, l.Class = StateUsable, class
}

// splitLine splits a line into name and hash. If there is a problem, name is the
// user of the line, or "" if it is unclear or not a valid user name.
func splitLine(line string) (name, hash, problem string) {
	name, rest, found := strings.Cut(line, ":")
	switch {
	case name == "":
		return "", "", "no user name before the colon"
	case len(name) > MaxUserLen:
		return "", "", ErrNameTooLong.Error()
	case HasControl(name):
		return "", "", "user name contains a control character"
	case name[len(name)-1] == ' ':
		return name, "", "user name ends with a space" // a header field loses it, and then names another user
	case !found:
		return name, "", "no colon between user name and hash"
	case len(line) > MaxLineLen:
		return name, "", fmt.Sprintf("line longer than %d bytes", MaxLineLen)
	}
	hash, _, _ = strings.Cut(rest, ":")
	return name, strings.Trim(hash, Whitespace), ""
}

// isLocked reports whether hash is a mark of a locked account, as in /etc/shadow:
// "*", "!", "!!", "x", "", or a hash after "!". In an export of an LDAP server, {CRYPT}
// stands before it. It is strict: a text that is not an htpasswd file must not be
// accepted as one.
func isLocked(hash string) bool {
	if bare, found := crypt.CutScheme(hash); found {
		if hash = bare; hash == "" {
			return false // an incomplete line
		}
	}
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
