package caddyhtpasswd

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
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
// Subdirective throttle can be repeated, once for each limit.
func parseOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // consume option name
	if existing != nil {
		return nil, d.Errf("duplicate global option '%s': put all settings into one block", appName)
	}
	if d.NextArg() {
		return nil, errorContext("").unexpected(d.Token(), "argument", "expected none; put the settings inside the block")
	}
	p := optionParser{app: new(App), subdirectives: &subdirectives{
		Dispenser:  d,
		known:      []string{"throttle", "max_hashes", "poll", "secret"},
		repeatable: []string{"throttle"},
	}}
	for d.NextBlock(0) {
		if err := p.begin(); err != nil {
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
	*subdirectives
	app *App
}

func (p *optionParser) parse(subdirective string) error {
	switch subdirective {
	case "throttle":
		return p.parseThrottle()
	case "max_hashes":
		n, err := p.number("a number of hash computations", math.MaxInt32)
		p.app.MaxHashes = n
		return err
	case "poll":
		interval, err := p.duration("an interval such as 5s", minPoll)
		p.app.Poll = caddy.Duration(interval)
		return err
	case "secret":
		return p.parseSecret()
	}
	return nil
}

// parseSecret does without the methods that show in their errors what they
// found.
func (p *optionParser) parseSecret() error {
	args := p.RemainingArgs()
	expected := func(found string) error {
		return p.lineContext().expected(p.Token(), fmt.Sprintf("a random text of at least %d characters, and optionally the old one after it", keyring.MinSecretLen), found, "")
	}
	switch {
	case len(args) == 0:
		return expected(foundNothing)
	case len(args) > 2:
		return expected(fmt.Sprintf("%d arguments", len(args)))
	case slices.Contains(args, ""):
		return expected("an empty one")
	}
	p.app.Secret = args[0]
	if len(args) == 2 {
		p.app.OldSecret = args[1]
	}
	return p.noBlock()
}

func (p *optionParser) parseThrottle() error {
	const expected = "'login', 'client' or 'user' with a number of failures and a window such as 1m, or 'off'"
	args, err := p.tokens(expected)
	if err != nil {
		return err
	}
	name, rest := args[0], args[1:]
	if name.Text == "off" {
		rest = args
	} else if !slices.Contains(scopeNames[:], name.Text) {
		return p.lineContext().expected(name, expected, quoted(name.Text), "")
	}
	limit, err := p.parseLimit(rest)
	if err != nil {
		return err
	}
	if p.app.Throttle == nil {
		p.app.Throttle = new(Throttle)
	}
	for s := range scopeCount {
		if name.Text != "off" && name.Text != s.String() {
			continue
		}
		if err := p.once(p.lineContext(), "limit", s.String(), name); err != nil {
			return err
		}
		*p.app.Throttle.of(s) = limit
	}
	return nil
}

// parseLimit reads what follows the name of a limit.
func (p *optionParser) parseLimit(args []caddyfile.Token) (*Limit, error) {
	const expected = "a number of failures and a window such as 1m, or 'off'"
	switch {
	case len(args) == 0:
		return nil, p.lineContext().expected(p.Token(), expected, foundNothing, "")
	case args[0].Text == "off" && len(args) == 1:
		return &Limit{Off: true}, nil
	case args[0].Text == "off":
		return nil, p.lineContext().unexpected(args[1], "argument", "expected nothing after 'off'")
	case len(args) == 1:
		return nil, p.lineContext().expected(args[0], expected, quoted(args[0].Text)+" alone", "")
	case len(args) > 2:
		return nil, p.lineContext().unexpected(args[2], "argument", "expected "+expected)
	}
	failures, err := strconv.Atoi(args[0].Text)
	if err != nil || failures < 1 || failures > maxFailures {
		return nil, p.lineContext().expected(args[0], fmt.Sprintf("a number of failures, 1 to %d", maxFailures), quoted(args[0].Text), "for no limit write 'off'")
	}
	window, err := caddy.ParseDuration(args[1].Text)
	if err != nil || window < minWindow || window > maxWindow {
		return nil, p.lineContext().expected(args[1], fmt.Sprintf("a window of %s to %s, such as 1m", minWindow, maxWindow), quoted(args[1].Text), "")
	}
	return &Limit{Failures: failures, Window: caddy.Duration(window)}, nil
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
// inline matcher, on the line or in a block of its own. Requests that match any
// of them pass. Subdirectives require and exempt can be repeated.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // consume directive name
	if h.NextArg() {
		return nil, errDirectiveArgument(h.Token())
	}
	p := directiveParser{Helper: h, handler: new(Handler), s: &subdirectives{
		Dispenser:  h.Dispenser,
		known:      []string{"file", "group_file", "realm", "require", "exempt", "user_header", "keep_authorization", "allow_http", "cache"},
		repeatable: []string{"require", "exempt"},
		elsewhere:  nginxAuth,
	}}
	for h.NextBlock(0) {
		if htfile.IsTextNotPath(h.Val()) { // errors show the names of subdirectives
			return nil, errorContext("").at(h.Token(), "unexpected line: %w", errTextAsPath)
		}
		if err := p.s.begin(); err != nil {
			return nil, err
		}
		if err := p.parse(h.Val()); err != nil {
			return nil, err
		}
	}
	const end errorContext = ""
	if len(p.handler.Files) == 0 {
		return nil, end.expected(h.Token(), "at least one password file", "none",
			"put it inside the block: file <path>; an argument that begins with '/' is a matcher of request paths, not a file")
	}
	if q := p.handler.Require; q != nil && len(q.Groups) > 0 && len(p.handler.GroupFiles) == 0 {
		return nil, end.expected(h.Token(), "a 'group_file' that says who is in the groups of 'require group'", "none", "")
	}
	for _, set := range p.handler.ExemptRaw { // whatever the order of exempt and allow_http
		if exemptsAll(set, p.handler.AllowHTTP) {
			return nil, h.Err(errExemptAll(set).Error())
		}
	}
	return p.handler, nil
}

// errDirectiveArgument refuses an argument of the directive.
func errDirectiveArgument(t caddyfile.Token) error {
	switch {
	case t.Text == "off":
		return errorContext("").unexpected(t, "argument", "there is nothing to switch off; leave the directive out, or 'exempt' these requests from the directive for the whole site")
	case htfile.IsTextNotPath(t.Text):
		return errorContext("").at(t, "unexpected argument: %w", errTextAsPath)
	}
	return errorContext("").unexpected(t, "argument", fmt.Sprintf("put the file inside the block: file %s; "+
		"only a first argument that begins with '/' is allowed, a matcher of request paths, and then only those paths are protected", withoutSecrets(t.Text)))
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
		h.Files, err = p.parsePaths()
	case "group_file":
		h.GroupFiles, err = p.parsePaths()
	case "realm":
		h.Realm, err = p.s.argument("a text, in quotes if it contains whitespace")
		if err == nil && htfile.HasControl(h.Realm) {
			err = p.s.lineContext().expected(p.Token(), "a text", "control characters", "")
		}
	case "user_header":
		h.UserHeader, err = p.s.argument("the name of a header field")
		if err == nil && !httpfield.IsUsable(h.UserHeader) {
			err = p.s.lineContext().at(p.Token(), "%w", errUserHeader(h.UserHeader))
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

// parsePaths reads the paths of files. With a semicolon behind it, the text of a
// file is refused before it is read as a path, and must not be shown either.
func (p *directiveParser) parsePaths() ([]string, error) {
	ahead := *p.Dispenser
	for _, t := range ahead.RemainingArgsAsTokens() {
		if strings.HasSuffix(t.Text, ";") && htfile.IsTextNotPath(t.Text) {
			return nil, p.s.lineContext().at(t, "%w", errTextAsPath)
		}
	}
	return p.s.arguments("one or more paths")
}

func (p *directiveParser) parseCache() (*Cache, error) {
	if p.CountRemainingArgs() == 1 && p.peek() == "off" {
		p.NextArg()
		return &Cache{Off: true}, p.s.noBlock()
	}
	maxAge, err := p.s.duration("'off', or a maximum age of verified passwords such as 10m", 0)
	return &Cache{MaxAge: caddy.Duration(maxAge)}, err
}

func (p *directiveParser) parseRequire() error {
	const expected = "'user <name>...' or 'group <name>...'"
	args, err := p.s.tokens(expected)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(args))
	for _, arg := range args[1:] {
		names = append(names, arg.Text)
	}
	if p.handler.Require == nil {
		p.handler.Require = new(Require)
	}
	q := p.handler.Require
	switch kind, c := args[0], p.s.lineContext(); {
	case kind.Text == "valid-user":
		return c.unexpected(kind, "argument", "leave the line out; without 'require' every user in the files may pass")
	case kind.Text != "user" && kind.Text != "group":
		return c.expected(kind, expected, quoted(kind.Text), "")
	case len(names) == 0:
		return c.expected(kind, fmt.Sprintf("'%s <name>...'", kind.Text), quoted(kind.Text)+" alone", "")
	case kind.Text == "user":
		q.Users = append(q.Users, names...)
	default:
		q.Groups = append(q.Groups, names...)
	}
	return nil
}

// parseExempt reads named matchers and paths, each a matcher set of its own, or
// one inline matcher.
func (p *directiveParser) parseExempt() error {
	first := p.peek()
	if _, _, err := net.ParseCIDR(first); err == nil || net.ParseIP(first) != nil {
		return p.s.lineContext().expected(p.Token(), "a matcher", quoted(first), "write "+quoted("exempt remote_ip "+first))
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
			return p.s.lineContext().unexpected(p.Token(), "argument", "expected more named matchers and paths; put an inline matcher on an 'exempt' line of its own")
		}
		if err := p.addExempt(set, quoted(p.Val())); err != nil {
			return err
		}
	}
	return p.s.noBlock()
}

func (p *directiveParser) addExempt(set caddy.ModuleMap, found string) error {
	switch {
	case len(set) > 0 && exemptsAll(set, true):
		return p.Err(errExemptAll(set).Error())
	case len(set) == 0:
		return p.s.lineContext().expected(p.Token(), "a named matcher (@name), a path (/path*) or an inline matcher such as 'remote_ip 192.0.2.0/24'", found,
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
