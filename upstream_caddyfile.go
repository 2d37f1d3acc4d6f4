package caddyhtpasswd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("upstream", parseUpstream)
	httpcaddyfile.RegisterHandlerDirective("proxy_pass", parseProxyPass)
	httpcaddyfile.RegisterDirectiveOrder("proxy_pass", httpcaddyfile.Before, "reverse_proxy")
}

// parseUpstream sets up an upstream group from the tokens of the global option. Syntax:
//
//	upstream <group> {
//	    server     <address> [weight=<n>] [max_conns=<n>] [backup] [down | drain] [route=<name>] [resolve]
//	    balance    round_robin | least_conn | least_time | ip_hash | hash <key> | random
//	    sticky     cookie <name> [<attribute>=<value>]... | route <placeholder>...
//	    slow_start <duration>
//	    <any other subdirective of reverse_proxy>
//	}
//
// The option can be repeated with other names. It keeps the groups for proxy_pass, and
// their names for UpstreamNames. Groups that no proxy_pass uses are checked as well.
func parseUpstream(d *caddyfile.Dispenser, existing any) (any, error) {
	groups := groupsOfOption(existing)
	if groups == nil {
		groups = make(upstreamGroups)
	}

	d.Next() // consume option name
	if !d.NextArg() {
		return nil, errorContext("").expected(d.Token(), "the name of a group", foundNothing, "write 'upstream <group> { server <address> ... }'")
	}
	group := &groupDefinition{name: d.Token()}
	if err := group.checkName(); err != nil {
		return nil, err
	}
	if d.NextArg() {
		return nil, group.context().unexpected(d.Token(), "argument", "expected '{' and a line 'server <address>' for each server")
	}
	if first, ok := groups[group.name.Text]; ok {
		return nil, errorContext("").duplicate(group.name, "upstream group", group.name.Text, first.name)
	}
	if err := group.readBlock(d); err != nil {
		return nil, err
	}
	if _, _, err := group.expand(group.context(), slices.Concat(groupSubdirectives, proxySubdirectives), group.name, nil, nil); err != nil {
		return nil, err
	}
	if err := group.checkServers(); err != nil {
		return nil, err
	}

	groups[group.name.Text] = group
	return groups.asOption(), nil
}

// parseProxyPass sets up a ProxyPass handler from the tokens of the directive and of its
// group. Syntax:
//
//	proxy_pass [<matcher>] <group> {
//	    <any other subdirective of reverse_proxy>
//	}
//
// The group can also be written as http://<group>. The lines of the group come first, so
// the lines of the directive override single values.
func parseProxyPass(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // consume directive name
	directive := h.Token()
	if !h.NextArg() {
		return nil, errorContext("").expected(directive, "the name of an upstream group", foundNothing, "write 'proxy_pass [<matcher>] <group>'")
	}
	groups := groupsOfOption(h.Option("upstream"))
	group, err := groups.find(h.Token())
	if err != nil {
		return nil, err
	}
	if h.NextArg() {
		return nil, errorContext("").unexpected(h.Token(), "argument", fmt.Sprintf("expected one group; to add a server, write 'server %s' in 'upstream %s'", withoutSecrets(h.Val()), group.name.Text))
	}

	lines, end := blockLines(h.Dispenser)
	for _, line := range lines {
		if err := group.checkDirectiveLine(line); err != nil {
			return nil, err
		}
	}
	rp, d, err := group.expand("", proxySubdirectives, directive, lines, end)
	if err != nil {
		return nil, err
	}
	if err := rp.FinalizeUnmarshalCaddyfile(h.WithDispenser(d)); err != nil {
		return nil, withPlace(directive, err)
	}
	return &ProxyPass{Group: group.name.Text, ProxyRaw: caddyconfig.JSONModuleObject(rp, "handler", "reverse_proxy", nil)}, nil
}

// upstreamGroups are the groups of the global options, by name.
type upstreamGroups map[string]*groupDefinition

// find returns the group for an argument of proxy_pass.
func (groups upstreamGroups) find(arg caddyfile.Token) (*groupDefinition, error) {
	name, err := groupReference(arg)
	if err != nil {
		return nil, err
	}
	if group, ok := groups[name]; ok {
		return group, nil
	}
	if len(groups) == 0 {
		return nil, errorContext("").expected(arg, "the name of an upstream group", quoted(name)+", but no group is defined",
			fmt.Sprintf("write 'upstream %s { server <address> ... }' in the global options at the top of the Caddyfile, or use reverse_proxy for a single address", name))
	}
	return nil, errorContext("").unrecognized(arg, "upstream group", name, slices.Sorted(maps.Keys(groups))...)
}

// groupReference returns the group name in an argument of proxy_pass.
func groupReference(arg caddyfile.Token) (string, error) {
	const c errorContext = ""
	if err := c.checkSemicolon(arg); err != nil {
		return "", err
	}
	scheme, rest, hasScheme := strings.Cut(arg.Text, "://")
	if !hasScheme {
		scheme, rest = "http", arg.Text
	}
	name, path, hasPath := strings.Cut(rest, "/")
	found := quoted(arg.Text)
	switch {
	case scheme == "https":
		return "", c.expected(arg, "a group without a scheme", found, fmt.Sprintf("write 'proxy_pass %s' and, in the group, 'server https://...'", withoutSecrets(name)))
	case scheme != "http":
		return "", c.expected(arg, "<group> or http://<group>", found, fmt.Sprintf("in the group write 'server %s://...'", scheme))
	case name == "":
		return "", c.expected(arg, "the name of an upstream group", found, "")
	case strings.Contains(name, ":"):
		rest = withoutSecrets(rest)
		return "", c.expected(arg, "the name of an upstream group, not an address", found, fmt.Sprintf("write 'server %s' in a group, or use 'reverse_proxy %s'", rest, rest))
	case hasPath:
		return "", c.expected(arg, "a group without a path", quoted("/"+path), fmt.Sprintf("write 'proxy_pass %s', and change the path with 'handle_path', 'uri strip_prefix' or 'rewrite'", name))
	}
	return name, nil
}
