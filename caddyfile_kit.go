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

// subdirectives reads the lines of a block, that of a directive or of a global
// option. For each line call begin, and then one of the methods that read what
// follows the name:
//
//	for d.NextBlock(0) {
//		if err := s.begin(); err != nil {
//			return err
//		}
//		switch d.Val() {
//		case "realm":
//			realm, err = s.argument("a text")
//
// The methods leave the dispenser at the end of the line. They refuse a block
// behind it, and an argument that is empty or ends with nginx's semicolon. All
// errors say where they are, and begin with the context and the subdirective.
type subdirectives struct {
	*caddyfile.Dispenser
	context    errorContext
	known      []string     // all names, as errors list them
	repeatable []string     // those that can be there more than once
	elsewhere  nginxContext // of the names of nginx that may be tried here

	name  caddyfile.Token            // of the line that began last
	first map[string]caddyfile.Token // by kind and name, of what can be there once
}

// begin refuses the name of a subdirective that is unknown, or there for the
// second time.
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

// unknown is the error for the name of the line.
func (s *subdirectives) unknown() error {
	if instead, ok := insteadOf(s.elsewhere, s.name.Text); ok {
		return s.context.unexpected(s.name, "subdirective", instead)
	}
	if err := s.context.checkSemicolon(s.name); err != nil {
		return err
	}
	// What follows a name is its value, such as that of "secret=...".
	name := s.name.Text
	if end := strings.IndexAny(name, "=:"); end >= 0 {
		name = name[:end+1] + "..."
	}
	return s.context.unrecognized(s.name, "subdirective", name, s.known...)
}

// once notes something that can be there once in the block.
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

// tokens returns the arguments of the subdirective, at least one. The text
// expected is for errors: what the line has to have.
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

// duration returns the only argument of the subdirective, of at least least
// and above zero.
func (s *subdirectives) duration(expected string, least time.Duration) (time.Duration, error) {
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return 0, s.lineContext().expected(s.Token(), expected, quoted(text), "")
	}
	if duration < least {
		return 0, s.lineContext().expected(s.Token(), fmt.Sprintf("at least %s", least), quoted(text), "")
	}
	return duration, nil
}

// number returns the only argument of the subdirective, from 1 to most.
func (s *subdirectives) number(expected string, most int) (int, error) {
	expected = fmt.Sprintf("%s, 1 to %d", expected, most)
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
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
	if s.Next() { // on the same line, and no argument
		return s.lineContext().at(last, "unexpected block: expected none")
	}
	return nil
}
