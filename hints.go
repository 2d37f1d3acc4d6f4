package caddyhtpasswd

import (
	"errors"
	"io/fs"
	"strings"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// hintAt says how to fix a hash of no known format, with a separator in front,
// if its mistake is a known one. It tells nothing of the hash.
func hintAt(hash string) string {
	// docker compose wants each $ doubled in its own file, not in a file that is mounted.
	if strings.Contains(hash, "$$") {
		if _, err := crypt.Parse(strings.ReplaceAll(hash, "$$", "$")); err == nil {
			return "; each $ of the hash is doubled, as docker compose wants it in a compose file: write a single $"
		}
	}
	return ""
}

// warnOfNobody warns of a version with which nobody can log in.
func (t *userTable) warnOfNobody(logger *zap.Logger, path string) {
	switch {
	case len(t.entries) == 0:
		logger.Warn("file names no user: nobody in it can log in", zap.String("file", path))
	case len(t.classes) == 0:
		logger.Warn("no user in the file can log in", zap.String("file", path))
	}
}

// errTextAsPath is for a value of 'file' that must not be shown.
var errTextAsPath = errors.New("value looks like the text of a password file (not shown here); expected the path of a file with that text, such as /etc/caddy/.htpasswd")

// howToCreate says what to do about a password file that is not there.
func howToCreate(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "; create it with: caddy htpasswd -c <file> <user>"
	}
	return ""
}

// isTextNotPath reports whether a value that was meant as a path can be the
// text of a password file. A path that looks like one is rare, and loses no
// more than its name in an error.
func isTextNotPath(value string) bool {
	if strings.Contains(value, "\n") {
		return true
	}
	user, rest, found := strings.Cut(meaning(value), ":")
	if !found {
		return strings.HasPrefix(value, "$") // a hash alone
	}
	if !strings.ContainsAny(user, `/\`) && len(user) > 1 { // one letter can be a drive of Windows
		return true
	}
	hash, _, _ := strings.Cut(strings.Trim(rest, blanks), ":")
	_, err := crypt.Parse(hash)
	return err == nil || strings.HasPrefix(hash, "$") || strings.HasPrefix(hash, "{")
}
