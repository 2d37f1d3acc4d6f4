package caddyhtpasswd

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
)

// parseDeviceCookie parses the name and the block of device_cookie, both optional.
func (p *directiveParser) parseDeviceCookie() (*DeviceCookie, error) {
	d, c := new(DeviceCookie), p.s.lineContext()
	args := p.RemainingArgsAsTokens()
	if err := c.checkSemicolon(args...); err != nil {
		return nil, err
	}
	if len(args) > 1 {
		return nil, c.unexpected(args[1], "argument", "expected "+expectedDeviceName+", and the maximum age in a block: max_age <duration>")
	}
	if len(args) == 1 {
		if d.Name = args[0].Text; !devicecookie.IsName(d.Name) {
			return nil, c.expected(args[0], expectedDeviceName, quoted(d.Name), "")
		}
	}
	block := &subdirectives{Dispenser: p.Dispenser, context: c, known: []string{"max_age"}}
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		if err := block.begin(); err != nil {
			return nil, err
		}
		maxAge, err := block.duration(expectedDeviceMaxAge, minDeviceMaxAge)
		if err == nil && maxAge > maxDeviceMaxAge {
			err = block.lineContext().expected(p.Token(), expectedDeviceMaxAge, quoted(p.Val()), "")
		}
		if err != nil {
			return nil, err
		}
		d.MaxAge = caddy.Duration(maxAge)
	}
	return d, nil
}
