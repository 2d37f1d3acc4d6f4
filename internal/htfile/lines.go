package htfile

import (
	"iter"
	"strings"
)

// lines yields the lines of a file that say something, trimmed, with their
// numbers from 1: no empty ones and none that begin with "#". A byte order
// mark and CRLF line ends are taken off.
func lines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		_, rest := cutMark(text)
		for number := 1; rest != ""; number++ {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			line = meaning(line)
			if line != "" && !yield(number, line) {
				return
			}
		}
	}
}

// cutMark takes a byte order mark off the front of a file.
func cutMark(text string) (mark, rest string) {
	const byteOrderMark = "\uFEFF"
	rest = strings.TrimPrefix(text, byteOrderMark)
	return text[:len(text)-len(rest)], rest
}

// meaning returns what a line says, "" if that is nothing.
func meaning(line string) string {
	line = strings.Trim(line, Whitespace)
	if line == "" || line[0] == '#' {
		return ""
	}
	return line
}

// HasLines reports whether text has a line that says something: one that is
// neither empty nor a comment.
func HasLines(text string) bool {
	for range lines(text) {
		return true
	}
	return false
}

// HasControl reports whether s has a control character of ASCII. RFC 7617
// allows none in user names and passwords.
func HasControl[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// isWhitespace reports whether c is whitespace of ASCII. Other whitespace is
// part of names.
func isWhitespace(c rune) bool { return strings.ContainsRune(Whitespace, c) }
