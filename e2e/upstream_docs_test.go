package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const stickyCookieCommand = "curl -si -u alice https://example.com/ | grep -i '^set-cookie'"

var (
	_ = ranBy("TestTroubleshootingGroups", stickyCookieCommand)
	_ = ranBy("TestReferenceServerLines", "server 10.0.0.1:8080 weight=2 max_conns=10")
)

// TestTroubleshootingGroups causes symptoms of groups that the page of troubleshooting
// has, and looks for their causes where the page says to look.
func TestTroubleshootingGroups(t *testing.T) {
	parallel(t)
	page, dir := readText(t, troubleshootingPage), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "users"), []byte(plain("alice:secret")), 0o640))
	upstreams := newStickyServers(t, "a", "b")
	a, b := upstreams.address["a"], upstreams.address["b"]
	s := startIn(t, dir, `	upstream down {
		server `+a+` down
	}
	upstream name {
		server missing.invalid:8080
	}
	upstream draining {
		server `+a+` drain
		server `+b+` drain
	}
	upstream sticky {
		server `+a+` route=a
		server `+b+` route=b
		sticky cookie srv
	}
	upstream route {
		server `+a+` route=a
		server `+b+` route=b
		sticky route {route_of_cookie}
	}`, `https://localhost:{https} {
	map {cookie.JSESSIONID} {route_of_cookie} {
		~^[^.]*\.(.+)$ "${1}"
		default ""
	}
	header /route X-Route {route_of_cookie}
	htpasswd {
		file {dir}/users
		exempt /down /name /draining /route
	}
	proxy_pass /down down
	proxy_pass /name name
	proxy_pass /draining draining
	proxy_pass /route route
	proxy_pass sticky
}`)
	for _, row := range []struct {
		path    string
		status  int
		message string
	}{
		{"/down", 502, "all servers of the upstream group are down; responding 502 to every request"},
		{"/name", 502, "cannot resolve upstream name; connecting by name until it has an address"},
		{"/draining", 503, "no upstreams available"},
	} {
		if got := s.Send(row.path, nil); got.Status != row.status {
			t.Errorf("%s: got %d, want %d", row.path, got.Status, row.status)
		}
		if !strings.Contains(page, row.message) {
			t.Errorf("%s: the page does not have %q", row.path, row.message)
		}
		eventually(t, row.path+": the log has the message", func() bool { return strings.Contains(s.process.Said(), row.message) })
	}
	for cookie, want := range map[string]string{"JSESSIONID=1.b": "b", "JSESSIONID=1": ""} {
		if got := s.Send("/route", http.Header{"Cookie": {cookie}}); got.Header.Get("X-Route") != want {
			t.Errorf("%s: got the route %q, want %q", cookie, got.Header.Get("X-Route"), want)
		}
	}
	if !strings.Contains(page, "`header X-Route {route_of_cookie}`") {
		t.Error("the page does not say how to see the route")
	}
	if !slices.Contains(blocks(t, troubleshootingPage, "console"), stickyCookieCommand+"\n") {
		t.Errorf("not on the page: %s", stickyCookieCommand)
	}
	out := testkit.Run(t, "sh", "-c", strings.NewReplacer("curl ", program(t, "curl")+" -k ", "-u alice", "-u alice:secret", "https://example.com", s.URL("")).Replace(stickyCookieCommand))
	if !strings.Contains(strings.ToLower(out), "set-cookie: srv=") {
		t.Errorf("got %q, want the cookie of the group", out)
	}
}

// TestReferenceServerLines adapts the example of a server on several lines.
func TestReferenceServerLines(t *testing.T) {
	parallel(t)
	lines := block(t, upstreamPage, "text", "server 10.0.0.1:8080 weight=2 max_conns=10")
	s := newServerIn(t, t.TempDir())
	s.configure("\tupstream app {\n"+lines+"\t}", "http://localhost:{http} {\n\tproxy_pass app\n}")
	out, code := s.caddy("adapt", "--config", "Caddyfile")
	if code != 0 || !strings.Contains(out, `"10.0.0.1:8080":{"weight":6}`) || strings.Contains(out, "max_requests") {
		t.Errorf("got exit code %d and %s, want weight 6 for port 8080, and no limit", code, out)
	}
}
