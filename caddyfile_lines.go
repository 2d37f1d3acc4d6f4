package caddyhtpasswd

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// The lines of an upstream group are stored, and parsed again for each proxy_pass as
// if they were part of its block. Lines from different places then become one list
// of tokens.

// blockLines returns the lines of the next block, including nested blocks, and the
// closing brace. Both are nil if there is no block.
func blockLines(d *caddyfile.Dispenser) (lines []caddyfile.Segment, end caddyfile.Segment) {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		lines = append(lines, d.NextSegment())
	}
	if t := d.Token(); t.Text == "}" && !t.Quoted() {
		end = caddyfile.Segment{t}
	}
	return lines, end
}

// joinLines joins lines from different places into one list of tokens that parses as
// the same lines. Caddy begins a new line only where the line number rises or the
// file changes. So a line without effect separates the others.
func joinLines(lines []caddyfile.Segment) []caddyfile.Token {
	// An empty list of trusted proxies, from a file that cannot exist.
	separator := caddyfile.Token{File: "\x00", Text: "trusted_proxies"}

	var tokens []caddyfile.Token
	for _, line := range lines {
		if len(tokens) > 0 && !beginsLine(line[0], tokens[len(tokens)-1]) {
			tokens = append(tokens, separator)
		}
		tokens = append(tokens, line...)
	}
	return tokens
}

// beginsLine reports whether t begins a new line for Caddy if it follows previous.
func beginsLine(t, previous caddyfile.Token) bool {
	d := caddyfile.NewDispenser([]caddyfile.Token{previous, t})
	d.Next()
	return d.NextLine()
}

// lastOf returns the first token of the last line that begins with name.
func lastOf(name string, lines []caddyfile.Segment) (t caddyfile.Token, found bool) {
	for _, line := range lines {
		if line.Directive() == name {
			t, found = line[0], true
		}
	}
	return t, found
}
