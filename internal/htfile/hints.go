package htfile

import (
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// hashHint returns how to fix a hash of an unknown format, with a separator in
// front, or "" if no common mistake is recognized. It contains nothing of the hash.
func hashHint(hash string) string {
	// docker compose needs each $ doubled in a compose file, but not in a mounted file.
	if strings.Contains(hash, "$$") {
		if _, err := crypt.Parse(strings.ReplaceAll(hash, "$$", "$")); err == nil {
			return "; each $ is doubled, as in a compose file; write a single $"
		}
	}
	return ""
}

// IsTextNotPath reports whether a value that should be a path may be the text of a
// password file, which no message may show. If a path looks like such a text, an
// error just does not name it.
func IsTextNotPath(value string) bool {
	if strings.Contains(value, "\n") {
		return true
	}
	user, rest, found := strings.Cut(lineContent(value), ":")
	if !found {
		return strings.HasPrefix(value, "$") // a hash alone
	}
	if !strings.ContainsAny(user, `/\`) && len(user) > 1 { // one letter can be a Windows drive
		return true
	}
	hash, _, _ := strings.Cut(strings.Trim(rest, Whitespace), ":")
	_, err := crypt.Parse(hash)
	return err == nil || strings.HasPrefix(hash, "$") || strings.HasPrefix(hash, "{")
}
