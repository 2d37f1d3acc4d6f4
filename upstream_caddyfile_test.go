package caddyhtpasswd

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// adaptCaddyfile adapts a Caddyfile in a directory to JSON.
func adaptCaddyfile(dir, text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text),
		map[string]any{"filename": filepath.Join(dir, "Caddyfile")})
	return config, err
}

// adaptedProxies returns the reverse_proxy handlers of a Caddyfile as JSON, one per line,
// from the first site to the last. Other files are in files.
func adaptedProxies(t *testing.T, text string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := adaptCaddyfile(dir, text)
	if err != nil {
		t.Fatal(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""))
	}
	var all any
	if err := json.Unmarshal(config, &all); err != nil {
		t.Fatal(err)
	}
	var proxies []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if v["handler"] == "reverse_proxy" {
				out, _ := json.Marshal(v)
				proxies = append(proxies, string(out))
				return
			}
			for _, key := range []string{"apps", "http", "servers", "srv0", "srv1", "routes", "handle", "proxy"} {
				walk(v[key])
			}
		}
	}
	walk(all)
	return strings.Join(proxies, "\n")
}

// sameJSON compares the values of two lists of JSON texts, one per line.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	values := func(text string) (all []any) {
		d := json.NewDecoder(strings.NewReader(text))
		for d.More() {
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("got error %v, want none, for %s", err, text)
			}
			all = append(all, v)
		}
		return all
	}
	if !reflect.DeepEqual(values(got), values(want)) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAdaptWholeGroup(t *testing.T) {
	t.Parallel()
	config, err := adaptCaddyfile("", `{
	upstream web {
		server 10.0.0.1:8001 weight=5 max_conns=100
		server 10.0.0.2
		server unix//run/web.sock down
		server backup.internal:8080-8081 backup weight=2
		balance round_robin
		health_uri /alive
		header_up X-Client {remote_host}
		@gone status 410
	}
}
:8080 {
	proxy_pass /api/* http://web {
		header_up X-Site {host}
		lb_retries 1
		handle_response @gone {
			respond "gone: {rp.status_code}" 404
		}
	}
}
`)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, string(config), `{"apps":{"upstream_groups":{"groups":["web"]},"http":{"servers":{"srv0":{"listen":[":8080"],"routes":[{
		"match":[{"path":["/api/*"]}],
		"handle":[{"handler":"proxy_pass","group":"web","proxy":{
			"handler":"reverse_proxy",
			"upstreams":[
				{"dial":"10.0.0.1:8001","max_requests":100},
				{"dial":"10.0.0.2:80"},
				{"dial":"unix//run/web.sock"},
				{"dial":"backup.internal:8080"},
				{"dial":"backup.internal:8081"}
			],
			"transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":256}},
			"load_balancing":{
				"retries":1,
				"selection_policy":{
					"policy":"upstream_group",
					"balance":"round_robin",
					"servers":{
						"10.0.0.1:8001":{"weight":5},
						"unix//run/web.sock":{"down":true},
						"backup.internal:8080":{"weight":2,"backup":true},
						"backup.internal:8081":{"weight":2,"backup":true}
					}
				}
			},
			"health_checks":{
				"active":{"uri":"/alive"},
				"passive":{"max_fails":1,"fail_duration":10000000000}
			},
			"headers":{"request":{"set":{
				"X-Client":["{http.request.remote.host}"],
				"X-Site":["{http.request.host}"]
			}}},
			"handle_response":[{
				"match":{"status_code":[410]},
				"routes":[{"handle":[{
					"handler":"static_response",
					"status_code":404,
					"body":"gone: {http.reverse_proxy.status_code}"
				}]}]
			}]
		}}]
	}]}}}}}`)
}

// TestAdaptFailDefaults checks the defaults of nginx, and the lines that change them.
func TestAdaptFailDefaults(t *testing.T) {
	t.Parallel()
	const both = "server a\nserver b\n"
	for _, tt := range []struct{ group, directive, want string }{
		{"server 10.0.0.1", "", ``},
		{"server 10.0.0.1\nserver b down", "", ``},
		{"server 10.0.0.1\nmax_fails 0", "", ``},
		{"server 10.0.0.1\nmax_fails 3", "", `"health_checks":{"passive":{"max_fails":3}}`},
		{"server localhost", "", ``},
		{"server a", "", `"retries":1,"health_checks":{"passive":{"max_fails":1,"fail_duration":10000000000}}`},
		{"server a\nserver b down", "", `"retries":1,"health_checks":{"passive":{"max_fails":1,"fail_duration":10000000000}}`},
		{"server a down\nserver 10.0.0.1", "", ``},
		{"server a\nmax_fails 0", "", `"retries":1`},
		{both, "", `"retries":1,"health_checks":{"passive":{"max_fails":1,"fail_duration":10000000000}}`},
		{"server a\nserver b backup", "", `"retries":1,"health_checks":{"passive":{"max_fails":1,"fail_duration":10000000000}}`},
		{"server a:1-3", "", `"retries":2,"health_checks":{"passive":{"max_fails":1,"fail_duration":10000000000}}`},
		{both + "max_fails 0", "", `"retries":1`},
		{both + "max_fails 0\nfail_duration 5s", "", `"retries":1`},
		{both + "max_fails 3", "max_fails 0", `"retries":1`},
		{both + "max_fails 0", "max_fails 3", `"retries":1,"health_checks":{"passive":{"max_fails":3,"fail_duration":10000000000}}`},
		{both + "fail_duration 5s", "", `"retries":1,"health_checks":{"passive":{"fail_duration":5000000000}}`},
		{both + "fail_duration 5s", "fail_duration 7s", `"retries":1,"health_checks":{"passive":{"fail_duration":7000000000}}`},
		{both + "max_fails 0\nunhealthy_request_count 9", "", `"retries":1,"health_checks":{"passive":{"unhealthy_request_count":9}}`},
		{both + "max_fails 0\nhealth_uri /", "", `"retries":1,"health_checks":{"active":{"uri":"/"}}`},
		{both + "max_fails 0\nlb_retries 0", "", ``},
		{both + "max_fails 0\nlb_retries 5", "lb_retries 7", `"retries":7`},
		{both + "max_fails 0", "lb_try_duration 3s", `"try_duration":3000000000`},
		{both + "max_fails 0", "lb_retries 2\nlb_retry_match {\nmethod POST\n}", `"retries":2,"retry_match":[{"method":["POST"]}]`},
		{both + "max_fails 0\nlb_retry_match {\nmethod POST\n}", "", `"retry_match":[{"method":["POST"]}],"retries":1`},
	} {
		got := adaptedProxies(t, "{\nupstream web {\n"+tt.group+"\n}\n}\n:80 {\nproxy_pass web {\n"+tt.directive+"\n}\n}\n", nil)
		var h struct {
			LoadBalancing map[string]any `json:"load_balancing"`
			HealthChecks  any            `json:"health_checks"`
		}
		if err := json.Unmarshal([]byte(got), &h); err != nil {
			t.Fatal(err)
		}
		delete(h.LoadBalancing, "selection_policy")
		if h.HealthChecks != nil {
			h.LoadBalancing["health_checks"] = h.HealthChecks
		}
		if strings.Contains(tt.want, `"retries"`) && !strings.Contains(tt.group+tt.directive, "lb_retr") { // nginx's default
			tt.want += `,"retry_match":[{"method":["GET","HEAD","OPTIONS","TRACE","PUT","DELETE"]}]`
		}
		out, _ := json.Marshal(h.LoadBalancing)
		t.Run(tt.group+"/"+tt.directive, func(t *testing.T) { sameJSON(t, string(out), "{"+tt.want+"}") })
	}
}

const (
	webWithTransport = `"upstreams":[{"dial":"10.0.0.1:80"}],"load_balancing":{"selection_policy":{"policy":"upstream_group"}}`
	plainWeb         = `"transport":{"protocol":"http","keep_alive":{"max_idle_conns_per_host":256}},` + webWithTransport
)

// TestAdaptPlaces checks that lines from different places stay lines, whatever their numbers.
func TestAdaptPlaces(t *testing.T) {
	t.Parallel()
	block := `{"handler":"reverse_proxy","headers":{"request":{"set":{"X-G":["g"],"X-S":["s"]}}},"rewrite":{"method":"PUT"},"handle_response":[{"routes":[{"handle":[{"handler":"static_response","body":"x"}]}]}],` + plainWeb + `}`
	const groupLines = "header_up X-G g\n\t\thandle_response {\n\t\t\trespond x\n\t\t}\n"
	for name, tt := range map[string]struct {
		text, want string
		files      map[string]string
	}{
		"two sites": {
			text: "{\n\tupstream web {\n\t\tserver 10.0.0.1\n\t\theader_up X-G {host}\n\t}\n}\n:80 {\n\tproxy_pass web {\n\t\theader_up X-S s\n\t}\n}\n:81 {\n\tproxy_pass http://web\n}\n",
			want: `{"handler":"reverse_proxy","headers":{"request":{"set":{"X-G":["{http.request.host}"],"X-S":["s"]}}},` + plainWeb + `}
				{"handler":"reverse_proxy","headers":{"request":{"set":{"X-G":["{http.request.host}"]}}},` + plainWeb + `}`,
		},
		"group in another file, on higher lines": {
			text:  "{\n\timport groups\n}\n:80 {\n\tproxy_pass web {\n\t\theader_up X-S s\n\t\tmethod PUT\n\t}\n}\n",
			files: map[string]string{"groups": strings.Repeat("# line\n", 9) + "upstream web {\n\t\tserver 10.0.0.1\n\t\t" + groupLines + "}\n"},
			want:  block,
		},
		"group in another file, last brace on the number of the next line": {
			text:  "{\n\timport groups\n}\n\n:80 {\n\tproxy_pass web {\n\t\theader_up X-S s\n\t\tmethod PUT\n\t}\n}\n",
			files: map[string]string{"groups": "#\nupstream web {\n\t\tserver 10.0.0.1\n\t\t" + groupLines + "}\n"},
			want:  block,
		},
		"snippets with arguments": {
			text: "(group) {\n\tupstream {args[0]} {\n\t\timport lines {args[1]}\n\t}\n}\n(lines) {\n\tserver {args[0]}\n\tbalance round_robin\n\t" + groupLines + "}\n(pass) {\n\tproxy_pass {args[0]} {\n\t\t{block}\n\t}\n}\n" +
				"{\n\timport group web 10.0.0.1\n}\n:80 {\n\timport pass web {\n\t\theader_up X-S s\n\t\tmethod PUT\n\t}\n}\n",
			want: strings.Replace(block, `"policy":`, `"balance":"round_robin","policy":`, 1),
		},
		"no block, empty block": {
			text: "{\n\tupstream web {\n\t\tserver 10.0.0.1\n\t}\n}\n:80 {\n\tproxy_pass web\n\thandle /x {\n\t\tproxy_pass web {\n\t\t}\n\t}\n}\n",
			want: `{"handler":"reverse_proxy",` + plainWeb + `} {"handler":"reverse_proxy",` + plainWeb + `}`,
		},
		"matcher of the site in the group": {
			text: "{\n\tupstream web {\n\t\tserver {env.WEB}:80\n\t\theader_up X-Q {query.q}\n\t\theader_up X-H `{header.X}`\n\t}\n}\n:80 {\n\t@get method GET\n\tproxy_pass @get web\n}\n",
			want: `{"handler":"reverse_proxy","headers":{"request":{"set":{"X-Q":["{http.request.uri.query.q}"],"X-H":["{http.request.header.X}"]}}},` + strings.Replace(plainWeb, "10.0.0.1:80", "{env.WEB}:80", 1) + `}`,
		},
		"transport in either place": {
			text: "{\n\tupstream web {\n\t\tserver https://10.0.0.1\n\t\ttransport http {\n\t\t\ttls_server_name x\n\t\t}\n\t}\n\tupstream other {\n\t\tserver unix+h2c//a\n\t}\n}\n:80 {\n\tproxy_pass web\n}\n:81 {\n\tproxy_pass other {\n\t\ttransport http {\n\t\t\tdial_timeout 1s\n\t\t}\n\t}\n}\n",
			want: `{"handler":"reverse_proxy","transport":{"protocol":"http","tls":{"server_name":"x"}},` + strings.Replace(webWithTransport, "10.0.0.1:80", "10.0.0.1:443", 1) + `}
				{"handler":"reverse_proxy","transport":{"protocol":"http","dial_timeout":1000000000,"versions":["h2c","2"]},` + strings.Replace(webWithTransport, "10.0.0.1:80", "unix//a", 1) + `}`,
		},
	} {
		t.Run(name, func(t *testing.T) { sameJSON(t, adaptedProxies(t, tt.text, tt.files), tt.want) })
	}
}

func TestJoinLines(t *testing.T) {
	t.Parallel()
	token := func(line int, text string) caddyfile.Token {
		return caddyfile.Token{File: "Caddyfile", Line: line, Text: text}
	}
	lines := []caddyfile.Segment{
		{token(5, "reverse_proxy"), token(5, "{")},
		{token(20, "health_headers"), token(20, "{"), token(21, "A"), token(21, "b"), token(22, "}")},
		{token(6, "header_up"), token(6, "C"), token(6, "d")},
		{token(6, "to"), token(6, "e")},
		{token(7, "verbose_logs")},
		{token(7, "}")},
	}
	d := caddyfile.NewDispenser(joinLines(lines))
	d.Next()
	var got []string
	for d.NextBlock(0) {
		line := d.NextSegment()
		if line.Directive() == "trusted_proxies" {
			continue
		}
		var texts []string
		for _, t := range line {
			texts = append(texts, t.Text)
		}
		got = append(got, strings.Join(texts, " "))
	}
	want := []string{"health_headers { A b }", "header_up C d", "to e", "verbose_logs"}
	if !reflect.DeepEqual(got, want) || d.Next() {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUpstreamErrors(t *testing.T) {
	t.Parallel()
	for block, want := range map[string][]string{
		// the group's line is 2, the block begins on line 3
		"":                                         {"upstream web: expected at least one line 'server <address>', found none", ":2"},
		"health_uri /":                             {"upstream web: expected at least one line 'server <address>', found none", ":2"},
		"server a backup down":                     {"upstream web: expected at least one server without 'backup', found none", ":2"},
		"server a backup":                          {"upstream web: expected at least one server without 'backup', found none", ":2"},
		"server":                                   {"server: expected an address", ":3"},
		"server weight=5":                          {"server: expected an address", ":3"},
		"server a weight=0":                        {"upstream web: server a: expected weight=<n> with n from 1 to 65535, found 'weight=0'", "down", ":3"},
		"server a weight=-1":                       {"expected weight=<n>", "found 'weight=-1'", ":3"},
		"server a weight=65536":                    {"expected weight=<n>", "found 'weight=65536'", ":3"},
		"server a weight":                          {"expected weight=<n>", "found 'weight'", ":3"},
		"server a max_conns=-1":                    {"expected max_conns=<n>", "found 'max_conns=-1'", ":3"},
		"server a max_conns=x":                     {"expected max_conns=<n>", "found 'max_conns=x'", ":3"},
		"server a down=1":                          {"unrecognized parameter 'down=1'; expected one of: weight=<n>, max_conns=<n>, backup, down, drain, route=<name>, resolve; did you mean 'down'?", ":3"},
		"server a b":                               {"server a: unrecognized parameter 'b'; expected one of: weight=<n>", ":3"},
		"server a weight=1 weight=2":               {"duplicate parameter 'weight' (first used on line 3)", ":3"},
		"server a backup backup":                   {"duplicate parameter 'backup' (first used on line 3)", ":3"},
		"server a max_fails=3":                     {"unexpected parameter 'max_fails=3': write 'max_fails <n>'", "line of its own", ":3"},
		"server a fail_timeout=3":                  {"unexpected parameter 'fail_timeout=3': write 'fail_duration <duration>'", "line of its own", ":3"},
		"server a slow_start=3":                    {"unexpected parameter 'slow_start=3': write 'slow_start <duration>'", "line of its own", ":3"},
		"server a resolve=1":                       {"unrecognized parameter 'resolve=1'", "did you mean 'resolve'?", ":3"},
		"server a;":                                {"unexpected semicolon in 'a;'", "write 'a'", ":3"},
		"server a weight=5;":                       {"write 'weight=5'", ":3"},
		"server http://a/x":                        {"server http://a/x: expected an address without a path, found '/x': write 'server http://a'", "handle_path", ":3"},
		"server 127.0.0.1:9001/path":               {"server 127.0.0.1:9001/path: expected an address without a path, found '/path': write 'server 127.0.0.1:9001'", "'uri'", ":3"},
		"server 127.0.0.1:9001/path weight=2":      {"found '/path'", ":3"},
		"server a/b/c":                             {"found '/b/c': write 'server a'", ":3"},
		"server 127.0.0.1:9001/":                   {"without a path, found '/': write 'server 127.0.0.1:9001'", ":3"},
		"server https://a/":                        {"without a path, found '/': write 'server https://a'", ":3"},
		"server https://a:8443/x?y#z":              {"found '/x?y#z': write 'server https://a:8443'", ":3"},
		"server https://a?x":                       {"without a query, found '?x': write 'server https://a'", "uri query", ":3"},
		"server a:1?x":                             {"without a query, found '?x': write 'server a:1'", ":3"},
		"server a:1#x":                             {"without a fragment, found '#x': write 'server a:1'", ":3"},
		"server http://u:p@a":                      {"without a user, found a user before '@': write 'server http://a'", "header_up Authorization", ":3"},
		"server u@a:1":                             {"without a user, found a user before '@': write 'server a:1'", ":3"},
		"server tcp/a:1/x":                         {"found '/x': write 'server tcp/a:1'", ":3"},
		"server {env.A}/x":                         {"found '/x': write 'server {env.A}'", ":3"},
		"server {env.A}:1/x":                       {"found '/x': write 'server {env.A}:1'", ":3"},
		"server {header.X-Server}":                 {"a placeholder that a client can set", ":3"},
		"server {host}:8080":                       {"a placeholder that a client can set", ":3"},
		"server unix:/run/a.sock":                  {"unix//run/a.sock", ":3"},
		"server a\nserver b\nserver http://a:80":   {"server http://a:80: expected the same scheme (scheme:// or none) as server a on line 3, found 'http://'", ":5"},
		"server a:1-9\nserver a:5 down":            {"server a:5: expected the same parameters as for 'a:5' on line 3 (none), found 'down'", ":4"},
		"server http://a\nserver b":                {"server b: expected the same scheme", "server http://a on line 3, found none", ":4"},
		"server a\nserver https://b":               {"server https://b: expected the same scheme", "on line 3, found 'https://'", ":4"},
		"balance round_robin\nbalance round_robin": {"duplicate subdirective 'balance' (first used on line 3)", ":4"},
		"balance":                                  {"balance: expected a method: hash <key>, ip_hash, least_conn, least_time, random, round_robin", ":3"},
		"balance fair":                             {"balance: unrecognized method 'fair'; expected one of: hash <key>, ip_hash, least_conn, least_time, random, round_robin", ":3"},
		"balance hash":                             {"balance hash: expected a key, such as {uri}", ":3"},
		"balance hash consistent":                  {"balance hash: unexpected argument 'consistent': the hash is always consistent", ":3"},
		"balance hash {uri} consistent":            {"balance hash: unexpected argument 'consistent': the hash is always consistent", ":3"},
		"balance hash {uri} {host}":                {"balance hash: unexpected argument '{http.request.host}'", ":3"},
		"balance ip_hash x":                        {"balance ip_hash: unexpected argument 'x': expected none; the methods are: hash <key>, ip_hash", ":3"},
		"slow_start":                               {"slow_start: expected a duration", ":3"},
		"slow_start 0":                             {"slow_start: expected a duration above zero", "found '0'", ":3"},
		"slow_start x":                             {"slow_start: expected a duration above zero", "found 'x'", ":3"},
		"balance hash $request_uri":                {"balance hash: expected a key with a placeholder, such as {uri} (nginx: $request_uri)", "found '$request_uri'", ":3"},
		"balance hash {uri":                        {"balance hash: expected a key with a placeholder", "found '{uri'", ":3"},
		"server a service=http":                    {"dynamic srv", ":3"},
		"resolver 127.0.0.1;":                      {"unexpected subdirective 'resolver': remove it", ":3"},
		"slow_start 1s 2s":                         {"slow_start: unexpected argument '2s': expected a duration", ":3"},
		"slow_start 1s\nslow_start 2s":             {"duplicate subdirective 'slow_start' (first used on line 3)", ":4"},
		"server a\nserver b\nslow_start 1s\nbalance ip_hash": {"slow_start: expected balance least_conn, least_time or round_robin, found balance ip_hash", ":5"},
		"balance least_time last_byte":                       {"balance least_time: unexpected argument 'last_byte': the time to the first byte counts, as with 'header' in nginx", "write 'balance least_time'", ":3"},
		"balance least_time header inflight":                 {"balance least_time: unexpected argument 'header': ", "write 'balance least_time'", ":3"},
		"balance least_time fast":                            {"balance least_time: unexpected argument 'fast': expected none", ":3"},
		"least_time header;":                                 {"unexpected subdirective 'least_time': write 'balance least_time'", ":3"},
		"balance round_robin 2":                              {"balance round_robin: unexpected argument '2'", ":3"},
		"balance round_robin;":                               {"semicolon", ":3"},
		"ip_hash;":                                           {"unexpected subdirective 'ip_hash;': write 'balance ip_hash'", ":3"},
		"least_conn":                                         {"unexpected subdirective 'least_conn': write 'balance least_conn'", ":3"},
		"hash $request_uri consistent;":                      {"unexpected subdirective 'hash': write 'balance hash <key>'", ":3"},
		"keepalive 32;":                                      {"keepalive_idle_conns_per_host", ":3"},
		"server a\nlb_policy first":                          {"upstream web: unexpected subdirective 'lb_policy': ", "balance <method>", ":4"},
		"server a\nto b":                                     {"upstream web: unexpected subdirective 'to': write 'server <address>'", ":4"},
		"server a\ndynamic a b":                              {"upstream web: unexpected subdirective 'dynamic': ", "server <address>", ":4"},
		"server a\nmax_fails -1":                             {"max_fails: expected 0 or more, found -1", ":4"},
		"server a\nmax_fails x":                              {"upstream web: invalid maximum fail count", ":4"},
		"server a\n\nfoo":                                    {"upstream web: unrecognized subdirective 'foo'; expected one of: server, balance, sticky, slow_start, lb_retries", ":5"},
		"server a\ntransport foo":                            {"http.reverse_proxy.transport.foo", ":4"},
	} {
		_, err := adaptCaddyfile("", "{\nupstream web {\n"+block+"\n}\n}\n")
		checkError(t, block, err, want)
	}

	for text, want := range map[string][]string{
		"{\nupstream {\nserver a\n}\n}":                                    {"expected the name of a group", ":2"},
		"{\nupstream a/b {\nserver a\n}\n}":                                {"expected a name of letters, digits", "found 'a/b'", ":2"},
		"{\nupstream web x {\nserver a\n}\n}":                              {"unexpected argument 'x': expected '{' and a line 'server <address>'", ":2"},
		"{\nupstream web {\nserver `{`\n}\n}":                              {"server: expected an address, found '{': write 'server <address>", ":3"},
		"{\nupstream web;\n}":                                              {"semicolon", ":2"},
		"{\nupstream web\n}":                                               {"upstream web: expected at least one line 'server <address>', found none", ":2"},
		"{\nupstream web {\nserver a\n}\nupstream web {\nserver b\n}\n}":   {"duplicate upstream group 'web' (first used on line 2)", ":5"},
		":80 {\nreverse_proxy a {\nlb_policy upstream_group\n}\n}":         {"lb_policy: unexpected policy 'upstream_group'", "proxy_pass <group>", ":3"},
		":80 {\nproxy_pass web\n}":                                         {"found 'web', but no group is defined", "upstream web { server <address> ... }", ":2"},
		"(s) {\nserver a weight=x\n}\n{\nupstream web {\nimport s\n}\n}\n": {"expected weight=<n>", "found 'weight=x'", ":2", "import chain", ":6 (import s)"},
	} {
		_, err := adaptCaddyfile("", text)
		checkError(t, text, err, want)
	}
}

func TestProxyPassErrors(t *testing.T) {
	t.Parallel()
	for directive, want := range map[string][]string{
		// the directive is on line 15
		"proxy_pass":                                     {"expected the name of an upstream group, found nothing", ":15"},
		"proxy_pass /x":                                  {"expected the name", ":15"},
		"proxy_pass wbe":                                 {"unrecognized upstream group 'wbe'; expected one of: api, web; did you mean 'web'?", ":15"},
		"proxy_pass http://WEB2":                         {"'WEB2'", "did you mean 'web'?", ":15"},
		"proxy_pass elsewhere":                           {"unrecognized upstream group 'elsewhere'; expected one of: api, web, at", ":15"},
		"proxy_pass web;":                                {"semicolon", "write 'web'", ":15"},
		"proxy_pass http://web/":                         {"expected a group without a path, found '/': write 'proxy_pass web'", "handle_path", ":15"},
		"proxy_pass http://web/x/y":                      {"found '/x/y'", "uri strip_prefix", ":15"},
		"proxy_pass https://web":                         {"'server https://...'", ":15"},
		"proxy_pass h2c://web":                           {"'server h2c://...'", ":15"},
		"proxy_pass 10.0.0.1:80":                         {"not an address", "'reverse_proxy 10.0.0.1:80'", ":15"},
		"proxy_pass http://10.0.0.1:80":                  {"not an address", ":15"},
		"proxy_pass web a:80":                            {"unexpected argument 'a:80'", "write 'server a:80' in 'upstream web'", ":15"},
		"proxy_pass web {\nto a\n}":                      {"unexpected subdirective 'to': write 'server <address>'", ":16"},
		"proxy_pass web {\nserver a\n}":                  {"unexpected subdirective 'server': write this line in 'upstream web' on line 2, at", ":16"},
		"proxy_pass web {\nbalance round_robin\n}":       {"unexpected subdirective 'balance': write this line in 'upstream web'", ":16"},
		"proxy_pass web {\nslow_start 3s\n}":             {"unexpected subdirective 'slow_start': write this line in 'upstream web'", ":16"},
		"proxy_pass web {\ndynamic a x\n}":               {"unexpected subdirective 'dynamic': ", "server <address>", ":16"},
		"proxy_pass web {\nlb_policy first\n}":           {"unexpected subdirective 'lb_policy': ", "balance <method>", ":16"},
		"proxy_pass api {\ntransport http\n}":            {"duplicate subdirective 'transport' (first used on line 8)", ":16"},
		"proxy_pass web {\nmax_fails -1\n}":              {"max_fails: expected 0 or more, found -1", ":16"},
		"proxy_pass web {\nfoo\n}":                       {"unrecognized subdirective 'foo'; expected one of: lb_retries", ":16"},
		"proxy_pass web {\nhandle_response {\nfoo\n}\n}": {"unrecognized directive: foo", ":18"},
	} {
		_, err := adaptCaddyfile("", "{\nupstream web {\nserver a\nserver b\n}\nupstream api {\nserver c\ntransport http {\ndial_timeout 1s\n}\n}\n}\n\n:80 {\n"+directive+"\n}\n")
		checkError(t, directive, err, want)
	}
}

func TestUpstreamGroupValidate(t *testing.T) {
	for config, want := range map[string]string{
		`{}`:                                        "",
		`{"balance": "round_robin"}`:                "",
		`{"balance": "least_conn"}`:                 "",
		`{"balance": "ip_hash"}`:                    "",
		`{"balance": "random"}`:                     "",
		`{"balance": "hash", "hash_key": "{x}"}`:    "",
		`{"balance": "hash"}`:                       "hash_key: expected a key for balance hash, found none",
		`{"balance": "hash", "hash_key": "x"}`:      "hash_key: expected a key with a placeholder such as {http.request.uri}, found 'x'",
		`{"hash_key": "x"}`:                         "hash_key: expected none for balance round_robin, found 'x'",
		`{"balance": "least_time"}`:                 "",
		`{"balance": "fair"}`:                       `balance: unrecognized method 'fair'; expected one of: hash, ip_hash, least_conn, least_time, random, round_robin`,
		`{"slow_start": "30s"}`:                     "",
		`{"slow_start": "-1s"}`:                     "slow_start: expected 0 or more, found -1s",
		`{"slow_start": "1s", "balance": "random"}`: "slow_start: expected balance least_conn, least_time or round_robin, found balance random",
		`{"servers": {"a:80": {"weight": -1}}}`:     "server a:80: weight: expected 1 to 65535, found -1",
		`{"servers": {"a:80": {"weight": 65536}}}`:  "server a:80: weight: expected 1 to 65535, found 65536",
		`{"servers": {"a:80": {"weight": 65535}}}`:  "",
	} {
		g := new(UpstreamGroup)
		if err := json.Unmarshal([]byte(config), g); err != nil {
			t.Fatal(err)
		}
		if err := g.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
		if err := g.Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", config, err, want)
		}
	}
}

// checkError checks that the error contains all texts. A text that begins with a colon is
// a line of the Caddyfile.
func checkError(t *testing.T, text string, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %q", text, want)
		return
	}
	rest := err.Error()
	if strings.ContainsAny(rest, "`\"") && !strings.Contains(rest, "transport.foo") && !strings.Contains(rest, "strconv.") { // these are Caddy's
		t.Errorf("%s: got %q, want quotes '...' only", text, rest)
	}
	for _, part := range want {
		if strings.HasPrefix(part, ":") {
			part = "Caddyfile" + part
		}
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%s: got %q, want %q", text, err, part)
			return
		}
		rest = after
	}
	if last := want[len(want)-1]; strings.HasPrefix(last, ":") && strings.HasPrefix(rest, "0") {
		t.Errorf("%s: got %q, want the line %s", text, err, last)
	}
}

// TestServerAddresses has addresses with a slash that is not part of a path.
func TestServerAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"unix//run/web.sock":     "unix//run/web.sock",
		"unix+h2c//run/web.sock": "unix//run/web.sock",
		"tcp/10.0.0.1:80":        "tcp/10.0.0.1:80",
		"{env.A}:80":             "{env.A}:80",
		"{file./run/address}":    "{file./run/address}:80",
		"[::1]:80":               "[::1]:80",
	} {
		text := adaptedProxies(t, "{\nupstream web {\nserver "+address+"\n}\n}\n:80 {\nproxy_pass web\n}\n", nil)
		var proxy struct{ Upstreams []struct{ Dial string } }
		if err := json.Unmarshal([]byte(text), &proxy); err != nil {
			t.Fatal(err)
		}
		if len(proxy.Upstreams) != 1 || proxy.Upstreams[0].Dial != want {
			t.Errorf("server %s: got %v, want %s", address, proxy.Upstreams, want)
		}
	}
}
