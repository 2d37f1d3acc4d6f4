package caddyhtpasswd

import (
	"errors"
	"io/fs"
)

// errTextAsPath is for a value of 'file' that must not be shown.
var errTextAsPath = errors.New("value looks like the text of a password file (not shown here); expected the path of a file with that text, such as /etc/caddy/.htpasswd")

// howToCreate says what to do about a password file that is not there.
func howToCreate(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "; create it with: caddy htpasswd -c <file> <user>"
	}
	return ""
}
