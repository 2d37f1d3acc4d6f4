package caddyhtpasswd

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

func init() {
	httpcaddyfile.RegisterGlobalOption(appName, parseOption)
	httpcaddyfile.RegisterHandlerDirective(appName, parseDirective)
	httpcaddyfile.RegisterDirectiveOrder(appName, httpcaddyfile.After, "basic_auth")
}

// parseOption sets up the app from the global option. Syntax:
//
//	htpasswd {
//	    throttle   login|client|user <failures> <window>
//	    throttle   [login|client|user] off
//	    max_hashes <n>
//	    poll       <interval>
//	    secret     <text> [<old>]
//	}
//
// Subdirective throttle can be repeated, once for each budget.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume option name
	if existing != nil {
		return nil, d.Errf("the global option %s is there already: all its settings go into one block", appName)
	}
	if d.NextArg() {
		return nil, d.Errf("the global option %s takes a block, but no argument: '%s'", appName, d.Val())
	}
	p := optionParser{app: new(App), s: &subdirectives{
		Dispenser:  d,
		of:         "the global option " + appName,
		known:      []string{"throttle", "max_hashes", "poll", "secret"},
		repeatable: []string{"throttle"},
	}}
	for d.NextBlock(0) {
		if err := p.s.check(); err != nil {
			return nil, err
		}
		if err := p.parse(d.Val()); err != nil {
			return nil, err
		}
	}
	return httpcaddyfile.App{Name: appName, Value: caddyconfig.JSON(p.app, nil)}, nil
}

// optionParser reads the block of the global option into the app.
type optionParser struct {
	app *App
	s   *subdirectives
}

func (p *optionParser) parse(subdirective string) error {
	switch subdirective {
	case "throttle":
		return p.parseThrottle()
	case "max_hashes":
		n, err := p.s.number("a number of hash computations", math.MaxInt32)
		p.app.MaxHashes = n
		return err
	case "poll":
		interval, err := p.s.duration("an interval such as 5s", minPoll)
		p.app.Poll = caddy.Duration(interval)
		return err
	case "secret":
		return p.parseSecret()
	}
	return nil
}

// parseSecret has errors of its own: those of others quote what they found.
func (p *optionParser) parseSecret() error {
	args := p.s.RemainingArgs()
	if len(args) < 1 || len(args) > 2 {
		return p.s.Errf("secret: expected a random text of at least %d characters, and optionally the old one after it; found %d arguments", minSecretLen, len(args))
	}
	if slices.Contains(args, "") {
		return p.s.Errf("secret: expected a random text of at least %d characters, found an empty one", minSecretLen)
	}
	p.app.Secret = args[0]
	if len(args) == 2 {
		p.app.OldSecret = args[1]
	}
	if p.s.NextBlock(p.s.Nesting()) {
		return p.s.Err("secret takes no block")
	}
	return nil
}

func (p *optionParser) parseThrottle() error {
	const expected = "'login', 'client' or 'user' with a number of failures and a window such as 1m, or 'off'"
	args, err := p.s.arguments(expected)
	if err != nil {
		return err
	}
	name, rest := args[0], args[1:]
	if name == "off" {
		rest = args
	} else if !slices.Contains(scopeNames[:], name) {
		return p.s.Errf("throttle: expected %s, not '%s'", expected, name)
	}
	b, err := p.parseBudget(rest)
	if err != nil {
		return err
	}
	if p.app.Throttle == nil {
		p.app.Throttle = new(Throttle)
	}
	for s := range scopeCount {
		if name != "off" && name != s.String() {
			continue
		}
		set := p.app.Throttle.of(s)
		if *set != nil {
			return p.s.Errf("throttle %s is set already; one line has to say it all", s)
		}
		*set = b
	}
	return nil
}

func (p *optionParser) parseBudget(args []string) (*Budget, error) {
	if len(args) == 1 && args[0] == "off" {
		return &Budget{Off: true}, nil
	}
	if len(args) != 2 {
		return nil, p.s.Err("throttle: expected a number of failures and a window such as 1m, or 'off'")
	}
	failures, err := strconv.Atoi(args[0])
	if err != nil || failures < 1 || failures > maxFailures {
		return nil, p.s.Errf("throttle: expected a number of failures, 1 to %d, not '%s'; to have no limit, write 'off'", maxFailures, args[0])
	}
	window, err := caddy.ParseDuration(args[1])
	if err != nil || window < minWindow || window > maxWindow {
		return nil, p.s.Errf("throttle: expected a window of %s to %s, such as 1m, not '%s'", minWindow, maxWindow, args[1])
	}
	return &Budget{Failures: failures, Window: caddy.Duration(window)}, nil
}

// parseDirective sets up the handler from Caddyfile tokens. Syntax:
//
//	htpasswd [<matcher>] {
//	    file        <path>...
//	    group_file  <path>...
//	    realm       <text>
//	    require     user <name>... | group <name>...
//	    exempt      <matcher>...
//	    user_header <field>
//	    keep_authorization
//	    allow_http
//	    cache       off | <max_age>
//	}
//
// The matchers of exempt are named matchers (@name) and paths (/path*), or one
// matcher written out behind it or in a block of its own; requests that match
// any of them pass. Subdirectives require and exempt can be repeated.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // consume directive name
	if h.NextArg() {
		if h.Val() == "off" {
			return nil, h.Errf("%s off: there is nothing to switch off; leave the directive out, or exempt these requests from the one for the whole site", appName)
		}
		return nil, h.Errf("%s takes no file behind it, but '%s' is there: write it into the block, as 'file %[2]s'; "+
			"a first argument that begins with / is a matcher of request paths and protects only those", appName, h.Val())
	}
	p := directiveParser{Helper: h, handler: new(Handler), s: &subdirectives{
		Dispenser:  h.Dispenser,
		of:         appName,
		known:      []string{"file", "group_file", "realm", "require", "exempt", "user_header", "keep_authorization", "allow_http", "cache"},
		repeatable: []string{"require", "exempt"},
	}}
	for h.NextBlock(0) {
		if err := p.s.check(); err != nil {
			return nil, err
		}
		if err := p.parse(h.Val()); err != nil {
			return nil, err
		}
	}
	if len(p.handler.Files) == 0 {
		return nil, h.Errf("%s has no password file: write 'file <path>' into its block; "+
			"an argument that begins with / is a matcher of request paths, not a file", appName)
	}
	if q := p.handler.Require; q != nil && len(q.Groups) > 0 && len(p.handler.GroupFiles) == 0 {
		return nil, h.Errf("%s: 'require group' needs a 'group_file' that says who is in the group", appName)
	}
	for _, set := range p.handler.ExemptRaw { // whatever the order of exempt and allow_http
		if reachOf(set, p.handler.AllowHTTP) == reachEverything {
			return nil, h.Err(errExemptAll(set).Error())
		}
	}
	return p.handler, nil
}

// directiveParser reads the block of one directive into its handler.
type directiveParser struct {
	httpcaddyfile.Helper
	handler *Handler
	s       *subdirectives
}

func (p *directiveParser) parse(subdirective string) (err error) {
	switch h := p.handler; subdirective {
	case "file":
		h.Files, err = p.s.arguments("one or more paths")
	case "group_file":
		h.GroupFiles, err = p.s.arguments("one or more paths")
	case "realm":
		h.Realm, err = p.s.argument("a text, in quotes if it has blanks")
		if err == nil && (h.Realm == "" || htfile.HasControl(h.Realm)) {
			err = p.Err("realm: must be a text without control characters")
		}
	case "user_header":
		h.UserHeader, err = p.s.argument("the name of a header field")
		if err == nil && !isUsableField(h.UserHeader) {
			err = p.Errf("user_header: '%s' is no name of a header field, or one with a meaning of its own; use one such as X-User", h.UserHeader)
		}
	case "keep_authorization":
		h.KeepAuthorization, err = true, p.s.noArgument()
	case "allow_http":
		h.AllowHTTP, err = true, p.s.noArgument()
	case "cache":
		h.Cache, err = p.parseCache()
	case "require":
		err = p.parseRequire()
	case "exempt":
		err = p.parseExempt()
	}
	return err
}

func (p *directiveParser) parseCache() (*Cache, error) {
	const expected = "'off' or the longest time to remember a password, such as 10m"
	if p.CountRemainingArgs() == 1 && p.peek() == "off" {
		p.NextArg()
		return &Cache{Off: true}, p.s.noBlock("cache")
	}
	maxAge, err := p.s.duration(expected, 0)
	return &Cache{MaxAge: caddy.Duration(maxAge)}, err
}

func (p *directiveParser) parseRequire() error {
	const expected = "'user <name>...' or 'group <name>...'"
	args, err := p.s.arguments(expected)
	if err != nil {
		return err
	}
	if p.handler.Require == nil {
		p.handler.Require = new(Require)
	}
	q := p.handler.Require
	switch kind, names := args[0], args[1:]; {
	case kind == "valid-user":
		return p.Err("require valid-user: every user in the files may pass unless require says otherwise; leave the line out")
	case kind != "user" && kind != "group":
		return p.Errf("require: expected %s, not '%s'", expected, kind)
	case len(names) == 0:
		return p.Errf("require %s: expected one or more names", kind)
	case kind == "user":
		q.Users = append(q.Users, names...)
	default:
		q.Groups = append(q.Groups, names...)
	}
	return nil
}

// parseExempt reads matcher tokens, each a matcher set of its own, or one
// matcher set written out.
func (p *directiveParser) parseExempt() error {
	first := p.peek()
	if _, _, err := net.ParseCIDR(first); err == nil || net.ParseIP(first) != nil {
		return p.Errf("exempt: '%s' is an address: write 'exempt remote_ip %s'", first, first)
	}
	if first != "*" && !strings.HasPrefix(first, "@") && !strings.HasPrefix(first, "/") {
		set, err := caddyhttp.ParseCaddyfileNestedMatcherSet(p.Dispenser)
		if err != nil {
			return fmt.Errorf("exempt: %w", err) // says where already
		}
		return p.addExempt(set)
	}
	for p.CountRemainingArgs() > 0 {
		set, ok, err := p.MatcherToken()
		if err != nil {
			return p.Errf("exempt: %w", err)
		}
		if err := checkSemicolon(p.Token()); err != nil {
			return err
		}
		if !ok {
			return p.Errf("exempt: expected named matchers and paths, or one matcher written out, not '%s' behind one", p.Val())
		}
		if err := p.addExempt(set); err != nil {
			return err
		}
	}
	return p.s.noBlock("exempt")
}

func (p *directiveParser) addExempt(set caddy.ModuleMap) error {
	switch {
	case len(set) > 0 && reachOf(set, true) == reachEverything:
		return p.Err(errExemptAll(set).Error())
	case len(set) == 0:
		return p.Err("exempt: expected a matcher: named (@name), a path (/path*), or one written out such as 'remote_ip 192.0.2.0/24'; " +
			"one that matches every request would leave nothing protected")
	}
	p.handler.ExemptRaw = append(p.handler.ExemptRaw, set)
	return nil
}

// peek returns the next argument on the line without consuming it, or "".
func (p *directiveParser) peek() string {
	if !p.NextArg() {
		return ""
	}
	defer p.Prev()
	return p.Val()
}

// subdirectives checks the lines of a block, and says where and what is wrong.
type subdirectives struct {
	*caddyfile.Dispenser
	of         string // what the block belongs to
	known      []string
	repeatable []string
	seen       map[string]int // line
}

// check refuses a subdirective that is unknown, or there for the second time.
func (s *subdirectives) check() error {
	name := s.Val()
	if !slices.Contains(s.known, name) {
		return s.Errf("unrecognized subdirective '%s' of %s; expected one of: %s", name, s.of, strings.Join(s.known, ", "))
	}
	if line, ok := s.seen[name]; ok && !slices.Contains(s.repeatable, name) {
		return s.Errf("%s of %s is there already, in line %d; one line has to say it all", name, s.of, line)
	}
	if s.seen == nil {
		s.seen = make(map[string]int)
	}
	s.seen[name] = s.Line()
	return nil
}

// arguments returns the arguments of the subdirective, at least one.
func (s *subdirectives) arguments(expected string) ([]string, error) {
	name := s.Val()
	tokens := s.RemainingArgsAsTokens()
	if len(tokens) == 0 {
		return nil, s.Errf("%s: expected %s", name, expected)
	}
	if err := checkSemicolon(tokens...); err != nil {
		return nil, err
	}
	args := make([]string, len(tokens))
	for i, token := range tokens {
		args[i] = token.Text
		if token.Text == "" {
			return nil, s.Errf("%s: expected %s, not an empty text", name, expected)
		}
	}
	return args, s.noBlock(name)
}

// argument returns the only argument of the subdirective.
func (s *subdirectives) argument(expected string) (string, error) {
	name := s.Val()
	args, err := s.arguments(expected)
	if err != nil {
		return "", err
	}
	if len(args) > 1 {
		return "", s.Errf("%s: expected %s, not %d arguments", name, expected, len(args))
	}
	return args[0], nil
}

// duration returns the only argument of the subdirective, of at least least
// and above zero.
func (s *subdirectives) duration(expected string, least time.Duration) (time.Duration, error) {
	name := s.Val()
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	duration, err := caddy.ParseDuration(text)
	if err != nil || duration <= 0 {
		return 0, s.Errf("%s: expected %s, not '%s'", name, expected, text)
	}
	if duration < least {
		return 0, s.Errf("%s: must be at least %s", name, least)
	}
	return duration, nil
}

// number returns the only argument of the subdirective, from 1 to most.
func (s *subdirectives) number(expected string, most int) (int, error) {
	name := s.Val()
	text, err := s.argument(expected)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, s.Errf("%s: expected %s, 1 to %d, not '%s'", name, expected, most, text)
	}
	return n, nil
}

// noArgument refuses arguments.
func (s *subdirectives) noArgument() error {
	name := s.Val()
	if s.NextArg() {
		return s.Errf("%s takes no argument: '%s'", name, s.Val())
	}
	return s.noBlock(name)
}

func (s *subdirectives) noBlock(name string) error {
	refusal, last := s.Errf("%s takes no block", name), s.Val()
	if s.NextBlock(s.Nesting()) || s.Val() != last { // an empty block is passed over
		return refusal
	}
	return nil
}
