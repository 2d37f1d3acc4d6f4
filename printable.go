package caddyhtpasswd

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// printable returns a text as a terminal shows it: see shown.Text.
func printable(text string) string { return shown.Text(text) }

// escape escapes what printable is about, but line ends, without quotes around.
func escape(text string) string { return shown.Escape(text) }

// escapeJSON escapes the same in a text that is JSON. There it stands in strings
// only.
func escapeJSON(text string) string {
	var b strings.Builder
	for _, c := range text {
		if shown.IsHarmful(c) {
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
