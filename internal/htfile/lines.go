package htfile

import (
	"iter"
	"strings"
)

// lines yields the trimmed lines of a file with their numbers from 1, except for
// empty lines and comments. It removes a byte order mark and CRLF line ends.
func lines(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		_, rest := cutMark(text)
		for number := 1; rest != ""; number++ {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			line = lineContent(line)
			if line != "" && !yield(number, line) {
				return
			}
		}
	}
}

// cutMark removes a byte order mark from the beginning of a file.
func cutMark(text string) (mark, rest string) {
	const byteOrderMark = "\uFEFF"
	rest = strings.TrimPrefix(text, byteOrderMark)
	return text[:len(text)-len(rest)], rest
}

// lineContent returns the trimmed line, or "" for a comment.
func lineContent(line string) string {
	line = strings.Trim(line, Whitespace)
	if line == "" || line[0] == '#' {
		return ""
	}
	return line
}

// HasLines reports whether text has a line that is neither empty nor a comment.
func HasLines(text string) bool {
	for range lines(text) {
		return true
	}
	return false
}

// HasControl reports whether s contains an ASCII control character. RFC 7617 allows
// none in user names and passwords.
func HasControl[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// isWhitespace reports whether c is ASCII whitespace. Other whitespace is part of
// names.
func isWhitespace(c rune) bool { return strings.ContainsRune(Whitespace, c) }
