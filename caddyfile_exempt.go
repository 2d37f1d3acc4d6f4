package caddyhtpasswd

import (
	"fmt"
	"net"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// parseExempt parses named matchers and paths, each a matcher set of its own, or
// one inline matcher.
func (p *directiveParser) parseExempt() error {
	first := p.peek()
	if _, _, err := net.ParseCIDR(first); err == nil || net.ParseIP(first) != nil {
		return p.s.lineContext().expected(p.Token(), "a matcher", quoted(first), "write "+quoted("exempt remote_ip "+first))
	}
	if err := p.checkMatcherName(); err != nil {
		return err
	}
	if first != "*" && !strings.HasPrefix(first, "@") && !strings.HasPrefix(first, "/") {
		set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(p.Dispenser)
		if err != nil {
			return withPlace(p.s.name, fmt.Errorf("exempt: %w", err))
		}
		return p.addExempt(set, foundNothing)
	}
	for p.CountRemainingArgs() > 0 {
		set, ok, err := p.MatcherToken()
		if err != nil {
			return p.s.lineContext().at(p.Token(), "%w", err)
		}
		if err := p.s.lineContext().checkSemicolon(p.Token()); err != nil {
			return err
		}
		if !ok {
			return p.s.lineContext().unexpected(p.Token(), "argument", "expected further named matchers or paths; write an inline matcher on an 'exempt' line of its own")
		}
		if err := p.addExempt(set, quoted(p.Val())); err != nil {
			return err
		}
	}
	return p.s.noBlock()
}

// checkMatcherName refuses a first argument of exempt that is no matcher. Most likely
// it is a path or the name of a named matcher without its first character.
func (p *directiveParser) checkMatcherName() error {
	if !p.NextArg() {
		return nil
	}
	t, c := p.Token(), p.s.lineContext()
	isAlone := p.CountRemainingArgs() == 0
	p.Prev()
	if t.Quoted() || strings.ContainsAny(t.Text[:min(len(t.Text), 1)], "@/*") {
		return nil
	}
	if _, err := caddy.GetModule("http.matchers." + t.Text); err == nil {
		return nil
	}
	if err := c.checkSemicolon(t); err != nil {
		return err
	}
	if known := matcherNames(); !isAlone || closest(t.Text, known) != "" {
		return c.unrecognized(t, "matcher", t.Text, known...)
	}
	name := withoutSecrets(t.Text)
	return c.expected(t, "a matcher", quoted(name), fmt.Sprintf("write '/%s' for a path, or '@%s' for a named matcher", name, name))
}

// matcherNames returns the names of the matchers that Caddy has.
func matcherNames() (names []string) {
	for _, info := range caddy.GetModules("http.matchers") {
		names = append(names, info.ID.Name())
	}
	return names
}

func (p *directiveParser) addExempt(set caddy.ModuleMap, found string) error {
	switch {
	case len(set) > 0 && exemptsAll(set, true):
		return p.Err(errExemptAll(set).Error())
	case len(set) == 0:
		return p.s.lineContext().expected(p.Token(), "a named matcher (@name), a path (/path*) or an inline matcher such as 'remote_ip 192.0.2.0/24'", found,
			"a matcher that matches every request would leave nothing protected")
	}
	p.handler.ExemptRaw = append(p.handler.ExemptRaw, set)
	return nil
}
