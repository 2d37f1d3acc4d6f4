package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/tool"
)

// blocks returns the code blocks of a language in a Markdown file.
func blocks(t *testing.T, file, language string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	return found
}

// block returns the one code block of a language that contains text.
func block(t *testing.T, file, language, text string) string {
	t.Helper()
	found := slices.DeleteFunc(blocks(t, file, language), func(b string) bool { return !strings.Contains(b, text) })
	if len(found) != 1 {
		t.Fatalf("%s: %d blocks of %s with %q, not one", file, len(found), language, text)
	}
	return found[0]
}

// TestReadmeGrammar compares the syntax in the README with that above the parsers.
func TestReadmeGrammar(t *testing.T) {
	var comments strings.Builder
	for _, file := range []string{"caddyfile.go", "upstream_caddyfile.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		comments.Write(regexp.MustCompile(`(?m)^//\t?`).ReplaceAll(text, nil))
	}
	comments.WriteString(strings.ReplaceAll(tool.Help, "\n  ", "\n")) // where it is shown to users
	grammar := blocks(t, "README.md", "text")
	if len(grammar) != 5 {
		t.Errorf("%d blocks of syntax in the README, not 5", len(grammar))
	}
	for _, b := range grammar {
		if !strings.Contains(comments.String(), b) {
			t.Errorf("not word for word above a parser:\n%s", b)
		}
	}
}

// TestReadmeOptions compares the tables of the README with what the parsers know.
func TestReadmeOptions(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(block(t, "README.md", "text", "keep_authorization"), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "}" && !strings.Contains(string(text), "\n| `"+f[0]+"` |") {
			t.Errorf("%s is in no table of the README", f[0])
		}
	}
}

// TestReadmeTool looks for each flag of "caddy htpasswd" in the README.
func TestReadmeTool(t *testing.T) {
	text := readText(t, "README.md")
	cmd := new(cobra.Command)
	setUpTool(cmd)
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		want := "`--" + flag.Name + "`"
		if flag.Shorthand != "" {
			want = "`-" + flag.Shorthand + "` " + want
		}
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	})
}

// TestSecurityPage looks that the tests which docs/security.md names are there.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"internal/*/*_test.go", "e2e/*_test.go"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, more...)
	}
	var tests strings.Builder
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	promised := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	if len(promised) < 30 {
		t.Errorf("only %d tests", len(promised))
	}
	for _, p := range promised {
		if !strings.Contains(tests.String(), "\nfunc "+p[1]+"(") {
			t.Errorf("there is no %s", p[1])
		}
	}
}

// TestReadmeConfigurations adapts each Caddyfile, and provisions the JSON.
func TestReadmeConfigurations(t *testing.T) {
	s := startServer(t, "")
	for _, caddyfile := range blocks(t, "README.md", "caddyfile") {
		if _, err := s.adapt(caddyfile); err != nil {
			t.Errorf("%v:\n%s", err, caddyfile)
		}
	}
	users := s.write("users", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n") // htpasswd -nbs alice secret
	groups := s.write("groups", "staff: alice\n")
	config := strings.NewReplacer("/etc/caddy/.htpasswd", users, "/etc/caddy/groups", groups).
		Replace(block(t, "README.md", "json", `"apps"`))
	var parsed caddy.Config
	if err := json.Unmarshal([]byte(config), &parsed); err != nil {
		t.Fatal(err)
	}
	parsed.Admin = &caddy.AdminConfig{Disabled: true}
	if err := caddy.Validate(&parsed); err != nil {
		t.Error(err)
	}
}

// TestReadmeFromNginx runs the two configurations of the README, nginx's in a
// real nginx, with one password file, and asks both the same.
func TestReadmeFromNginx(t *testing.T) {
	s := startServer(t, "")
	caddyfile := block(t, "README.md", "caddyfile", "tls /etc/ssl")
	nginxConf := block(t, "README.md", "nginx", "auth_basic_user_file")

	names := make(map[string]string) // what stands in for the README's addresses and paths
	for i, port := range []string{"9001", "9002"} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "server %d: %s", i+1, r.URL.Path)
		}))
		defer app.Close()
		names["127.0.0.1:"+port] = strings.TrimPrefix(app.URL, "http://")
	}
	run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
		"-keyout", filepath.Join(s.dir, "key"), "-out", filepath.Join(s.dir, "cert"))
	names["/etc/ssl/example.com.crt"] = filepath.Join(s.dir, "cert")
	names["/etc/ssl/example.com.key"] = filepath.Join(s.dir, "key")
	users := filepath.Join(s.dir, ".htpasswd")
	run(t, "htpasswd", "-cbm", users, "alice", "secret")
	names["/etc/nginx/.htpasswd"] = users

	nginxPort := freePorts(t, 1)[0]
	startNginx(t, s.dir, substitute(nginxConf, names, "listen 443 ssl", fmt.Sprintf("listen 127.0.0.1:%d ssl", nginxPort)))
	if err := s.reload(substitute(caddyfile, names, "\nexample.com {", "\nhttps://localhost:{https} {")); err != nil {
		t.Fatal(err)
	}
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
		ours := s.get(tt.path, tt.user, tt.password)
		theirs := s.getFrom(nginxPort, tt.path, tt.user, tt.password)
		if ours.status != tt.status || theirs.status != tt.status {
			t.Errorf("%s as %q: %d here, %d from nginx, want %d", tt.path, tt.user, ours.status, theirs.status, tt.status)
		}
		if tt.status == 401 {
			want := theirs.header.Get("WWW-Authenticate") + `, charset="UTF-8"`
			if got := ours.header.Get("WWW-Authenticate"); got != want || theirs.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: challenge %q, want %q", tt.path, got, want)
			}
		}
	}
	for name, port := range map[string]int{"here": s.port, "nginx": nginxPort} {
		seen := make(map[string]int)
		for range 6 {
			seen[s.getFrom(port, "/api/doctor/1", "alice", "secret").body]++
		}
		if len(seen) != 2 || seen["server 1: /api/doctor/1"] != 3 {
			t.Errorf("%s: %v, want each server three times", name, seen)
		}
	}
}

func (s *server) getFrom(port int, path, user, password string) answer {
	other := *s
	other.port = port
	return other.get(path, user, password)
}

func substitute(text string, names map[string]string, more ...string) string {
	for from, to := range names {
		more = append(more, from, to)
	}
	return strings.NewReplacer(more...).Replace(text)
}

// startNginx runs a real nginx until the end of the test.
func startNginx(t *testing.T, dir, servers string) {
	t.Helper()
	command := testkit.NginxCommand(t, dir, servers)
	start(t, dir, nil, command[0], command[1:]...)
	port := regexp.MustCompile(`listen 127\.0\.0\.1:(\d+)`).FindStringSubmatch(servers)[1]
	eventually(t, "nginx listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		return err == nil && c.Close() == nil
	})
}

// TestReadmeDemo runs the demo and the commands of the README on it.
func TestReadmeDemo(t *testing.T) {
	curl, caddyBinary := program(t, "curl"), buildCaddy(t)
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS("examples")); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	command := func(line string) string {
		t.Helper()
		line = strings.NewReplacer("go run ./cmd/caddy", caddyBinary, "curl ", curl+" -s ").Replace(line)
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	console := strings.Split(strings.Join(blocks(t, "README.md", "console"), ""), "\n")
	said := func(line string) string {
		t.Helper()
		if !slices.Contains(console, line) {
			t.Errorf("not in the README: %s", line)
		}
		return line
	}

	run := []string{"go run ./cmd/caddy run --config examples/Caddyfile", "curl -k -u admin:swordfish https://localhost:8443/api/doctor/1",
		"curl -k -u watson:elementary https://localhost:8443/api/doctor/1", "curl -k -i https://localhost:8443/api/doctor/1",
		"go run ./cmd/caddy htpasswd -b examples/.htpasswd watson elementary"}
	arguments := strings.Fields(strings.TrimPrefix(said("go run ./cmd/caddy run --config examples/Caddyfile"), "go run ./cmd/caddy"))
	log := start(t, dir, env, caddyBinary, arguments...)
	eventually(t, "the demo answers", func() bool { return strings.Contains(command("curl -k https://localhost:8443/"), "doctor") })

	out := command(said("curl -k -i https://localhost:8443/api/doctor/1"))
	if !strings.HasPrefix(out, "HTTP/2 401") || !strings.Contains(out, `www-authenticate: Basic realm="Administrator's Area", charset="UTF-8"`) {
		t.Errorf("without a password: %s", out)
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
			t.Errorf("%v: %s", err, out)
		}
		servers[doctor.Server] = true
	}
	if len(servers) != 2 {
		t.Errorf("answers of %v, want both servers", servers)
	}
	command(said("go run ./cmd/caddy htpasswd -b examples/.htpasswd watson elementary"))
	watson := said("curl -k -u watson:elementary https://localhost:8443/api/doctor/1")
	if out := command(watson); !strings.Contains(out, "watson") { // at once, as when both lines are pasted
		t.Errorf("the new user gets: %s", out)
	}

	// The admin API.
	for line, want := range map[string]string{
		"curl localhost:2019/htpasswd":                              `"users":2,"formats":[{"format":"bcrypt","cost":"10","weak":false,"users":2}]`,
		"curl -X POST localhost:2019/htpasswd/reload":               `.htpasswd","kind":"users","result":"unchanged","last_load":"`,
		"curl localhost:2019/htpasswd/throttle/alice":               `{"exceeded":[],"exceeded_not_listed":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle/alice":     `{"forgotten":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle/192.0.2.7": `{"forgotten":0}`,
		"curl -X DELETE localhost:2019/htpasswd/throttle":           `{"forgotten":`,
		"curl localhost:2019/metrics":                               `caddy_htpasswd_requests_total{result="ok"}`,
	} {
		run = append(run, line)
		if out := command(said(line)); !strings.Contains(out, want) {
			t.Errorf("%s: %s", line, out)
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
			t.Errorf("%s broken: %s", file, out)
		}
		if out := command(ask); !strings.Contains(out, "admin") {
			t.Errorf("%s broken, and then: %s", file, out)
		}
		if file == "examples/.htpasswd" { // Caddy does not look at what is the same: the README says so
			if out := command("go run ./cmd/caddy reload --config examples/Caddyfile; echo exit $?"); !strings.Contains(out, "exit 0") {
				t.Errorf("%s broken, and a reload without --force: %s", file, out)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := command("go run ./cmd/caddy reload --config examples/Caddyfile --force; echo exit $?"); !strings.Contains(out, "exit 0") {
		t.Errorf("all is well again: %s", out)
	}
	for _, secret := range []string{"swordfish", "elementary", "$2y$"} {
		if strings.Contains(log(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}

	// The rest of the commands in the README: what runs them.
	others := []string{
		"", "make test", // this
		"xcaddy build --with github.com/seed10b5b978/caddy-htpasswd", // make xcaddy, with the checkout
		"sudo caddy htpasswd -c /etc/caddy/.htpasswd alice",          // TestPrompts, TestToolNewFile
	}
	others = append(others, certificateCommands...) // TestExampleCertificates
	for _, line := range console {
		if !slices.Contains(others, line) && !slices.Contains(run, line) {
			t.Errorf("nothing runs: %s", line)
		}
	}
}

// buildCaddy builds ./cmd/caddy, as "go run" does.
func buildCaddy(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "caddy")
	run(t, filepath.Join(goRoot(t), "bin", "go"), "build", "-o", path, "./cmd/caddy")
	return path
}

func goRoot(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(run(t, "go", "env", "GOROOT"))
}
