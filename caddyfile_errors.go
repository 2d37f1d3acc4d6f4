package caddyhtpasswd

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// errorContext is the beginning of the errors in a part of the Caddyfile: the names
// that lead to this part, such as "upstream web: server a: ". Caddy writes the name
// of the directive or global option before it.
//
// The methods return errors, one method for each kind of mistake. An error says what
// was expected, what was found, what to write instead, and where: the file, line and
// chain of imports of the token.
type errorContext string

// in returns the context of a part with its own name.
func (c errorContext) in(name string) errorContext { return c + errorContext(name) + ": " }

// at returns an error for which no other method fits.
func (c errorContext) at(t caddyfile.Token, format string, args ...any) error {
	return errorAt(t, "%s%w", string(c), fmt.Errorf(format, args...))
}

// expected returns the error for a value that is invalid or missing. The text found
// is written as it is; see quoted. If instead is not empty, it says what to write.
func (c errorContext) expected(t caddyfile.Token, what, found, instead string) error {
	if instead != "" {
		instead = ": " + instead
	}
	return c.at(t, "expected %s, found %s%s", what, found, instead)
}

// foundNothing stands for a missing argument in the errors of expected.
const foundNothing = "nothing"

// unexpected returns the error for a token that is not allowed here. kind is a word
// such as "argument", and instead says what to write.
func (c errorContext) unexpected(t caddyfile.Token, kind, instead string) error {
	return c.at(t, "unexpected %s %s: %s", kind, quoted(t.Text), instead)
}

// duplicate returns the error for something that is allowed only once.
func (c errorContext) duplicate(t caddyfile.Token, kind, name string, first caddyfile.Token) error {
	return c.at(t, "duplicate %s %s (first used %s)", kind, quoted(name), lineOf(first, t))
}

// unrecognized returns the error for an unknown name. The known names may include
// their syntax, as in "weight=<n>".
func (c errorContext) unrecognized(t caddyfile.Token, kind, name string, known ...string) error {
	return c.at(t, "%w", errUnrecognized(kind, name, known))
}

// errUnrecognized is like unrecognized, without a position, for JSON.
func errUnrecognized(kind, name string, known []string) error {
	word, _, _ := strings.Cut(name, "=")
	meant := closest(word, known)
	if meant != "" {
		meant = "; did you mean " + quoted(meant) + "?"
	}
	return fmt.Errorf("unrecognized %s %s; expected one of: %s%s", kind, quoted(name), strings.Join(known, ", "), meant)
}

// checkSemicolon refuses nginx's line ending.
func (c errorContext) checkSemicolon(tokens ...caddyfile.Token) error {
	for _, t := range tokens {
		if without, ok := strings.CutSuffix(t.Text, ";"); ok && !t.Quoted() {
			return c.at(t, "unexpected semicolon in %s: lines end without a semicolon; write %s", quoted(t.Text), quoted(without))
		}
	}
	return nil
}

// quoted returns a text of the configuration for an error: in quotes, on one line,
// and without anything that may be a secret.
func quoted(text string) string {
	text = withoutSecrets(text)
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		text = strings.Trim(strconv.Quote(text), `"`)
	}
	return "'" + text + "'"
}

// secretParts match the parts of a text that may be secrets. The first group of each
// expression is shown.
var secretParts = []*regexp.Regexp{
	// A password hash, or a password in a format of package crypt, whole or not.
	regexp.MustCompile(`(?is)()(?:\$(?:[0-9][a-z]?|g?y|apr1|argon2[a-z]*|scrypt|pbkdf2[-a-z0-9]*)\$|\{(?:plain|s?sha[0-9]*|smd5|md5|crypt)\}).*`),
	// The value of an Authorization header.
	regexp.MustCompile(`(?is)^((?:[a-z-]+: *)?(?:basic|bearer|digest) ).*`),
	// The user of a URL, from the scheme or the beginning on.
	regexp.MustCompile(`(?is)^([a-z0-9+.-]*://|)[^/?#@]*:[^/?#]*@`),
}

// withoutSecrets returns a text of the configuration without password hashes and
// credentials. These can be anywhere by mistake, and errors are logged.
func withoutSecrets(text string) string {
	for _, part := range secretParts {
		text = part.ReplaceAllString(text, "${1}(not shown)")
	}
	return text
}

// errorAt returns an error with the token's file, line and chain of imports.
func errorAt(t caddyfile.Token, format string, args ...any) error {
	return dispenserAt(t).Errf(format, args...)
}

// withPlace adds the position of the token to an error of Caddy that has none.
func withPlace(t caddyfile.Token, err error) error {
	if err == nil || strings.Contains(err.Error(), ", at ") {
		return err
	}
	return dispenserAt(t).WrapErr(err)
}

// dispenserAt returns a dispenser whose current token is t.
func dispenserAt(t caddyfile.Token) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d
}

// lineOf returns the position of a token, for an error at another token.
func lineOf(t, other caddyfile.Token) string {
	if t.File == other.File {
		return fmt.Sprintf("on line %d", t.Line)
	}
	return fmt.Sprintf("at %s:%d", t.File, t.Line)
}

// closest returns the candidate of which name may be a misspelling, or "". Only the
// first word of a candidate is compared: "weight" of "weight=<n>".
func closest(name string, candidates []string) string {
	best, least := "", 3 // one edit more than a misspelling has
	for _, candidate := range candidates {
		word, _, _ := strings.Cut(candidate, " ")
		word, _, _ = strings.Cut(word, "=")
		edits := editDistance(strings.ToLower(name), strings.ToLower(word))
		if edits < least && edits < len(name) {
			best, least = word, edits
		}
	}
	return best
}

// editDistance returns how many bytes to insert, delete or change between a and b
// (Levenshtein distance). It takes len(a) * len(b) steps.
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
