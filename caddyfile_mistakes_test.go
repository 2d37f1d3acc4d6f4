package caddyhtpasswd

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// mistakePlaces are the parts of a Caddyfile that this module parses. A text replaces
// TEXT, which is on the given line.
var mistakePlaces = map[string]struct {
	caddyfile string
	line      int
}{
	"directive htpasswd":   {"example.com {\nTEXT\n}\n", 2},
	"option htpasswd":      {"{\nTEXT\n}\nexample.com {\n}\n", 2},
	"option upstream":      {"{\nTEXT\n}\nexample.com {\n}\n", 2},
	"directive proxy_pass": {"{\nupstream web {\nserver a\ntransport http {\ndial_timeout 1s\n}\n}\n}\nexample.com {\nTEXT\n}\n", 10},
}

// TestMistakesHaveOnePhrase makes each kind of mistake in each place where it can be made.
// All errors of a kind have the same form, and say where the mistake is.
func TestMistakesHaveOnePhrase(t *testing.T) {
	type mistake struct {
		place, text string
		line        int // after the first one of the text
		want        string
	}
	for _, row := range []struct {
		name, phrase string // the phrase is a regular expression
		mistakes     []mistake
	}{
		{"an argument where none is allowed", `unexpected argument '[^']+': (put|expected) `, []mistake{
			{"directive htpasswd", "htpasswd users {\nfile x\n}", 0, "unexpected argument 'users': put the file inside the block: file users; the only argument of htpasswd is a matcher, such as /admin*, which restricts the protection to these requests"},
			{"directive htpasswd", "htpasswd {\nfile x\nallow_http yes\n}", 2, "allow_http: unexpected argument 'yes': expected none"},
			{"option htpasswd", "htpasswd 5s", 0, "unexpected argument '5s': expected none; put the settings inside the block"},
			{"option upstream", "upstream web a {\nserver b\n}", 0, "upstream web: unexpected argument 'a': expected '{' and a line 'server <address>' for each server"},
			{"directive proxy_pass", "proxy_pass web a:80", 0, "unexpected argument 'a:80': expected one group; to add a server, write 'server a:80' in 'upstream web'"},
		}},
		{"too many arguments", `: unexpected argument '[^']+': expected `, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x\nrealm Staff only\n}", 2, "realm: unexpected argument 'only': expected a text, in quotes if it contains whitespace"},
			{"option htpasswd", "htpasswd {\npoll 5s 6s\n}", 1, "poll: unexpected argument '6s': expected an interval such as 5s"},
			{"option htpasswd", "htpasswd {\nthrottle user off 1m\n}", 1, "throttle: unexpected argument '1m': expected nothing after 'off'"},
			{"option upstream", "upstream web {\nserver b\nslow_start 1s 2s\n}", 2, "upstream web: slow_start: unexpected argument '2s': expected a duration above zero, such as 30s"},
		}},
		{"a missing argument", `expected .+, found nothing`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile\n}", 1, "file: expected one or more paths, found nothing"},
			{"option htpasswd", "htpasswd {\npoll\n}", 1, "poll: expected an interval such as 5s, found nothing"},
			{"option htpasswd", "htpasswd {\nthrottle login\n}", 1, "throttle: expected a number of failures and a window such as 1m, or 'off', found nothing"},
			{"option htpasswd", "htpasswd {\nsecret\n}", 1, "secret: expected a random text of at least 32 characters, and optionally the previous secret after it, found nothing"},
			{"option upstream", "upstream", 0, "expected the name of a group, found nothing: write 'upstream <group> { server <address> ... }'"},
			{"option upstream", "upstream web {\nserver\n}", 1, "upstream web: server: expected an address: server <address> [weight=<n>] [max_conns=<n>] [backup] [down | drain] [route=<name>] [resolve], found nothing"},
			{"directive proxy_pass", "proxy_pass", 0, "expected the name of an upstream group, found nothing: write 'proxy_pass [<matcher>] <group>'"},
		}},
		{"an empty argument", `expected .+, found ''`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile \"\"\n}", 1, "file: expected one or more paths, found ''"},
			{"option htpasswd", "htpasswd {\npoll ``\n}", 1, "poll: expected an interval such as 5s, found ''"},
			{"option upstream", "upstream \"\"", 0, "expected a name of letters, digits, '.', '-' and '_', found ''"},
			{"option upstream", "upstream web {\nserver a\nbalance \"\"\n}", 2, "upstream web: balance: expected a method: hash <key>, ip_hash, least_conn, least_time, random, round_robin, found ''"},
			{"directive proxy_pass", "proxy_pass \"\"", 0, "expected the name of an upstream group, found ''"},
		}},
		{"an invalid argument", `expected .+, found '[^']+'`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x\ncache abc\n}", 2, "cache: expected 'off' or a maximum age of cached passwords such as 10m, found 'abc'"},
			{"directive htpasswd", "htpasswd {\nfile x\nuser_header host\n}", 2, "user_header: expected the name of a header field such as X-User, found 'host', which is not valid or is reserved"},
			{"directive htpasswd", "htpasswd {\nfile x\nexempt ::1\n}", 2, "exempt: expected a matcher, found '::1': write 'exempt remote_ip ::1'"},
			{"option htpasswd", "htpasswd {\nmax_hashes all\n}", 1, "max_hashes: expected a number of hash computations, 1 to 2147483647, found 'all'"},
			{"option htpasswd", "htpasswd {\nthrottle ip 3 1m\n}", 1, "throttle: expected 'login', 'client' or 'user' with a number of failures and a window such as 1m, or 'off', found 'ip'"},
			{"option upstream", "upstream web {\nserver a weight=x\n}", 1, "upstream web: server a: expected weight=<n> with n from 1 to 65535, found 'weight=x': to send no requests to a server, write 'down'"},
			{"directive proxy_pass", "proxy_pass 10.0.0.1:80", 0, "expected the name of an upstream group, not an address, found '10.0.0.1:80': write 'server 10.0.0.1:80' in a group, or use 'reverse_proxy 10.0.0.1:80'"},
		}},
		{"a value out of range", `expected .+, found `, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x\ncache 0\n}", 2, "cache: expected 'off' or a maximum age of cached passwords such as 10m, found '0'"},
			{"option htpasswd", "htpasswd {\npoll 10ms\n}", 1, "poll: expected at least 100ms, found '10ms'"},
			{"option htpasswd", "htpasswd {\nthrottle login 0 1m\n}", 1, "throttle: expected a number of failures, 1 to 1000000, found '0': for no limit write 'off'"},
			{"option htpasswd", "htpasswd {\nthrottle login 3 31d\n}", 1, "throttle: expected a window of 1s to 720h0m0s, such as 1m, found '31d'"},
			{"option upstream", "upstream web {\nserver a\nslow_start 0\n}", 2, "upstream web: slow_start: expected a duration above zero, such as 30s, found '0'"},
			{"option upstream", "upstream web {\nserver a\nmax_fails -1\n}", 2, "upstream web: max_fails: expected 0 or more, found -1"},
			{"directive proxy_pass", "proxy_pass web {\nmax_fails -1\n}", 1, "max_fails: expected 0 or more, found -1"},
		}},
		{"a missing line", `expected .+, found none`, []mistake{
			{"directive htpasswd", "htpasswd {\nrealm x\n}", 2, "expected at least one password file, found none: write 'file <path>' or 'users <text>' inside the block; an argument of htpasswd that begins with '/' is a path matcher, not a file"},
			{"directive htpasswd", "htpasswd {\nfile x\nrequire group a\n}", 3, "expected a 'group_file' that defines the groups of 'require group', found none"},
			{"option upstream", "upstream web {\n}", 0, "upstream web: expected at least one line 'server <address>', found none"},
			{"option upstream", "upstream web {\nserver a backup\n}", 0, "upstream web: expected at least one server without 'backup', found none"},
		}},
		{"the same twice", `duplicate .+ '[^']+' \(first used on line \d+\)`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x\nrealm a\nrealm b\n}", 3, "duplicate subdirective 'realm' (first used on line 4)"},
			{"option htpasswd", "htpasswd {\npoll 5s\npoll 6s\n}", 2, "duplicate subdirective 'poll' (first used on line 3)"},
			{"option htpasswd", "htpasswd {\nthrottle login 3 1m\nthrottle off\n}", 2, "throttle: duplicate limit 'login' (first used on line 3)"},
			{"option upstream", "upstream web {\nserver a\n}\nupstream web {\nserver b\n}", 3, "duplicate upstream group 'web' (first used on line 2)"},
			{"option upstream", "upstream web {\nserver a\nbalance random\nbalance random\n}", 3, "upstream web: duplicate subdirective 'balance' (first used on line 4)"},
			{"option upstream", "upstream web {\nserver a weight=1 weight=2\n}", 1, "upstream web: server a: duplicate parameter 'weight' (first used on line 3)"},
			{"option upstream", "upstream web {\nserver a backup backup\n}", 1, "upstream web: server a: duplicate parameter 'backup' (first used on line 3)"},
			{"directive proxy_pass", "proxy_pass web {\ntransport http\n}", 1, "duplicate subdirective 'transport' (first used on line 4)"},
		}},
		{"the same global option twice", `duplicate global option '`, []mistake{
			{"option htpasswd", "htpasswd {\npoll 5s\n}\nhtpasswd {\npoll 6s\n}", 3, "duplicate global option 'htpasswd': put all settings into one block"},
		}},
		{"a block where none is allowed", `unexpected block: expected none`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x {\ny\n}\n}", 1, "file: unexpected block: expected none"},
			{"directive htpasswd", "htpasswd {\nfile x\nrealm \"}\" {\n}\n}", 2, "realm: unexpected block: expected none"},
			{"option htpasswd", "htpasswd {\npoll 5s {\n}\n}", 1, "poll: unexpected block: expected none"},
			{"option htpasswd", "htpasswd {\nsecret aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa {\n}\n}", 1, "secret: unexpected block: expected none"},
			{"option upstream", "upstream web {\nserver a {\n}\n}", 1, "upstream web: server: unexpected block: expected none"},
			{"option upstream", "upstream web {\nserver a\nslow_start 1s {\nx\n}\n}", 2, "upstream web: slow_start: unexpected block: expected none"},
		}},
		{"a misspelled name", `unrecognized .+ '[^']+'; expected one of: .+; did you mean '[^']+'\?`, []mistake{
			{"directive htpasswd", "htpasswd {\nrelam x\n}", 1, "unrecognized subdirective 'relam'; expected one of: file, users, group_file, realm, require, exempt, user_header, keep_authorization, allow_http, cache, rehash, change_password, device_cookie; did you mean 'realm'?"},
			{"option htpasswd", "htpasswd {\nmax_hash 3\n}", 1, "unrecognized subdirective 'max_hash'; expected one of: throttle, max_hashes, poll, secret, fleet, max_stale; did you mean 'max_hashes'?"},
			{"option upstream", "upstream web {\nsever a\n}", 1, "upstream web: unrecognized subdirective 'sever'; expected one of: server, balance, sticky, slow_start, " + strings.Join(proxySubdirectives, ", ") + "; did you mean 'server'?"},
			{"option upstream", "upstream web {\nserver a wieght=2\n}", 1, "upstream web: server a: unrecognized parameter 'wieght=2'; expected one of: weight=<n>, max_conns=<n>, backup, down, drain, route=<name>, resolve; did you mean 'weight'?"},
			{"option upstream", "upstream web {\nserver a\nbalance leastconn\n}", 2, "upstream web: balance: unrecognized method 'leastconn'; expected one of: hash <key>, ip_hash, least_conn, least_time, random, round_robin; did you mean 'least_conn'?"},
			{"directive proxy_pass", "proxy_pass wbe", 0, "unrecognized upstream group 'wbe'; expected one of: web; did you mean 'web'?"},
			{"directive proxy_pass", "proxy_pass web {\nheaders_up X y\n}", 1, "unrecognized subdirective 'headers_up'; expected one of: " + strings.Join(proxySubdirectives, ", ") + "; did you mean 'header_up'?"},
		}},
		{"an unknown name", `unrecognized .+ '[^']+'; expected one of: [^;]+$`, []mistake{
			{"directive htpasswd", "htpasswd {\nalice x\n}", 1, "unrecognized subdirective 'alice'; expected one of: file, users, group_file, realm, require, exempt, user_header, keep_authorization, allow_http, cache, rehash, change_password, device_cookie"},
			{"option htpasswd", "htpasswd {\nfile x\n}", 1, "unrecognized subdirective 'file'; expected one of: throttle, max_hashes, poll, secret, fleet, max_stale"},
			{"option upstream", "upstream web {\nserver a b\n}", 1, "upstream web: server a: unrecognized parameter 'b'; expected one of: weight=<n>, max_conns=<n>, backup, down, drain, route=<name>, resolve"},
			{"directive proxy_pass", "proxy_pass elsewhere", 0, "unrecognized upstream group 'elsewhere'; expected one of: web"},
		}},
		{"nginx's semicolon", `unexpected semicolon in '([^']+);': lines end without a semicolon; write '`, []mistake{
			{"directive htpasswd", "htpasswd {\nfile x;\n}", 1, "file: unexpected semicolon in 'x;': lines end without a semicolon; write 'x'"},
			{"directive htpasswd", "htpasswd {\nallow_http;\n}", 1, "unexpected semicolon in 'allow_http;': lines end without a semicolon; write 'allow_http'"},
			{"option htpasswd", "htpasswd {\npoll 5s;\n}", 1, "poll: unexpected semicolon in '5s;': lines end without a semicolon; write '5s'"},
			{"option upstream", "upstream web {\nserver a;\n}", 1, "upstream web: server: unexpected semicolon in 'a;': lines end without a semicolon; write 'a'"},
			{"option upstream", "upstream web {\nserver a\nverbose_logs;\n}", 2, "upstream web: unexpected semicolon in 'verbose_logs;': lines end without a semicolon; write 'verbose_logs'"},
			{"directive proxy_pass", "proxy_pass web;", 0, "unexpected semicolon in 'web;': lines end without a semicolon; write 'web'"},
			{"directive proxy_pass", "proxy_pass web {\nverbose_logs;\n}", 1, "unexpected semicolon in 'verbose_logs;': lines end without a semicolon; write 'verbose_logs'"},
		}},
		{"a name with a replacement", `unexpected (subdirective|parameter) '[^']+': [a-z]`, []mistake{
			{"directive htpasswd", "htpasswd {\nauth_basic_user_file x;\n}", 1, "unexpected subdirective 'auth_basic_user_file': write 'file <path>'"},
			{"option upstream", "upstream web {\nserver a\nip_hash;\n}", 2, "upstream web: unexpected subdirective 'ip_hash;': write 'balance ip_hash' in the group"},
			{"option upstream", "upstream web {\nserver a max_fails=3\n}", 1, "upstream web: server a: unexpected parameter 'max_fails=3': write 'max_fails <n>' on a line of its own in the group, for all its servers"},
			{"option upstream", "upstream web {\nto a\n}", 1, "upstream web: unexpected subdirective 'to': write 'server <address>' in the group"},
			{"directive proxy_pass", "proxy_pass web {\nproxy_read_timeout 5s;\n}", 1, "unexpected subdirective 'proxy_read_timeout': write 'transport http { response_header_timeout <duration> }'"},
			{"directive proxy_pass", "proxy_pass web {\nserver b\n}", 1, "unexpected subdirective 'server': write this line in 'upstream web' on line 2"},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			phrase := regexp.MustCompile(row.phrase)
			for _, m := range row.mistakes {
				place := mistakePlaces[m.place]
				_, err := adapted(strings.Replace(place.caddyfile, "TEXT", m.text, 1))
				_, name, _ := strings.Cut(m.place, " ")
				want := fmt.Sprintf("parsing caddyfile tokens for '%s': %s, at Caddyfile:%d", name, m.want, place.line+m.line)
				if err == nil || err.Error() != want {
					t.Errorf("%s: %q:\ngot  %v\nwant %s", m.place, m.text, err, want)
				}
				if !phrase.MatchString(m.want) {
					t.Errorf("%s: %q: got the phrase %q, want %q", m.place, m.text, m.want, row.phrase)
				}
			}
		})
	}
}

// TestMistakesShowNoSecret writes lines of password files, and credentials, in places of a
// Caddyfile where they are not allowed. No error shows them.
func TestMistakesShowNoSecret(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, place, text, want string }{
		{"a line of a password file as an argument", "directive htpasswd", "htpasswd alice:" + bcrypt4Secret1, "unexpected argument: value looks like the text of a password file (not shown here); expected the path"},
		{"a hash as an argument", "directive htpasswd", "htpasswd " + bcrypt4Secret1, "unexpected argument: value looks like the text of a password file"},
		{"a SHA hash as an argument", "directive htpasswd", "htpasswd " + shaSecret1, "unexpected argument '(not shown)': put the file inside the block: file (not shown);"},
		{"a line of a password file in the block", "directive htpasswd", "htpasswd {\nalice:" + bcrypt4Secret1 + "\n}", "unexpected line: value looks like the text of a password file"},
		{"a line of a password file with a semicolon", "directive htpasswd", "htpasswd {\nalice:" + shaSecret1 + ";\n}", "unexpected line: value looks like the text of a password file"},
		{"a user of basic_auth in the block", "directive htpasswd", "htpasswd {\nalice " + bcrypt4Secret1 + "\n}", "unrecognized subdirective 'alice'"},
		{"a line of a password file as a path, with a semicolon", "directive htpasswd", "htpasswd {\nfile alice:canary;\n}", "file: value looks like the text of a password file"},
		{"a line of a password file as a second path, with a semicolon", "directive htpasswd", "htpasswd {\nfile x alice:" + bcrypt4Secret1 + ";\n}", "file: value looks like the text of a password file"},
		{"a line of a password file as a group file, with a semicolon", "directive htpasswd", "htpasswd {\ngroup_file alice:" + shaSecret1 + ";\n}", "group_file: value looks like the text of a password file"},
		{"a name and a hash as paths, with a semicolon", "directive htpasswd", "htpasswd {\nfile alice " + bcrypt4Secret1 + ";\n}", "file: value looks like the text of a password file"},
		{"a SHA hash in the block", "directive htpasswd", "htpasswd {\n" + shaSecret1 + "\n}", "unrecognized subdirective '(not shown)'"},
		{"a name and a hash, with a semicolon", "directive htpasswd", "htpasswd {\nrequire user alice:" + bcrypt4Secret1 + ";\n}", "require: unexpected semicolon in 'alice:(not shown)'"},
		{"a name and a hash as a user", "directive htpasswd", "htpasswd {\nrequire alice:" + shaSecret1 + "\n}", "require: expected 'user <name>...' or 'group <name>...', found 'alice:(not shown)'"},
		{"a hash as the name of a field", "directive htpasswd", "htpasswd {\nuser_header " + shaSecret1 + "\n}", "user_header: expected the name of a header field such as X-User, found '(not shown)'"},
		{"a hash after the realm", "directive htpasswd", "htpasswd {\nrealm alice " + bcrypt4Secret1 + "\n}", "realm: unexpected argument '(not shown)'"},
		{"a secret with an equals sign", "option htpasswd", "htpasswd {\nsecret=canary\n}", "unrecognized subdirective 'secret=...'; expected one of: throttle, max_hashes, poll, secret, fleet, max_stale; did you mean 'secret'?"},
		{"a secret with a colon", "option htpasswd", "htpasswd {\nsecret:canary\n}", "unrecognized subdirective 'secret:...'; expected one of: throttle, max_hashes, poll, secret, fleet, max_stale"},
		{"credentials on a line of their own", "option upstream", "upstream web {\nserver a\nheader_up Authorization\n\"Basic canary\"\n}", "upstream web: unrecognized subdirective 'Basic (not shown)'"},
		{"credentials on a line of their own in proxy_pass", "directive proxy_pass", "proxy_pass web {\n\"Authorization: Bearer canary\"\n}", "unrecognized subdirective 'Authorization: Bearer (not shown)'"},
		{"credentials in an address with a semicolon", "option upstream", "upstream web {\nserver http://alice:canary@a;\n}", "server: unexpected semicolon in 'http://(not shown)a;'"},
		{"credentials in a second address", "option upstream", "upstream web {\nserver a http://alice:canary@b\n}", "server a: unrecognized parameter 'http://(not shown)b'"},
		{"credentials in an address in place of a group", "directive proxy_pass", "proxy_pass http://alice:canary@a:80", "expected the name of an upstream group, not an address, found 'http://(not shown)a:80': write 'server (not shown)a:80' in a group"},
		{"credentials in an address in place of a group, by https", "directive proxy_pass", "proxy_pass https://alice:canary@a", "expected a group without a scheme, found 'https://(not shown)a': write 'proxy_pass (not shown)a'"},
		{"credentials in an address after a group", "directive proxy_pass", "proxy_pass web http://alice:canary@a", "unexpected argument 'http://(not shown)a': expected one group; to add a server, write 'server http://(not shown)a'"},
		{"credentials in an address", "option upstream", "upstream web {\nserver http://alice:canary@a\n}", "expected an address without a user"},
		{"credentials in an address with a placeholder", "option upstream", "upstream web {\nserver http://alice:canary@{host}\n}", "expected an address without a user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			place := mistakePlaces[row.place]
			_, err := adapted(strings.Replace(place.caddyfile, "TEXT", row.text, 1))
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), ", at Caddyfile:") {
				t.Fatalf("got error %v, want %q and a place", err, row.want)
			}
			for _, secret := range []string{bcrypt4Secret1, shaSecret1, "canary"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("got %q, which shows %q", err, secret)
				}
			}
		})
	}
}

// TestProxySubdirectivesAreCaddys compares the subdirectives that errors list or refuse
// with those that reverse_proxy has.
func TestProxySubdirectivesAreCaddys(t *testing.T) {
	t.Parallel()
	isUnknown := func(name string) bool {
		_, err := adapted(":80 {\nreverse_proxy a {\n" + name + "\n}\n}\n")
		return err != nil && strings.Contains(err.Error(), "unrecognized subdirective "+name+",")
	}
	for _, name := range proxySubdirectives {
		if isUnknown(name) {
			t.Errorf("reverse_proxy does not know %q", name)
		}
	}
	for name := range refusedSubdirectives {
		if isUnknown(name) {
			t.Errorf("reverse_proxy does not know %q, which is refused", name)
		}
	}
	for _, d := range nginxDirectives {
		if (d.context == nginxUpstream || d.context == nginxProxy) && !isUnknown(d.name) {
			t.Errorf("reverse_proxy has a subdirective %q: it must not be refused", d.name)
		}
	}
}

// TestNginxDirectives checks the form of the rows in nginxDirectives.
func TestNginxDirectives(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, d := range nginxDirectives {
		key := string(d.context) + " " + d.name
		if seen[key] {
			t.Errorf("%s: got two rows, want one", key)
		}
		seen[key] = true
		if d.instead == "" || strings.HasSuffix(d.instead, ".") || strings.ContainsAny(d.instead, "`\"") || strings.Count(d.instead, "'")%2 != 0 && !strings.Contains(d.instead, "system's") {
			t.Errorf("%s: got %q, want a text without full stop that quotes with '...'", key, d.instead)
		}
		if strings.Contains(d.instead, "cookie") {
			t.Errorf("%s: got %q, but a hash of a cookie loses sessions: the first request has no cookie", key, d.instead)
		}
		for _, name := range []string{d.name, d.name + ";"} {
			if instead, ok := insteadOf(d.context, name); !ok || instead != d.instead {
				t.Errorf("%s: got %q, %t for %q, want %q", key, instead, ok, name, d.instead)
			}
		}
	}
	if instead, ok := insteadOf(nginxAuth, "ip_hash"); ok {
		t.Errorf("got %q for a directive of another context, want nothing", instead)
	}
}

func TestClosest(t *testing.T) {
	t.Parallel()
	known := []string{"server", "balance", "weight=<n>", "hash <key>", "up"}
	for name, want := range map[string]string{
		"sevrer": "server", "SERVER": "server", "serve": "server", "servers": "server", "server;": "server",
		"wieght": "weight", "hsh": "hash", "hash": "hash", "": "", "x": "", "pu": "", "location": "", "ballance": "balance",
	} {
		if got := closest(name, known); got != want {
			t.Errorf("closest to %q: got %q, want %q", name, got, want)
		}
	}
}

// FuzzCaddyfileBlocks parses any tokens as any of the blocks. Nothing panics, and every
// error has a position.
func FuzzCaddyfileBlocks(f *testing.F) {
	for _, text := range []string{
		"x", "x {\n}", "htpasswd {\nfile a\nrealm \"a b\"\nrequire user a\nexempt /x @y\ncache 5m\n}", "htpasswd {\nexempt {\nmethod GET\n}\nexempt not path /a\n}",
		"htpasswd {\npoll 5s\nthrottle login 3 1m\nthrottle off\nmax_hashes 3\nsecret a b\n}", "upstream web {\nserver a:1-3 weight=2\nserver unix//b backup\nbalance hash {uri}\nslow_start 1s\n}",
		"upstream web {\nserver a\nhandle_response {\nrespond x\n}\ntransport http {\ndial_timeout 1s\n}\nheader_up X {\n}\n}", "proxy_pass web {\nlb_retries 3\nto a\n}",
		"x {\nserver a }\n}", "x \"{\" {\n\"}\"\n}", "x {\nserver {\n}\nbalance {\nrandom\n}\n}", "x ;", "x {\nfile a;\n}", "x a\\\nb {\nrealm a \\\nb\n}",
	} {
		f.Add(text)
	}
	group := &groupDefinition{name: caddyfile.Token{File: "Caddyfile", Line: 1, Text: "web"}}
	definition := caddyfile.NewTestDispenser("upstream web {\nserver a\nserver b\n}")
	definition.Next()
	definition.NextArg()
	if err := group.readBlock(definition); err != nil {
		f.Fatal(err)
	}
	groups := upstreamGroups{"web": group}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil || len(tokens) == 0 {
			return
		}
		for name, parse := range map[string]func(d *caddyfile.Dispenser) error{
			"option htpasswd": func(d *caddyfile.Dispenser) error { _, err := parseOption(d, nil); return err },
			"option upstream": func(d *caddyfile.Dispenser) error { _, err := parseUpstream(d, nil); return err },
			"directive htpasswd": func(d *caddyfile.Dispenser) error {
				_, err := parseDirective(httpcaddyfile.Helper{Dispenser: d})
				return err
			},
			"lines of proxy_pass": func(d *caddyfile.Dispenser) error {
				d.Next()
				directive := d.Token()
				d.NextArg()
				if _, err := groups.find(d.Token()); err != nil {
					return err
				}
				lines, end := blockLines(d)
				for _, line := range lines {
					if err := group.checkDirectiveLine(line); err != nil {
						return err
					}
				}
				_, _, err := group.expand("", proxySubdirectives, directive, lines, end)
				return err
			},
		} {
			if err := parse(caddyfile.NewDispenser(slices.Clone(tokens))); err != nil && !strings.Contains(err.Error(), ", at ") {
				t.Errorf("%s: got the error %q without a place", name, err)
			}
		}
	})
}
