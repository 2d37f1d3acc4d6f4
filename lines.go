package caddyhtpasswd

import (
	"fmt"
	"iter"
	"strings"

	"go.uber.org/zap"
)

const (
	// maxLineLen is how many bytes a line of an htpasswd file can have; the
	// longest known hash has about 200.
	maxLineLen = 8 << 10

	// maxNoted is how many bad lines, and how many duplicates, are noted one
	// by one; the rest is only counted.
	maxNoted = 10

	blanks = " \t\r\v\f"
)

// lines yields the lines of a file that say something, trimmed, with their
// numbers from 1: no blank ones and none that begin with "#". A byte order
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
	line = strings.Trim(line, blanks)
	if line == "" || line[0] == '#' {
		return ""
	}
	return line
}

// hasLines reports whether text has a line that says something.
func hasLines(text string) bool {
	for range lines(text) {
		return true
	}
	return false
}

// hasControl reports whether s has a control character of ASCII. RFC 7617
// allows none in user names and passwords.
func hasControl[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// findings are what there is to say about a file after reading it. They never
// hold a hash.
type findings struct {
	good       int
	badCount   int
	bad        []finding // the first maxNoted
	dupCount   int
	duplicates []int // lines, the first maxNoted; what looks like a name can be a hash
}

type finding struct {
	line int
	text string
}

func (f *findings) badLine(number int, problem string) {
	f.badCount++
	if len(f.bad) < maxNoted {
		f.bad = append(f.bad, finding{number, problem})
	}
}

func (f *findings) duplicate(number int) {
	f.dupCount++
	if len(f.duplicates) < maxNoted {
		f.duplicates = append(f.duplicates, number)
	}
}

// verdict is an error if the file has lines, but not one good one.
func (f *findings) verdict(expected string) error {
	if f.good > 0 || f.badCount == 0 {
		return nil
	}
	return fmt.Errorf("none of its %d lines is a valid %s line; line %d: %s",
		f.badCount, expected, f.bad[0].line, f.bad[0].text)
}

// isBlank reports whether c is a blank of ASCII. Others are parts of names.
func isBlank(c rune) bool { return strings.ContainsRune(blanks, c) }

// log writes one warning for each of the first bad lines, of which badLine
// says what it means, and of the duplicates, and one for the rest.
func (f *findings) log(logger *zap.Logger, path, badLine string) {
	for _, b := range f.bad {
		logger.Warn(badLine,
			zap.String("file", path), zap.Int("line", b.line), zap.String("reason", b.text))
	}
	for _, line := range f.duplicates {
		logger.Warn("duplicate user: an earlier line decides, this one is skipped",
			zap.String("file", path), zap.Int("line", line))
	}
	if more := f.badCount - len(f.bad) + f.dupCount - len(f.duplicates); more > 0 {
		logger.Warn("more lines skipped than are listed",
			zap.String("file", path), zap.Int("bad_lines", f.badCount), zap.Int("duplicates", f.dupCount))
	}
}
