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

// TestReadmeGrammar compares the syntax in the README with that above the
// parsers, and with what "caddy htpasswd --help" says.
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
	grammar := blocks(t, "../README.md", "text")
	if len(grammar) != 5 {
		t.Errorf("got %d blocks of syntax in the README, want 5", len(grammar))
	}
	for _, b := range grammar {
		if !strings.Contains(sources.String(), b) {
			t.Errorf("not word for word above a parser:\n%s", b)
		}
	}
}

// toolHelp is what "caddy htpasswd --help" says.
func toolHelp(t *testing.T) string {
	t.Helper()
	return testkit.Run(t, caddyBinary, "htpasswd", "--help")
}

// TestReadmeOptions compares the tables of the README with what the parsers know.
func TestReadmeOptions(t *testing.T) {
	parallel(t)
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(block(t, "../README.md", "text", "keep_authorization"), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "}" && !strings.Contains(string(text), "\n| `"+f[0]+"` |") {
			t.Errorf("%s is in no table of the README", f[0])
		}
	}
}

// TestReadmeTool looks for each flag of "caddy htpasswd" in the README.
func TestReadmeTool(t *testing.T) {
	parallel(t)
	text := readText(t, "../README.md")
	flags := regexp.MustCompile(`(?m)^  (?:(-\w), |    )(--[\w-]+)`).FindAllStringSubmatch(toolHelp(t), -1)
	if len(flags) < 15 {
		t.Errorf("got only %d flags: %q", len(flags), flags)
	}
	for _, flag := range flags {
		want := "`" + flag[2] + "`"
		if flag[1] != "" {
			want = "`" + flag[1] + "` " + want
		}
		if flag[2] != "--help" && !strings.Contains(text, want) {
			t.Errorf("the README has no %s", want)
		}
	}
}

// TestSecurityPage looks that the tests which docs/security.md names are there.
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

// TestReadmeConfigurations adapts each Caddyfile, and validates the JSON.
func TestReadmeConfigurations(t *testing.T) {
	parallel(t)
	s := startServer(t, "")
	for _, caddyfile := range blocks(t, "../README.md", "caddyfile") {
		if _, err := s.Adapt(caddyfile); err != nil {
			t.Errorf("%v:\n%s", err, caddyfile)
		}
	}
	users := s.Write("users", "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n") // htpasswd -nbs alice secret
	groups := s.Write("groups", "staff: alice\n")
	s.Write("caddy.json", strings.NewReplacer("/etc/caddy/.htpasswd", users, "/etc/caddy/groups", groups).
		Replace(block(t, "../README.md", "json", `"apps"`)))
	if out, code := s.caddy("validate", "--config", "caddy.json"); code != 0 {
		t.Errorf("got exit code %d, want 0: %s", code, out)
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

// TestReadmeDemo runs the demo and the commands of the README on it.
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
	console := strings.Split(strings.Join(blocks(t, "../README.md", "console"), ""), "\n")
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
		if file == "examples/.htpasswd" { // Caddy does not look at what is the same: the README says so
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
