package redis

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// names are the subdirectives.
var names = []string{
	"address", "sentinel", "sentinel_username", "sentinel_password", "cluster", "database",
	"username", "password", "tls", "tls_client", "tls_server_name", "prefix",
}

// UnmarshalCaddyfile parses:
//
//	redis {
//		address           <host:port>...
//		sentinel          <master name>
//		sentinel_username <name>
//		sentinel_password <password>
//		cluster
//		database          <n>
//		username          <name>
//		password          <password>
//		tls               [<ca file>]
//		tls_client        <certificate file> <key file>
//		tls_server_name   <name>
//		prefix            <prefix>
//	}
//
// tls_client and tls_server_name turn on TLS too.
func (e *Engine) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the engine
	begin := d.Token()
	if d.NextArg() {
		return at(d.Token(), "unexpected argument: write the settings into the block, such as 'address <host:port>'")
	}
	first := make(map[string]caddyfile.Token)
	for d.NextBlock(0) {
		l := line{name: d.Token()}
		for d.NextArg() {
			l.args = append(l.args, d.Token())
		}
		if err := l.check(first); err != nil {
			return err
		}
		if err := e.set(l); err != nil {
			return err
		}
		end := d.Token()
		if d.Next() { // a block is a token on the same line
			if d.Val() == "{" && d.Line() == end.Line {
				return at(d.Token(), "%s: unexpected block: expected none", l.name.Text)
			}
			d.Prev()
		}
	}
	if len(e.Addresses) == 0 {
		return at(begin, "expected at least one address, found none: write 'address <host:port>' into the block")
	}
	return nil
}

// set sets what a line says.
func (e *Engine) set(l line) (err error) {
	switch l.name.Text {
	case "address":
		return e.setAddresses(l)
	case "sentinel":
		e.Sentinel, err = l.argument("the name of a master")
	case "sentinel_username":
		e.SentinelUsername, err = l.argument("a user name")
	case "sentinel_password":
		e.SentinelPassword, err = l.argument("a password")
	case "cluster":
		e.Cluster = true
		_, err = l.arguments(0, 0, "")
	case "database":
		return e.setDatabase(l)
	case "username":
		e.Username, err = l.argument("a user name")
	case "password":
		e.Password, err = l.argument("a password")
	case "tls":
		var args []string
		args, err = l.arguments(0, 1, "the path of a file with certificates of authorities")
		if len(args) == 1 {
			e.tls().CA = args[0]
		}
		e.tls()
	case "tls_client":
		var args []string
		if args, err = l.arguments(2, 2, "the paths of a certificate and of its key"); err == nil {
			e.tls().ClientCertificate, e.TLS.ClientKey = args[0], args[1]
		}
	case "tls_server_name":
		e.tls().ServerName, err = l.argument("a name")
	case "prefix":
		if e.Prefix, err = l.argument(expectedPrefix); err == nil {
			if err = checkPrefix(e.Prefix); err != nil {
				err = at(l.args[0], "prefix: %w", err)
			}
		}
	}
	return err
}

// tls returns the settings of TLS, which is on then.
func (e *Engine) tls() *TLS {
	if e.TLS == nil {
		e.TLS = new(TLS)
	}
	return e.TLS
}

func (e *Engine) setAddresses(l line) (err error) {
	if e.Addresses, err = l.arguments(1, 1000, expectedAddress); err != nil {
		return err
	}
	for i, address := range e.Addresses {
		if strings.Contains(address, "{") { // a placeholder
			continue
		}
		if _, err := checkAddress(address); err != nil {
			return at(l.args[i], "address: %w", err)
		}
	}
	return nil
}

func (e *Engine) setDatabase(l line) error {
	const expected = "the number of a database, from 0"
	text, err := l.argument(expected)
	if err != nil {
		return err
	}
	if e.Database, err = strconv.Atoi(text); err != nil || e.Database < 0 {
		return l.expected(expected, "'"+withoutPassword(text)+"'")
	}
	return nil
}

// line is a subdirective with its arguments.
type line struct {
	name caddyfile.Token
	args []caddyfile.Token
}

// check refuses unknown and duplicate names, and arguments that are empty or end with a
// semicolon. first holds the names of previous lines.
func (l line) check(first map[string]caddyfile.Token) error {
	name, known := l.name.Text, false
	for _, n := range names {
		known = known || n == name
	}
	if !known {
		if end := strings.IndexAny(name, "=:"); end >= 0 { // as in password=...
			name = name[:end+1] + "..."
		}
		return at(l.name, "unrecognized subdirective '%s'; expected one of: %s", name, strings.Join(names, ", "))
	}
	if previous, ok := first[name]; ok {
		place := fmt.Sprintf("on line %d", previous.Line)
		if previous.File != l.name.File {
			place = fmt.Sprintf("at %s:%d", previous.File, previous.Line)
		}
		return at(l.name, "duplicate subdirective '%s' (first used %s)", name, place)
	}
	first[name] = l.name
	for _, arg := range l.args {
		if arg.Text == "" {
			return at(arg, "%s: expected an argument that is not empty, found ''", name)
		}
		if strings.HasSuffix(arg.Text, ";") && !arg.Quoted() && !strings.HasSuffix(name, "password") {
			return at(arg, "%s: unexpected semicolon: lines end without a semicolon", name)
		}
	}
	return nil
}

// arguments returns the arguments, of which there must be lowest to highest.
func (l line) arguments(lowest, highest int, expected string) ([]string, error) {
	if len(l.args) > highest {
		if highest == 0 {
			return nil, at(l.args[0], "%s: unexpected argument: expected none", l.name.Text)
		}
		return nil, at(l.args[highest], "%s: unexpected argument: expected %s", l.name.Text, expected)
	}
	if len(l.args) < lowest {
		found := "nothing"
		if len(l.args) > 0 {
			found = fmt.Sprintf("%d of %d", len(l.args), lowest)
		}
		return nil, l.expected(expected, found)
	}
	texts := make([]string, len(l.args))
	for i, arg := range l.args {
		texts[i] = arg.Text
	}
	return texts, nil
}

// argument returns the only argument.
func (l line) argument(expected string) (string, error) {
	texts, err := l.arguments(1, 1, expected)
	if err != nil {
		return "", err
	}
	return texts[0], nil
}

func (l line) expected(what, found string) error {
	return at(l.name, "%s: expected %s, found %s", l.name.Text, what, found)
}

// credentials are those of a URL.
var credentials = regexp.MustCompile(`^([a-z0-9+.-]*://|)[^/?#@]*@`)

// withoutPassword returns a text for an error.
func withoutPassword(text string) string {
	return credentials.ReplaceAllString(text, "${1}(not shown)")
}

// at returns an error with the token's file, line and chain of imports. It never shows
// the token, which may be a password in the wrong place.
func at(t caddyfile.Token, format string, args ...any) error {
	d := caddyfile.NewDispenser([]caddyfile.Token{t})
	d.Next()
	return d.Errf("fleet redis: %w", fmt.Errorf(format, args...))
}
