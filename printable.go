package caddyhtpasswd

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// printable returns a text as it is, or quoted and escaped as in Go if a
// terminal could take a part of it for a command, hide it, or show it in another
// place: control characters (of C1, too), marks that change the direction of a
// text, and bytes that are no UTF-8. What begins with a quotation mark is
// quoted, too, so that no text can pass for another one.
func printable(text string) string {
	if strings.HasPrefix(text, `"`) || strings.Contains(text, "\n") || escape(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// escape escapes what printable is about, but line ends, without quotes around.
func escape(text string) string {
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

// isHarmful reports whether c is no character that people see, or a blank.
func isHarmful(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }

// escapeJSON escapes the same in a text that is JSON. There it stands in strings
// only.
func escapeJSON(text string) string {
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

// shorten returns the first bytes of a user name, for a log.
func shorten(user []byte) string {
	const most = 64
	if len(user) <= most {
		return printable(string(user))
	}
	first := user[:most]
	for i := 1; i < utf8.UTFMax; i++ { // not half a character
		if start := most - i; utf8.RuneStart(user[start]) {
			if !utf8.FullRune(user[start:most]) {
				first = user[:start]
			}
			break
		}
	}
	return printable(string(first)) + "..."
}
