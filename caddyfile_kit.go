package caddyhtpasswd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// subdirectives parses the lines of a block, which belongs to a directive or a global
// option. For each line call begin, and then one of the methods that read the
// arguments:
//
//	for d.NextBlock(0) {
//		if err := s.begin(); err != nil {
//			return err
//		}
//		switch d.Val() {
//		case "realm":
//			realm, err = s.argument("a text")
//
// The methods leave the dispenser at the end of the line. They refuse a block after
// the line, and arguments that are empty or end with a semicolon, as in nginx. All
// errors begin with the context and the subdirective, and say where the mistake is.
type subdirectives struct {
	*caddyfile.Dispenser
	context    errorContext
	known      []string     // all names, in the order in which errors list them
	repeatable []string     // the names that are allowed more than once
	elsewhere  nginxContext // whose directives of nginx may be tried here

	name  caddyfile.Token            // the name of the current line
	first map[string]caddyfile.Token // where something that is allowed once was used, by kind and name
}

// begin reads the name of a subdirective, and refuses unknown and duplicate names.
func (s *subdirectives) begin() error {
	s.name = s.Token()
	name := s.name.Text
	switch {
	case !slices.Contains(s.known, name):
		return s.unknown()
	case slices.Contains(s.repeatable, name):
		return nil
	}
	return s.once(s.context, "subdirective", name, s.name)
}

// unknown returns the error for an unknown name.
func (s *subdirectives) unknown() error {
	if instead, ok := insteadOf(s.elsewhere, s.name.Text); ok {
		return s.context.unexpected(s.name, "subdirective", instead)
	}
	if err := s.context.checkSemicolon(s.name); err != nil {
		return err
	}
	// The text after "=" may be a secret, as in "secret=...".
	name := s.name.Text
	if end := strings.IndexAny(name, "=:"); end >= 0 {
		name = name[:end+1] + "..."
	}
	return s.context.unrecognized(s.name, "subdirective", name, s.known...)
}

// once records something that is allowed once in the block, and refuses the second.
func (s *subdirectives) once(c errorContext, kind, name string, t caddyfile.Token) error {
	key := kind + " " + name
	if first, ok := s.first[key]; ok {
		return c.duplicate(t, kind, name, first)
	}
	if s.first == nil {
		s.first = make(map[string]caddyfile.Token)
	}
	s.first[key] = t
	return nil
}

// lineContext is the context of the line, with the name of the subdirective.
func (s *subdirectives) lineContext() errorContext { return s.context.in(s.name.Text) }

// tokens returns the arguments of the subdirective, at least one. expected describes
// them in errors.
func (s *subdirectives) tokens(expected string) ([]caddyfile.Token, error) {
	tokens := s.RemainingArgsAsTokens()
	if len(tokens) == 0 {
		return nil, s.lineContext().expected(s.Token(), expected, foundNothing, "")
	}
	if err := s.lineContext().checkSemicolon(tokens...); err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if t.Text == "" {
			return nil, s.lineContext().expected(t, expected, quoted(""), "")
		}
	}
	return tokens, s.noBlock()
}

// arguments returns the texts of the arguments of the subdirective, at least one.
func (s *subdirectives) arguments(expected string) ([]string, error) {
	tokens, err := s.tokens(expected)
	if err != nil {
		return nil, err
	}
	args := make([]string, len(tokens))
	for i, t := range tokens {
		args[i] = t.Text
	}
	return args, nil
}

// argument returns the only argument of the subdirective.
func (s *subdirectives) argument(expected string) (string, error) {
	tokens, err := s.tokens(expected)
	if err != nil {
		return "", err
	}
	if len(tokens) > 1 {
		return "", s.lineContext().unexpected(tokens[1], "argument", "expected "+expected)
	}
	return tokens[0].Text, nil
}

// duration returns the only argument of the subdirective, which must be above zero
// and not below lowest.
func (s *subdirectives) duration(expected string, lowest time.Duration) (time.Duration, error) {
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return 0, s.lineContext().expected(s.Token(), expected, quoted(text), "")
	}
	if duration < lowest {
		return 0, s.lineContext().expected(s.Token(), fmt.Sprintf("at least %s", lowest), quoted(text), "")
	}
	return duration, nil
}

// number returns the only argument of the subdirective, from 1 to highest.
func (s *subdirectives) number(expected string, highest int) (int, error) {
	expected = fmt.Sprintf("%s, 1 to %d", expected, highest)
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > highest {
		return 0, s.lineContext().expected(s.Token(), expected, quoted(text), "")
	}
	return n, nil
}

// noArgument refuses arguments.
func (s *subdirectives) noArgument() error {
	if s.NextArg() {
		return s.lineContext().unexpected(s.Token(), "argument", "expected none")
	}
	return s.noBlock()
}

// noBlock refuses a block, even an empty one. All arguments must have been read.
func (s *subdirectives) noBlock() error {
	last := s.Token()
	if s.NextLine() {
		s.Prev()
		return nil
	}
	if s.Next() { // on the same line, but not an argument
		return s.lineContext().at(last, "unexpected block: expected none")
	}
	return nil
}
