package caddyhtpasswd

import (
	"strconv"
)

// parseChangePassword parses the path of the page, and the optional block after it.
func (p *directiveParser) parseChangePassword() (*ChangePassword, error) {
	c, settings := p.s.lineContext(), new(ChangePassword)
	if !p.NextArg() {
		return nil, c.expected(p.Token(), pagePath, foundNothing, "")
	}
	if err := c.checkSemicolon(p.Token()); err != nil {
		return nil, err
	}
	settings.Path = p.Val()
	if instead := settings.pathProblem(); instead != "" {
		return nil, c.at(p.Token(), "expected %s, found %s%s", pagePath, quotedOrNothing(settings.Path), instead)
	}
	if p.NextArg() {
		return nil, c.unexpected(p.Token(), "argument", "expected one path")
	}
	block := &subdirectives{Dispenser: p.Dispenser, context: c, known: []string{"min_length"}}
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		if err := block.begin(); err != nil {
			return nil, err
		}
		text, err := block.argument(pageMinLength)
		if err != nil {
			return nil, err
		}
		settings.MinLength, err = strconv.Atoi(text)
		if err != nil || settings.MinLength == 0 || settings.validate() != nil {
			return nil, block.lineContext().expected(p.Token(), pageMinLength, quoted(text), "")
		}
	}
	return settings, nil
}
