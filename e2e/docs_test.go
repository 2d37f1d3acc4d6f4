package e2e

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestDocsConfigurations adapts and validates each Caddyfile in the docs, with
// files that exist.
func TestDocsConfigurations(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	names := docsNames(t, s)
	// Other paths on these pages: the name says what kind of file is needed.
	other := regexp.MustCompile(`(?:/etc|/run|/var/lib)/[\w./-]+`)
	for _, page := range docsPages(t) {
		for _, text := range blocks(t, page, "caddyfile") {
			if strings.Contains(text, "fleet redis {") || strings.Contains(text, "storage://") {
				continue // they need a store; TestDocsFleets runs those of docs/fleets.md
			}
			text = other.ReplaceAllStringFunc(testkit.Substitute(text, names), func(path string) string {
				switch base := filepath.Base(path); {
				case strings.Contains(base, "group"):
					return names["/etc/caddy/groups"]
				case strings.HasSuffix(base, ".key"):
					return names["/etc/ssl/example.com.key"]
				case strings.HasSuffix(base, ".crt"), strings.HasSuffix(base, ".pem"):
					return names["/etc/ssl/example.com.crt"]
				case strings.Contains(base, "htpasswd"):
					return names["/etc/nginx/.htpasswd"]
				}
				return path
			})
			config, err := s.Adapt(text)
			if err != nil {
				t.Errorf("%s: %v:\n%s", page, err, text)
				continue
			}
			s.Write("caddy.json", string(config))
			cmd := s.command("validate", "--config", "caddy.json")
			cmd.Env = append(cmd.Env, "HTPASSWD_SECRET=canary-secret-AAAAAAAAAAAAAAAAAA", "HTPASSWD="+readText(t, names["/etc/caddy/.htpasswd"]))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\nof\n%s", page, err, out, text)
			}
		}
	}
}

// docsNames creates the files and servers that the configurations in the docs
// name. It returns what replaces their names: paths, addresses of servers, and
// addresses of clients.
func docsNames(t *testing.T, s *server) map[string]string {
	t.Helper()
	program(t, "htpasswd")
	program(t, "openssl")
	// Apache does not run as root, and must be able to read these files.
	if err := os.Chmod(filepath.Dir(s.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(s.Dir, ".htpasswd")
	testkit.Run(t, "htpasswd", "-cbB", "-C4", users, "alice", "secret")
	testkit.Run(t, "htpasswd", "-bB", "-C4", users, "bob", "builder")
	testkit.Run(t, "htpasswd", "-bB", "-C4", users, "carol", "music")
	for host, user := range map[string]string{"example.com": "alice", "example.org": "bob"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, "users"), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.Run(t, "htpasswd", "-cbB", "-C4", filepath.Join(s.Dir, "users", host), user, "secret")
	}
	testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:example.com,DNS:example.org",
		"-keyout", filepath.Join(s.Dir, "key"), "-out", filepath.Join(s.Dir, "cert"))
	names := map[string]string{
		"/etc/nginx/.htpasswd":   users,
		"/etc/nginx/users/":      filepath.Join(s.Dir, "users") + "/",
		"/etc/apache2/.htpasswd": users,
		"/etc/caddy/.htpasswd":   users,

		"/var/lib/caddy-htpasswd/users": users,

		"/etc/caddy/groups":        s.Write("groups", "staff: alice\nadmins: alice\n"),
		"/etc/ssl/example.com.crt": filepath.Join(s.Dir, "cert"),
		"/etc/ssl/example.com.key": filepath.Join(s.Dir, "key"),
		"/etc/ssl/clients-ca.pem":  filepath.Join(s.Dir, "cert"), // which is its own authority
		"/srv/site":                filepath.Join(s.Dir, "site"),
		"/var/log/caddy/":          s.Dir + "/",
		"192.0.2.0/24":             "127.0.0.2/31",
		"not remote_ip 192.0.2.1":  "not remote_ip 127.0.0.3",
	}
	names["/etc/apache2/groups"] = names["/etc/caddy/groups"]
	must(t, os.MkdirAll(filepath.Join(s.Dir, "users.d"), 0o755))
	s.Write("users.d/staff.htpasswd", readText(t, users))
	names["/etc/caddy/users.d/"] = filepath.Join(s.Dir, "users.d") + "/"
	if err := os.MkdirAll(filepath.Join(s.Dir, "site"), 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `<?php header("X-Path-Info: " . ($_SERVER["PATH_INFO"] ?? "")); echo basename($_SERVER["SCRIPT_FILENAME"]);`
	for name, text := range map[string]string{
		"site/index.html": "the page", "site/.htpasswd": "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n",
		"site/private/index.html": "the private page", "site/index.php": script, "site/wp-login.php": script,
		"site/blog/wp-login.php": script, "site/wp-admin/users.php": script,
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(s.Dir, name)), 0o755))
		s.Write(name, text)
		must(t, os.Chmod(filepath.Join(s.Dir, name), 0o644))
	}
	names["127.0.0.1:9000"], names["127.0.0.1:9005"] = docsFastCGI(t), docsFastCGI(t)
	names["fastcgi_params;"] = "/etc/nginx/fastcgi_params;" // a relative path begins at the test's own nginx.conf
	for _, name := range []string{".htpasswd", "groups"} {
		if err := os.Chmod(filepath.Join(s.Dir, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for port, handler := range map[string]http.HandlerFunc{"9001": docsApplication, "9002": docsVerifier, "9003": docsApplication, "9004": docsApplication} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Server", port)
			handler(w, r)
		}))
		t.Cleanup(app.Close)
		address := strings.TrimPrefix(app.URL, "http://")
		names["127.0.0.1:"+port] = address
		names[`127\.0\.0\.1:`+port] = regexp.QuoteMeta(address)
	}
	return names
}

// docsFastCGI runs a FastCGI server that answers as the scripts of docsNames do,
// without PATH_INFO, which net/http/fcgi does not pass on. It returns its address.
func docsFastCGI(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	script := regexp.MustCompile(`([^/]+\.php)(/.*)?$`)
	go func() {
		_ = fcgi.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := script.FindStringSubmatch(fcgi.ProcessEnv(r)["SCRIPT_FILENAME"])
			if name == nil {
				name = []string{"", "no script"}
			}
			fmt.Fprint(w, name[1])
		}))
	}()
	return listener.Addr().String()
}

// phpFPM runs a real PHP-FPM, and returns its address.
func phpFPM(t *testing.T) string {
	t.Helper()
	address, _ := namedPHP(t, "php")
	return address
}

// docsApplication answers with what it sees of the request.
func docsApplication(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/moved") { // to its own address, as it knows it
		http.Redirect(w, r, "http://"+r.Host+strings.TrimSuffix(r.URL.Path, "moved")+"here", http.StatusFound)
		return
	}
	if body, err := io.ReadAll(r.Body); err == nil && len(body) > 0 {
		w.Header().Set("X-Saw-Body", string(body))
	}
	w.Header().Set("X-Saw-Password", fmt.Sprint(r.Header["Authorization"] != nil))
	w.Header().Set("X-Saw-Host", r.Host)
	fmt.Fprintf(w, "%s %s user=%q", r.Method, r.RequestURI, r.Header.Get("X-Remote-User"))
}

// docsVerifier is the server that auth_request and forward_auth ask.
func docsVerifier(w http.ResponseWriter, r *http.Request) {
	switch r.Header.Get("X-Token") {
	case "good":
		w.WriteHeader(http.StatusNoContent)
	case "elsewhere":
		http.Redirect(w, r, "/login", http.StatusFound)
	case "expired":
		w.Header().Set("WWW-Authenticate", `Bearer realm="Tokens"`)
		w.WriteHeader(http.StatusUnauthorized)
	case "broken":
		w.WriteHeader(http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusForbidden)
	}
}

// asked is a request to both servers, with the answers that the docs promise.
type asked struct {
	method string // default GET
	path   string
	host   string   // default example.com
	login  string   // user:password
	from   string   // address of the client; default 127.0.0.1
	header string   // one field a line
	twice  []string // Authorization fields, whole lines
	body   string
	want   int
	theirs int    // the other server's status, if it differs
	sees   string // what the application behind Caddy sees, if it differs
	serves string // what Caddy serves, if that is not compared with the other server
}

const asAlice = "alice:secret"

// docsClient sends requests to a server of this machine, by a host name and from
// a given address.
type docsClient struct {
	t    *testing.T
	port int
	cert []tls.Certificate
}

func (c docsClient) do(a asked) (answer, error) {
	c.t.Helper()
	client := &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, Certificates: c.cert},
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				d := net.Dialer{}
				if a.from != "" {
					d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.from)}
				}
				return d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", c.port))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host, method := a.host, a.method
	if host == "" {
		host = "example.com"
	}
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequest(method, fmt.Sprintf("https://%s:%d%s", host, c.port, a.path), strings.NewReader(a.body))
	if err != nil {
		c.t.Fatal(err)
	}
	if user, password, ok := strings.Cut(a.login, ":"); ok {
		r.SetBasicAuth(user, password)
	}
	for line := range strings.Lines(a.header) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		r.Header.Set(name, value)
	}
	for _, line := range a.twice {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}, err
}

// otherServer is a configuration of nginx or Apache in the docs, and its command.
type otherServer struct {
	conf    string
	command testkit.PeerCommand
}

// docsTwins runs a Caddyfile and another server's configuration, and returns
// clients of both. Pairs of strings are names and their replacements, beside
// those of docsNames.
func docsTwins(t *testing.T, caddyfile string, other otherServer, replacements ...string) (tw *testkit.Twins, ours, theirs docsClient) {
	t.Helper()
	s := startServer(t, "")
	names := docsNames(t, s)
	for pair := range slices.Chunk(replacements, 2) {
		names[pair[0]] = pair[1]
	}
	tw = testkit.StartTwins(t, s.Server, docsCaddyfile(s, caddyfile), other.conf, other.command, names)
	awaitDocsHosts(s.Server, caddyfile)
	return tw, docsClient{t: t, port: tw.Ours.HTTPS}, docsClient{t: t, port: tw.Theirs.Port}
}

// docsSite runs a Caddyfile without another server.
func docsSite(t *testing.T, caddyfile string) (*server, docsClient) {
	t.Helper()
	s := startServer(t, "")
	if err := s.Reload(testkit.Substitute(docsCaddyfile(s, caddyfile), docsNames(t, s))); err != nil {
		t.Fatalf("%v:\n%s", err, caddyfile)
	}
	awaitDocsHosts(s.Server, caddyfile)
	return s, docsClient{t: t, port: s.HTTPS}
}

// docsCaddyfile adds the ports of a server to the global options.
func docsCaddyfile(s *server, caddyfile string) string {
	options := fmt.Sprintf("{\n\thttp_port %d\n\thttps_port %d\n\tlocal_certs\n", s.HTTP, s.HTTPS)
	if rest, ok := strings.CutPrefix(caddyfile, "{\n"); ok {
		return options + rest
	}
	return options + "}\n" + caddyfile
}

// awaitDocsHosts waits for the certificates of the hosts in a Caddyfile.
func awaitDocsHosts(s *testkit.Server, caddyfile string) {
	s.T.Helper()
	for _, host := range []string{"example.com", "example.org"} {
		if strings.Contains("\n"+caddyfile, "\n"+host+" {") {
			s.AwaitCertificate(host)
		}
	}
}

// compare sends the same requests to both servers.
func compare(t *testing.T, ours, theirs docsClient, requests []asked) {
	t.Helper()
	for _, a := range requests {
		name := strings.TrimSpace(fmt.Sprintf("%s %s%s as %q from %s %s", a.method, a.host, a.path, a.login, a.from, a.header))
		we, err := ours.do(a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		they, err := theirs.do(a)
		if err != nil {
			t.Errorf("%s, from the other server: %v", name, err)
			continue
		}
		wantTheirs := a.want
		if a.theirs != 0 {
			wantTheirs = a.theirs
		}
		if we.Status != a.want || they.Status != wantTheirs {
			t.Errorf("%s: got %d here and %d from the other server, want %d and %d", name, we.Status, they.Status, a.want, wantTheirs)
			continue
		}
		if a.theirs != 0 {
			continue
		}
		switch {
		case a.serves != "":
			if we.Body != a.serves {
				t.Errorf("%s: got %q here, want %q", name, we.Body, a.serves)
			}
		case a.sees != "":
			if we.Body != a.sees || they.Body == a.sees {
				t.Errorf("%s: got %q from the application, and %q behind the other server, want %q here only", name, we.Body, they.Body, a.sees)
			}
		case we.Status == http.StatusOK && we.Body != they.Body:
			t.Errorf("%s: got %q from the application, want %q as behind the other server", name, we.Body, they.Body)
		case we.Status == http.StatusUnauthorized:
			if got, want := we.Header.Get("WWW-Authenticate"), they.Header.Get("WWW-Authenticate"); got != want+`, charset="UTF-8"` || want == "" {
				t.Errorf("%s: got challenge %q, want the other server's, %q, with the charset", name, got, want)
			}
		case we.Status/100 == 3:
			if got, want := pathOf(t, we), pathOf(t, they); got != want {
				t.Errorf("%s: got a redirect to %q, want to %q as by the other server", name, got, want)
			}
		}
	}
}

// pathOf returns the target of a redirect, without the server's own name.
func pathOf(t *testing.T, a answer) string {
	t.Helper()
	return regexp.MustCompile(`^https://example\.com(:\d+)?/`).ReplaceAllString(a.Header.Get("Location"), "/")
}

// checkSections checks that the configuration of nginx or Apache in each section
// is run.
func checkSections(t *testing.T, page, language string, has func(heading string) bool) {
	t.Helper()
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(readText(t, page), -1) {
		if n := len(sectionBlocks(t, page, m[1], language)); n > 0 {
			found += n
			if n > 1 || !has(m[1]) {
				t.Errorf("%s, %s: got %d configurations, want one that a test runs", page, m[1], n)
			}
		}
	}
	if all := len(blocks(t, page, language)); found != all || all < 8 {
		t.Errorf("%s: got %d configurations in sections, want all %d, and at least 8", page, found, all)
	}
}

// nginxWith returns an nginx with a configuration of the docs.
func nginxWith(conf string) otherServer {
	if !strings.Contains(conf, "server {") {
		conf = "server {\nlisten 443 ssl;\nssl_certificate /etc/ssl/example.com.crt;\nssl_certificate_key /etc/ssl/example.com.key;\n" + conf + "}\n"
	}
	return otherServer{strings.NewReplacer("listen 443 ssl", "listen 127.0.0.1:{port} ssl", "listen 80", "listen 127.0.0.1:{plain_port}").Replace(conf), testkit.NginxCommand}
}

// TestDocsNginx runs each pair of configurations in docs/from-nginx.md, nginx's in a
// real nginx, and sends both servers the same requests.
func TestDocsNginx(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	const page = "../docs/from-nginx.md"
	tests := map[string][]asked{
		"Locations": {
			{path: "/", want: 200},
			{path: "/admin", want: 401},
			{path: "/admin", login: asAlice, want: 200},
			{path: "/admin", login: "alice:wrong", want: 401},
			{path: "/admin/", want: 401},
			{path: "/admin/x", want: 401},
			{path: "/admin/x", login: asAlice, want: 200},
			{path: "/administrator", want: 401},
			{path: "/admin/health", want: 200},
			{path: "/admin/health/", want: 401},
			{path: "/admin/health?x=.pdf", want: 200},
			{path: "/admin/images/x", want: 200},
			{path: "/admin/images/x.pdf", want: 200},
			{path: "/admin/x.pdf", want: 401},
			{path: "/x.pdf", want: 401},
			{path: "/x.pdf", login: asAlice, want: 200},
			{path: "/x.pdf/y", want: 200},
			{path: "/x.PDF", want: 200},
			{path: "/x%2epdf", want: 401},
			{path: "//admin/x", want: 401},
			{path: "/%61dmin/x", want: 401},
			{path: "/admin%2fx", want: 401},
			{path: "/y/../admin/x", want: 401},
			{path: "/y/..%2fadmin/x", want: 401},
			{path: "/admin/images/../x", want: 401},
			{path: "/admin/images/%2e%2e/x", want: 401},
			{path: "/ADMIN/x", want: 401, theirs: 200},
			{path: "/admin/HEALTH", want: 200, theirs: 401},
		},
		"A single PHP file": {
			{path: "/", want: 200},
			{path: "/page/x", want: 200},
			{path: "/wp-login.php", want: 401},
			{path: "/wp-login.php", login: asAlice, want: 200},
			{path: "/wp-login.php", login: "alice:wrong", want: 401},
			{path: "/wp-login.php?x=y", want: 401},
			{path: "/wp-login.php/x", want: 401, theirs: 200},
			{path: "/wp-login.php/x", login: asAlice, want: 200, serves: "wp-login.php"},
			{path: "/wp-login.phpx", want: 401, theirs: 200},
			{path: "//wp-login.php", want: 401},
			{path: "/wp-login%2ephp", want: 401},
			{path: "/wp-login.php%2fx", want: 401, theirs: 200},
			{path: "/y/../wp-login.php", want: 401},
			{path: "/y/..%2fwp-login.php/x", want: 401, theirs: 200},
			{path: "/index.php/../wp-login.php", want: 401},
			{path: "/WP-LOGIN.PHP", want: 401, theirs: 200},
			{path: "/blog/wp-login.php", want: 200},
		},
		"FastCGI servers": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200, serves: "index.php"},
			{path: "/wp-login.php", want: 401},
			{path: "/wp-login.php", login: asAlice, want: 200, serves: "wp-login.php"},
			{path: "/wp-login.php?x=y", login: asAlice, method: "POST", body: "some text", want: 200, serves: "wp-login.php"},
			{path: "/blog/wp-login.php", login: asAlice, want: 200, serves: "wp-login.php"},
			{path: "/wp-login.php/x", want: 401},
			{path: "/wp-login.php/x", login: asAlice, want: 200, serves: "wp-login.php"},
			{path: "/no/such/page", login: asAlice, want: 200, serves: "index.php"},
			{path: "/private/index.html", login: asAlice, want: 200, serves: "the private page"},
			{path: "/private/index.html", want: 401},
		},
		"gRPC servers": nil, // TestDocsGRPC
		"auth_basic off": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/public/", want: 200},
			{path: "/public/x", want: 200},
			{path: "/publicity", want: 401},
			{path: "/health", want: 200},
			{path: "/health/", want: 401},
			{path: "/public/../secret", want: 401},
			{path: "/public/%2e%2e/secret", want: 401},
			{path: "/public/x", login: "alice:wrong", want: 200},
			{path: "/public", want: 401, theirs: 301},
			{path: "/PUBLIC/x", want: 200, theirs: 401},
		},
		"Variables": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: "bob:secret", want: 401},
			{path: "/", host: "example.org", want: 401},
			{path: "/", host: "example.org", login: asAlice, want: 401},
			{path: "/", host: "example.org", login: "bob:secret", want: 200},
		},
		"satisfy any": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: "alice:wrong", want: 401},
			{path: "/", from: "127.0.0.2", want: 200},
			{path: "/", from: "127.0.0.2", login: "alice:wrong", want: 200},
			{path: "/", header: "X-Forwarded-For: 127.0.0.2", want: 401},
		},
		"satisfy all": {
			{path: "/", want: 403},
			{path: "/", login: asAlice, want: 403},
			{path: "/", from: "127.0.0.2", want: 401},
			{path: "/", from: "127.0.0.2", login: "alice:wrong", want: 401},
			{path: "/", from: "127.0.0.2", login: asAlice, want: 200},
		},
		"limit_except": {
			{path: "/", want: 200},
			{path: "/", method: "HEAD", want: 200},
			{path: "/", method: "POST", want: 401},
			{path: "/", method: "POST", login: asAlice, want: 200},
			{path: "/", method: "OPTIONS", want: 401},
			{path: "/", method: "DELETE", want: 401},
			{path: "/", method: "DELETE", login: "alice:wrong", want: 401},
		},
		"auth_request": {
			{path: "/", header: "X-Token: good", want: 200},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: asAlice, header: "X-Token: good", want: 200},
			{path: "/", login: asAlice, header: "X-Token: expired", want: 200},
			{path: "/", login: "alice:wrong", want: 401},
			{path: "/", want: 401}, // with the challenge of the password
			{path: "/x?y", method: "POST", body: "some text", login: asAlice, want: 200},
			{path: "/x?y", method: "POST", body: "some text", header: "X-Token: good", want: 200},
			{path: "/", login: "alice:wrong", header: "X-Token: good", want: 200},
			{path: "/", header: "X-Token: elsewhere", want: 302, theirs: 500},
			{path: "/", header: "X-Token: broken", want: 500},
		},
		"proxy_pass with a path": {
			{path: "/api/x", want: 401},
			{path: "/api/x", login: asAlice, want: 200},
			{path: "/api/x?a=b&c", login: asAlice, want: 200},
			{path: "/api/a%20b", login: asAlice, want: 200},
			{path: "/api//x", login: asAlice, want: 200},
			{path: "/api/y/../x", login: asAlice, want: 200},
			{path: "/api/", login: asAlice, want: 200},
			{path: "/api", want: 301},
			{path: "/api/moved", login: asAlice, want: 302},
			{path: "/api/moved", want: 401},
		},
		"Upstream servers with HTTPS": nil, // TestDocsNginxOthers
		"$remote_user": {
			{path: "/", want: 401},
			{path: "/", header: "X-Remote-User: root", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: asAlice, header: "X-Remote-User: root", want: 200},
			{path: "/", login: "bob:builder", want: 200},
		},
		"Client certificates": nil, // TestDocsClientCertificates
		"listen 80": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
		},
		"Behind another proxy": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", header: "X-Forwarded-For: 127.0.0.2", want: 200},
			{path: "/", header: "X-Forwarded-For: 198.51.100.7", want: 401},
			{path: "/", header: "X-Forwarded-For: 127.0.0.2, 198.51.100.7", want: 401},
			{path: "/", from: "127.0.0.2", header: "X-Forwarded-For: 198.51.100.7", want: 200},
		},
	}
	checkSections(t, page, "nginx", func(heading string) bool { _, ok := tests[heading]; return ok })
	for heading, requests := range tests {
		if requests == nil {
			continue
		}
		t.Run(strings.TrimPrefix(heading, "$"), func(t *testing.T) { // the name is part of paths, where nginx expands variables
			_, ours, theirs := docsTwins(t, sectionBlocks(t, page, heading, "caddyfile")[0], nginxWith(sectionBlocks(t, page, heading, "nginx")[0]))
			compare(t, ours, theirs, requests)
		})
	}
}

// TestDocsNginxOthers checks what docs/from-nginx.md says besides the pairs.
func TestDocsNginxOthers(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	const page = "../docs/from-nginx.md"

	t.Run("one PHP file", func(t *testing.T) {
		caddyfile, conf := sectionBlocks(t, page, "A single PHP file", "caddyfile")[0], sectionBlocks(t, page, "A single PHP file", "nginx")[0]
		exact := strings.Replace(caddyfile, ".php*", ".php", 1)
		for name, address := range map[string]func(*testing.T) string{"a FastCGI server": docsFastCGI, "PHP-FPM": phpFPM} {
			t.Run(name, func(t *testing.T) {
				_, ours, theirs := docsTwins(t, exact, nginxWith(conf), "127.0.0.1:9000", address(t))
				compare(t, ours, theirs, []asked{
					{path: "/wp-login.php", want: 401},
					{path: "/wp-login.php", login: asAlice, want: 200},
					{path: "/blog/wp-login.php", want: 200},
					{path: "/page/x", want: 200},
				})
				open := asked{path: "/wp-login.php/x"}
				if a := ours.must(open); a.Body != "wp-login.php" {
					t.Errorf("an exact path: got %d %q, want wp-login.php: the docs need not warn of it", a.Status, a.Body)
				} else if info := a.Header.Get("X-Path-Info"); name == "PHP-FPM" && info != "/x" {
					t.Errorf("an exact path: got PATH_INFO %q, want /x", info)
				}
				if a := theirs.must(open); a.Body != "index.php" {
					t.Errorf("nginx: got %d %q, want index.php", a.Status, a.Body)
				}
			})
		}
		t.Run("nginx with PATH_INFO", func(t *testing.T) {
			conf := strings.Replace(conf, `~ \.php$ {`, `~ \.php(/|$) { fastcgi_split_path_info ^(.+?\.php)(/.*)$;`, 1)
			_, ours, theirs := docsTwins(t, caddyfile, nginxWith(conf))
			compare(t, ours, theirs, []asked{{path: "/wp-login.php", want: 401}, {path: "/wp-login.php/x", want: 401, theirs: 200}})
			if a := theirs.must(asked{path: "/wp-login.php/x"}); a.Body != "wp-login.php" {
				t.Errorf("got %q, want that nginx runs wp-login.php", a.Body)
			}
		})
		t.Run("transport fastcgi", func(t *testing.T) {
			_, ours := docsSite(t, strings.Replace(exact, "php_fastcgi 127.0.0.1:9000", "reverse_proxy 127.0.0.1:9000 {\ntransport fastcgi {\nsplit .php\n}\n}", 1))
			if a := ours.must(asked{path: "/wp-login.phpx"}); a.Body != "wp-login.php" {
				t.Errorf("got %d %q, want that wp-login.php runs: the docs need not warn of it", a.Status, a.Body)
			}
		})
		t.Run("a directory of PHP files", func(t *testing.T) {
			conf := strings.Replace(conf, "location = /wp-login.php {", "location /wp-admin/ {", 1)
			_, ours, theirs := docsTwins(t, strings.Replace(caddyfile, "/wp-login.php*", "/wp-admin/*", 1), nginxWith(conf))
			compare(t, ours, theirs, []asked{{path: "/wp-admin/", want: 401}, {path: "/wp-admin/users.php", want: 401, theirs: 200}})
		})
		t.Run("all PHP files", func(t *testing.T) {
			conf := strings.Replace(conf, `~ \.php$ {`, "~ \\.php$ {\nauth_basic Staff;\nauth_basic_user_file /etc/nginx/.htpasswd;", 1)
			for matcher, open := range map[string]int{"@php path *.php\nhtpasswd @php": 200, "htpasswd": 401} {
				_, ours, theirs := docsTwins(t, strings.Replace(caddyfile, "htpasswd /wp-login.php*", matcher, 1), nginxWith(conf))
				compare(t, ours, theirs, []asked{
					{path: "/wp-login.php", want: 401},
					{path: "/blog/wp-login.php", want: 401},
					{path: "/", want: open, theirs: 401},
					{path: "/page/x", want: open, theirs: 401},
					{path: "/wp-login.php/x", want: open, theirs: 401},
				})
			}
		})
		t.Run("the index file of a directory", func(t *testing.T) {
			conf := "root /srv/site;\nlocation = /private/index.html {\nauth_basic Staff;\nauth_basic_user_file /etc/nginx/.htpasswd;\n}\n"
			exact := strings.NewReplacer("/wp-login.php*", "/private/index.html", "php_fastcgi 127.0.0.1:9000", "").Replace(caddyfile)
			_, ours, theirs := docsTwins(t, exact, nginxWith(conf))
			compare(t, ours, theirs, []asked{{path: "/private/index.html", want: 401}, {path: "/private/", want: 200, theirs: 401}})
			both := strings.Replace(exact, "htpasswd /private/index.html", "@private path /private/ /private/index.html\nhtpasswd @private", 1)
			_, ours, theirs = docsTwins(t, both, nginxWith(conf))
			compare(t, ours, theirs, []asked{{path: "/private/index.html", want: 401}, {path: "/private/", want: 401}})
		})
	})
	t.Run("auth_request", func(t *testing.T) {
		caddyfiles, conf := sectionBlocks(t, page, "auth_request", "caddyfile"), sectionBlocks(t, page, "auth_request", "nginx")[0]
		_, ours, theirs := docsTwins(t, caddyfiles[0], nginxWith(conf))
		expired := asked{path: "/", header: "X-Token: expired"}
		for name, got := range map[string]answer{"here": ours.must(expired), "nginx": theirs.must(expired)} {
			want := []string{`Basic realm="Staff", charset="UTF-8"`}
			if name == "nginx" {
				want = []string{`Basic realm="Staff"`, `Bearer realm="Tokens"`}
			}
			challenges := slices.Sorted(slices.Values(got.Header.Values("WWW-Authenticate")))
			if got.Status != http.StatusUnauthorized || !slices.Equal(challenges, want) {
				t.Errorf("%s: got %d with %q, want 401 with %q", name, got.Status, challenges, want)
			}
		}
		good := asked{path: "/", login: "alice:wrong", header: "X-Token: good"}
		for name, got := range map[string]answer{"here": ours.must(good), "nginx": theirs.must(good)} {
			if got.Header.Get("X-Saw-Password") != "true" {
				t.Errorf("%s: got %d without Authorization at the application, want it there", name, got.Status)
			}
		}
		upload := asked{path: "/", method: "POST", body: "a text", login: asAlice}
		for name, got := range map[string]answer{"here": ours.must(upload), "nginx": theirs.must(upload)} {
			if got.Header.Get("X-Saw-Body") != "a text" {
				t.Errorf("%s: got %d and the body %q at the application, want 'a text'", name, got.Status, got.Header.Get("X-Saw-Body"))
			}
		}
		withUser := strings.Replace(caddyfiles[0], "realm Staff", "realm Staff\nuser_header X-Remote-User", 1)
		for caddyfile, want := range map[string]string{
			withUser: `GET / user="root"`,
			strings.Replace(withUser, "forward_auth", "request_header -X-Remote-User\nforward_auth", 1): `GET / user=""`,
		} {
			_, ours := docsSite(t, caddyfile)
			if a := ours.must(asked{path: "/", header: "X-Token: good\nX-Remote-User: root"}); a.Body != want {
				t.Errorf("a forged header: got %d %s, want %s", a.Status, a.Body, want)
			}
			if a := ours.must(asked{path: "/", login: asAlice, header: "X-Remote-User: root"}); a.Body != `GET / user="alice"` {
				t.Errorf("a forged header of alice: got %d %s, want alice", a.Status, a.Body)
			}
		}
		_, ours, theirs = docsTwins(t, caddyfiles[1], nginxWith(strings.Replace(conf, "satisfy any;", "", 1)))
		compare(t, ours, theirs, []asked{
			{path: "/", want: 401},
			{path: "/", header: "X-Token: good", want: 401},
			{path: "/", login: "alice:wrong", header: "X-Token: good", want: 401},
			{path: "/", login: asAlice, want: 403},
			{path: "/", login: asAlice, header: "X-Token: good", want: 200},
		})
	})
	t.Run("the certificate of an upstream server", func(t *testing.T) {
		app := httptest.NewTLSServer(http.HandlerFunc(docsApplication))
		defer app.Close()
		app.Config.ErrorLog = log.New(io.Discard, "", 0)
		address := strings.TrimPrefix(app.URL, "https://")
		ca := filepath.Join(t.TempDir(), "ca.pem")
		must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw}), 0o600))
		const trust, insecure = "tls_trust_pool file ", "tls_insecure_skip_verify"
		const heading = "Upstream servers with HTTPS"
		_, ours, theirs := docsTwins(t, sectionBlocks(t, page, heading, "caddyfile")[0], nginxWith(sectionBlocks(t, page, heading, "nginx")[0]),
			"127.0.0.1:9443", address, "/etc/ssl/ca.pem", ca, "app.internal", "example.com")
		compare(t, ours, theirs, []asked{{path: "/", want: 200}})
		for _, test := range []struct {
			transport, nginx string
			want, theirs     int
		}{
			{"", "", 502, 200},
			{trust + ca, "proxy_ssl_verify on;\nproxy_ssl_trusted_certificate " + ca + ";\nproxy_ssl_name example.com;", 200, 0},
			{insecure, "", 200, 0},
		} {
			name, _, _ := strings.Cut(test.transport, " ")
			if text := section(t, page, heading); !strings.Contains(text, name) {
				t.Errorf("got %s, want %s in it", text, name)
			}
			_, ours, theirs := docsTwins(t, "example.com {\nreverse_proxy https://"+address+" {\ntransport http {\n"+test.transport+"\n}\n}\n}\n",
				nginxWith("location / {\nproxy_pass https://"+address+";\n"+test.nginx+"\n}\n"))
			compare(t, ours, theirs, []asked{{path: "/", want: test.want, theirs: test.theirs}})
		}
	})
	t.Run("a status that is tried again", func(t *testing.T) {
		var servers []string
		for range 2 {
			app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprint(w, "closed until noon")
			}))
			defer app.Close()
			servers = append(servers, strings.TrimPrefix(app.URL, "http://"))
		}
		_, ours, theirs := docsTwins(t, "{\nupstream web {\nserver "+servers[0]+"\nserver "+servers[1]+"\n}\n}\nexample.com {\nproxy_pass web {\nlb_retry_match {\nexpression `{rp.status_code} == 503`\n}\n}\n}\n",
			otherServer{"upstream web { server " + servers[0] + "; server " + servers[1] + "; }\n" + nginxWith("location / { proxy_pass http://web; proxy_next_upstream http_503; }").conf, testkit.NginxCommand})
		for name, got := range map[string]answer{"": ours.must(asked{path: "/"}), "closed until noon": theirs.must(asked{path: "/"})} {
			if got.Status != http.StatusServiceUnavailable || got.Body != name {
				t.Errorf("got %d %q, want 503 %q", got.Status, got.Body, name)
			}
		}
	})
	t.Run("regular expressions without route", func(t *testing.T) {
		conf := strings.Replace(sectionBlocks(t, page, "Locations", "nginx")[0], "location /admin {", "location /files/ { proxy_pass http://127.0.0.1:9001; }\nlocation /admin {", 1)
		_, ours, theirs := docsTwins(t, block(t, page, "caddyfile", "WRONG"), nginxWith(conf))
		compare(t, ours, theirs, []asked{{path: "/files/x.pdf", want: 200, theirs: 401}, {path: "/x.pdf", want: 401, theirs: 401}})
	})
	t.Run("a named matcher between paths", func(t *testing.T) {
		s := startServer(t, "https://localhost:{https} {\n\t@papers path_regexp \\.pdf$\n\thandle /files/* {\n\t\trespond files\n\t}\n"+
			"\thandle @papers {\n\t\trespond papers\n\t}\n\thandle /files/secret/* {\n\t\trespond secret\n\t}\n}\n")
		if got := s.get("/files/secret/x", "", "").Body; got != "files" {
			t.Errorf("/files/secret/x: got %q, want files: the docs can be friendlier", got)
		}
	})
	t.Run("an order of deny and allow", func(t *testing.T) {
		conf := strings.Replace(sectionBlocks(t, page, "satisfy any", "nginx")[0], "allow ", "deny 127.0.0.3; allow ", 1)
		_, ours, theirs := docsTwins(t, sectionBlocks(t, page, "satisfy any", "caddyfile")[1], nginxWith(strings.Replace(conf, "Staff", "Restricted", 1)))
		compare(t, ours, theirs, []asked{{path: "/", want: 401}, {path: "/", from: "127.0.0.2", want: 200}, {path: "/", from: "127.0.0.3", want: 401}})
	})
	t.Run("error beside htpasswd", func(t *testing.T) {
		s := startServer(t, "")
		users := s.Write("users", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
		if err := s.Reload("https://localhost:{https} {\n\thtpasswd {\n\t\tfile " + users + "\n\t}\n\t@outside not remote_ip 192.0.2.0/24\n\terror @outside 403\n}\n"); err != nil {
			t.Fatal(err)
		}
		if got := s.get("/", "", "").Status; got != http.StatusUnauthorized {
			t.Errorf("got status %d, want 401", got)
		}
	})
	t.Run("no file, and a realm that is off", func(t *testing.T) {
		// What the table says of nginx.
		_, ours, theirs := docsTwins(t, block(t, page, "caddyfile", "exempt /public/*"), nginxWith(`
			location / { auth_basic "Staff"; proxy_pass http://127.0.0.1:9001; }
			location /off { set $realm off; auth_basic $realm; auth_basic_user_file /etc/nginx/.htpasswd; proxy_pass http://127.0.0.1:9001; }
			location /missing { auth_basic "Staff"; auth_basic_user_file /etc/nginx/missing; proxy_pass http://127.0.0.1:9001; }`))
		compare(t, ours, theirs, []asked{
			{path: "/", want: 401, theirs: 200},
			{path: "/off", want: 401, theirs: 200},
			{path: "/missing", login: asAlice, want: 200, theirs: 403},
		})
	})
	t.Run("return, redir and headers", func(t *testing.T) {
		_, ours, theirs := docsTwins(t, "example.com {\nhtpasswd {\nfile /etc/nginx/.htpasswd\n}\nheader X-Added yes\nredir /moved https://example.org/ 301\nrespond 200\n}\n",
			nginxWith(`auth_basic "Restricted"; auth_basic_user_file /etc/nginx/.htpasswd; add_header X-Added yes;
				location /file { root /srv/site; } location /always { add_header X-Added yes always; root /srv/site; }
				location /moved { return 301 https://example.org/; } location /text { return 200; }`))
		compare(t, ours, theirs, []asked{{path: "/file", want: 401}, {path: "/moved", want: 301}, {path: "/text", want: 401, theirs: 200}})
		for path, want := range map[string]string{"/file": "", "/always": "yes"} {
			if a := theirs.must(asked{path: path}); a.Header.Get("X-Added") != want {
				t.Errorf("nginx, %s: got the header %q in the answer %d, want %q", path, a.Header.Get("X-Added"), a.Status, want)
			}
		}
		if a := ours.must(asked{path: "/file"}); a.Header.Get("X-Added") != "yes" {
			t.Errorf("got no header in the answer %d, want it", a.Status)
		}
	})
	t.Run("remote_user without auth_basic", func(t *testing.T) {
		open := strings.Replace(sectionBlocks(t, page, "$remote_user", "caddyfile")[0], "realm ", "exempt /*x\nrealm ", 1)
		_, ours, theirs := docsTwins(t, open, nginxWith(
			"location / { proxy_set_header X-Remote-User $remote_user; proxy_pass http://127.0.0.1:9001; }"))
		compare(t, ours, theirs, []asked{{path: "/x", login: "root:guessed", want: 200, sees: `GET /x user=""`}})
		s := startServer(t, "")
		if err := s.Reload(testkit.Substitute("https://localhost:{https} {\n\treverse_proxy 127.0.0.1:9001 {\n\t\theader_up X-Remote-User {http.auth.user.id}\n\t}\n}\n", docsNames(t, s))); err != nil {
			t.Fatal(err)
		}
		if got := s.get("/", "", "").Body; !strings.Contains(got, "{http.auth.user.id}") {
			t.Errorf("got %q, want the placeholder: the docs need not warn of that", got)
		}
	})
	t.Run("Host and the password", func(t *testing.T) {
		_, ours, theirs := docsTwins(t, block(t, page, "caddyfile", "exempt /public/*"), nginxWith(sectionBlocks(t, page, "auth_basic off", "nginx")[0]))
		for name, want := range map[*docsClient][]string{
			&ours:   {fmt.Sprintf("example.com:%d", ours.port), "false"},
			&theirs: {"127.0.0.1", "true"},
		} {
			a, err := name.do(asked{path: "/", login: asAlice})
			if err != nil {
				t.Fatal(err)
			}
			if host := a.Header.Get("X-Saw-Host"); !strings.HasPrefix(host, want[0]) || a.Header.Get("X-Saw-Password") != want[1] {
				t.Errorf("got host %q and password %s, want %q", host, a.Header.Get("X-Saw-Password"), want)
			}
		}
	})
	t.Run("plain HTTP is redirected", func(t *testing.T) {
		tw, _, _ := docsTwins(t, sectionBlocks(t, page, "listen 80", "caddyfile")[0], nginxWith(sectionBlocks(t, page, "listen 80", "nginx")[0]))
		plainPorts := map[string]int{"nginx": tw.Theirs.PlainPort, "here": tw.Ours.HTTP}
		for name, want := range map[string]int{"here": 308, "nginx": 301} {
			r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/x?y=z", plainPorts[name]), nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "example.com"
			got := tw.Ours.Do(r)
			to := regexp.MustCompile(`:\d+`).ReplaceAllString(got.Header.Get("Location"), "")
			if got.Status != want || to != "https://example.com/x?y=z" || got.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s: got %d to %s, want %d to https://example.com/x?y=z without a challenge", name, got.Status, to, want)
			}
		}
	})
	t.Run("the log has the user and no password", func(t *testing.T) {
		s, ours := docsSite(t, block(t, page, "caddyfile", "log_append"))
		for _, login := range []string{"alice:wrong", asAlice} {
			if _, err := ours.do(asked{path: "/", login: login}); err != nil {
				t.Fatal(err)
			}
		}
		for status, want := range map[string]string{
			`"status":200`: `"Authorization":\["REDACTED"\].*"user_id":"alice".*"groups":"admins,staff"`,
			`"status":401`: `"Authorization":\["REDACTED"\].*"user_id":""`,
		} {
			eventually(t, status+" is in the log", func() bool {
				for line := range strings.Lines(s.Log()) {
					if strings.Contains(line, `"http.log.access`) && strings.Contains(line, status) && regexp.MustCompile(want).MatchString(line) {
						return true
					}
				}
				return false
			})
		}
	})
}

// TestDocsClientCertificates runs the pair in docs/from-nginx.md with a client
// certificate, and the change that accepts either that or a password.
func TestDocsClientCertificates(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	const page, heading = "../docs/from-nginx.md", "Client certificates"
	caddyfile, conf := sectionBlocks(t, page, heading, "caddyfile")[0], sectionBlocks(t, page, heading, "nginx")[0]
	exemption := regexp.MustCompile("exempt expression [^`]+").FindStringSubmatch(section(t, page, heading))
	if exemption == nil {
		t.Fatal("no exemption")
	}
	tw, ours, theirs := docsTwins(t, caddyfile, nginxWith(conf))
	if a, err := theirs.do(asked{path: "/", login: asAlice}); err != nil || a.Status != http.StatusBadRequest {
		t.Errorf("nginx without a certificate: got %d %v, want 400", a.Status, err)
	}
	if a, err := ours.do(asked{path: "/", login: asAlice}); err == nil {
		t.Errorf("without a certificate: got %d, want no connection", a.Status)
	} else if alert := (*net.OpError)(nil); !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("without a certificate: got %v, want an alert of TLS", err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(tw.Ours.Dir, "cert"), filepath.Join(tw.Ours.Dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	ours.cert, theirs.cert = []tls.Certificate{pair}, []tls.Certificate{pair}
	compare(t, ours, theirs, []asked{{path: "/", want: 401}, {path: "/", login: asAlice, want: 200}})

	either := strings.NewReplacer("require_and_verify", "verify_if_given", "realm Staff", "realm Staff\n"+exemption[0]).Replace(caddyfile)
	t.Run("either of the two, without TLS", func(t *testing.T) {
		s := startServer(t, "")
		s.Write("users", "bob:"+sha1Hash("secret1")+"\n")
		must(t, s.Reload("http://localhost:{http} {\nhtpasswd {\nfile {dir}/users\n"+exemption[0]+"\n}\nrespond inside\n}"))
		if a := s.Plain("/", nil); a.Status != http.StatusForbidden {
			t.Errorf("got %d %s, want 403", a.Status, a.Body)
		}
	})
	t.Run("either of the two", func(t *testing.T) {
		s, ours := docsSite(t, either)
		pair, err := tls.LoadX509KeyPair(filepath.Join(s.Dir, "cert"), filepath.Join(s.Dir, "key"))
		if err != nil {
			t.Fatal(err)
		}
		for _, certs := range [][]tls.Certificate{nil, {pair}} {
			ours.cert = certs
			for login, status := range map[string]int{"": 401, asAlice: 200} {
				if certs != nil {
					status = 200
				}
				if a, err := ours.do(asked{path: "/", login: login}); err != nil || a.Status != status {
					t.Errorf("%d certificates, login %q: got %d %v, want %d", len(certs), login, a.Status, err, status)
				}
			}
		}
	})
}

// apacheWith returns an Apache with a configuration of the docs.
func apacheWith(conf string) otherServer {
	return otherServer{
		"ServerName example.com\nListen 127.0.0.1:{port}\nSSLEngine on\nSSLCertificateFile /etc/ssl/example.com.crt\nSSLCertificateKeyFile /etc/ssl/example.com.key\n" + conf,
		testkit.ApacheCommand("ssl", "dir", "headers", "authz_groupfile", "authz_host", "slotmem_shm", "proxy", "proxy_http", "proxy_fcgi", "proxy_balancer", "lbmethod_byrequests"),
	}
}

// TestDocsApache runs each pair of configurations in docs/from-apache.md, Apache's in
// a real Apache, and sends both servers the same requests.
func TestDocsApache(t *testing.T) {
	parallel(t)
	program(t, "apache2")
	const page = "../docs/from-apache.md"
	tests := map[string][]asked{
		"Sections": {
			{path: "/", want: 200},
			{path: "/apix", want: 200},
			{path: "/api", want: 401},
			{path: "/api", login: asAlice, want: 200},
			{path: "/api/x", want: 401},
			{path: "/api/x", login: "alice:wrong", want: 401},
			{path: "//api/x", want: 401},
			{path: "/%61pi/x", want: 401},
			{path: "/y/../api/x", want: 401},
			{path: "/api/public", want: 200},
			{path: "/api/public/x", want: 200},
			{path: "/api/publicity", want: 401},
			{path: "/api/public/../x", want: 401},
			{path: "/api/public/%2e%2e/x", want: 401},
			{path: "/api/admin/x", want: 401},
			{path: "/api/admin/x", login: "bob:builder", want: 200},
			{path: "/api/admin/x", login: "bob:wrong", want: 401},
			{path: "/api/admin/x", login: asAlice, want: 403, theirs: 401},
			{path: "/API/x", want: 401, theirs: 200},
			{path: "/api/PUBLIC/x", want: 200, theirs: 401},
			{path: "/api%2fx", want: 401, theirs: 404},
		},
		"Require": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: "bob:builder", want: 200},
			{path: "/", login: "carol:wrong", want: 401},
			{path: "/", login: "carol:music", want: 403, theirs: 401},
		},
		"RequireAny, RequireAll, Satisfy": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: "alice:wrong", want: 401},
			{path: "/", from: "127.0.0.2", want: 200},
			{path: "/", header: "X-Forwarded-For: 127.0.0.2", want: 401},
			{path: "/", from: "127.0.0.2", login: "alice:wrong", want: 200},
		},
		"A single PHP file": {
			{path: "/", want: 200},
			{path: "/wp-login.php", want: 401},
			{path: "/wp-login.php", login: asAlice, want: 200},
			{path: "/wp-login.php", login: "alice:wrong", want: 401},
			{path: "/wp-login.php/x", want: 401},
			{path: "/wp-login.php/x", login: asAlice, want: 200},
			{path: "/blog/wp-login.php", want: 401},
			{path: "/blog/wp-login.php/x", want: 401},
			{path: "//wp-login.php", want: 401},
			{path: "/wp-login%2ephp", want: 401},
			{path: "/y/../wp-login.php", want: 401},
			{path: "/wp-login.phpx", want: 401, theirs: 404},
			{path: "/WP-LOGIN.PHP", want: 401, theirs: 404},
		},
		"Limit, LimitExcept": {
			{path: "/", want: 200},
			{path: "/", method: "HEAD", want: 200},
			{path: "/", method: "POST", want: 401},
			{path: "/", method: "POST", login: asAlice, want: 200},
			{path: "/", method: "OPTIONS", want: 401},
			{path: "/", method: "BREW", want: 401},
		},
		".htaccess": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/.htpasswd", want: 401, theirs: 403},
			{path: "/.htpasswd", login: asAlice, want: 404, theirs: 403},
		},
		"ProxyPass": {
			{path: "/api/x", want: 401},
			{path: "/api/x", login: asAlice, want: 200},
			{path: "/api/x?a=b&c", login: asAlice, want: 200},
			{path: "/api/a%20b", login: asAlice, want: 200},
			{path: "/api/", login: asAlice, want: 200},
			{path: "/api/y/../x", login: asAlice, want: 200},
			{path: "/api/moved", login: asAlice, want: 302},
			{path: "/api/moved", want: 401},
			{path: "/api/a%2Fb", login: asAlice, want: 200, theirs: 404},
		},
		"Balancers": {
			{path: "/", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/x?y", login: asAlice, want: 200},
		},
		"REMOTE_USER": {
			{path: "/", want: 401},
			{path: "/", header: "X-Remote-User: root", want: 401},
			{path: "/", login: asAlice, want: 200},
			{path: "/", login: asAlice, header: "X-Remote-User: root", want: 200},
		},
	}
	checkSections(t, page, "apache", func(heading string) bool { _, ok := tests[heading]; return ok })
	for heading, requests := range tests {
		t.Run(heading, func(t *testing.T) {
			_, ours, theirs := docsTwins(t, sectionBlocks(t, page, heading, "caddyfile")[0], apacheWith(sectionBlocks(t, page, heading, "apache")[0]))
			compare(t, ours, theirs, requests)
			if heading != "Balancers" {
				return
			}
			for name, client := range map[string]docsClient{"here": ours, "Apache": theirs} {
				seen := make(map[string]int)
				for range 40 {
					a, err := client.do(asked{path: "/", login: asAlice})
					if err != nil {
						t.Fatal(err)
					}
					seen[a.Header.Get("X-Server")]++
				}
				if seen["9001"] != 30 || seen["9003"] != 10 {
					t.Errorf("%s: got %v, want 3 to 1", name, seen)
				}
			}
		})
	}
}

// TestDocsApacheOthers checks what docs/from-apache.md says besides the pairs.
func TestDocsApacheOthers(t *testing.T) {
	parallel(t)
	program(t, "apache2")
	const page = "../docs/from-apache.md"
	t.Run("the password file is missing", func(t *testing.T) {
		caddyfile := sectionBlocks(t, page, "Require", "caddyfile")[0]
		_, ours, theirs := docsTwins(t, caddyfile, apacheWith(strings.Replace(sectionBlocks(t, page, "Require", "apache")[0], ".htpasswd", "missing", 1)))
		compare(t, ours, theirs, []asked{{path: "/", login: asAlice, want: 200, theirs: 500}})
	})
	t.Run("everybody but some users", func(t *testing.T) {
		_, ours := docsSite(t, block(t, page, "caddyfile", "@banned"))
		for login, want := range map[string]int{"": 401, asAlice: 200, "bob:builder": 403, "bob:wrong": 401} {
			if a, err := ours.do(asked{path: "/", login: login}); err != nil || a.Status != want {
				t.Errorf("login %q: got %d %v, want %d", login, a.Status, err, want)
			}
		}
	})
	t.Run("RequireAll asks for the address and the user", func(t *testing.T) {
		conf := strings.NewReplacer("RequireAny", "RequireAll", "Staff", "Restricted").Replace(sectionBlocks(t, page, "RequireAny, RequireAll, Satisfy", "apache")[0])
		_, ours, theirs := docsTwins(t, sectionBlocks(t, page, "RequireAny, RequireAll, Satisfy", "caddyfile")[1], apacheWith(conf))
		compare(t, ours, theirs, []asked{
			{path: "/", want: 403},
			{path: "/", login: asAlice, want: 403},
			{path: "/", from: "127.0.0.2", want: 401},
			{path: "/", from: "127.0.0.2", login: asAlice, want: 200},
		})
	})
	t.Run("Limit leaves other methods open", func(t *testing.T) {
		conf := strings.NewReplacer("LimitExcept GET", "Limit GET POST", "/LimitExcept", "/Limit").Replace(sectionBlocks(t, page, "Limit, LimitExcept", "apache")[0])
		_, ours, theirs := docsTwins(t, strings.Replace(sectionBlocks(t, page, "Limit, LimitExcept", "caddyfile")[0], "exempt method GET HEAD", "", 1), apacheWith(conf))
		compare(t, ours, theirs, []asked{{path: "/", want: 401}, {path: "/", method: "POST", want: 401}, {path: "/", method: "BREW", want: 401, theirs: 200}})
	})
	t.Run("one PHP file", func(t *testing.T) {
		caddyfile, conf := sectionBlocks(t, page, "A single PHP file", "caddyfile")[0], sectionBlocks(t, page, "A single PHP file", "apache")[0]
		exact := strings.Replace(caddyfile, "*/wp-login.php*", "/wp-login.php", 1)
		for name, address := range map[string]func(*testing.T) string{"a FastCGI server": docsFastCGI, "PHP-FPM": phpFPM} {
			t.Run(name, func(t *testing.T) {
				_, ours, theirs := docsTwins(t, exact, apacheWith(conf), "127.0.0.1:9000", address(t))
				compare(t, ours, theirs, []asked{
					{path: "/wp-login.php", want: 401},
					{path: "/wp-login.php/x", login: asAlice, want: 200},
					{path: "/wp-login.php/x", want: 200, theirs: 401},
					{path: "/blog/wp-login.php", want: 200, theirs: 401},
				})
				if a := ours.must(asked{path: "/wp-login.php/x"}); a.Body != "wp-login.php" {
					t.Errorf("an exact path: got %q, want wp-login.php: the docs need not warn of it", a.Body)
				}
			})
		}
		t.Run("Location", func(t *testing.T) {
			conf := strings.NewReplacer(`<Files "wp-login.php">`, `<Location "/wp-login.php">`, "</Files>", "</Location>").Replace(conf)
			_, ours, theirs := docsTwins(t, strings.Replace(caddyfile, "*/wp-login.php*", "/wp-login.php*", 1), apacheWith(conf))
			compare(t, ours, theirs, []asked{
				{path: "/wp-login.php", want: 401},
				{path: "/wp-login.php/x", want: 401},
				{path: "/wp-login.php/x", login: asAlice, want: 200},
				{path: "/blog/wp-login.php", want: 200},
			})
		})
		t.Run("the index file of a directory", func(t *testing.T) {
			conf := strings.NewReplacer("wp-login.php", "index.html", "index.php", "index.html").Replace(conf)
			exact := strings.NewReplacer("*/wp-login.php*", "/private/index.html", "php_fastcgi 127.0.0.1:9000", "").Replace(caddyfile)
			_, ours, theirs := docsTwins(t, exact, apacheWith(conf))
			compare(t, ours, theirs, []asked{{path: "/private/index.html", want: 401}, {path: "/private/", want: 200, theirs: 401}})
			_, ours, theirs = docsTwins(t, strings.Replace(exact, "/private/index.html", "/private/ /private/index.html", 1), apacheWith(conf))
			compare(t, ours, theirs, []asked{{path: "/private/index.html", want: 401}, {path: "/private/", want: 401}})
		})
	})
	t.Run("the certificate of an upstream server", func(t *testing.T) {
		app := httptest.NewTLSServer(http.HandlerFunc(docsApplication))
		defer app.Close()
		app.Config.ErrorLog = log.New(io.Discard, "", 0)
		for option, want := range map[string]int{"SSLProxyCheckPeerName off\n": 200, "": 500} { // Apache compares names, not addresses
			_, ours, theirs := docsTwins(t, "example.com {\nreverse_proxy "+app.URL+"\n}\n", apacheWith("SSLProxyEngine on\n"+option+"ProxyPass \"/\" \""+app.URL+"/\"\n"))
			compare(t, ours, theirs, []asked{{path: "/", want: 502, theirs: want}})
		}
	})
	t.Run("a file is left in the directory", func(t *testing.T) {
		caddyfile := strings.Replace(sectionBlocks(t, page, ".htaccess", "caddyfile")[0], "hide .ht*", "", 1)
		_, ours := docsSite(t, caddyfile)
		if a, err := ours.do(asked{path: "/.htpasswd", login: asAlice}); err != nil || a.Status != http.StatusOK {
			t.Errorf("got %d %v, want 200: the docs need not warn of that", a.Status, err)
		}
	})
}

// TestDocsConsole runs the commands in the docs that no other test runs.
func TestDocsConsole(t *testing.T) {
	parallel(t)
	shell := func(dir, line string) string {
		t.Helper()
		out, err := exec.Command("sh", "-c", "cd "+dir+" && "+line).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
	run := map[string]func(line string){
		"caddy htpasswd /etc/caddy/.htpasswd alice": func(string) {}, // TestPrompts
		"find /srv/site ": func(line string) {
			dir := t.TempDir()
			for _, name := range []string{".htaccess", "x.html", "sub/.htpasswd.old"} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found := strings.Fields(shell(dir, strings.ReplaceAll(line, "/srv/site", dir)))
			slices.Sort(found)
			if want := []string{filepath.Join(dir, ".htaccess"), filepath.Join(dir, "sub/.htpasswd.old")}; !slices.Equal(found, want) {
				t.Errorf("%s: got %q, want %q", line, found, want)
			}
		},
		"perl -MDB_File ": func(line string) {
			for _, program := range []string{"perl -MDB_File -e 1", "perl -MSDBM_File -e 1", "htdbm -n -b alice secret"} {
				if err := exec.Command("sh", "-c", program).Run(); err != nil {
					t.Logf("skipped, because this program is missing: %s", program)
					return
				}
			}
			other := strings.NewReplacer("-MDB_File", "-MSDBM_File -MFcntl", `"DB_File", "users", O_RDONLY`, `"SDBM_File", "users", O_RDONLY, 0`).Replace(line)
			for flag, line := range map[string]string{"-TDB": line, "-TSDBM": other} {
				dir := t.TempDir()
				shell(dir, "htdbm "+flag+" -cbB users alice secret && htdbm "+flag+" -bB users bob builder")
				shell(dir, line)
				s := startServer(t, "https://localhost:{https} {\n\thtpasswd {\n\t\tfile "+filepath.Join(dir, ".htpasswd")+"\n\t}\n\trespond hello\n}\n")
				for login, want := range map[string]int{asAlice: 200, "bob:builder": 200, "bob:secret": 401} {
					user, password, _ := strings.Cut(login, ":")
					if got := s.get("/", user, password).Status; got != want {
						t.Errorf("%s: login %s: got %d, want %d", line, login, got, want)
					}
				}
			}
		},
	}
	for prefix, f := range run {
		ran := 0
		for _, page := range docsPages(t) {
			for line := range strings.Lines(strings.Join(blocks(t, page, "console"), "")) {
				if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) {
					ran++
					f(line)
				}
			}
		}
		if ran == 0 {
			t.Errorf("no page has a line that begins with %q", prefix)
		}
	}
}

// TestDocsBrowsers runs the configurations in docs/browsers.md. The text says how
// browsers react to the answers.
func TestDocsBrowsers(t *testing.T) {
	parallel(t)
	const page = "../docs/browsers.md"
	const out = "logout:logout"
	basic := `Basic realm="Staff", charset="UTF-8"`
	type want struct {
		asked
		field string // of the answer: "Name: value", or "Name: " for none
	}
	challenged, unchallenged := "Www-Authenticate: "+basic, "Www-Authenticate: "
	tests := map[string][]want{
		"Logging out": {
			{asked{path: "/", want: 401}, challenged},
			{asked{path: "/", login: asAlice, want: 200}, unchallenged},
			{asked{path: "/", login: out, want: 401}, challenged},
			{asked{path: "/logout", want: 401}, challenged},
			{asked{path: "/logout", login: asAlice, want: 401}, challenged},
			{asked{path: "/logout", login: out, want: 200}, unchallenged},
			{asked{path: "/logout", login: out, want: 200}, "Cache-Control: no-store"},
			{asked{path: "/goodbye", want: 200}, unchallenged},
			{asked{path: "/logout/", want: 401}, challenged},
			{asked{path: "/logout/", login: asAlice, want: 200}, unchallenged},
		},
		"Scripts": {
			{asked{path: "/", want: 401}, challenged},
			{asked{path: "/", header: "Sec-Fetch-Dest: document", want: 401}, challenged},
			{asked{path: "/", header: "Sec-Fetch-Dest: empty", want: 401}, "Www-Authenticate: X-" + basic},
			{asked{path: "/", header: "Sec-Fetch-Dest: empty", login: asAlice, want: 200}, unchallenged},
		},
		"Parts of a page": {
			{asked{path: "/", want: 401}, challenged},
			{asked{path: "/favicon.ico", want: 200}, unchallenged},
			{asked{path: "/manifest.json", want: 200}, unchallenged},
			{asked{path: "/manifest.json/x", want: 401}, challenged},
		},
		"Cross-origin requests": {
			{asked{path: "/", want: 401}, "Access-Control-Allow-Origin: "},
			{asked{path: "/", method: "OPTIONS", want: 401}, challenged},
			{asked{path: "/", method: "OPTIONS", header: "Origin: https://app.example.com", want: 401}, "Access-Control-Allow-Origin: https://app.example.com"},
			{asked{path: "/", method: "OPTIONS", header: "Origin: https://app.example.com\nAccess-Control-Request-Method: PUT", want: 204}, "Access-Control-Allow-Methods: GET, POST, PUT, DELETE"},
			{asked{path: "/", method: "OPTIONS", header: "Origin: https://evil.example\nAccess-Control-Request-Method: PUT", want: 401}, "Access-Control-Allow-Origin: "},
			{asked{path: "/", method: "PUT", header: "Origin: https://app.example.com\nAccess-Control-Request-Method: PUT", want: 401}, "Access-Control-Allow-Credentials: true"},
			{asked{path: "/", login: asAlice, header: "Origin: https://app.example.com", want: 200}, "Access-Control-Allow-Origin: https://app.example.com"},
		},
		"Cross-site request forgery": {
			{asked{path: "/", method: "POST", want: 401}, challenged},
			{asked{path: "/", method: "POST", login: asAlice, want: 200}, unchallenged},
			{asked{path: "/", method: "POST", login: asAlice, header: "Sec-Fetch-Site: same-origin", want: 200}, unchallenged},
			{asked{path: "/", method: "POST", login: asAlice, header: "Sec-Fetch-Site: none", want: 200}, unchallenged},
			{asked{path: "/", method: "POST", login: asAlice, header: "Sec-Fetch-Site: cross-site", want: 403}, unchallenged},
			{asked{path: "/", method: "DELETE", login: asAlice, header: "Sec-Fetch-Site: same-site", want: 403}, unchallenged},
			{asked{path: "/", method: "POST", header: "Sec-Fetch-Site: cross-site", want: 401}, challenged},
			{asked{path: "/", login: asAlice, header: "Sec-Fetch-Site: cross-site", want: 200}, unchallenged},
		},
	}
	for heading, requests := range tests {
		t.Run(heading, func(t *testing.T) {
			found := sectionBlocks(t, page, heading, "caddyfile")
			if len(found) != 1 {
				t.Fatalf("got %d configurations, want one", len(found))
			}
			_, ours := docsSite(t, found[0])
			realm := "Restricted"
			if strings.Contains(found[0], "Staff") {
				realm = "Staff"
			}
			for _, w := range requests {
				got, err := ours.do(w.asked)
				if err != nil {
					t.Fatal(err)
				}
				name, value, _ := strings.Cut(w.field, ": ")
				value = strings.Replace(value, "Staff", realm, 1)
				if got.Status != w.want || got.Header.Get(name) != value {
					t.Errorf("%s %s as %q %q: got %d and %s %q, want %d and %q", w.method, w.path, w.login, w.header, got.Status, name, got.Header.Get(name), w.want, value)
				}
				if w.path == "/logout" && got.Body != "You are logged out." {
					t.Errorf("%s: got %q, want that one is logged out", w.path, got.Body)
				}
			}
		})
	}
	if all := len(blocks(t, page, "caddyfile")); all != len(tests) {
		t.Errorf("got tests of %d configurations, want all %d", len(tests), all)
	}
	// The script and the configuration use the same credentials.
	if credentials := base64.StdEncoding.EncodeToString([]byte(out)); !strings.Contains(block(t, page, "caddyfile", "/logout"), `"Basic `+credentials+`"`) {
		t.Errorf("the configuration lacks %s, which is %s", credentials, out)
	}
	if script := block(t, page, "js", "logOut"); !strings.Contains(script, `"/logout", true, "logout", "logout"`) {
		t.Errorf("got %s, want a login as logout", script)
	}
}
