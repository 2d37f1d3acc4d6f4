package caddyhtpasswd

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// refusedSubdirectives says what to write in place of what neither a group
// nor proxy_pass can take.
var refusedSubdirectives = map[string]string{
	// reverse_proxy's own, which would go past the group
	"to":        "write `server <address>` in the group",
	"dynamic":   "the servers of a group are fixed: write `server <address>` in it, or use reverse_proxy",
	"lb_policy": "the group has its own policy: write `balance <method>` in it",

	// nginx's
	"least_conn":         "write `balance least_conn` in the group",
	"least_time":         "there is no such method here: write `balance least_conn` in the group",
	"ip_hash":            "write `balance ip_hash` in the group",
	"hash":               "write `balance hash <key>` in the group",
	"random":             "write `balance random` in the group",
	"sticky":             "write `balance ip_hash`, or `balance hash <key>` with a key such as {cookie.session}, in the group",
	"queue":              "write `lb_try_duration <duration>`: a request waits so long for a server",
	"fail_timeout":       "write `fail_duration <duration>`",
	"keepalive":          "connections are kept open anyway; to limit the idle ones write `transport http { keepalive_idle_conns_per_host <n> }`",
	"resolver":           "leave it out: the system's resolver is asked for each new connection",
	"resolver_timeout":   "leave it out: write `transport http { dial_timeout <duration> }` to limit how long a connection may take",
	"state":              "write the servers into the group, and `caddy reload` after a change",
	"ntlm":               "there is none: NTLM ties a log-in to a connection",
	"keepalive_timeout":  "write `transport http { keepalive <duration> }`",
	"keepalive_requests": "leave it out: there is no such limit",
	"keepalive_time":     "leave it out: there is no such limit",
	"zone":               "leave it out: there is one process, and it knows the state of every server",
}

// refusedParameters says what to write in place of nginx's parameters of a
// server.
var refusedParameters = map[string]string{
	"max_fails":    "write `max_fails <n>` on a line of its own in the group: it holds for each of its servers",
	"fail_timeout": "write `fail_duration <duration>` on a line of its own in the group: it holds for each of its servers",
	"slow_start":   "write `slow_start <duration>` on a line of its own in the group: it holds for each of its servers",
	"resolve":      "leave it out: the name is looked up for each new connection",
	"service":      "not in a group: for SRV records use reverse_proxy with `dynamic srv`",
	"route":        "leave it out: write `balance hash {cookie.<name>}` for sessions that stay with a server",
	"drain":        "leave it out: mark the server `down` and `caddy reload`; requests under way are brought to an end",
}

// blockLines returns the lines of the block that follows, with the blocks
// that belong to them, and the closing brace; both are nil if there is no block.
func blockLines(d *caddyfile.Dispenser) (lines []caddyfile.Segment, end caddyfile.Segment) {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		lines = append(lines, d.NextSegment())
	}
	if t := d.Token(); t.Text == "}" && !t.Quoted() {
		end = caddyfile.Segment{t}
	}
	return lines, end
}

// joinLines joins lines from different places to a list of tokens that reads
// as the same lines. Tokens of one file and of falling or equal line numbers
// would be taken for one line, so a line that means nothing goes in between.
func joinLines(lines []caddyfile.Segment) []caddyfile.Token {
	// A list of trusted proxies without any proxy, from a file that can't be.
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
// stands behind previous.
func beginsLine(t, previous caddyfile.Token) bool {
	d := caddyfile.NewDispenser([]caddyfile.Token{previous, t})
	d.Next()
	return d.NextLine()
}

// dialAddresses returns the addresses to dial that reverse_proxy makes of one
// address; the server's first token tells it file and line.
func dialAddresses(server, address caddyfile.Token) ([]string, error) {
	directive := server.Clone()
	directive.Text = "reverse_proxy"
	h := new(reverseproxy.Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser([]caddyfile.Token{directive, address})); err != nil {
		return nil, err
	}
	dials := make([]string, 0, len(h.Upstreams))
	for _, upstream := range h.Upstreams {
		dials = append(dials, upstream.Dial)
	}
	return dials, nil
}

// addressScheme returns the scheme that an address is written with, if any.
func addressScheme(address caddyfile.Token) string {
	if strings.HasPrefix(address.Text, "unix+h2c/") {
		return "h2c"
	}
	scheme, _, found := strings.Cut(address.Text, "://")
	if !found {
		return ""
	}
	return strings.ToLower(scheme)
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

// checkSemicolon refuses nginx's line ending.
func checkSemicolon(tokens ...caddyfile.Token) error {
	for _, t := range tokens {
		if strings.HasSuffix(t.Text, ";") && !t.Quoted() {
			return errorAt(t, "%q: lines end without a semicolon here: write %q", t.Text, strings.TrimSuffix(t.Text, ";"))
		}
	}
	return nil
}

// errorAt is an error with the token's file, line and import chain.
func errorAt(t caddyfile.Token, format string, args ...any) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d.Errf(format, args...)
}

// place is where a token stands, to be named in an error about another one.
func place(t caddyfile.Token) string {
	return fmt.Sprintf("%s:%d", t.File, t.Line)
}

// closest returns the candidate that name may be a slip of, or nothing.
func closest(name string, candidates []string) string {
	best, least := "", 3 // one edit more than a slip has
	for _, candidate := range candidates {
		edits := editDistance(strings.ToLower(name), strings.ToLower(candidate))
		if edits < least && edits < len(name) {
			best, least = candidate, edits
		}
	}
	return best
}

// editDistance counts the characters to insert, delete or change between a
// and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edits := diagonal
			if a[i] != b[j] {
				edits = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], edits
		}
	}
	return row[len(b)]
}
