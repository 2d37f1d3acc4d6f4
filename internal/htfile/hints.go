package htfile

import (
	"strings"

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

// IsTextNotPath reports whether a value that was meant as a path can be the
// text of a password file, which no message may show. A path that looks like
// one is rare, and loses no more than its name in an error.
func IsTextNotPath(value string) bool {
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
	hash, _, _ := strings.Cut(strings.Trim(rest, Whitespace), ":")
	_, err := crypt.Parse(hash)
	return err == nil || strings.HasPrefix(hash, "$") || strings.HasPrefix(hash, "{")
}
