// Package shown writes texts that somebody else has chosen, such as the names of
// files and users, into messages.
//
// It promises that a terminal shows such a text as what it is: no text drives the
// terminal, adds a line, hides a part of itself or passes for another one. And a
// shell takes it as one argument, which is no option. Texts without anything of
// that kind stay as they are.
//
// Use Text in messages, Short in logs, JSON for output that is JSON, and Argument
// in commands that a message shows.
package shown

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns a text as it is, or quoted and escaped as in Go if a terminal
// could take a part of it for a command, hide it, or show it in another place:
// control characters (of C1, too), marks that change the direction of a text,
// and bytes that are no UTF-8. A text with a line end is quoted, too: else it
// could add a line that looks like one of the program. So is a text that begins
// with a quotation mark, so that no text can pass for another one.
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

// JSON escapes the same characters in a text that is JSON. They can be in its
// strings only.
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

// isHarmful reports whether c is no character that people see, nor a space or a
// line end.
func isHarmful(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }

// Argument returns a path or name as one argument for a shell, for commands in
// messages: somebody else may have chosen the name, and root may copy the
// command. A name that begins with "-" becomes a path, so that it is no option.
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

// escapedArgument returns what can't be shown as it is, in the quotes of a shell
// that take escapes. A shell that does not know them takes it for another name.
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

// maxShort is how many bytes of a text Short shows.
const maxShort = 64

// Short returns the first 64 bytes of a text, as Text shows them. It is for
// logs: what clients send can be as long as they like. A text that is cut ends
// with "...", and with no part of a character.
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

// Label returns a path as it is, or written in ASCII where it is not the
// UTF-8 that labels must be.
func Label(path string) string {
	if !utf8.ValidString(path) {
		return strconv.QuoteToASCII(path)
	}
	return path
}
