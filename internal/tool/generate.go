package tool

import (
	"crypto/rand"
	"io"
)

const (
	// generatedChars are letters and digits that look different in all fonts, without
	// 0, 1, I, O, l and o. No shell, file format or browser treats one specially, and a
	// double click selects them all.
	generatedChars = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"

	// generatedLen is the length of generated passwords. With 56 characters, each has
	// 5.8 bits, and the password 116.
	generatedLen = 20
)

// generatePassword returns a random password. All passwords are equally likely.
func generatePassword() []byte {
	const most = 256 - 256%len(generatedChars) // bytes above it would make some characters more likely
	password := make([]byte, 0, generatedLen)
	var random [2 * generatedLen]byte
	for {
		_, _ = rand.Read(random[:]) // never fails
		for _, b := range random {
			if int(b) >= most {
				continue
			}
			password = append(password, generatedChars[int(b)%len(generatedChars)])
			if len(password) == generatedLen {
				return password
			}
		}
	}
}

// printGenerated prints a generated password alone on a line: the only copy of it.
func (t *tool) printGenerated(to io.Writer, name string, password []byte) error {
	if !t.generate {
		return nil
	}
	if _, err := io.WriteString(to, string(password)+"\n"); err != nil {
		return failed(ExitFile, "the new password of user %s could not be printed: %s; run the command again", name, err)
	}
	return nil
}

// checkGenerate returns what to write instead of a command with --generate, or "".
func (t *tool) checkGenerate() string {
	switch {
	case !t.generate:
		return ""
	case t.batch:
		return "use --generate (a random password) or -b (password on the command line), not both"
	case t.stdin:
		return "use --generate (a random password) or -i (from standard input), not both"
	case t.verify || t.remove || t.check || t.list:
		return "--generate sets a new password; leave it out with -v, -D, --check and --list"
	case t.exports || t.imports:
		return "--generate sets a new password; leave it out with --export and --import"
	case t.format == "descrypt":
		return "--generate creates 20 characters, and DES crypt uses only the first 8; leave out -d"
	}
	return ""
}
