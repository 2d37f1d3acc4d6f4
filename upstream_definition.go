package caddyhtpasswd

import (
	"fmt"
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

// groupDefinition is one `upstream` global option. Any number of directives use it, so it
// does not change once it is complete.
type groupDefinition struct {
	name       caddyfile.Token
	policy     UpstreamGroup   // balance, sticky and slow_start
	slowStart  caddyfile.Token // where it was set
	servers    []*groupServer
	addresses  groupAddresses
	stickyLine caddyfile.Token
	lines      []caddyfile.Segment // for reverse_proxy, with `to` for each server
}

// groupSubdirectives are the subdirectives of a group that reverse_proxy does not have.
var groupSubdirectives = []string{"server", "balance", "sticky", "slow_start"}

// proxySubdirectives are the subdirectives of reverse_proxy that are useful in a group.
// They are only for errors: a group accepts any other subdirective that Caddy has.
var proxySubdirectives = []string{
	"lb_retries", "lb_try_duration", "lb_try_interval", "lb_retry_match",
	"health_uri", "health_upstream", "health_port", "health_headers", "health_method", "health_request_body", "health_interval",
	"health_timeout", "health_status", "health_body", "health_follow_redirects", "health_passes", "health_fails",
	"max_fails", "fail_duration", "unhealthy_request_count", "unhealthy_status", "unhealthy_latency",
	"flush_interval", "request_buffers", "response_buffers", "stream_buffer_size", "stream_timeout", "stream_close_delay",
	"trusted_proxies", "header_up", "header_down", "method", "rewrite", "transport", "handle_response", "replace_status", "verbose_logs",
}

// refusedSubdirectives are the subdirectives of reverse_proxy that would bypass the group,
// with what to write instead.
var refusedSubdirectives = map[string]string{
	"to":        "write 'server <address>' in the group",
	"dynamic":   "the servers of a group are fixed; write 'server <address>' in the group, or use reverse_proxy",
	"lb_policy": "write 'balance <method>' in the group",
}

// context returns the context of errors in the group's definition.
func (g *groupDefinition) context() errorContext {
	return errorContext("").in("upstream " + g.name.Text)
}

// checkName refuses names that cannot be written after proxy_pass.
func (g *groupDefinition) checkName() error {
	if err := errorContext("").checkSemicolon(g.name); err != nil {
		return err
	}
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	}
	if g.name.Text == "" || strings.ContainsFunc(g.name.Text, odd) {
		return errorContext("").expected(g.name, "a name of letters, digits, '.', '-' and '_'", quoted(g.name.Text), "")
	}
	return nil
}

// readBlock reads the block of the global option.
func (g *groupDefinition) readBlock(d *caddyfile.Dispenser) error {
	s := &subdirectives{Dispenser: d, context: g.context(), known: groupSubdirectives, repeatable: []string{"server"}}
	// Caddy replaces placeholder shorthands only in sites.
	shorthands := httpcaddyfile.NewShorthandReplacer()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if !slices.Contains(groupSubdirectives, d.Val()) {
			line := d.NextSegment()
			shorthands.ApplyToSegment(&line)
			if err := checkProxyLine(g.context(), line); err != nil {
				return err
			}
			g.lines = append(g.lines, line)
			continue
		}
		if err := s.begin(); err != nil {
			return err
		}
		if err := g.readLine(s, shorthands); err != nil {
			return err
		}
	}
	return nil
}

// readLine parses a line with one of groupSubdirectives.
func (g *groupDefinition) readLine(s *subdirectives, shorthands httpcaddyfile.ShorthandReplacer) error {
	if s.name.Text == "slow_start" {
		duration, err := s.duration("a duration above zero, such as 30s", 0)
		g.policy.SlowStart, g.slowStart = caddy.Duration(duration), s.name
		return err
	}
	expected := "an address: server <address> " + serverParameters
	switch s.name.Text {
	case "balance":
		expected = "a method: " + balanceMethodNames()
	case "sticky":
		expected = stickySyntax
	}
	tokens, err := s.tokens(expected)
	if err != nil {
		return err
	}
	args := caddyfile.Segment(tokens)
	shorthands.ApplyToSegment(&args)
	switch s.name.Text {
	case "balance":
		return g.setBalance(args)
	case "sticky":
		return g.setSticky(s.name, args)
	}
	return g.addServer(s.name, args)
}

// addServer adds the server of a `server` line.
func (g *groupDefinition) addServer(name caddyfile.Token, args caddyfile.Segment) error {
	server, err := parseGroupServer(g.context(), name, args)
	if err != nil {
		return err
	}
	c := g.context().in("server " + server.address.Text)
	// The check of reverse_proxy depends on the order, and lets TLS for one server
	// become TLS for the servers before it.
	if len(g.servers) > 0 {
		if first := g.servers[0].address; addressScheme(first) != addressScheme(server.address) {
			return c.expected(server.address, fmt.Sprintf("the same scheme (scheme:// or none) as server %s %s", first.Text, lineOf(first, server.address)), schemeFound(server.address), "")
		}
	}
	if g.addresses == nil {
		g.addresses = make(groupAddresses)
	}
	if err := g.addresses.add(c, server); err != nil {
		return err
	}
	g.servers = append(g.servers, server)

	to := name.Clone()
	to.Text = "to"
	g.lines = append(g.lines, caddyfile.Segment{to, server.address.Clone()})
	return nil
}

// setBalance parses the arguments of a `balance` line.
func (g *groupDefinition) setBalance(args caddyfile.Segment) error {
	method := args[0]
	if !balance.Method(method.Text).IsKnown() {
		return g.context().in("balance").unrecognized(method, "method", method.Text, strings.Split(balanceMethodNames(), ", ")...)
	}
	g.policy.Balance = method.Text
	args = args[1:]
	c := g.context().in("balance " + method.Text)
	if method.Text == "hash" {
		if len(args) == 0 {
			return c.expected(method, "a key, such as {uri} or {header.X-User}", foundNothing, "")
		}
		if last := args[len(args)-1]; last.Text == "consistent" {
			return c.unexpected(last, "argument", "the hash is always consistent; write 'balance hash <key>'")
		}
		if key := args[0]; !hasPlaceholder(key.Text) {
			return c.expected(key, "a key with a placeholder, such as {uri} (nginx: $request_uri) or {client_ip}", quoted(key.Text), "this key would send all requests to one server")
		}
		g.policy.HashKey, args = args[0].Text, args[1:]
	}
	if method.Text == string(balance.MethodLeastTime) && len(args) > 0 && isLeastTimeMode(args[0].Text) {
		return c.unexpected(args[0], "argument", "the time to the first byte counts, as with 'header' in nginx, and requests under way always count; write 'balance least_time'")
	}
	if len(args) > 0 {
		return c.unexpected(args[0], "argument", "expected none; the methods are: "+balanceMethodNames())
	}
	return nil
}

// checkProxyLine refuses subdirectives that the group replaces, and directives of nginx
// that Caddy does not have, in any line for reverse_proxy.
func checkProxyLine(c errorContext, line caddyfile.Segment) error {
	name := line[0]
	instead, refused := insteadOf(nginxUpstream, name.Text)
	if !refused {
		instead, refused = insteadOf(nginxProxy, name.Text)
	}
	if !refused {
		instead, refused = refusedSubdirectives[strings.TrimSuffix(name.Text, ";")]
	}
	if refused {
		return c.unexpected(name, "subdirective", instead)
	}
	return nil
}

// checkDirectiveLine refuses lines that are not allowed in the block of proxy_pass.
func (g *groupDefinition) checkDirectiveLine(line caddyfile.Segment) error {
	const c errorContext = ""
	name := line[0]
	if slices.Contains(groupSubdirectives, name.Text) {
		return c.unexpected(name, "subdirective", fmt.Sprintf("write this line in 'upstream %s' %s", g.name.Text, lineOf(g.name, name)))
	}
	if err := checkProxyLine(c, line); err != nil {
		return err
	}
	if other, ok := lastOf("transport", g.lines); ok && name.Text == "transport" {
		return c.duplicate(name, "subdirective", name.Text, other)
	}
	return nil
}

// checkServers refuses a group that cannot serve any request.
func (g *groupDefinition) checkServers() error {
	c := g.context()
	if len(g.servers) == 0 {
		return c.expected(g.name, "at least one line 'server <address>'", "none", "")
	}
	if method := g.policy.Balance; g.policy.SlowStart > 0 && method != "" && !balance.Method(method).HasSlowStart() {
		return c.in("slow_start").expected(g.slowStart, "balance "+slowStartMethodNames(), "balance "+method, "")
	}
	if !slices.ContainsFunc(g.servers, func(s *groupServer) bool { return !s.Backup }) {
		return c.expected(g.name, "at least one server without 'backup'", "none", "")
	}
	return g.checkSticky(c)
}

// expand makes a handler from the lines of the group, followed by those of the directive.
// It returns the handler and the dispenser that it was parsed from. end is the closing
// brace of the directive's block, or nil. Errors begin with c, and list the known
// subdirectives.
func (g *groupDefinition) expand(c errorContext, known []string, directive caddyfile.Token, lines []caddyfile.Segment, end caddyfile.Segment) (*reverseproxy.Handler, *caddyfile.Dispenser, error) {
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
		return nil, nil, explain(c, d.Token(), known, err)
	}
	if err := applyIdleDefault(h, all); err != nil {
		return nil, nil, err
	}
	g.applyServers(h, g.applyRetryDefault(h, all))
	if err := g.applyFailDefaults(c, h, all); err != nil {
		return nil, nil, err
	}
	return h, d, nil
}

// explain adds the context and the position to an error of reverse_proxy at the token. For
// an unknown subdirective, it returns the same error as for other blocks.
func explain(c errorContext, t caddyfile.Token, known []string, err error) error {
	if !strings.HasPrefix(err.Error(), "unrecognized subdirective "+t.Text+",") {
		return fmt.Errorf("%s%w", string(c), withPlace(t, err))
	}
	if err := c.checkSemicolon(t); err != nil {
		return err
	}
	return c.unrecognized(t, "subdirective", t.Text, known...)
}

// applyServers sets the policy and the parameters of the servers in h.
func (g *groupDefinition) applyServers(h *reverseproxy.Handler, eachOnce bool) {
	policy := &UpstreamGroup{
		Balance:   g.policy.Balance,
		HashKey:   g.policy.HashKey,
		SlowStart: g.policy.SlowStart,
		Sticky:    g.policy.Sticky,
		EachOnce:  eachOnce,
		Servers:   make(map[string]UpstreamServer),
	}
	maxConns := make(map[string]int)
	for dial, server := range g.addresses {
		maxConns[dial] = server.maxConns
		if server.UpstreamServer != (UpstreamServer{}) || policy.needsState() {
			policy.Servers[dial] = server.UpstreamServer
		}
	}
	h.Upstreams = withoutRepeated(h.Upstreams)
	for _, upstream := range h.Upstreams {
		upstream.MaxRequests = maxConns[upstream.Dial]
	}
	h.LoadBalancing.SelectionPolicyRaw = caddyconfig.JSONModuleObject(policy, "policy", policy.CaddyModule().ID.Name(), nil)
}

// applyFailDefaults sets the passive health checks of nginx in h, unless the lines set
// others. A single failure takes a server out for 10 seconds, if there is another server.
// With max_fails 0, failures do not count.
func (g *groupDefinition) applyFailDefaults(c errorContext, h *reverseproxy.Handler, lines []caddyfile.Segment) error {
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
		return c.in("max_fails").expected(maxFails, "0 or more", strconv.Itoa(passive.MaxFails), "")
	case hasMaxFails && passive.MaxFails == 0:
		passive.FailDuration = 0
	case g.usable(false) < 2:
	default:
		if !hasMaxFails && !hasFailDuration {
			passive.MaxFails = 1
		}
		if !hasFailDuration {
			passive.FailDuration = caddy.Duration(defaultFailDuration)
		}
	}

	// Omit empty settings from the configuration.
	if reflect.ValueOf(*passive).IsZero() {
		h.HealthChecks.Passive = nil
	}
	if h.HealthChecks.Active == nil && h.HealthChecks.Passive == nil {
		h.HealthChecks = nil
	}
	return nil
}

// defaultFailDuration is how long a failure counts, as in nginx.
const defaultFailDuration = 10 * time.Second

// applyRetryDefault makes h try each other server once, unless the lines set retries. It
// reports whether it has set this default.
func (g *groupDefinition) applyRetryDefault(h *reverseproxy.Handler, lines []caddyfile.Segment) bool {
	if h.LoadBalancing == nil {
		h.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	_, hasRetries := lastOf("lb_retries", lines)
	_, hasDuration := lastOf("lb_try_duration", lines)
	if hasRetries || hasDuration || g.usable(true) < 2 {
		return false
	}
	h.LoadBalancing.Retries = g.usable(true) - 1
	if _, hasMatch := lastOf("lb_retry_match", lines); !hasMatch {
		h.LoadBalancing.RetryMatchRaw = caddyhttp.RawMatcherSets{{"method": caddyconfig.JSON(idempotentMethods, nil)}}
	}
	return true
}

// idempotentMethods are the methods with which a request can be retried even if a server
// has processed it (RFC 9110, section 9.2.2), the same as in nginx. Caddy's default is
// only GET.
var idempotentMethods = []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"}

// usable returns the number of servers that may get requests, including backups. Those
// that drain get only requests that are stuck to them. A single name counts as two,
// because it can have several addresses.
func (g *groupDefinition) usable(withDrain bool) int {
	n, hasName := 0, false
	for dial, server := range g.addresses {
		if !server.Down && (withDrain || !server.Drain) {
			n++
			_, isName := serverNameOf(dial)
			hasName = hasName || isName
		}
	}
	if hasName {
		n = max(n, 2)
	}
	return n
}
