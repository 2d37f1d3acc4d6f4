package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const allDownWarning = "all servers of the upstream group are down; responding 502 to every request"

// TestAllServersDown checks that a group whose servers are all down answers like nginx, and
// that the log says so once at each load.
func TestAllServersDown(t *testing.T) {
	dead, tried := brokenBackend(t)
	const site = `{
		http_port {http}
		%s
	}
	http://localhost:{http} {
		handle /routes/* {
			proxy_pass all
		}
		proxy_pass all
		handle_errors {
			respond "error {err.status_code}" {err.status_code}
		}
	}`
	group := "upstream all {\nserver " + dead + " down\nserver 127.0.0.1:1 down\n%s\n}\n"
	for _, row := range []struct{ name, lines string }{
		{"round_robin", ""},
		{"least_conn", "balance least_conn"},
		{"ip_hash", "balance ip_hash"},
		{"hash", "balance hash {uri}"},
		{"random", "balance random"},
		{"a backup that is down too", "server 127.0.0.1:2 backup down"},
		{"slow start", "slow_start 1s"},
		{"retries", "lb_retries 3"},
		{"time for retries", "lb_try_duration 1h"},
		{"FastCGI", "transport fastcgi"},
		{"no limit of failures", "max_fails 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, fmt.Sprintf(site, fmt.Sprintf(group, row.lines)))
			begun := time.Now()
			for _, path := range []string{"/", "/routes/x"} {
				for _, body := range []string{"", "a body"} {
					r, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://localhost:%d%s", s.http, path), strings.NewReader(body))
					must(t, err)
					if got := s.do(r); got.status != http.StatusBadGateway || got.body != "error 502" {
						t.Errorf("%s: got %d %q, want 502 and the error page", path, got.status, got.body)
					}
				}
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("the answers took %s, want no wait for retries", took)
			}
			if n := strings.Count(s.log(), allDownWarning); n != 1 {
				t.Errorf("got the warning %d times, want once, for the group", n)
			}
			if !strings.Contains(s.log(), `"error":"all servers of the upstream group are marked as down","group":"all"`) {
				t.Errorf("got no line for the requests, want one that names the group: %s", s.log())
			}
			must(t, s.reload(fmt.Sprintf(site, fmt.Sprintf(group, row.lines)+"# changed\nhttp_port {http}\n")))
			if n := strings.Count(s.log(), allDownWarning); n != 2 {
				t.Errorf("after a reload: got the warning %d times, want twice", n)
			}
		})
	}
	if n := tried.Load(); n > 0 {
		t.Errorf("a server that is down got %d connections, want none", n)
	}
}

// TestSomeServerUp has groups with a single server that is not down. There is no warning.
func TestSomeServerUp(t *testing.T) {
	a := namedBackend(t, "a").URL
	for _, lines := range []string{
		"server http://127.0.0.1:1 down\nserver " + a,
		"server http://127.0.0.1:1 down\nserver " + a + " backup",
		"server http://127.0.0.1:1 down\nserver http://127.0.0.1:2 backup down\nserver " + a + " backup",
	} {
		s := startServer(t, "{\nhttp_port {http}\nupstream some {\n"+lines+"\n}\n}\nhttp://localhost:{http} {\nproxy_pass some\n}\n")
		for range 3 {
			if got := s.plain("/", nil); got.body != "a" {
				t.Errorf("%s: got %d %q, want a", lines, got.status, got.body)
			}
		}
		if strings.Contains(s.log(), allDownWarning) {
			t.Errorf("%s: got the warning, want none", lines)
		}
	}
}

// TestServerTwiceInJSON has upstreams with the same address. The weight of the address
// counts for each.
func TestServerTwiceInJSON(t *testing.T) {
	a, b := strings.TrimPrefix(namedBackend(t, "a").URL, "http://"), strings.TrimPrefix(namedBackend(t, "b").URL, "http://")
	for method, want := range map[string]string{"round_robin": "a=8 b=2", "least_conn": "a=8 b=2", "ip_hash": "", "random": "", "hash": ""} {
		key := ""
		if method == "hash" {
			key = `"hash_key": "{http.request.uri}",`
		}
		s := startServer(t, "")
		must(t, s.load(fmt.Appendf(nil, `{"admin": {"disabled": true}, "apps": {"http": {"servers": {"s": {"listen": ["127.0.0.1:%d"], "routes": [{"handle": [
			{"handler": "proxy_pass", "proxy": {"handler": "reverse_proxy", "upstreams": [{"dial": %q}, {"dial": %q}, {"dial": %q}],
				"load_balancing": {"selection_policy": {"policy": "upstream_group", "balance": %q, %s "servers": {%q: {"weight": 2}}}}}}]}]}}}}}`,
			s.http, a, b, a, method, key, a), false))
		var order []string
		for range 10 {
			resp, err := s.client.Get(fmt.Sprintf("http://127.0.0.1:%d/", s.http))
			must(t, err)
			name, err := io.ReadAll(resp.Body)
			must(t, err)
			resp.Body.Close()
			order = append(order, string(name))
		}
		if got := counted(order, "a", "b"); want != "" && got != want || len(strings.Trim(strings.Join(order, ""), "ab")) > 0 {
			t.Errorf("%s: got answers %s, want %s", method, got, want)
		}
	}
}

// TestAllServersDownInJSON has such groups in a JSON configuration: with proxy_pass, which
// knows the group's name or not, and with reverse_proxy alone.
func TestAllServersDownInJSON(t *testing.T) {
	a := strings.TrimPrefix(namedBackend(t, "a").URL, "http://")
	s := startServer(t, "")
	proxy := func(servers string) string {
		return fmt.Sprintf(`{"handler": "reverse_proxy", "upstreams": [{"dial": %q}],
			"load_balancing": {"selection_policy": {"policy": "upstream_group", "servers": {%s}}}}`, a, servers)
	}
	var routes []string
	for path, handler := range map[string]string{
		"/named":  `{"handler": "proxy_pass", "group": "all", "proxy": ` + proxy(fmt.Sprintf("%q: {\"down\": true}", a)) + `}`,
		"/again":  `{"handler": "proxy_pass", "group": "all", "proxy": ` + proxy(fmt.Sprintf("%q: {\"down\": true, \"backup\": true}", a)) + `}`,
		"/plain":  `{"handler": "proxy_pass", "proxy": ` + proxy(fmt.Sprintf("%q: {\"down\": true}", a)) + `}`,
		"/alone":  proxy(fmt.Sprintf("%q: {\"down\": true}", a)),
		"/backup": `{"handler": "proxy_pass", "proxy": ` + proxy(fmt.Sprintf("%q: {\"backup\": true}", a)) + `}`,
		"/others": `{"handler": "proxy_pass", "proxy": ` + proxy(`"127.0.0.1:1": {"down": true}`) + `}`,
		"/native": `{"handler": "proxy_pass", "proxy": {"handler": "reverse_proxy", "upstreams": [{"dial": "` + a + `"}]}}`,
		"/none":   `{"handler": "proxy_pass", "proxy": {"handler": "reverse_proxy", "load_balancing": {"selection_policy": {"policy": "upstream_group"}}}}`,
	} {
		routes = append(routes, fmt.Sprintf(`{"match": [{"path": [%q]}], "handle": [%s]}`, path, handler))
	}
	config := fmt.Sprintf(`{"admin": {"disabled": true}, "logging": {"logs": {"default": {"level": "DEBUG", "writer": {"output": "file", "filename": %q}}}},
		"apps": {"http": {"http_port": %d, "servers": {"s": {"listen": ["127.0.0.1:%d"], "routes": [%s]}}}}}`,
		s.dir+"/log", s.http, s.http, strings.Join(routes, ","))
	if !json.Valid([]byte(config)) {
		t.Fatalf("got %s, want JSON", config)
	}
	must(t, s.load([]byte(config), false))
	for path, want := range map[string]int{
		"/named": 502, "/again": 502, "/plain": 502, "/backup": 200, "/others": 200, "/native": 200,
		"/alone": 503, "/none": 503, // Caddy's own answer
	} {
		resp, err := s.client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", s.http, path))
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got status %d, want %d", path, resp.StatusCode, want)
		}
	}
	if n := strings.Count(s.log(), allDownWarning); n != 2 {
		t.Errorf("got the warning %d times, want twice, once for each name: %s", n, s.log())
	}
}
