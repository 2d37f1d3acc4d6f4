package caddyhtpasswd

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// adapted adapts a Caddyfile to JSON.
func adapted(text string) (map[string]any, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	var root map[string]any
	return root, json.Unmarshal(config, &root)
}

// handlers returns all handlers in a configuration, in their order.
func handlers(config any) []map[string]any {
	var found []map[string]any
	switch c := config.(type) {
	case map[string]any:
		if _, ok := c["handler"]; ok {
			found = append(found, c)
		}
		for _, key := range []string{"apps", "http", "servers", "srv0", "routes", "handle"} {
			found = append(found, handlers(c[key])...)
		}
	case []any:
		for _, v := range c {
			found = append(found, handlers(v)...)
		}
	}
	return found
}

func TestCaddyfile(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, block, want string }{
		{"file", "file /etc/htpasswd", `{"files": ["/etc/htpasswd"]}`},
		{"files", `file a "b c" ./d`, `{"files": ["a", "b c", "./d"]}`},
		{"file repeated", "file a b\nrealm x\nfile c", `{"files": ["a", "b", "c"], "realm": "x"}`},
		{"file with a pattern", "file users.d/*.htpasswd", `{"files": ["users.d/*.htpasswd"]}`},
		{"users with a placeholder", "users {env.HTPASSWD}", `{"sources": [{"users": "{env.HTPASSWD}"}]}`},
		{"users with one line", "users alice:{SHA}x$2y$10$z", `{"sources": [{"users": "alice:{SHA}x$2y$10$z"}]}`},
		{"users as a heredoc", "users <<END\n\talice:$2y$10$a\n\t# {env.X}\n\tbob:{SHA}b\n\tEND", `{"sources": [{"users": "alice:$2y$10$a\n# {env.X}\nbob:{SHA}b"}]}`},
		{"file and users in the order written", "file a b\nusers x:1\nfile c\nusers {file./run/u}", `{"sources": [{"file": "a"}, {"file": "b"}, {"users": "x:1"}, {"file": "c"}, {"users": "{file./run/u}"}]}`},
		{"group_file", "file a\ngroup_file g h", `{"files": ["a"], "group_files": ["g", "h"]}`},
		{"realm", "file a\nrealm Staff", `{"files": ["a"], "realm": "Staff"}`},
		{"realm in quotes", "file a\nrealm \"The \\\"good\\\" one\"", `{"files": ["a"], "realm": "The \"good\" one"}`},
		{"realm with a placeholder", "file a\nrealm \"{host}\"", `{"files": ["a"], "realm": "{http.request.host}"}`},
		{"require user", "file a\nrequire user alice bob", `{"files": ["a"], "require": {"users": ["alice", "bob"]}}`},
		{"require group", "require group admins staff\nfile a\ngroup_file g", `{"files": ["a"], "group_files": ["g"], "require": {"groups": ["admins", "staff"]}}`},
		{"require repeated", "file a\ngroup_file g\nrequire user alice\nrequire group x\nrequire user bob", `{"files": ["a"], "group_files": ["g"], "require": {"users": ["alice", "bob"], "groups": ["x"]}}`},
		{"require a user named like a word of ours", "file a\nrequire user user group valid-user", `{"files": ["a"], "require": {"users": ["user", "group", "valid-user"]}}`},
		{"exempt named", "file a\nexempt @health", `{"files": ["a"], "exempt": [{"path": ["/health"]}]}`},
		{"exempt path", "file a\nexempt /public/*", `{"files": ["a"], "exempt": [{"path": ["/public/*"]}]}`},
		{"exempt several", "file a\nexempt @health /a /b*\nexempt @health", `{"files": ["a"], "exempt": [{"path": ["/health"]}, {"path": ["/a"]}, {"path": ["/b*"]}, {"path": ["/health"]}]}`},
		{"exempt inline", "file a\nexempt remote_ip 192.0.2.0/24 ::1", `{"files": ["a"], "exempt": [{"remote_ip": {"ranges": ["192.0.2.0/24", "::1"]}}]}`},
		{"exempt inline not", "file a\nexempt not path /a", `{"files": ["a"], "exempt": [{"not": [{"path": ["/a"]}]}]}`},
		{"exempt block", "file a\nexempt {\nmethod GET\npath /x /y\n}\nallow_http", `{"files": ["a"], "exempt": [{"method": ["GET"], "path": ["/x", "/y"]}], "allow_http": true}`},
		{"exempt block and others", "exempt /z\nexempt {\nmethod GET\n}\nexempt @both\nfile a", `{"files": ["a"], "exempt": [{"path": ["/z"]}, {"method": ["GET"]}, {"path": ["/both"], "method": ["PUT"]}]}`},
		{"exempt expression", "file a\nexempt `{method} == 'GET'`", `{"files": ["a"], "exempt": [{"expression": "{http.request.method} == 'GET'"}]}`},
		{"user_header", "file a\nuser_header X-User", `{"files": ["a"], "user_header": "X-User"}`},
		{"keep_authorization", "file a\nkeep_authorization", `{"files": ["a"], "keep_authorization": true}`},
		{"allow_http", "file a\nallow_http", `{"files": ["a"], "allow_http": true}`},
		{"cache off", "file a\ncache off", `{"files": ["a"], "cache": {"off": true}}`},
		{"cache max_age", "file a\ncache 10m", `{"files": ["a"], "cache": {"max_age": 600000000000}}`},
		{"cache days", "file a\ncache 1d", `{"files": ["a"], "cache": {"max_age": 86400000000000}}`},
		{"rehash", "file a\nrehash", `{"files": ["a"], "rehash": {}}`},
		{"rehash with a cost", "file a\nrehash 12", `{"files": ["a"], "rehash": {"cost": 12}}`},
		{"device_cookie", "file a\ndevice_cookie", `{"files": ["a"], "device_cookie": {}}`},
		{"device_cookie with a name", "file a\ndevice_cookie __Host-d", `{"files": ["a"], "device_cookie": {"name": "__Host-d"}}`},
		{"device_cookie with an empty block", "file a\ndevice_cookie {\n}\nallow_http", `{"files": ["a"], "device_cookie": {}, "allow_http": true}`},
		{"device_cookie with everything", "file a\ndevice_cookie d {\nmax_age 30d\n}\nallow_http", `{"files": ["a"], "device_cookie": {"name": "d", "max_age": 2592000000000000}, "allow_http": true}`},
		{"all", "file a\ngroup_file g\nrealm R\nrequire user u\nexempt /e\nuser_header H\nkeep_authorization\nallow_http\ncache 5s\nrehash 11\ndevice_cookie d",
			`{"files": ["a"], "group_files": ["g"], "realm": "R", "require": {"users": ["u"]}, "exempt": [{"path": ["/e"]}], "user_header": "H", "keep_authorization": true, "allow_http": true, "cache": {"max_age": 5000000000}, "rehash": {"cost": 11}, "device_cookie": {"name": "d"}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, err := adapted("example.com\n@health path /health\n@both {\npath /both\nmethod PUT\n}\nhtpasswd {\n" + row.block + "\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			found := handlers(config)
			found = slices.DeleteFunc(found, func(h map[string]any) bool { return h["handler"] != "htpasswd" })
			if len(found) != 1 {
				t.Fatalf("got %d handlers in %v, want one", len(found), config)
			}
			delete(found[0], "handler")
			var want map[string]any
			if err := json.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			got := found[0]
			if sets, ok := got["exempt"].([]any); ok { // how Caddy writes an expression is its own business
				for _, set := range sets {
					if e, ok := set.(map[string]any)["expression"].(map[string]any); ok {
						set.(map[string]any)["expression"] = e["expr"]
					}
				}
			}
			if !reflect.DeepEqual(got, want) {
				text, _ := json.Marshal(got)
				t.Errorf("got %s, want %s", text, row.want)
			}
		})
	}
}

func TestCaddyfileOption(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, option, want string }{
		{"poll", "htpasswd {\npoll 1m\n}", `{"poll": 60000000000}`},
		{"least poll", "htpasswd {\npoll 100ms\n}", `{"poll": 100000000}`},
		{"empty block", "htpasswd {\n}", `{}`},
		{"no block at all", "htpasswd", `{}`},
		{"max_hashes", "htpasswd {\nmax_hashes 3\n}", `{"max_hashes": 3}`},
		{"secret", "htpasswd {\nsecret {env.SECRET}\n}", `{"secret": "{env.SECRET}"}`},
		{"secret and the old one", "htpasswd {\nsecret {file./new} {file./old}\n}", `{"secret": "{file./new}", "old_secret": "{file./old}"}`},
		{"one limit", "htpasswd {\nthrottle login 3 1m\n}", `{"throttle": {"login": {"failures": 3, "window": 60000000000}}}`},
		{"all limits", "htpasswd {\nthrottle login 1 1s\nthrottle user 1000000 30d\nthrottle client off\n}", `{"throttle": {
			"login": {"failures": 1, "window": 1000000000}, "client": {"off": true}, "user": {"failures": 1000000, "window": 2592000000000000}}}`},
		{"no limits", "htpasswd {\nthrottle off\n}", `{"throttle": {"login": {"off": true}, "client": {"off": true}, "user": {"off": true}}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, err := adapted("{\n" + row.option + "\n}\nexample.com {\n}\n")
			if err != nil {
				t.Fatal(err)
			}
			var want any
			if err := json.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			if got := config["apps"].(map[string]any)["htpasswd"]; !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	config, err := adapted("example.com {\nhtpasswd {\nfile a\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	if app, ok := config["apps"].(map[string]any)["htpasswd"]; ok {
		t.Errorf("got the app %v, want none: nobody configured it", app)
	}
}

// TestCaddyfileErrors checks that every error says what is wrong, where, and what was expected.
func TestCaddyfileErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string // the text begins in line 3
		line       string
		want       []string
	}{
		// The directive
		{"two files as arguments", "htpasswd /etc/a /etc/b", "3", []string{"htpasswd", "/etc/b", "file /etc/b", "matcher"}},
		{"two files and a block", "htpasswd /etc/a /etc/b {\nfile c\n}", "3", []string{"htpasswd", "file /etc/b"}},
		{"a relative file", "htpasswd users", "3", []string{"file users"}},
		{"a matcher and a file", "htpasswd @health users {\nfile x\n}", "3", []string{"file users"}},
		{"one file as an argument", "htpasswd /etc/htpasswd", "3", []string{"expected at least one password file, found none", "file <path>", "matcher"}},
		{"one file as an argument, block", "htpasswd /etc/htpasswd {\nrealm x\n}", "5", []string{"expected at least one password file, found none", "file <path>"}},
		{"nothing", "htpasswd", "3", []string{"expected at least one password file, found none", "file <path>"}},
		{"empty block", "htpasswd {\n}", "4", []string{"expected at least one password file, found none", "file <path>"}},
		{"block without file", "htpasswd {\nrealm x\nallow_http\n}", "6", []string{"expected at least one password file, found none", "file <path>"}},
		{"unknown subdirective", "htpasswd {\nfile a\nfiles b\n}", "5", []string{"'files'", "htpasswd", "file, users, group_file, realm, require, exempt, user_header, keep_authorization, allow_http, cache, rehash, change_password, device_cookie"}},
		{"subdirective of nginx", "htpasswd {\nauth_basic_user_file a\n}", "4", []string{"'auth_basic_user_file'", "file"}},
		{"subdirective in upper case", "htpasswd {\nFILE a\n}", "4", []string{"'FILE'", "file"}},
		// file and group_file
		{"file without path", "htpasswd {\nfile\n}", "4", []string{"file", "one or more paths"}},
		{"users without a text", "htpasswd {\nusers\n}", "4", []string{"users: expected the text of a password file as one argument: a heredoc, or a placeholder such as {env.HTPASSWD}, found nothing"}},
		{"users with an empty text", "htpasswd {\nusers \"\"\n}", "4", []string{"users: expected", "found an empty text: for no users, write a comment"}},
		{"users with only whitespace", "htpasswd {\nusers \" \t\"\n}", "4", []string{"users: expected", "found an empty text"}},
		{"users with two texts", "htpasswd {\nusers alice:canary bob:canary\n}", "4", []string{"users: expected", "found 2 arguments: put text with spaces or several lines into a heredoc"}},
		{"users with a semicolon", "htpasswd {\nusers alice:canary;\n}", "4", []string{"users: expected", "found a semicolon at the end"}},
		{"users with a block", "htpasswd {\nusers alice:canary {\n}\n}", "4", []string{"users: unexpected block: expected none"}},
		{"the lines of users without a heredoc", "htpasswd {\nusers alice:canary\nbob:canary2\n}", "5", []string{"looks like the text of a password file"}},
		{"file with a block", "htpasswd {\nfile a {\nb\n}\n}", "4", []string{"file", "unexpected block: expected none"}},
		{"group_file without path", "htpasswd {\nfile a\ngroup_file\n}", "5", []string{"group_file", "one or more paths"}},
		{"group_file twice", "htpasswd {\nfile a\ngroup_file a\nrealm x\ngroup_file b\n}", "7", []string{"group_file", "line 5"}},
		{"group_file with a block", "htpasswd {\nfile a\ngroup_file a {\n}\n}", "5", []string{"group_file", "unexpected block: expected none"}},
		// realm
		{"realm without text", "htpasswd {\nfile a\nrealm\n}", "5", []string{"realm", "a text"}},
		{"realm unquoted", "htpasswd {\nfile a\nrealm Staff only\n}", "5", []string{"realm: unexpected argument 'only'", "quotes"}},
		{"realm empty", "htpasswd {\nfile a\nrealm \"\"\n}", "5", []string{"realm", "text"}},
		{"realm with a line end", "htpasswd {\nfile a\nrealm \"a\nb\"\n}", "", []string{"realm", "control characters"}},
		{"realm with ESC", "htpasswd {\nfile a\nrealm \"a\x1bb\"\n}", "5", []string{"realm", "control characters"}},
		{"realm twice", "htpasswd {\nfile a\nrealm a\nrealm a\n}", "6", []string{"realm", "line 5"}},
		{"realm with a block", "htpasswd {\nfile a\nrealm a {\n}\n}", "5", []string{"realm", "unexpected block: expected none"}},
		// user_header
		{"user_header without name", "htpasswd {\nfile a\nuser_header\n}", "5", []string{"user_header", "name of a header field"}},
		{"user_header two names", "htpasswd {\nfile a\nuser_header A B\n}", "5", []string{"user_header", "name of a header field"}},
		{"user_header Authorization", "htpasswd {\nfile a\nuser_header Authorization\n}", "5", []string{"user_header", "Authorization", "X-User"}},
		{"user_header Host", "htpasswd {\nfile a\nuser_header host\n}", "5", []string{"user_header", "'host'"}},
		{"user_header with a space", "htpasswd {\nfile a\nuser_header \"bad name\"\n}", "5", []string{"user_header", "'bad name'"}},
		{"user_header empty", "htpasswd {\nfile a\nuser_header \"\"\n}", "5", []string{"user_header"}},
		{"user_header a placeholder", "htpasswd {\nfile a\nuser_header {header.X}\n}", "5", []string{"user_header"}},
		{"user_header twice", "htpasswd {\nfile a\nuser_header A\nuser_header B\n}", "6", []string{"user_header", "line 5"}},
		// keep_authorization, allow_http
		{"keep_authorization yes", "htpasswd {\nfile a\nkeep_authorization yes\n}", "5", []string{"keep_authorization: unexpected argument 'yes': expected none"}},
		{"keep_authorization twice", "htpasswd {\nfile a\nkeep_authorization\nkeep_authorization\n}", "6", []string{"keep_authorization", "line 5"}},
		{"keep_authorization with a block", "htpasswd {\nfile a\nkeep_authorization {\n}\n}", "5", []string{"keep_authorization", "unexpected block: expected none"}},
		{"allow_http off", "htpasswd {\nfile a\nallow_http off\n}", "5", []string{"allow_http: unexpected argument 'off': expected none"}},
		{"allow_http twice", "htpasswd {\nfile a\nallow_http\nallow_http\n}", "6", []string{"allow_http", "line 5"}},
		{"allow_http with a block", "htpasswd {\nfile a\nallow_http {\nx\n}\n}", "5", []string{"allow_http", "unexpected block: expected none"}},
		// cache
		{"cache nothing", "htpasswd {\nfile a\ncache\n}", "5", []string{"cache", "'off'", "10m"}},
		{"nginx's off", "htpasswd off", "3", []string{"htpasswd", "unexpected argument 'off'", "cannot be switched off"}},
		{"nginx's semicolon", "htpasswd {\nfile a;\n}", "4", []string{"a;", "semicolon"}},
		{"nginx's semicolon after require", "htpasswd {\nfile a\nrequire user alice;\n}", "5", []string{"semicolon"}},
		{"nginx's semicolon after exempt", "htpasswd {\nfile a\nexempt /health;\n}", "5", []string{"semicolon"}},
		{"nginx's allow", "htpasswd {\nfile a\nexempt 192.0.2.0/24\n}", "5", []string{"exempt remote_ip 192.0.2.0/24"}},
		{"exempt every path", "htpasswd {\nfile a\nexempt /*\n}", "5", []string{"exempt", "every request"}},
		{"file empty", "htpasswd {\nfile \"\"\n}", "4", []string{"file", "one or more paths, found ''"}},
		{"cache 0", "htpasswd {\nfile a\ncache 0\n}", "5", []string{"cache", "'off'", "'0'"}},
		{"cache -1", "htpasswd {\nfile a\ncache -1\n}", "5", []string{"cache", "'off'", "'-1'"}},
		{"cache -5m", "htpasswd {\nfile a\ncache -5m\n}", "5", []string{"cache", "'off'", "'-5m'"}},
		{"cache abc", "htpasswd {\nfile a\ncache abc\n}", "5", []string{"cache", "'off'", "'abc'"}},
		{"cache on", "htpasswd {\nfile a\ncache on\n}", "5", []string{"cache", "'off'", "'on'"}},
		{"cache a number", "htpasswd {\nfile a\ncache 10\n}", "5", []string{"cache", "'off'", "'10'"}},
		{"cache off 5m", "htpasswd {\nfile a\ncache off 5m\n}", "5", []string{"cache: unexpected argument '5m'", "'off'"}},
		{"cache 5m off", "htpasswd {\nfile a\ncache 5m off\n}", "5", []string{"cache: unexpected argument 'off'"}},
		{"cache twice", "htpasswd {\nfile a\ncache 5m\ncache off\n}", "6", []string{"cache", "line 5"}},
		{"cache 5m with a block", "htpasswd {\nfile a\ncache 5m {\n}\n}", "5", []string{"cache", "unexpected block: expected none"}},

		// rehash
		{"rehash 9", "htpasswd {\nfile a\nrehash 9\n}", "5", []string{"rehash", "10 to 14", "'9'"}},
		{"rehash 15", "htpasswd {\nfile a\nrehash 15\n}", "5", []string{"rehash", "10 to 14", "'15'"}},
		{"rehash a word", "htpasswd {\nfile a\nrehash bcrypt\n}", "5", []string{"rehash", "10 to 14", "'bcrypt'"}},
		{"rehash empty", "htpasswd {\nfile a\nrehash \"\"\n}", "5", []string{"rehash", "10 to 14", "''"}},
		{"rehash two", "htpasswd {\nfile a\nrehash 10 12\n}", "5", []string{"rehash: unexpected argument '12'", "10 to 14"}},
		{"rehash with a block", "htpasswd {\nfile a\nrehash {\n}\n}", "5", []string{"rehash", "unexpected block: expected none"}},
		// device_cookie
		{"device_cookie with a bad name", "htpasswd {\nfile a\ndevice_cookie a=b\n}", "5", []string{"device_cookie: expected the name of a cookie, such as __Host-htpasswd-device, found 'a=b'"}},
		{"device_cookie with an empty name", "htpasswd {\nfile a\ndevice_cookie \"\"\n}", "5", []string{"device_cookie: expected the name of a cookie, such as __Host-htpasswd-device, found ''"}},
		{"device_cookie with two names", "htpasswd {\nfile a\ndevice_cookie a b\n}", "5", []string{"device_cookie: unexpected argument 'b'", "max_age <duration>"}},
		{"device_cookie with a semicolon", "htpasswd {\nfile a\ndevice_cookie a;\n}", "5", []string{"device_cookie: unexpected semicolon in 'a;'"}},
		{"device_cookie with an unknown name", "htpasswd {\nfile a\ndevice_cookie {\nmaxage 1d\n}\n}", "6", []string{"device_cookie: unrecognized subdirective 'maxage'; expected one of: max_age; did you mean 'max_age'?"}},
		{"device_cookie with max_age twice", "htpasswd {\nfile a\ndevice_cookie {\nmax_age 1d\nmax_age 2d\n}\n}", "7", []string{"device_cookie: duplicate subdirective 'max_age' (first used on line 6)"}},
		{"device_cookie with a low max_age", "htpasswd {\nfile a\ndevice_cookie {\nmax_age 59s\n}\n}", "6", []string{"device_cookie: max_age: expected at least 1m0s, found '59s'"}},
		{"device_cookie with a high max_age", "htpasswd {\nfile a\ndevice_cookie {\nmax_age 401d\n}\n}", "6", []string{"device_cookie: max_age: expected a maximum age of 1m to 400d, such as 90d, found '401d'"}},
		{"device_cookie without a duration", "htpasswd {\nfile a\ndevice_cookie {\nmax_age\n}\n}", "6", []string{"device_cookie: max_age: expected a maximum age of 1m to 400d, such as 90d, found nothing"}},
		{"device_cookie twice", "htpasswd {\nfile a\ndevice_cookie\ndevice_cookie a\n}", "6", []string{"duplicate subdirective 'device_cookie'", "line 5"}},
		{"rehash twice", "htpasswd {\nfile a\nrehash\nrehash 11\n}", "6", []string{"rehash", "line 5"}},
		{"cache off with a block", "htpasswd {\nfile a\ncache off {\n}\n}", "5", []string{"cache", "unexpected block: expected none"}},
		// require
		{"require nothing", "htpasswd {\nfile a\nrequire\n}", "5", []string{"require", "'user <name>...'", "'group <name>...'"}},
		{"require valid-user", "htpasswd {\nfile a\nrequire valid-user\n}", "5", []string{"require", "valid-user", "remove the line"}},
		{"require a name", "htpasswd {\nfile a\nrequire alice\n}", "5", []string{"require", "'user <name>...'", "'alice'"}},
		{"require user", "htpasswd {\nfile a\nrequire user\n}", "5", []string{"require: expected 'user <name>...', found only 'user'"}},
		{"require group", "htpasswd {\nfile a\ngroup_file g\nrequire group\n}", "6", []string{"require: expected 'group <name>...', found only 'group'"}},
		{"require group without group_file", "htpasswd {\nfile a\nrequire group admins\n}", "6", []string{"require group", "group_file"}},
		{"require with a block", "htpasswd {\nfile a\nrequire user a {\n}\n}", "5", []string{"require", "unexpected block: expected none"}},
		// exempt
		{"exempt nothing", "htpasswd {\nfile a\nexempt\n}", "5", []string{"exempt", "matcher", "@name"}},
		{"exempt *", "htpasswd {\nfile a\nexempt *\n}", "5", []string{"exempt", "nothing protected"}},
		{"exempt a path and *", "htpasswd {\nfile a\nexempt /x *\n}", "5", []string{"exempt", "nothing protected"}},
		{"exempt a matcher without anything in it", "htpasswd {\nfile a\nexempt @empty\n}", "5", []string{"exempt", "nothing protected"}},
		{"exempt an empty block", "htpasswd {\nfile a\nexempt {\n}\n}", "", []string{"exempt", "matcher"}},
		{"exempt undefined", "htpasswd {\nfile a\nexempt @nope\n}", "5", []string{"exempt", "@nope"}},
		{"exempt undefined, after another", "htpasswd {\nfile a\nexempt @health @nope\n}", "5", []string{"exempt", "@nope"}},
		{"exempt unknown matcher", "htpasswd {\nfile a\nexempt no_such x\n}", "5", []string{"exempt: unrecognized matcher 'no_such'; expected one of: client_ip, "}},
		{"exempt misspelled matcher", "htpasswd {\nfile a\nexempt methd GET\n}", "5", []string{"exempt: unrecognized matcher 'methd'; expected one of: ", "did you mean 'method'?"}},
		{"exempt a path without its slash", "htpasswd {\nfile a\nexempt health\n}", "5", []string{"exempt: expected a matcher, found 'health': write '/health' for a path, or '@health' for a named matcher"}},
		{"exempt a path without its slash, with a semicolon", "htpasswd {\nfile a\nexempt health;\n}", "5", []string{"exempt: unexpected semicolon in 'health;'"}},
		{"exempt a name and a hash", "htpasswd {\nfile a\nexempt alice:" + bcrypt4Secret1 + "\n}", "5", []string{"exempt: expected a matcher, found 'alice:(not shown)'"}},
		{"nginx's auth_basic", "htpasswd {\nauth_basic \"Staff\";\nfile a\n}", "4", []string{"unexpected subdirective 'auth_basic': write 'realm <text>'; for 'auth_basic off' write 'exempt <matcher>'"}},
		{"exempt unknown matcher in a block", "htpasswd {\nfile a\nexempt {\nno_such x\n}\n}", "", []string{"exempt", "no_such"}},
		{"exempt invalid matcher", "htpasswd {\nfile a\nexempt expression\n}", "5", []string{"exempt", "expression"}},
		{"exempt a matcher after a path", "htpasswd {\nfile a\nexempt /x remote_ip 192.0.2.1\n}", "5", []string{"exempt", "'remote_ip'"}},
		{"exempt a path with a block", "htpasswd {\nfile a\nexempt /x {\nmethod GET\n}\n}", "5", []string{"exempt", "block"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := adapted("example.com {\n@health path /health\n" + row.text + "\n@empty {\n}\n}\n")
			checkCaddyfileError(t, err, row.line, row.want)
		})
	}
	for _, row := range []struct {
		name, text string // the text begins in line 2
		line       string
		want       []string
	}{
		{"unknown option", "htpasswd {\npol 5s\n}", "3", []string{"'pol'", "htpasswd", "poll"}},
		{"option with an argument", "htpasswd 5s", "2", []string{"htpasswd", "unexpected argument '5s': expected none"}},
		{"option with an argument and a block", "htpasswd on {\npoll 5s\n}", "2", []string{"htpasswd", "unexpected argument 'on': expected none"}},
		{"option twice", "htpasswd {\npoll 5s\n}\nhtpasswd {\npoll 6s\n}", "5", []string{"htpasswd", "one block"}},
		{"poll twice", "htpasswd {\npoll 5s\npoll 5s\n}", "4", []string{"poll", "line 3"}},
		{"poll nothing", "htpasswd {\npoll\n}", "3", []string{"poll", "an interval such as 5s"}},
		{"poll 0", "htpasswd {\npoll 0\n}", "3", []string{"poll", "an interval such as 5s", "'0'"}},
		{"poll -1s", "htpasswd {\npoll -1s\n}", "3", []string{"poll", "an interval such as 5s", "'-1s'"}},
		{"poll 10ms", "htpasswd {\npoll 10ms\n}", "3", []string{"poll", "100ms"}},
		{"poll abc", "htpasswd {\npoll abc\n}", "3", []string{"poll", "an interval such as 5s", "'abc'"}},
		{"poll two", "htpasswd {\npoll 5s 6s\n}", "3", []string{"poll: unexpected argument '6s'", "an interval such as 5s"}},
		{"poll with a block", "htpasswd {\npoll 5s {\n}\n}", "3", []string{"poll", "unexpected block: expected none"}},
		{"poll out of range", "htpasswd {\npoll 99999999h\n}", "3", []string{"poll", "an interval such as 5s"}},
		{"a subdirective of the directive", "htpasswd {\nfile a\n}", "3", []string{"'file'", "poll"}},
		{"max_hashes 0", "htpasswd {\nmax_hashes 0\n}", "3", []string{"max_hashes", "1 to", "'0'"}},
		{"max_hashes text", "htpasswd {\nmax_hashes all\n}", "3", []string{"max_hashes", "a number of hash computations", "'all'"}},
		{"max_hashes twice", "htpasswd {\nmax_hashes 1\nmax_hashes 2\n}", "4", []string{"max_hashes", "line 3"}},
		{"throttle nothing", "htpasswd {\nthrottle\n}", "3", []string{"throttle", "'login'", "'off'"}},
		{"throttle unknown", "htpasswd {\nthrottle ip 3 1m\n}", "3", []string{"throttle", "'ip'", "'client'"}},
		{"throttle without numbers", "htpasswd {\nthrottle login\n}", "3", []string{"throttle", "number of failures", "'off'"}},
		{"throttle without window", "htpasswd {\nthrottle login 3\n}", "3", []string{"throttle", "window"}},
		{"throttle too many", "htpasswd {\nthrottle login 3 1m 2m\n}", "3", []string{"throttle", "window"}},
		{"throttle off with more", "htpasswd {\nthrottle off login\n}", "3", []string{"throttle", "'off'"}},
		{"throttle 0", "htpasswd {\nthrottle login 0 1m\n}", "3", []string{"throttle", "1 to 1000000", "'0'", "'off'"}},
		{"throttle negative", "htpasswd {\nthrottle login -3 1m\n}", "3", []string{"throttle", "'-3'"}},
		{"throttle the wrong way round", "htpasswd {\nthrottle login 1m 3\n}", "3", []string{"throttle", "'1m'"}},
		{"throttle window without unit", "htpasswd {\nthrottle login 3 60\n}", "3", []string{"throttle", "'60'", "1m"}},
		{"throttle window too short", "htpasswd {\nthrottle login 3 10ms\n}", "3", []string{"throttle", "1s to 720h", "'10ms'"}},
		{"throttle window too long", "htpasswd {\nthrottle login 3 31d\n}", "3", []string{"throttle", "1s to 720h", "'31d'"}},
		{"throttle the same twice", "htpasswd {\nthrottle login 3 1m\nthrottle user off\nthrottle login off\n}", "5", []string{"throttle: duplicate limit 'login' (first used on line 3)"}},
		{"throttle off and one on", "htpasswd {\nthrottle off\nthrottle login 3 1m\n}", "4", []string{"throttle: duplicate limit 'login' (first used on line 3)"}},
		{"throttle one on and off", "htpasswd {\nthrottle login 3 1m\nthrottle off\n}", "4", []string{"throttle: duplicate limit 'login' (first used on line 3)"}},
		{"throttle with a block", "htpasswd {\nthrottle login 3 1m {\n}\n}", "3", []string{"throttle", "unexpected block: expected none"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := adapted("{\n" + row.text + "\n}\nexample.com {\n}\n")
			checkCaddyfileError(t, err, row.line, row.want)
		})
	}
	t.Run("in a snippet", func(t *testing.T) {
		_, err := adapted("(auth) {\nhtpasswd {\nfile\n}\n}\nexample.com {\nimport auth\n}\n")
		checkCaddyfileError(t, err, "3", []string{"file"})
	})
}

func checkCaddyfileError(t *testing.T, err error, line string, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("got no error, want one")
	}
	text := err.Error()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("got error %q, want %q in it", text, w)
		}
	}
	places := regexp.MustCompile(`Caddyfile:(\d+)`).FindAllStringSubmatch(text, -1)
	if len(places) == 0 || line != "" && places[0][1] != line {
		t.Errorf("got error %q, want one that points at line %s", text, line)
	}
	if strings.Count(text, ", at Caddyfile") != 1 {
		t.Errorf("got error %q, want one place in it", text)
	}
	if strings.ContainsAny(text, "`\"") {
		t.Errorf("got error %q, want quotes '...' only", text)
	}
}

func TestDirectiveOrder(t *testing.T) {
	t.Parallel()
	config, err := adapted(`example.com {
	respond last
	reverse_proxy localhost:1
	file_server
	encode gzip
	request_header X y
	forward_auth localhost:2 {
		uri /
	}
	htpasswd {
		file a
	}
	basic_auth {
		a $2y$04$xHDgvM0aETVLuR1UST16J.BTodXPBkDyVmRgT5Id/zUd6cbG28vdm
	}
	rewrite /x
	redir /old /new
	root /srv
	header X y
}
`)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, h := range handlers(config) {
		if h["handler"] != "subroute" {
			order = append(order, h["handler"].(string))
		}
	}
	position := func(name string) int {
		i := slices.Index(order, name)
		if i < 0 {
			t.Fatalf("got the order %q, want %s in it", order, name)
		}
		return i
	}
	at := position("htpasswd")
	if order[at-1] != "authentication" {
		t.Errorf("got the order %q, want htpasswd right after basic_auth", order)
	}
	for _, name := range []string{"vars", "rewrite"} {
		if position(name) > at {
			t.Errorf("got the order %q, want %s before htpasswd", order, name)
		}
	}
	for _, name := range []string{"reverse_proxy", "encode", "file_server"} {
		if position(name) < at {
			t.Errorf("got the order %q, want %s after htpasswd", order, name)
		}
	}
	if !slices.Contains(order[at:], "static_response") {
		t.Errorf("got the order %q, want respond after htpasswd", order)
	}
}
