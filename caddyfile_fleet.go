package caddyhtpasswd

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseFleet parses the engine, which parses its settings itself.
func (p *optionParser) parseFleet() error {
	const expected = "the engine of the store that the servers share, such as redis"
	c := p.lineContext()
	if !p.NextArg() {
		return c.expected(p.Token(), expected, foundNothing, "")
	}
	t := p.Token()
	if err := c.checkSemicolon(t); err != nil {
		return err
	}
	id := fleetNamespace + "." + t.Text
	if _, err := caddy.GetModule(id); err != nil {
		return c.at(t, "%w", errNoEngine(t.Text))
	}
	engine, err := caddyfile.UnmarshalModule(p.Dispenser, id)
	if err != nil {
		return err
	}
	p.app.FleetRaw = caddyconfig.JSONModuleObject(engine, "engine", t.Text, nil)
	return nil
}
