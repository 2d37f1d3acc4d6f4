package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// documentedSite runs the Caddyfile of the README or the docs that has all of
// these texts, after the replacements in change.
func documentedSite(t *testing.T, texts []string, change ...string) docsClient {
	t.Helper()
	_, ours := docsSite(t, testkit.Substitute(documentedCaddyfile(t, texts...), nil, change...))
	return ours
}

// documentedCaddyfile returns the first Caddyfile of the README or the docs that
// has all of these texts, with single spaces.
func documentedCaddyfile(t *testing.T, texts ...string) string {
	t.Helper()
	spaces := regexp.MustCompile(`  +`)
	for _, page := range append([]string{"../README.md"}, docsPages(t)...) {
		for _, caddyfile := range blocks(t, page, "caddyfile") {
			caddyfile = spaces.ReplaceAllString(caddyfile, " ")
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(caddyfile, text) }) {
				return caddyfile
			}
		}
	}
	t.Fatalf("no Caddyfile in the README or the docs has %q", texts)
	return ""
}

// must sends a request, and fails the test if there is no answer.
func (c docsClient) must(a asked) answer {
	c.t.Helper()
	got, err := c.do(a)
	if err != nil {
		c.t.Fatal(err)
	}
	return got
}

// TestReadmeErrorPages runs the configuration that gives the answers 401, 403 and
// 429 a body.
func TestReadmeErrorPages(t *testing.T) {
	parallel(t)
	const option = "{\n\thtpasswd {\n\t\tthrottle login 2 1h\n\t}\n}\n"
	for _, variant := range []struct {
		name   string
		change func(dir string) []string
		body   func(status int) string
	}{
		{"a text", func(string) []string { return nil }, func(status int) string { return fmt.Sprintf("<h1>%d %s</h1>", status, http.StatusText(status)) }},
		{
			"files", func(dir string) []string {
				return []string{`respond "<h1>{err.status_code} {err.status_text}</h1>"`, "root * " + dir + "\nrewrite * /{err.status_code}.html\nfile_server"}
			},
			func(status int) string { return fmt.Sprint("page ", status) },
		},
	} {
		t.Run(variant.name, func(t *testing.T) {
			pages := t.TempDir()
			for _, status := range []int{401, 403, 429} {
				must(t, os.WriteFile(filepath.Join(pages, fmt.Sprintf("%d.html", status)), fmt.Append(nil, "page ", status), 0o600))
			}
			c := documentedSite(t, []string{"handle_errors 401 403 429", "respond \"<h1>"}, append(variant.change(pages), "example.com {", option+"example.com {")...)
			for _, test := range []struct {
				name   string
				asked  asked
				status int
			}{
				{"no password", asked{path: "/"}, 401},
				{"no password, and another path", asked{path: "/x/401.html"}, 401},
				{"POST without a password", asked{path: "/", method: "POST"}, 401},
				{"another user", asked{path: "/", login: "bob:builder"}, 403},
				{"the user", asked{path: "/", login: asAlice}, 200},
				{"a wrong password", asked{path: "/", login: "carol:wrong"}, 401},
				{"another wrong password", asked{path: "/", login: "carol:false"}, 401},
				{"too many failed logins", asked{path: "/", login: "carol:music"}, 429},
			} {
				got := c.must(test.asked)
				if got.Status != test.status || test.status != 200 && got.Body != variant.body(test.status) {
					t.Errorf("%s: got %d %q, want %d %q", test.name, got.Status, got.Body, test.status, variant.body(test.status))
				}
				if test.status != 200 && !strings.HasPrefix(got.Header.Get("Content-Type"), "text/html") {
					t.Errorf("%s: got a body of %q, want a page of text/html", test.name, got.Header.Get("Content-Type"))
				}
				if (got.Header.Get("WWW-Authenticate") == `Basic realm="Restricted", charset="UTF-8"`) != (test.status == 401) {
					t.Errorf("%s: got the challenge %q, want one with a 401 only", test.name, got.Header.Get("WWW-Authenticate"))
				}
				if (got.Header.Get("Retry-After") != "") != (test.status == 429) {
					t.Errorf("%s: got Retry-After %q, want one with a 429 only", test.name, got.Header.Get("Retry-After"))
				}
			}
		})
	}
}

// TestReadmeUserHeader sends a forged header to an application that trusts it,
// through the documented configurations, and through those that the docs warn of.
func TestReadmeUserHeader(t *testing.T) {
	parallel(t)
	const nobody, alice, forged = `user=""`, `user="alice"`, `user="root"`
	const open, header = `exempt /public/*`, "user_header X-Remote-User"
	for _, test := range []struct {
		name            string
		block           string // a text of the configuration
		change          []string
		path            string
		public, private string // the user that the application sees: on an open path, and of alice
	}{
		{"exempt", open, nil, "/public/x", nobody, alice},
		{"a header removed in the handle of open paths", "request_header -X-Remote-User", nil, "/public/x", nobody, alice},
		{"WRONG: a matcher, and one proxy for all", open, []string{"htpasswd {", "htpasswd /private/* {", open, ""}, "/public/x", forged, alice},
		{
			"WRONG: a header removed for the whole site", open,
			[]string{"htpasswd {", "htpasswd /private/* {", open, "", "reverse_proxy", "request_header -X-Remote-User\nreverse_proxy"}, "/public/x", nobody, nobody,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := documentedSite(t, []string{header, test.block}, test.change...)
			if got := c.must(asked{path: test.path, header: "X-Remote-User: root"}); got.Status != 200 || !strings.HasSuffix(got.Body, test.public) {
				t.Errorf("an open path: got %d %s, want 200 and %s", got.Status, got.Body, test.public)
			}
			if got := c.must(asked{path: "/private/x", login: asAlice, header: "X-Remote-User: root"}); got.Status != 200 || !strings.HasSuffix(got.Body, test.private) {
				t.Errorf("alice: got %d %s, want 200 and %s", got.Status, got.Body, test.private)
			}
			if got := c.must(asked{path: "/private/x", header: "X-Remote-User: root"}); got.Status != 401 {
				t.Errorf("without a password: got %d, want 401", got.Status)
			}
		})
	}
}

// TestHeaderLimit sends headers of the size that the docs say is accepted, and
// larger ones.
func TestHeaderLimit(t *testing.T) {
	parallel(t)
	s := startServer(t, secureSite("\trespond ok"))
	for _, test := range []struct {
		name  string
		http2 bool
		bytes int  // of one header
		want  bool // accepted
	}{
		{"HTTP/1.1: 16 KiB", false, 16 << 10, true},
		{"HTTP/1.1: 20 KiB", false, 20 << 10, false},
		{"HTTP/2: a little less than 16 KiB", true, 15 << 10, true},
		{"HTTP/2: 16 KiB", true, 16 << 10, false},
	} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: test.http2, DisableKeepAlives: true}
		if !test.http2 {
			transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		}
		r := s.Request(http.MethodGet, "/", nil)
		r.Header.Set("X-Large", strings.Repeat("x", test.bytes))
		resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
		status := 0 // the transport can refuse the request itself, because the server has announced its limit
		if err == nil {
			resp.Body.Close()
			status = resp.StatusCode
		}
		if (status == 200) != test.want || status != 200 && status != 431 && status != 0 || err != nil && !test.http2 {
			t.Errorf("%s: got status %d, %v; want it accepted: %v", test.name, status, err, test.want)
		}
	}
	for _, page := range []string{"../docs/from-nginx.md", "../docs/differences.md"} {
		if !strings.Contains(readText(t, page), "16 KiB for all headers") {
			t.Errorf("%s does not name the limit", page)
		}
	}
}

// TestDocsUnknownFormats parses a hash of "secret" in each format of crypt(3) that
// docs/from-nginx.md lists as not supported.
func TestDocsUnknownFormats(t *testing.T) {
	parallel(t)
	_, table, _ := strings.Cut(readText(t, "../docs/from-nginx.md"), "| prefix | format |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	hashes := map[string]string{ // perl -e 'print crypt("secret", $ARGV[0])', with the first part of each
		"$sha1$": "$sha1$40000$jtNX3nZ2$xAGfHaqu.pZIve2JiBKjFE7Nhq.4",
		"$md5$":  "$md5,rounds=904$iPPKEBnE$$ZMCRYL4DP1t4AOJGHaE0W1",
		"$3$":    "$3$$878d8014606cda29677a44efa1353fc7",
		"$gy$":   "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$uE5FcoxTz78xZpMZkpTmj/0MogyeNUSLIjdCxpQjz.8",
		"_":      "_J9..rasmz0.F/jqjWck",
		"$2x$":   "$2x$04$bQ5GWxJ6bzCjZ3Ra1nSg9.gxu6zzCfReDJz.E3Q.wa.XgWJVwhqFi",
		"none":   "rlyZgD66QgfhAP2g2tIovPfMvWvEVdszpZg",
	}
	rows := strings.Split(table, "\n")
	if len(rows) != len(hashes) {
		t.Errorf("got %d formats, want %d", len(rows), len(hashes))
	}
	for _, row := range rows {
		prefix := regexp.MustCompile("^\\| `?([^`, ]+)").FindStringSubmatch(row)[1]
		hash, ok := hashes[prefix]
		if !ok {
			t.Errorf("no hash for %s", row)
		} else if class, err := crypt.Parse(hash); err == nil {
			t.Errorf("%s: got %v, want an error", prefix, class)
		}
	}
}

// TestGroupsShareServers checks what groups with the same server share, as the docs
// say.
func TestGroupsShareServers(t *testing.T) {
	parallel(t)
	arrived, release := make(chan bool), make(chan struct{})
	var probes atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			probes.Add(1)
		case "/one/wait":
			arrived <- true
			<-release
		}
		fmt.Fprint(w, r.Header.Get("X-Server"))
	}))
	defer app.Close()
	broken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer broken.Close()
	go func() {
		for {
			conn, err := broken.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	address := strings.TrimPrefix(app.URL, "http://")
	const fails = "max_fails 1\nfail_duration 1h\n"
	s := startServer(t, testkit.Substitute(`{
		upstream one {
			server {app} max_conns=1
			health_uri /health
			health_interval 1h
		}
		upstream two {
			server {app} max_conns=1
		}
		upstream three {
			server {broken}
			`+fails+`
		}
		upstream four {
			server {broken}
			`+fails+`
		}
	}
	https://localhost:{https} {
		proxy_pass /one/* one {
			header_up X-Server "{http.reverse_proxy.upstream.hostport} {http.reverse_proxy.upstream.address}"
		}
		proxy_pass /again/* one
		proxy_pass /two/* two
		proxy_pass /three/* three
		proxy_pass /four/* four
	}`, map[string]string{"{app}": address, "{broken}": broken.Addr().String()}))

	if a := s.get("/one/x", "", ""); a.Body != address+" tcp/"+address {
		t.Errorf("the placeholders: got %q, want %q", a.Body, address+" tcp/"+address)
	}
	eventually(t, "each proxy_pass of the group checks the health of the server", func() bool { return probes.Load() == 2 })
	if a := s.get("/two/x", "", ""); a.Status != 200 {
		t.Errorf("before: got %d, want 200", a.Status)
	}
	done := make(chan answer)
	go func() { done <- s.get("/one/wait", "", "") }()
	<-arrived
	if a := s.get("/two/x", "", ""); a.Status != 503 {
		t.Errorf("while the server handles a request of the other group: got %d, want 503", a.Status)
	}
	close(release)
	if a := <-done; a.Status != 200 {
		t.Errorf("the other group's request: got %d, want 200", a.Status)
	}
	if a := s.get("/three/x", "", ""); a.Status != 502 {
		t.Errorf("a server that fails: got %d, want 502", a.Status)
	}
	if a := s.get("/four/x", "", ""); a.Status != 503 {
		t.Errorf("a server that has failed for another group: got %d, want 503", a.Status)
	}
}
