package redis

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// parse parses the block of fleet redis, as the global option does.
func parse(block string) (*Engine, error) {
	d := caddyfile.NewTestDispenser("fleet redis " + block)
	d.Next()
	d.NextArg()
	module, err := caddyfile.UnmarshalModule(d, "htpasswd.fleets.redis")
	if err != nil {
		return nil, err
	}
	return module.(*Engine), nil
}

func TestCaddyfile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ block, want string }{
		"one server": {"{\n address redis:6379\n}", `{"addresses":["redis:6379"]}`},
		"all": {`{
			address           one:1 two:2 {env.THREE}
			sentinel          main
			sentinel_username watcher
			sentinel_password {file./run/secrets/sentinel}
			database          3
			username          caddy
			password          "a; b;"
			tls               ca.pem
			tls_client        client.crt client.key
			tls_server_name   redis.test
			prefix            site:1
		}`, `{"addresses":["one:1","two:2","{env.THREE}"],"sentinel":"main","sentinel_username":"watcher","sentinel_password":"{file./run/secrets/sentinel}",` +
			`"database":3,"username":"caddy","password":"a; b;","tls":{"ca":"ca.pem","client_certificate":"client.crt","client_key":"client.key","server_name":"redis.test"},"prefix":"site:1"}`},
		"tls of the system": {"{\n address [::1]:6379\n tls\n cluster\n}", `{"addresses":["[::1]:6379"],"cluster":true,"tls":{}}`},
		"tls_client alone":  {"{\n tls_client a b\n address unix//run/redis.sock\n}", `{"addresses":["unix//run/redis.sock"],"tls":{"client_certificate":"a","client_key":"b"}}`},
	} {
		e, err := parse(test.block)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := json.Marshal(e)
		testkit.Must(t, err)
		if string(got) != test.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, test.want)
		}
	}
}

// theSecret stands for a password in the wrong place.
const theSecret = "hunter2"

func TestCaddyfileMistakes(t *testing.T) {
	t.Parallel()
	for block, want := range map[string]string{
		"":                                     "expected at least one address, found none: write 'address <host:port>' into the block, at Testfile:1",
		"{\n}":                                 "expected at least one address, found none",
		"{\n database 1\n}":                    "expected at least one address, found none",
		"hunter2 {\n}":                         "unexpected argument: write the settings into the block",
		"{\n address\n}":                       "address: expected host:port or unix//path, found nothing, at Testfile:2",
		"{\n address redis\n}":                 "address: expected host:port or unix//path, found 'redis', at Testfile:2",
		"{\n address :6379\n}":                 "address: expected host:port or unix//path, found ':6379'",
		"{\n address a:1 b:0\n}":               "address: expected host:port or unix//path with a port from 1 to 65535, found 'b:0'",
		"{\n address redis://u:hunter2@a:1\n}": "address: expected host:port or unix//path, found a URL: write the user and the password with 'username' and 'password', and 'tls' for rediss",
		"{\n address a:1\n address b:1\n}":     "duplicate subdirective 'address' (first used on line 2), at Testfile:3",
		"{\n addresses a:1\n}":                 "unrecognized subdirective 'addresses'; expected one of: address, sentinel,",
		"{\n password=hunter2\n}":              "unrecognized subdirective 'password=...'; expected one of",
		"{\n address a:1;\n}":                  "address: unexpected semicolon: lines end without a semicolon",
		"{\n database hunter2 b\n}":            "database: unexpected argument: expected the number of a database, from 0",
		"{\n database -1\n}":                   "database: expected the number of a database, from 0, found '-1'",
		"{\n username\n}":                      "username: expected a user name, found nothing",
		"{\n username \"\"\n}":                 "username: expected an argument that is not empty, found ''",
		"{\n password a hunter2\n}":            "password: unexpected argument: expected a password",
		"{\n cluster yes\n}":                   "cluster: unexpected argument: expected none",
		"{\n tls_client a\n}":                  "tls_client: expected the paths of a certificate and of its key, found 1 of 2",
		"{\n tls a b\n}":                       "tls: unexpected argument: expected the path of a file with certificates of authorities",
		"{\n prefix a*\n}":                     `prefix: expected 1 to 64 letters, digits and '.', '_', '-', ':', '/', found "a*"`,
		"{\n tls {\n ca a\n }\n}":              "tls: unexpected block: expected none",
		"{\n cluster {\n }\n}":                 "cluster: unexpected block: expected none",
	} {
		_, err := parse(block)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "fleet redis: ") || !strings.Contains(err.Error(), ", at Testfile:") {
			t.Errorf("%q: the error is\n%v, want\n%s", block, err, want)
		}
		if err != nil && strings.Contains(err.Error(), theSecret) {
			t.Errorf("%q: the error shows the password: %v", block, err)
		}
	}
}

func FuzzCaddyfile(f *testing.F) {
	f.Add("{\n address a:1 b:2\n tls {\n}\n}")
	f.Add("{\n password {\n}")
	f.Fuzz(func(_ *testing.T, block string) { _, _ = parse(block) })
}

// provision loads settings in JSON as Caddy does.
func provision(t *testing.T, text string) (*Engine, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	module, err := ctx.LoadModuleByID("htpasswd.fleets.redis", json.RawMessage(text))
	if err != nil {
		return nil, err
	}
	return module.(*Engine), nil
}

func TestProvision(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	testkit.Must(t, os.WriteFile(file, []byte("from a file\n"), 0o600))
	t.Setenv("TEST_ADDRESS", "redis.test:6380")
	t.Setenv("TEST_USER", "caddy")
	e, err := provision(t, `{"addresses":["{env.TEST_ADDRESS}"],"username":"{env.TEST_USER}","password":"{file.`+file+`}"}`)
	testkit.Must(t, err)
	if s := e.resolved; len(s.addresses) != 1 || s.addresses[0] != "redis.test:6380" || s.username != "caddy" || s.password != "from a file" || s.prefix != "htpasswd" || s.cluster {
		t.Errorf("the settings are %+v", s)
	}
	if e, err = provision(t, `{"addresses":["a:1","b:2"]}`); err != nil || !e.resolved.cluster {
		t.Errorf("several addresses are no cluster: %v", err)
	}
	if e, err = provision(t, `{"addresses":["a:1","b:2"],"sentinel":"main"}`); err != nil || e.resolved.cluster {
		t.Errorf("several Sentinels are a cluster: %v", err)
	}
}

func TestProvisionMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	testkit.Must(t, os.WriteFile(empty, nil, 0o600))
	for text, want := range map[string]string{
		`{}`:                  "addresses: expected at least one host:port, found none",
		`{"addresses":["a"]}`: "addresses: expected host:port or unix//path, found 'a'",
		`{"address":["a:1"]}`: "unknown field",
		`{"addresses":["a:1"],"cluster":true,"sentinel":"main"}`:                                          "sentinel and cluster: expected one of them, found both",
		`{"addresses":["a:1"],"cluster":true,"database":1}`:                                               "database: expected 0, the only one of a cluster, found 1",
		`{"addresses":["a:1"],"database":-1}`:                                                             "database: expected a number from 0, found -1",
		`{"addresses":["a:1"],"sentinel_password":"hunter2"}`:                                             "sentinel_username and sentinel_password: expected sentinel too, found none",
		`{"addresses":["a:1"],"sentinel":"m","sentinel_username":"w"}`:                                    "sentinel_username: expected sentinel_password too, found none",
		`{"addresses":["a:1"],"username":"caddy"}`:                                                        "username: expected a password too, found none",
		`{"addresses":["unix//run/a"],"cluster":true}`:                                                    "addresses: expected host:port of a cluster or of Sentinels, found a Unix socket",
		`{"addresses":["a:1"],"prefix":"{a}"}`:                                                            "prefix: expected 1 to 64 letters",
		`{"addresses":["a:1"],"password":"{env.TEST_NOT_SET}"}`:                                           "password: the placeholder '{env.TEST_NOT_SET}' is empty or unknown",
		`{"addresses":["a:1"],"password":"hunter2{env.TEST_NOT_SET}"}`:                                    "password: a placeholder in it is empty or unknown",
		`{"addresses":["a:1"],"password":"{hunter2}"}`:                                                    "password: a placeholder in it is empty or unknown",
		`{"addresses":["a:1"],"tls":{"ca":"` + empty + `"}}`:                                              "tls: ca: expected certificates (PEM), found none in " + empty,
		`{"addresses":["a:1"],"tls":{"ca":"` + dir + `/none"}}`:                                           "tls: ca: open " + dir + "/none: no such file",
		`{"addresses":["a:1"],"tls":{"client_key":"a"}}`:                                                  "tls: expected both client_certificate and client_key, found one of them",
		`{"addresses":["a:1"],"tls":{"client_key":"` + empty + `","client_certificate":"` + empty + `"}}`: "tls: client_certificate and client_key: tls: failed to find any PEM data",
	} {
		_, err := provision(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is\n%v, want\n%s", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), theSecret) {
			t.Errorf("%s: the error shows the password: %v", text, err)
		}
	}
}
