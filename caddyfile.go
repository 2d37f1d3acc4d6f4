package caddyhtpasswd

import (
	"fmt"
	"math"
	"slices"
	"strconv"

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
//	    fleet      <engine> { <setting of the engine>... }
//	    max_stale  <duration>
//	}
//
// The subdirective throttle can be repeated, once for each limit.
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
		known:      []string{"throttle", "max_hashes", "poll", "secret", "fleet", "max_stale"},
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
	if t, ok := p.first["subdirective fleet"]; ok && p.app.Secret == "" {
		return nil, errorContext("").at(t, "%w", errFleetSecret)
	}
	return httpcaddyfile.App{Name: appName, Value: caddyconfig.JSON(p.app, nil)}, nil
}

// optionParser parses the block of the global option.
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
	case "fleet":
		return p.parseFleet()
	case "max_stale":
		age, err := p.duration("an age such as 24h", 0)
		p.app.MaxStale = caddy.Duration(age)
		return err
	}
	return nil
}

// parseSecret does not use the methods of subdirectives, because their errors show
// the value.
func (p *optionParser) parseSecret() error {
	args := p.RemainingArgs()
	expected := func(found string) error {
		return p.lineContext().expected(p.Token(), fmt.Sprintf("a random text of at least %d characters, and optionally the previous secret after it", keyring.MinSecretLen), found, "")
	}
	switch {
	case len(args) == 0:
		return expected(foundNothing)
	case len(args) > 2:
		return expected(fmt.Sprintf("%d arguments", len(args)))
	case slices.Contains(args, ""):
		return expected("an empty text")
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

// parseLimit parses the arguments after the name of a limit.
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
		return nil, p.lineContext().expected(args[0], expected, "only "+quoted(args[0].Text), "")
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
//	    file        <path or pattern>...
//	    users       <text>
//	    group_file  <path>...
//	    realm       <text>
//	    require     user <name>... | group <name>...
//	    exempt      <matcher>...
//	    user_header <field>
//	    keep_authorization
//	    allow_http
//	    cache       off | <max_age>
//	    rehash      [<cost>]
//	    change_password <path> {
//	        min_length <n>
//	    }
//	    device_cookie [<name>] [{ max_age <duration> }]
//	}
//
// The matchers of exempt are named matchers (@name) and paths (/path*), or one
// inline matcher, on the line or in a block of its own. Requests that match one of
// them need no password. The subdirectives file, users, require and exempt can be
// repeated. The text of users is the text of an htpasswd file: a heredoc, or one
// placeholder such as {env.HTPASSWD}.
func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	h.Next() // consume directive name
	if h.NextArg() {
		return nil, errDirectiveArgument(h.Token())
	}
	p := directiveParser{Helper: h, handler: new(Handler), s: &subdirectives{
		Dispenser:  h.Dispenser,
		known:      []string{"file", "users", "group_file", "realm", "require", "exempt", "user_header", "keep_authorization", "allow_http", "cache", "rehash", "change_password", "device_cookie"},
		repeatable: []string{"file", "users", "require", "exempt"},
		elsewhere:  nginxAuth,
	}}
	for h.NextBlock(0) {
		if htfile.IsTextNotPath(h.Val()) { // the errors of begin show the name
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
	if len(p.sources) == 0 {
		return nil, end.expected(h.Token(), "at least one password file", "none",
			"write 'file <path>' or 'users <text>' inside the block; an argument of htpasswd that begins with '/' is a path matcher, not a file")
	}
	p.setSources()
	if q := p.handler.Require; q != nil && len(q.Groups) > 0 && len(p.handler.GroupFiles) == 0 {
		return nil, end.expected(h.Token(), "a 'group_file' that defines the groups of 'require group'", "none", "")
	}
	for _, set := range p.handler.ExemptRaw { // here, because allow_http can follow exempt
		if exemptsAll(set, p.handler.AllowHTTP) {
			return nil, h.Err(errExemptAll(set).Error())
		}
	}
	return p.handler, nil
}

// errDirectiveArgument returns the error for an argument of the directive.
func errDirectiveArgument(t caddyfile.Token) error {
	switch {
	case t.Text == "off":
		return errorContext("").unexpected(t, "argument", "htpasswd cannot be switched off; remove the directive, or write 'exempt <matcher>' in the htpasswd of the whole site")
	case htfile.IsTextNotPath(t.Text):
		return errorContext("").at(t, "unexpected argument: %w", errTextAsPath)
	}
	return errorContext("").unexpected(t, "argument", fmt.Sprintf("put the file inside the block: file %s; "+
		"the only argument of htpasswd is a matcher, such as /admin*, which restricts the protection to these requests", withoutSecrets(t.Text)))
}

// directiveParser parses the block of one directive.
type directiveParser struct {
	httpcaddyfile.Helper
	handler *Handler
	s       *subdirectives
	sources []Source
}

func (p *directiveParser) parse(subdirective string) (err error) {
	switch h := p.handler; subdirective {
	case "file":
		err = p.parseFiles()
	case "users":
		err = p.parseUsers()
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
	case "rehash":
		h.Rehash, err = p.parseRehash()
	case "change_password":
		h.ChangePassword, err = p.parseChangePassword()
	case "device_cookie":
		h.DeviceCookie, err = p.parseDeviceCookie()
	case "require":
		err = p.parseRequire()
	case "exempt":
		err = p.parseExempt()
	}
	return err
}

func (p *directiveParser) parseCache() (*Cache, error) {
	if p.CountRemainingArgs() == 1 && p.peek() == "off" {
		p.NextArg()
		return &Cache{Off: true}, p.s.noBlock()
	}
	maxAge, err := p.s.duration("'off' or a maximum age of cached passwords such as 10m", 0)
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
		return c.unexpected(kind, "argument", "remove the line; without 'require', every user in the files is authorized")
	case kind.Text != "user" && kind.Text != "group":
		return c.expected(kind, expected, quoted(kind.Text), "")
	case len(names) == 0:
		return c.expected(kind, fmt.Sprintf("'%s <name>...'", kind.Text), "only "+quoted(kind.Text), "")
	case kind.Text == "user":
		q.Users = append(q.Users, names...)
	default:
		q.Groups = append(q.Groups, names...)
	}
	return nil
}

func (p *directiveParser) parseRehash() (*Rehash, error) {
	if p.CountRemainingArgs() == 0 {
		return new(Rehash), p.s.noBlock()
	}
	expected := fmt.Sprintf("nothing, or the cost of the new bcrypt hashes, %d to %d", minRehashCost, maxRehashCost)
	text, err := p.s.argument(expected)
	if err != nil {
		return nil, err
	}
	cost, err := strconv.Atoi(text)
	if err != nil || cost < minRehashCost || cost > maxRehashCost {
		return nil, p.s.lineContext().expected(p.Token(), expected, quoted(text), "")
	}
	return &Rehash{Cost: cost}, nil
}

// peek returns the next argument on the line without consuming it, or "".
func (p *directiveParser) peek() string {
	if !p.NextArg() {
		return ""
	}
	defer p.Prev()
	return p.Val()
}
