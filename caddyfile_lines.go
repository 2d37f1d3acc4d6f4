package caddyhtpasswd

import "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

// The lines of an upstream group are kept, and read again at each proxy_pass
// as if they stood in its block: lines of several places become one list of
// tokens.

// blockLines returns the lines of the block that follows, with the blocks
// that belong to them, and the closing brace. Both are nil if there is no block.
func blockLines(d *caddyfile.Dispenser) (lines []caddyfile.Segment, end caddyfile.Segment) {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		lines = append(lines, d.NextSegment())
	}
	if t := d.Token(); t.Text == "}" && !t.Quoted() {
		end = caddyfile.Segment{t}
	}
	return lines, end
}

// joinLines joins lines of different places to a list of tokens that reads
// as the same lines. Caddy takes tokens of one file for one line if their line
// numbers do not rise, so a line without effect separates such lines.
func joinLines(lines []caddyfile.Segment) []caddyfile.Token {
	// A list of trusted proxies without any proxy, from a file that cannot exist.
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

// beginsLine reports whether Caddy takes t for the beginning of a line if it
// comes after previous.
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
