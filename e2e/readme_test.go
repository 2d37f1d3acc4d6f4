package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
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

// directivePage is the reference of the directive htpasswd.
const directivePage = "../docs/reference/directive.md"

var (
	_ = ranBy("TestReadmeInstall",
		"go install github.com/caddyserver/xcaddy/cmd/xcaddy@latest",
		"$(go env GOPATH)/bin/xcaddy build --with github.com/seed10b5b978/caddy-htpasswd",
		"./caddy list-modules | grep htpasswd")
	_ = ranBy("TestReadmeSite",
		"sudo install -m 755 caddy /usr/local/bin/caddy",
		"curl -i https://example.com/",
		"curl -u alice https://example.com/")
)

// referencePages returns the pages of docs/reference.
func referencePages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../docs/reference/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("got %q %v, want at least 5 pages", pages, err)
	}
	return pages
}

// reference returns the text of all pages of docs/reference.
func reference(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, page := range referencePages(t) {
		text.WriteString(readText(t, page))
	}
	return text.String()
}

// TestReadmeGrammar compares the syntax in the README and on all pages with that above
// the parsers, and with what "caddy htpasswd --help" says. What the README has, the
// reference has too.
func TestReadmeGrammar(t *testing.T) {
	parallel(t)
	var sources strings.Builder
	for _, pattern := range []string{"../*.go", "../internal/*/*.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				sources.WriteString(regexp.MustCompile(`(?m)^//\t?`).ReplaceAllString(readText(t, file), ""))
			}
		}
	}
	sources.WriteString(strings.ReplaceAll(toolHelp(t), "\n  ", "\n")) // where it is shown to users
	isGrammar := func(text string) bool {
		first, _, _ := strings.Cut(text, "\n")
		return documented[first] == "TestReadmeGrammar"
	}
	inReadme := blocks(t, "../README.md", "text")
	if len(inReadme) != 5 {
		t.Errorf("got %d blocks of syntax in the README, want 5", len(inReadme))
	}
	var inReference []string
	for _, page := range referencePages(t) {
		inReference = append(inReference, blocks(t, page, "text")...)
	}
	for _, b := range inReadme {
		if !isGrammar(b) || !slices.Contains(inReference, b) {
			t.Errorf("not word for word in docs/reference:\n%s", b)
		}
	}
	for _, page := range append(docsPages(t), "../README.md") {
		for _, b := range blocks(t, page, "text") {
			if isGrammar(b) && !strings.Contains(sources.String(), b) {
				t.Errorf("%s: not word for word above a parser:\n%s", page, b)
			}
		}
	}
}

// toolHelp is what "caddy htpasswd --help" says.
func toolHelp(t *testing.T) string {
	t.Helper()
	return testkit.Run(t, caddyBinary, "htpasswd", "--help")
}

// TestReferenceOptions looks for a row in a table of each line in a block of syntax.
func TestReferenceOptions(t *testing.T) {
	parallel(t)
	text, rows := reference(t), 0
	for _, b := range blocks(t, "../README.md", "text") {
		first, rest, _ := strings.Cut(b, "\n")
		if strings.HasPrefix(first, "caddy ") {
			continue // TestReferenceFlags
		}
		for line := range strings.Lines(rest) {
			f := strings.Fields(line)
			if len(f) == 0 || f[0] == "}" || strings.HasPrefix(f[0], "<") {
				continue
			}
			rows++
			if !regexp.MustCompile("\n\\| `" + regexp.QuoteMeta(f[0]) + "[ `]").MatchString(text) {
				t.Errorf("%s: %s is in no table of docs/reference", first, f[0])
			}
		}
	}
	if rows < 15 {
		t.Errorf("got only %d lines of syntax, want at least 15", rows)
	}
}

// TestDirectiveExamples validates each example in the tables of the reference, in
// the block that it is for.
func TestDirectiveExamples(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	names := docsNames(t, s)
	names["/etc/caddy/guests.htpasswd"] = names["/etc/caddy/.htpasswd"]
	names["{env.HTPASSWD}"] = "{file." + names["/etc/caddy/.htpasswd"] + "}"
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*\\| `([^`]+)` \\|$").FindAllStringSubmatch(readText(t, directivePage), -1)
	if len(rows) != 20 {
		t.Errorf("got %d examples, want 20", len(rows))
	}
	for _, row := range rows {
		subdirective, example := row[1], row[2]
		name, _, _ := strings.Cut(example, " ")
		option, lines := "", []string{example}
		if strings.HasPrefix(subdirective, "throttle ") || slices.Contains([]string{"max_hashes", "poll", "secret", "max_stale"}, subdirective) {
			option, lines = example, nil
		}
		for _, line := range []string{"file /etc/caddy/.htpasswd", "group_file /etc/caddy/groups"} {
			if !strings.HasPrefix(line, name+" ") {
				lines = append(lines, line)
			}
		}
		caddyfile := fmt.Sprintf("{\n\thtpasswd {\n\t\t%s\n\t}\n}\nexample.com {\n\t@office remote_ip 192.0.2.0/24\n\thtpasswd {\n\t\t%s\n\t}\n\trespond ok\n}\n", option, strings.Join(lines, "\n\t\t"))
		if !strings.HasPrefix(example, subdirective) {
			t.Errorf("got %q as the example of %s", example, subdirective)
		}
		s.validate(testkit.Substitute(caddyfile, names))
	}
}

// TestDirectiveUserHeader sends a forged header through both configurations of the
// reference that pass the name of the user to an application.
func TestDirectiveUserHeader(t *testing.T) {
	parallel(t)
	found := sectionBlocks(t, directivePage, "User header and open paths", "caddyfile")
	if len(found) != 2 {
		t.Fatalf("got %d configurations, want 2", len(found))
	}
	for _, caddyfile := range found {
		_, c := docsSite(t, caddyfile)
		for _, a := range []asked{
			{path: "/public/x", want: 200, sees: `user=""`},
			{path: "/private/x", want: 401},
			{path: "/private/x", login: asAlice, want: 200, sees: `user="alice"`},
		} {
			a.header = "X-Remote-User: root"
			if got := c.must(a); got.Status != a.want || !strings.HasSuffix(got.Body, a.sees) {
				t.Errorf("%s as %q: got %d %s, want %d and %s, of\n%s", a.path, a.login, got.Status, got.Body, a.want, a.sees, caddyfile)
			}
		}
	}
}

// TestDirectiveOrder has Caddy sort htpasswd and each directive of the table of the
// reference.
func TestDirectiveOrder(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	arguments := map[string]string{ // of those that need some, after a matcher
		"map": "{path} {x} {\n default y\n}", "vars": "x y", "fs": "x", "root": "/srv", "log_append": "x y", "log_name": "x", "header": "X y",
		"request_body": "{\n max_size 1MB\n}", "redir": "/x", "method": "GET", "rewrite": "/x", "uri": "strip_prefix /x",
		"basic_auth": "{\n alice $2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n}", "forward_auth": "127.0.0.1:9001 {\n uri /x\n}",
		"request_header": "X y", "encode": "gzip", "push": "/x", "intercept": "{\n handle_response {\n respond x\n }\n}", "invoke": "named",
		"handle": "{\n respond x\n}", "handle_path": "{\n respond x\n}", "route": "{\n respond x\n}", "error": "404", "respond": "x",
		"proxy_pass": "app", "reverse_proxy": "127.0.0.1:9001", "php_fastcgi": "127.0.0.1:9000",
	}
	_, table, _ := strings.Cut(readText(t, directivePage), "| run before `htpasswd` | run after `htpasswd` |\n|---|---|\n| ")
	table, _, _ = strings.Cut(table, "\n")
	before, after, _ := strings.Cut(table, " | ")
	for cell, isBefore := range map[string]bool{before: true, after: false} {
		names := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cell, -1)
		if len(names) < 15 {
			t.Errorf("got %d directives, want at least 15: %s", len(names), cell)
		}
		for _, name := range names {
			config, err := s.Adapt(fmt.Sprintf("{\n\tupstream app {\n\t\tserver 127.0.0.1:9001\n\t}\n}\n&(named) {\n\trespond x\n}\nexample.com {\n\t%s /matched %s\n\thtpasswd {\n\t\tfile x\n\t}\n}\n", name[1], arguments[name[1]]))
			if err != nil {
				t.Errorf("%s: %v", name[1], err)
				continue
			}
			directive, htpasswd := strings.Index(string(config), "/matched"), strings.Index(string(config), `"handler":"htpasswd"`)
			if directive < 0 || htpasswd < 0 || (directive < htpasswd) != isBefore {
				t.Errorf("%s: got places %d and %d, want it before htpasswd: %t; in\n%s", name[1], directive, htpasswd, isBefore, config)
			}
		}
	}
}

// validate adapts a Caddyfile and validates the result.
func (s *server) validate(caddyfile string) {
	s.T.Helper()
	config, err := s.Adapt(caddyfile)
	if err != nil {
		s.T.Errorf("%v:\n%s", err, caddyfile)
		return
	}
	s.validateJSON(string(config))
}

func (s *server) validateJSON(config string) {
	s.T.Helper()
	s.Write("caddy.json", config)
	cmd := s.command("validate", "--config", "caddy.json")
	cmd.Env = append(cmd.Env, "HTPASSWD_SECRET=canary-secret-AAAAAAAAAAAAAAAAAA")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.T.Errorf("%v: %s\nof\n%s", err, out, config)
	}
}

// TestSecurityPage checks that the tests that docs/security.md names exist.
func TestSecurityPage(t *testing.T) {
	parallel(t)
	page, tests := readText(t, "../docs/security.md"), testSources(t)
	promised := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(page, -1)
	if len(promised) < 30 {
		t.Errorf("got only %d tests, want at least 30", len(promised))
	}
	for _, p := range promised {
		if !strings.Contains(tests, "\nfunc "+p[1]+"(") {
			t.Errorf("there is no %s", p[1])
		}
	}
}

// TestReadmeConfigurations validates each Caddyfile.
func TestReadmeConfigurations(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	names := docsNames(t, s)
	for _, caddyfile := range blocks(t, "../README.md", "caddyfile") {
		s.validate(testkit.Substitute(caddyfile, names))
	}
}

// TestBlocksAreFormatted checks that "caddy fmt" would change no Caddyfile of the README
// and the reference. Caddy logs a warning for a Caddyfile that it would change.
func TestBlocksAreFormatted(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	for _, page := range append(referencePages(t), "../README.md") {
		for _, caddyfile := range blocks(t, page, "caddyfile") {
			s.Write("Caddyfile", caddyfile)
			cmd := s.command("fmt", "Caddyfile")
			out, _ := cmd.Output() // it fails where there is a difference
			if string(out) != caddyfile {
				t.Errorf("%s: got\n%s\nwant as caddy fmt writes it:\n%s", page, caddyfile, out)
			}
		}
	}
}

// TestReadmeInstall checks that the commands build what the Makefile builds, and
// that versions in the README are those of the tests. It runs the last command.
func TestReadmeInstall(t *testing.T) {
	parallel(t)
	readme, makefile, mod := readText(t, "../README.md"), readText(t, "../Makefile"), readText(t, "../go.mod")
	found := func(pattern, text string) string {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("nothing matches %s", pattern)
		}
		return m[1]
	}
	lines := strings.Split(strings.TrimSpace(block(t, "../README.md", "console", "xcaddy build")), "\n")
	plugin, xcaddy := found(`(?m)^module (\S+)$`, mod), found(`run (\S+)@\$\(XCADDY\)`, makefile)
	want := []string{"go install " + xcaddy + "@latest", "$(go env GOPATH)/bin/xcaddy build --with " + plugin, "./caddy list-modules | grep htpasswd"}
	if !slices.Equal(lines, want) || plugin != found(`(?m)^PLUGIN +:= (\S+)$`, makefile) {
		t.Errorf("got %q, want %q", lines, want)
	}
	for _, version := range []string{
		"Caddy " + found(`(?m)^CADDY +:= (\S+)$`, makefile),
		"Caddy " + found(`github.com/caddyserver/caddy/v2 (v\S+)`, mod),
		"xcaddy " + found(`(?m)^XCADDY +:= (\S+)$`, makefile),
		"Go " + found(`(?m)^go (\d+\.\d+)`, mod),
	} {
		if !strings.Contains(strings.Join(strings.Fields(readme), " "), version) {
			t.Errorf("the README has no %q", version)
		}
	}
	out, err := exec.Command("sh", "-c", strings.Replace(lines[2], "./caddy", caddyBinary, 1)).Output()
	if modules := strings.Fields(string(out)); err != nil || !slices.Contains(modules, "http.handlers.htpasswd") {
		t.Errorf("got %v, %q, want http.handlers.htpasswd among them", err, modules)
	}
}

// TestReadmeSite protects the site of the README, and asks as it says.
func TestReadmeSite(t *testing.T) {
	parallel(t)
	curl := program(t, "curl")
	caddyfile := block(t, "../README.md", "caddyfile", "Staff only")
	if lines := strings.Count(caddyfile, "\n"); lines > 8 {
		t.Errorf("got %d lines, want at most 8", lines)
	}
	s, _ := docsSite(t, caddyfile)
	s.Write(".curlrc", fmt.Sprintf(curlSettings+"insecure\nconnect-to = \"example.com:443:localhost:%d\"\n", s.HTTPS))
	dir := t.TempDir()
	must(t, os.Symlink(caddyBinary, filepath.Join(dir, "caddy")))
	must(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	install, _, _ := strings.Cut(block(t, "../README.md", "console", "sudo install "), "\n")
	cmd := exec.Command("sh", "-c", strings.NewReplacer("sudo ", "", "/usr/local/", "").Replace(install))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if info, statErr := os.Stat(filepath.Join(dir, "bin", "caddy")); err != nil || statErr != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%s: got %v, %s, %v, want a program that all may run", install, err, out, statErr)
	}
	console := block(t, "../README.md", "console", "https://example.com/")
	for _, row := range []struct{ line, want string }{
		{"curl -i https://example.com/", "HTTP/2 401"},
		{"curl -i https://example.com/", `www-authenticate: Basic realm="Staff only", charset="UTF-8"`},
		{"curl -u alice https://example.com/", "Hello, alice."},
	} {
		if !strings.Contains(console, row.line+"\n") {
			t.Errorf("not in the README: %s", row.line)
		}
		cmd := exec.Command("sh", "-c", strings.NewReplacer("curl ", curl+" ", "-u alice", "-u "+asAlice).Replace(row.line))
		cmd.Env = append(os.Environ(), "CURL_HOME="+s.Dir)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), row.want) {
			t.Errorf("%s: got %v, %s, want %s in it", row.line, err, out, row.want)
		}
	}
}

// TestReadmeFromNginx runs the two configurations of the README, nginx's in a
// real nginx, with one password file, and asks both the same.
func TestReadmeFromNginx(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	s := startServer(t, "")
	caddyfile := block(t, "../README.md", "caddyfile", "tls /etc/ssl")
	nginxConf := block(t, "../README.md", "nginx", "auth_basic_user_file")

	names := make(map[string]string) // what stands in for the README's addresses and paths
	for i, port := range []string{"9001", "9002"} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "server %d: %s", i+1, r.URL.Path)
		}))
		defer app.Close()
		names["127.0.0.1:"+port] = strings.TrimPrefix(app.URL, "http://")
	}
	testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
		"-keyout", filepath.Join(s.Dir, "key"), "-out", filepath.Join(s.Dir, "cert"))
	names["/etc/ssl/example.com.crt"] = filepath.Join(s.Dir, "cert")
	names["/etc/ssl/example.com.key"] = filepath.Join(s.Dir, "key")
	users := filepath.Join(s.Dir, ".htpasswd")
	testkit.Run(t, "htpasswd", "-cbm", users, "alice", "secret")
	names["/etc/nginx/.htpasswd"] = users

	tw := testkit.StartTwins(t, s.Server, strings.Replace(caddyfile, "\nexample.com {", "\nhttps://localhost:{https} {", 1),
		strings.Replace(nginxConf, "listen 443 ssl", "listen 127.0.0.1:{port} ssl", 1), testkit.NginxCommand, names)
	for _, tt := range []struct {
		path, user, password string
		status               int
	}{
		{"/api/doctor/1", "", "", 401},
		{"/api/doctor/1", "alice", "wrong", 401},
		{"/api/doctor/1", "bob", "secret", 401},
		{"/api/doctor/1", "alice", "secret", 200},
		{"/api", "", "", 401},
		{"/apix", "", "", 401},
	} {
		ours := s.Get(tt.path, tt.user, tt.password)
		theirs := getFrom(s, tw.Theirs.Port, tt.path, tt.user, tt.password)
		if ours.Status != tt.status || theirs.Status != tt.status {
			t.Errorf("%s as %q: got %d here and %d from nginx, want %d", tt.path, tt.user, ours.Status, theirs.Status, tt.status)
		}
		if tt.status == 401 {
			want := theirs.Header.Get("WWW-Authenticate") + `, charset="UTF-8"`
			if got := ours.Header.Get("WWW-Authenticate"); got != want || theirs.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: got challenge %q, want %q", tt.path, got, want)
			}
		}
	}
	for name, port := range map[string]int{"here": s.HTTPS, "nginx": tw.Theirs.Port} {
		seen := make(map[string]int)
		for range 6 {
			seen[getFrom(s, port, "/api/doctor/1", "alice", "secret").Body]++
		}
		if len(seen) != 2 || seen["server 1: /api/doctor/1"] != 3 {
			t.Errorf("%s: got %v, want each server three times", name, seen)
		}
	}
}

// getFrom asks a server at another port.
func getFrom(s *server, port int, path, user, password string) answer {
	other := *s.Server
	other.HTTPS = port
	return other.Get(path, user, password)
}

// TestReadmeDemo runs the demo and the commands of the README, and of the pages, on it.
func TestReadmeDemo(t *testing.T) {
	parallel(t)
	curl := program(t, "curl")
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("../examples")); err != nil {
		t.Fatal(err)
	}
	env := environment(dir)
	command := func(line string) string {
		t.Helper()
		line = strings.NewReplacer("go run ./cmd/caddy", caddyBinary, "curl ", curl+" -s ").Replace(line)
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	var console []string
	for _, page := range append(docsPages(t), "../README.md") {
		console = append(console, strings.Split(strings.Join(blocks(t, page, "console"), ""), "\n")...)
	}
	said := func(line string) string {
		t.Helper()
		if !slices.Contains(console, line) {
			t.Errorf("on no page: %s", line)
		}
		return line
	}

	run := []string{"go run ./cmd/caddy run --config examples/Caddyfile", "curl -k -u admin:swordfish https://localhost:8443/api/doctor/1",
		"curl -k -u watson:elementary https://localhost:8443/api/doctor/1", "curl -k -i https://localhost:8443/api/doctor/1",
		"go run ./cmd/caddy htpasswd -b examples/.htpasswd watson elementary"}
	arguments := strings.Fields(strings.TrimPrefix(said("go run ./cmd/caddy run --config examples/Caddyfile"), "go run ./cmd/caddy"))
	log := start(t, dir, env, caddyBinary, arguments...).Said
	eventually(t, "the demo answers", func() bool { return strings.Contains(command("curl -k https://localhost:8443/"), "doctor") })

	out := command(said("curl -k -i https://localhost:8443/api/doctor/1"))
	if !strings.HasPrefix(out, "HTTP/2 401") || !strings.Contains(out, `www-authenticate: Basic realm="Administrator's Area", charset="UTF-8"`) {
		t.Errorf("without a password: got %s, want 401 with the challenge of the realm", out)
	}
	ask := said("curl -k -u admin:swordfish https://localhost:8443/api/doctor/1")
	servers := make(map[string]bool)
	for _, version := range []string{"", "", " --http1.1"} {
		var doctor struct {
			ID           int
			Server, User string
		}
		out := command(ask + version)
		if err := json.Unmarshal([]byte(out), &doctor); err != nil || doctor.ID != 1 || doctor.User != "admin" {
			t.Errorf("got %v: %s, want doctor 1 and user admin", err, out)
		}
		servers[doctor.Server] = true
	}
	if len(servers) != 2 {
		t.Errorf("got answers of %v, want of both servers", servers)
	}
	command(said("go run ./cmd/caddy htpasswd -b examples/.htpasswd watson elementary"))
	watson := said("curl -k -u watson:elementary https://localhost:8443/api/doctor/1")
	if out := command(watson); !strings.Contains(out, "watson") { // at once, as when both lines are pasted
		t.Errorf("the new user: got %s, want their name", out)
	}

	// The admin API.
	for line, want := range map[string]string{
		"curl localhost:2019/htpasswd":                              `"users":2,"formats":[{"format":"bcrypt","cost":"10","weak":false,"users":2}]`,
		"curl -X POST localhost:2019/htpasswd/reload":               `.htpasswd","kind":"users","result":"unchanged","last_load":"`,
		"curl localhost:2019/htpasswd/throttle/alice":               `{"exceeded":[],"exceeded_not_listed":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle/alice":     `{"cleared":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle/192.0.2.7": `{"cleared":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle":           `{"cleared":`,
		"curl localhost:2019/metrics":                               `caddy_htpasswd_requests_total{result="ok"}`,
	} {
		run = append(run, line)
		if out := command(said(line)); !strings.Contains(out, want) {
			t.Errorf("%s: got %s, want %s in it", line, out, want)
		}
	}

	// What an administrator breaks leaves the demo running.
	for file, change := range map[string]func(string) string{
		"examples/Caddyfile": func(s string) string { return strings.Replace(s, "realm ", "relam ", 1) },
		"examples/.htpasswd": func(string) string { return "<html>404</html>\n" },
	} {
		path := filepath.Join(dir, file)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(good))), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := command("go run ./cmd/caddy reload --config examples/Caddyfile --force; echo exit $?"); !strings.Contains(out, "exit 1") {
			t.Errorf("%s broken: got %s, want exit code 1", file, out)
		}
		if out := command(ask); !strings.Contains(out, "admin") {
			t.Errorf("%s broken, and then: got %s, want the answer for admin", file, out)
		}
		if file == "examples/.htpasswd" { // Caddy does not look at what is the same: docs/operations.md says so
			if out := command("go run ./cmd/caddy reload --config examples/Caddyfile; echo exit $?"); !strings.Contains(out, "exit 0") {
				t.Errorf("%s broken, and a reload without --force: got %s, want exit code 0", file, out)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := command("go run ./cmd/caddy reload --config examples/Caddyfile --force; echo exit $?"); !strings.Contains(out, "exit 0") {
		t.Errorf("all is well again: got %s, want exit code 0", out)
	}
	for _, secret := range []string{"swordfish", "elementary", "$2y$"} {
		if strings.Contains(log(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}

	for line, test := range documented {
		if test == "TestReadmeDemo" && !slices.Contains(run, line) {
			t.Errorf("nothing runs: %s", line)
		}
	}
}
