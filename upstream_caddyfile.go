package caddyhtpasswd

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("upstream", parseUpstream)
	httpcaddyfile.RegisterHandlerDirective("proxy_pass", parseProxyPass)
	httpcaddyfile.RegisterDirectiveOrder("proxy_pass", httpcaddyfile.Before, "reverse_proxy")
}

// parseUpstream sets up a group of servers from the tokens of the global
// option. Syntax:
//
//	upstream <group> {
//	    server     <address> [weight=<n>] [max_conns=<n>] [backup] [down]
//	    balance    round_robin | least_conn | ip_hash | hash <key> | random
//	    slow_start <duration>
//	    <any other subdirective of reverse_proxy>
//	}
//
// The option may be repeated with other names. It keeps the groups for
// proxy_pass, and their names for UpstreamNames. A group that nobody uses is
// checked as well.
func parseUpstream(d *caddyfile.Dispenser, existing any) (any, error) {
	groups := groupsOfOption(existing)
	if groups == nil {
		groups = make(upstreamGroups)
	}

	d.Next() // consume option name
	if !d.NextArg() {
		return nil, d.Err("upstream: expected the name of a group: upstream <group> { server <address> ... }")
	}
	group := &groupDefinition{name: d.Token()}
	if err := group.checkName(); err != nil {
		return nil, err
	}
	if d.NextArg() {
		return nil, group.errorAt(d.Token(), "unexpected %q: expected `{` and a line `server <address>` for each server", d.Val())
	}
	if first, ok := groups[group.name.Text]; ok {
		return nil, group.errorAt(group.name, "already defined at %s: a group has one definition", place(first.name))
	}

	lines, _ := blockLines(d)
	shorthands := httpcaddyfile.NewShorthandReplacer()
	for _, line := range lines {
		// Caddy itself replaces the short placeholders of sites only.
		shorthands.ApplyToSegment(&line)
		if err := group.addLine(line); err != nil {
			return nil, err
		}
	}
	if err := group.checkServers(); err != nil {
		return nil, err
	}
	if _, _, err := group.expand(group.name, nil, nil); err != nil {
		return nil, err
	}

	groups[group.name.Text] = group
	return groups.asOption(), nil
}

// parseProxyPass sets up a reverse_proxy handler, and the guard before it, from
// the tokens of the directive and of the group that it names. Syntax:
//
//	proxy_pass [<matcher>] <group> {
//	    <any other subdirective of reverse_proxy>
//	}
//
// The group may also be written http://<group>. The group's subdirectives
// come first, so what can be there once only is replaced by the directive's.
func parseProxyPass(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // consume directive name
	directive := h.Token()
	if !h.NextArg() {
		return nil, h.Err("proxy_pass: expected the name of an upstream group: proxy_pass [<matcher>] <group>")
	}
	groups := groupsOfOption(h.Option("upstream"))
	group, err := groups.find(h.Token())
	if err != nil {
		return nil, err
	}
	if h.NextArg() {
		return nil, h.Errf("proxy_pass %s: unexpected %q: expected one group; for one more server write `server %s` in `upstream %s`",
			group.name.Text, h.Val(), h.Val(), group.name.Text)
	}

	lines, end := blockLines(h.Dispenser)
	for _, line := range lines {
		if err := group.checkDirectiveLine(line); err != nil {
			return nil, err
		}
	}
	rp, d, err := group.expand(directive, lines, end)
	if err != nil {
		return nil, err
	}
	if err := rp.FinalizeUnmarshalCaddyfile(h.WithDispenser(d)); err != nil {
		return nil, err
	}
	return &ProxyPass{Group: group.name.Text, ProxyRaw: caddyconfig.JSONModuleObject(rp, "handler", "reverse_proxy", nil)}, nil
}

// upstreamGroups has the groups of the global options by name.
type upstreamGroups map[string]*groupDefinition

// find returns the group that an argument of proxy_pass names.
func (groups upstreamGroups) find(arg caddyfile.Token) (*groupDefinition, error) {
	name, err := groupReference(arg)
	if err != nil {
		return nil, err
	}
	if group, ok := groups[name]; ok {
		return group, nil
	}
	if len(groups) == 0 {
		return nil, errorAt(arg, "proxy_pass %s: no upstream group is defined: write `upstream %s { server <address> ... }` in the global options at the top of the Caddyfile, or use reverse_proxy for a single address", name, name)
	}
	known := slices.Sorted(maps.Keys(groups))
	meant := ""
	if best := closest(name, known); best != "" {
		meant = fmt.Sprintf(": did you mean %q?", best)
	}
	return nil, errorAt(arg, "proxy_pass: unknown upstream group %q%s (defined: %s)", name, meant, strings.Join(known, ", "))
}

// groupReference returns the name of the group in an argument of proxy_pass.
func groupReference(arg caddyfile.Token) (string, error) {
	if err := checkSemicolon(arg); err != nil {
		return "", err
	}
	scheme, rest, hasScheme := strings.Cut(arg.Text, "://")
	if !hasScheme {
		scheme, rest = "http", arg.Text
	}
	name, path, hasPath := strings.Cut(rest, "/")
	switch {
	case scheme == "https":
		return "", errorAt(arg, "proxy_pass %s: the scheme belongs to the servers: write `proxy_pass %s` and, in the group, `server https://...`", arg.Text, name)
	case scheme != "http":
		return "", errorAt(arg, "proxy_pass %s: expected <group> or http://<group>; a scheme belongs to the servers: `server %s://...`", arg.Text, scheme)
	case strings.Contains(name, ":"):
		return "", errorAt(arg, "proxy_pass %s: expected the name of an upstream group, not an address: write `server %s` in a group, or use `reverse_proxy %s`", arg.Text, rest, rest)
	case hasPath:
		return "", errorAt(arg, "proxy_pass %s: the path /%s can't stand behind a group: write `proxy_pass %s` and change the path with handle_path, `uri strip_prefix` or rewrite", arg.Text, path, name)
	}
	return name, nil
}

// groupDefinition is one `upstream` global option. It serves any number of
// directives, so nothing changes it once it is complete.
type groupDefinition struct {
	name    caddyfile.Token
	policy  UpstreamGroup              // balance and slow_start
	places  map[string]caddyfile.Token // of the lines that can be there once
	servers []*groupServer
	lines   []caddyfile.Segment // for reverse_proxy, each server as a `to`
}

// groupServer is one `server` line.
type groupServer struct {
	UpstreamServer
	address  caddyfile.Token
	dials    []string // a port range is several
	maxConns int
}

// checkName refuses names that proxy_pass could not use.
func (g *groupDefinition) checkName() error {
	if err := checkSemicolon(g.name); err != nil {
		return err
	}
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	}
	if g.name.Text == "" || strings.ContainsFunc(g.name.Text, odd) {
		return errorAt(g.name, "upstream: bad group name %q: expected letters, digits, `.`, `-` and `_`", g.name.Text)
	}
	return nil
}

// addLine adds one line of the group's block.
func (g *groupDefinition) addLine(line caddyfile.Segment) error {
	switch line.Directive() {
	case "server":
		return g.addServer(line)
	case "balance":
		return g.setBalance(line)
	case "slow_start":
		return g.setSlowStart(line)
	}
	if err := g.checkLine(line); err != nil {
		return err
	}
	g.lines = append(g.lines, line)
	return nil
}

// addServer adds a `server` line.
func (g *groupDefinition) addServer(line caddyfile.Segment) error {
	server, err := parseGroupServer(line)
	if err != nil {
		return fmt.Errorf("upstream %s: %w", g.name.Text, err)
	}
	for _, other := range g.servers {
		for _, dial := range server.dials {
			if slices.Contains(other.dials, dial) {
				return g.errorAt(server.address, "server %s: %s is already in the group at %s", server.address.Text, dial, place(other.address))
			}
		}
	}
	// reverse_proxy's own check depends on the order, and lets TLS for one
	// server become TLS for those before it.
	if len(g.servers) > 0 {
		if first := g.servers[0].address; addressScheme(first) != addressScheme(server.address) {
			return g.errorAt(server.address, "server %s: expected the same scheme (scheme:// or none) as server %s at %s", server.address.Text, first.Text, place(first))
		}
	}
	g.servers = append(g.servers, server)

	to := line[0].Clone()
	to.Text = "to"
	g.lines = append(g.lines, caddyfile.Segment{to, server.address.Clone()})
	return nil
}

// setBalance takes a `balance` line.
func (g *groupDefinition) setBalance(line caddyfile.Segment) error {
	if err := g.once(line); err != nil {
		return err
	}
	if len(line) < 2 {
		return g.errorAt(line[0], "balance: expected a method: %s", balanceMethodNames())
	}
	method, args := line[1].Text, line[2:]
	if !balance.Method(method).IsKnown() {
		return g.errorAt(line[1], "balance %s: no such method; expected %s", method, balanceMethodNames())
	}
	g.policy.Balance = method
	if method == "hash" {
		if len(args) == 0 || args[0].Text == "" {
			return g.errorAt(line[1], "balance hash: expected a key, such as {uri} or {header.X-User}")
		}
		if last := args[len(args)-1]; last.Text == "consistent" {
			return g.errorAt(last, "balance hash: it is always consistent: write `balance hash <key>`")
		}
		if key := args[0].Text; !hasPlaceholder(key) {
			return g.errorAt(args[0], "balance hash %s: expected a key with a placeholder, such as {uri} (nginx: $request_uri) or {client_ip}: by this one all requests would go to one server", key)
		}
		g.policy.HashKey, args = args[0].Text, args[1:]
	}
	if len(args) > 0 {
		return g.errorAt(args[0], "balance %s: unexpected %q: expected %s", method, args[0].Text, balanceMethodNames())
	}
	return nil
}

// setSlowStart takes a `slow_start` line.
func (g *groupDefinition) setSlowStart(line caddyfile.Segment) error {
	if err := g.once(line); err != nil {
		return err
	}
	if len(line) != 2 {
		return g.errorAt(line[0], "slow_start: expected a duration, such as 30s")
	}
	duration, err := caddy.ParseDuration(line[1].Text)
	if err != nil || duration <= 0 {
		return g.errorAt(line[1], "slow_start %s: expected a duration above zero, such as 30s", line[1].Text)
	}
	g.policy.SlowStart = caddy.Duration(duration)
	return nil
}

// once notes a line that can be there once only.
func (g *groupDefinition) once(line caddyfile.Segment) error {
	if err := checkSemicolon(line...); err != nil {
		return fmt.Errorf("upstream %s: %w", g.name.Text, err)
	}
	name := line.Directive()
	if first, ok := g.places[name]; ok {
		return g.errorAt(line[0], "%s: already given at %s", name, place(first))
	}
	if g.places == nil {
		g.places = make(map[string]caddyfile.Token)
	}
	g.places[name] = line[0]
	return nil
}

// checkLine refuses what the group decides by itself, and what nginx has and
// Caddy has not, wherever it stands.
func (g *groupDefinition) checkLine(line caddyfile.Segment) error {
	name := strings.TrimSuffix(line.Directive(), ";")
	if hint, ok := refusedSubdirectives[name]; ok {
		return g.errorAt(line[0], "%s: %s", name, hint)
	}
	return nil
}

// checkDirectiveLine refuses what can't stand in the directive's block.
func (g *groupDefinition) checkDirectiveLine(line caddyfile.Segment) error {
	name := line.Directive()
	if name == "server" || name == "balance" || name == "slow_start" {
		return errorAt(line[0], "proxy_pass %s: %s: write this line in `upstream %s` at %s", g.name.Text, name, g.name.Text, place(g.name))
	}
	if err := g.checkLine(line); err != nil {
		return err
	}
	if other, ok := lastOf("transport", g.lines); ok && name == "transport" {
		return errorAt(line[0], "proxy_pass %s: transport: the group already has one at %s: write it in one of the two places", g.name.Text, place(other))
	}
	return nil
}

// checkServers refuses a group that could not serve a single request.
func (g *groupDefinition) checkServers() error {
	if len(g.servers) == 0 {
		return g.errorAt(g.name, "no servers: expected at least one line `server <address>`")
	}
	if !slices.ContainsFunc(g.servers, func(s *groupServer) bool { return !s.Down }) {
		return g.errorAt(g.name, "every server is down: expected at least one without `down`")
	}
	if method := g.policy.Balance; g.policy.SlowStart > 0 && method != "" && !balance.Method(method).HasSlowStart() {
		return g.errorAt(g.places["slow_start"], "slow_start: not for balance %s, only for %s", method, slowStartMethodNames())
	}
	if !slices.ContainsFunc(g.servers, func(s *groupServer) bool { return !s.Backup }) {
		return g.errorAt(g.name, "every server is a backup: expected at least one without `backup`")
	}
	return nil
}

// expand makes the handler of the group's lines and then the directive's, and
// returns the dispenser that it was read from. The tokens end is the closing
// brace, if there was a block.
func (g *groupDefinition) expand(directive caddyfile.Token, lines []caddyfile.Segment, end caddyfile.Segment) (*reverseproxy.Handler, *caddyfile.Dispenser, error) {
	opening := caddyfile.Segment{
		{File: directive.File, Line: directive.Line, Text: "reverse_proxy"},
		{File: directive.File, Line: directive.Line, Text: "{"},
	}
	if end == nil {
		end = caddyfile.Segment{{File: directive.File, Line: directive.Line, Text: "}"}}
	}
	all := slices.Concat(g.lines, lines)
	d := caddyfile.NewDispenser(joinLines(slices.Concat([]caddyfile.Segment{opening}, all, []caddyfile.Segment{end})))

	h := new(reverseproxy.Handler)
	if err := h.UnmarshalCaddyfile(d); err != nil {
		return nil, nil, err
	}
	g.applyServers(h, g.applyRetryDefault(h, all))
	if err := g.applyFailDefaults(h, all); err != nil {
		return nil, nil, err
	}
	return h, d, nil
}

// applyServers puts the policy and what the servers' parameters say into h.
func (g *groupDefinition) applyServers(h *reverseproxy.Handler, eachOnce bool) {
	policy := &UpstreamGroup{
		Balance:   g.policy.Balance,
		HashKey:   g.policy.HashKey,
		SlowStart: g.policy.SlowStart,
		EachOnce:  eachOnce,
		Servers:   make(map[string]UpstreamServer),
	}
	maxConns := make(map[string]int)
	for _, server := range g.servers {
		for _, dial := range server.dials {
			maxConns[dial] = server.maxConns
			if server.UpstreamServer != (UpstreamServer{}) || policy.SlowStart > 0 {
				policy.Servers[dial] = server.UpstreamServer
			}
		}
	}
	for _, upstream := range h.Upstreams {
		upstream.MaxRequests = maxConns[upstream.Dial]
	}
	h.LoadBalancing.SelectionPolicyRaw = caddyconfig.JSONModuleObject(policy, "policy", policy.CaddyModule().ID.Name(), nil)
}

// applyFailDefaults gives h nginx's passive health checks unless the lines say
// otherwise: one failure takes a server out for 10 seconds, if there is
// another one, and max_fails 0 means that failures don't count.
func (g *groupDefinition) applyFailDefaults(h *reverseproxy.Handler, lines []caddyfile.Segment) error {
	maxFails, hasMaxFails := lastOf("max_fails", lines)
	_, hasFailDuration := lastOf("fail_duration", lines)
	if h.HealthChecks == nil {
		h.HealthChecks = new(reverseproxy.HealthChecks)
	}
	if h.HealthChecks.Passive == nil {
		h.HealthChecks.Passive = new(reverseproxy.PassiveHealthChecks)
	}
	passive := h.HealthChecks.Passive

	switch {
	case hasMaxFails && passive.MaxFails < 0:
		return g.errorAt(maxFails, "max_fails %d: expected 0 or more", passive.MaxFails)
	case hasMaxFails && passive.MaxFails == 0:
		passive.FailDuration = 0
	case g.usable() < 2:
	default:
		if !hasMaxFails && !hasFailDuration {
			passive.MaxFails = 1
		}
		if !hasFailDuration {
			passive.FailDuration = caddy.Duration(defaultFailDuration)
		}
	}

	// Leave out of the config what says nothing.
	if reflect.ValueOf(*passive).IsZero() {
		h.HealthChecks.Passive = nil
	}
	if h.HealthChecks.Active == nil && h.HealthChecks.Passive == nil {
		h.HealthChecks = nil
	}
	return nil
}

// defaultFailDuration is for how long a failure counts, as in nginx.
const defaultFailDuration = 10 * time.Second

// applyRetryDefault lets h try each further server once unless the lines say
// otherwise. It reports whether that default holds.
func (g *groupDefinition) applyRetryDefault(h *reverseproxy.Handler, lines []caddyfile.Segment) bool {
	if h.LoadBalancing == nil {
		h.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	_, hasRetries := lastOf("lb_retries", lines)
	_, hasDuration := lastOf("lb_try_duration", lines)
	if hasRetries || hasDuration || g.usable() < 2 {
		return false
	}
	h.LoadBalancing.Retries = g.usable() - 1
	if _, hasMatch := lastOf("lb_retry_match", lines); !hasMatch {
		h.LoadBalancing.RetryMatchRaw = caddyhttp.RawMatcherSets{{"method": caddyconfig.JSON(idempotentMethods, nil)}}
	}
	return true
}

// idempotentMethods are those that a request can be sent again with, whatever
// became of it the first time (RFC 9110, section 9.2.2; nginx takes the same).
// Caddy on its own takes only GET.
var idempotentMethods = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}

// usable counts the servers that may get requests, backups included.
func (g *groupDefinition) usable() int {
	n := 0
	for _, server := range g.servers {
		if !server.Down {
			n += len(server.dials)
		}
	}
	return n
}

// errorAt is an error in the group that points at the token.
func (g *groupDefinition) errorAt(t caddyfile.Token, format string, args ...any) error {
	return errorAt(t, "upstream %s: "+format, append([]any{g.name.Text}, args...)...)
}

// parseGroupServer reads a `server` line.
func parseGroupServer(line caddyfile.Segment) (*groupServer, error) {
	if err := checkSemicolon(line...); err != nil {
		return nil, err
	}
	if len(line) < 2 || line[1].Text == "" || line[1].Text == "{" || strings.HasPrefix(line[1].Text, "weight=") || strings.HasPrefix(line[1].Text, "max_conns=") {
		return nil, errorAt(line[0], "server: expected an address: server <address> %s", serverParameters)
	}
	address := line[1]
	if path, ok := strings.CutPrefix(address.Text, "unix:"); ok {
		return nil, errorAt(address, "server %s: a unix socket is written `unix/%s`", address.Text, path)
	}
	if err := checkAddress(address); err != nil {
		return nil, err
	}
	dials, err := dialAddresses(line[0], address)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", address.Text, err)
	}

	server := &groupServer{address: address, dials: dials}
	given := make(map[string]bool)
	for _, param := range line[2:] {
		name, value, hasValue := strings.Cut(param.Text, "=")
		if given[name] {
			return nil, errorAt(param, "server %s: %s: parameter given twice", address.Text, param.Text)
		}
		given[name] = true
		if err := server.setParameter(name, value, hasValue); err != nil {
			return nil, errorAt(param, "server %s: %s: %w", address.Text, param.Text, err)
		}
	}
	return server, nil
}

// checkAddress refuses the parts of a URL that a server's address has no place
// for, and addresses that a client could choose.
func checkAddress(address caddyfile.Token) error {
	scheme, rest, hasScheme := strings.Cut(address.Text, "://")
	if !hasScheme {
		scheme, rest = "", address.Text
	} else {
		scheme += "://"
	}
	if network, _, _ := strings.Cut(rest, "/"); scheme == "" && (caddy.IsUnixNetwork(network) || caddy.IsFdNetwork(network)) {
		return nil // what follows is the path of a socket
	}
	network := ""
	if name, after, found := strings.Cut(rest, "/"); scheme == "" && found && slices.Contains([]string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"}, name) {
		network, rest = name+"/", after
	}
	if strings.Contains(rest, "{http.request.") {
		return errorAt(address, "server %s: expected a fixed address, found a placeholder that a client can set: write the address, or use reverse_proxy", address.Text)
	}
	end, depth := 0, 0
	for ; end < len(rest) && (depth > 0 || !strings.ContainsRune("/?#", rune(rest[end]))); end++ {
		switch rest[end] { // {file./run/address} has no path
		case '{':
			depth++
		case '}':
			depth--
		}
	}
	host, more := rest[:end], rest[end:]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return errorAt(address, "server %s: expected an address without a user: write `server %s%s%s`, and `header_up Authorization ...` for the credentials", address.Text, scheme, network, host[at+1:])
	}
	switch {
	case more == "":
		return nil
	case more == "/":
		return errorAt(address, "server %s: expected an address without a path: write `server %s%s%s`", address.Text, scheme, network, host)
	case more[0] == '/':
		return errorAt(address, "server %s: expected an address without a path, found '%s': write `server %s%s%s`, and change the path of the request with handle_path, `uri` or `rewrite`", address.Text, more, scheme, network, host)
	case more[0] == '?':
		return errorAt(address, "server %s: expected an address without a query, found '%s': write `server %s%s%s`, and change the query of the request with `uri query`", address.Text, more, scheme, network, host)
	default:
		return errorAt(address, "server %s: expected an address without a fragment, found '%s': write `server %s%s%s`", address.Text, more, scheme, network, host)
	}
}

// serverParameters is the syntax of what may follow a server's address.
const serverParameters = "[weight=<n>] [max_conns=<n>] [backup] [down]"

// setParameter sets what one parameter of a `server` line says.
func (s *groupServer) setParameter(name, value string, hasValue bool) error {
	if hint, ok := refusedParameters[name]; ok {
		return errors.New(hint)
	}
	n, numErr := strconv.Atoi(value)
	switch {
	case name == "weight":
		if numErr != nil || n < 1 || n > maxServerWeight {
			return fmt.Errorf("expected weight=<n> with n from 1 to %d; a server that gets no requests is marked `down`", maxServerWeight)
		}
		s.Weight = n
	case name == "max_conns":
		if numErr != nil || n < 0 {
			return errors.New("expected max_conns=<n> with n 0 (no limit) or more")
		}
		s.maxConns = n
	case name == "backup" && !hasValue:
		s.Backup = true
	case name == "down" && !hasValue:
		s.Down = true
	default:
		return errors.New("unknown parameter: expected " + serverParameters)
	}
	return nil
}
