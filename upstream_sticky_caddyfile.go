package caddyhtpasswd

import (
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// stickySyntax is the syntax of a `sticky` line, for errors.
const stickySyntax = "'sticky cookie <name>' or 'sticky route <placeholder>...'"

// stickyParameters is the syntax of the parameters after the name of a cookie.
var stickyParameters = []string{
	"expires=<duration>|max", "domain=<domain>", "path=<path>", "httponly=on|off", "secure=auto|on|off", "samesite=strict|lax|none|off",
}

// maxStickyExpires is the lifetime of a cookie with expires=max, as in nginx.
const maxStickyExpires = 3650 * 24 * time.Hour

// setSticky parses the arguments of a `sticky` line.
func (g *groupDefinition) setSticky(name caddyfile.Token, args caddyfile.Segment) error {
	g.stickyLine = name
	c := g.context().in("sticky")
	method := args[0]
	g.policy.Sticky = new(Sticky)
	switch method.Text {
	case "cookie":
		return g.setStickyCookie(c.in("cookie"), method, args[1:])
	case "route":
		return g.setStickyRoute(c.in("route"), method, args[1:])
	case "learn":
		return c.unexpected(method, "method", "write 'sticky cookie <name>', for which the application need not change; or 'sticky route <placeholder>' if it writes the route into its own cookie")
	}
	return c.unrecognized(method, "method", method.Text, "cookie", "route")
}

// setStickyRoute parses the placeholders.
func (g *groupDefinition) setStickyRoute(c errorContext, method caddyfile.Token, args caddyfile.Segment) error {
	const expected = "a placeholder such as {cookie.route}"
	if len(args) == 0 {
		return c.expected(method, expected, foundNothing, "")
	}
	for _, arg := range args {
		if newHashKey(arg.Text).placeholder == "" {
			return c.expected(arg, expected, quoted(arg.Text), "to take a part of a text, use the directive 'map' and its placeholder")
		}
		g.policy.Sticky.Route = append(g.policy.Sticky.Route, arg.Text)
	}
	return nil
}

// setStickyCookie parses the name of the cookie and the parameters after it.
func (g *groupDefinition) setStickyCookie(c errorContext, method caddyfile.Token, args caddyfile.Segment) error {
	if len(args) == 0 || strings.Contains(args[0].Text, "=") {
		at, found := method, foundNothing
		if len(args) > 0 {
			at, found = args[0], quoted(args[0].Text)
		}
		return c.expected(at, "the name of a cookie", found, "write 'sticky cookie <name>'")
	}
	cookie := &StickyCookie{Name: args[0].Text}
	g.policy.Sticky.Cookie = cookie
	given := make(map[string]caddyfile.Token)
	for _, param := range args[1:] {
		name, value, hasValue := strings.Cut(param.Text, "=")
		if first, ok := given[name]; ok {
			return c.duplicate(param, "parameter", name, first)
		}
		given[name] = param
		if err := cookie.setParameter(c, param, name, value, hasValue); err != nil {
			return err
		}
	}
	if err := cookie.validate(); err != nil {
		return c.at(args[0], "%w", err)
	}
	return nil
}

// setParameter sets one parameter of the cookie. As in nginx, httponly and secure need no
// value.
func (cookie *StickyCookie) setParameter(c errorContext, param caddyfile.Token, name, value string, hasValue bool) error {
	known := slices.IndexFunc(stickyParameters, func(text string) bool { return strings.HasPrefix(text, name+"=") })
	if name == "" || known < 0 {
		return c.unrecognized(param, "parameter", param.Text, stickyParameters...)
	}
	isFlag := name == "httponly" || name == "secure"
	if value == "" && (hasValue || !isFlag) {
		return c.expected(param, stickyParameters[known], quoted(param.Text), "")
	}
	allowed := func(values []string, set *string) error {
		if *set = strings.ToLower(value); !slices.Contains(values, *set) {
			return c.expected(param, stickyParameters[known], quoted(param.Text), "")
		}
		return nil
	}
	if !hasValue {
		value = switchOn
	}
	switch name {
	case "expires":
		lifetime, err := maxStickyExpires, error(nil)
		if value != "max" {
			lifetime, err = caddy.ParseDuration(value)
		}
		if err != nil || lifetime < time.Second {
			return c.expected(param, stickyParameters[known], quoted(param.Text), "write a duration of at least 1s, such as 1h30m or 30d")
		}
		cookie.Expires = caddy.Duration(lifetime)
	case "domain":
		cookie.Domain = value
	case "path":
		cookie.Path = value
	case "httponly":
		return allowed(httpOnlyValues, &cookie.HTTPOnly)
	case "secure":
		return allowed(secureValues, &cookie.Secure)
	case "samesite":
		return allowed(sameSiteValues, &cookie.SameSite)
	}
	return nil
}

// checkSticky refuses settings of the whole group that contradict each other.
func (g *groupDefinition) checkSticky(c errorContext) error {
	if g.policy.Sticky == nil || len(g.policy.Sticky.Route) == 0 {
		return nil
	}
	if !slices.ContainsFunc(g.servers, func(s *groupServer) bool { return s.Route != "" }) {
		return c.in("sticky").in("route").expected(g.stickyLine, "at least one server with 'route=<name>'", "none", "")
	}
	return nil
}
