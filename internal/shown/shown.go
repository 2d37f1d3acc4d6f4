// Package shown escapes untrusted texts, such as names of files and users, for
// messages.
//
// It promises that no text controls the terminal, adds a line, hides a part of itself
// or looks like another text. A shell treats an argument as a single argument that is
// not an option. Harmless texts stay unchanged.
//
// Use [Text] in messages, [Short] in logs, [JSON] for JSON output, [Argument] in
// commands within messages, and [Label] for labels of metrics.
package shown

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns a text unchanged, or quoted and escaped as in Go if it contains
// characters that a terminal could interpret, hide or move: control characters
// (including C1), marks that change the direction of text, and invalid UTF-8. It also
// quotes a text with a line end, which could add a line that looks like one of the
// program, and a text that begins with a quotation mark, so that no text looks like
// the quoted form of another one.
func Text(text string) string {
	if strings.HasPrefix(text, `"`) || strings.Contains(text, "\n") || Escape(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// Escape escapes the same characters as Text, except for line ends, and adds no
// quotation marks.
func Escape(text string) string {
	if strings.IndexFunc(text, isHarmful) < 0 && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for text != "" {
		c, size := utf8.DecodeRuneInString(text)
		if part := text[:size]; isHarmful(c) || c == utf8.RuneError && size == 1 {
			quoted := strconv.Quote(part)
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(part)
		}
		text = text[size:]
	}
	return b.String()
}

// JSON escapes the same characters in a JSON text, as \u escapes. In valid JSON they
// occur only within strings.
func JSON(text string) string {
	var b strings.Builder
	for _, c := range text {
		if isHarmful(c) {
			for _, unit := range utf16.Encode([]rune{c}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// isHarmful reports whether c is neither a printable character, nor a space or a line
// end.
func isHarmful(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }

// Argument quotes a path or name as a single argument for a shell. It is for commands
// in messages: an attacker may have chosen the name, and root may copy the command. A
// name that begins with "-" gets the prefix "./", so that it is not an option.
func Argument(text string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./_-+,:@%"
	if strings.HasPrefix(text, "-") {
		text = "./" + text
	}
	switch {
	case text != "" && strings.Trim(text, plain) == "":
		return text
	case strings.Contains(text, "\n") || Escape(text) != text:
		return escapedArgument(text)
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// escapedArgument quotes a text with characters that have to be escaped, as $'...'. A
// shell that does not support this treats it as a different name.
func escapedArgument(text string) string {
	var b strings.Builder
	b.WriteString("$'")
	for text != "" {
		c, size := utf8.DecodeRuneInString(text)
		part := text[:size]
		text = text[size:]
		if c < utf8.RuneSelf && c != '\'' && c != '\\' && c != '!' && unicode.IsPrint(c) {
			b.WriteString(part)
			continue
		}
		for i := range len(part) {
			fmt.Fprintf(&b, `\%03o`, part[i])
		}
	}
	b.WriteString("'")
	return b.String()
}

// maxShort is the maximum length of the text that Short returns, in bytes.
const maxShort = 64

// Short returns the first 64 bytes of a text, escaped by Text. It is for logs: texts
// of clients can be of any length. A truncated text ends with "...", and not within a
// character.
func Short[T string | []byte](text T) string {
	if len(text) <= maxShort {
		return Text(string(text))
	}
	first := string(text[:maxShort])
	for i := maxShort - 1; i > maxShort-utf8.UTFMax; i-- {
		if utf8.RuneStart(first[i]) {
			if !utf8.FullRuneInString(first[i:]) {
				first = first[:i]
			}
			break
		}
	}
	return Text(first) + "..."
}

// Label returns a path unchanged, or quoted in ASCII if it is not valid UTF-8, which
// labels of metrics must be.
func Label(path string) string {
	if !utf8.ValidString(path) {
		return strconv.QuoteToASCII(path)
	}
	return path
}
