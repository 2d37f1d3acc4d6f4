package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const (
	upstreamPage = "../docs/reference/upstream.md"
	commandPage  = "../docs/reference/command.md"
)

var _ = ranBy("TestReferenceCommand",
	"sudo caddy htpasswd /etc/caddy/.htpasswd bob",
	"sudo caddy htpasswd --check /etc/caddy/.htpasswd",
	"sudo caddy htpasswd --generate /etc/caddy/.htpasswd carol")

var _ = ranBy("TestPerformanceCommands", "make bench-code", "make bench-servers", "make bench-flood")

// statusApplication answers /503 with that status, /only-<server> with 404 unless it
// is that server, and /hangup-<server> not at all if it is.
func statusApplication(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", name)
		status := http.StatusOK
		kind, who, isNamed := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "-")
		switch {
		case isNamed && kind == "only" && who != name:
			status = http.StatusNotFound
		case isNamed && kind == "hangup" && who == name:
			panic(http.ErrAbortHandler) // net/http closes the connection
		case !isNamed:
			_, _ = fmt.Sscan(kind, &status)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "the words of "+name)
	}
}

// TestReferenceRetryOnStatus runs the configuration that retries on a status. The last
// answer is lost if all servers give such an answer; nginx passes it on.
func TestReferenceRetryOnStatus(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	s := startServer(t, "")
	names := make(map[string]string)
	for name, address := range map[string]string{"one": "127.0.0.1:9001", "two": "127.0.0.1:9002"} {
		app := httptest.NewServer(statusApplication(name))
		t.Cleanup(app.Close)
		names[address] = strings.TrimPrefix(app.URL, "http://")
	}
	caddyfile := strings.Replace(block(t, upstreamPage, "caddyfile", "{rp.status_code}"), "\nexample.com {", "\nhttps://localhost:{https} {", 1)
	withoutPages := strings.Replace(caddyfile, "handle_errors 404 503", "handle_errors 418", 1)
	const nginxConf = `
		upstream app {
			server 127.0.0.1:9001 max_fails=0;
			server 127.0.0.1:9002 max_fails=0;
		}
		server {
			listen 127.0.0.1:{port};
			proxy_next_upstream error timeout http_404 http_503;
			location / {
				proxy_pass http://app;
			}
		}`
	tw := testkit.StartTwins(t, s.Server, withoutPages, nginxConf, testkit.NginxCommand, names)

	ask := func(method, url string) answer {
		t.Helper()
		r, err := http.NewRequest(method, url, nil)
		must(t, err)
		return s.Do(r)
	}
	here := func(method, path string) answer { t.Helper(); return ask(method, s.URL(path)) }
	for range 4 { // whichever server is asked first
		for _, path := range []string{"/only-one", "/only-two"} {
			name := strings.TrimPrefix(path, "/only-")
			if got := here(http.MethodGet, path); got.Status != http.StatusOK || got.Body != "the words of "+name {
				t.Errorf("%s: got %d %q, want 200 from server %s", path, got.Status, got.Body, name)
			}
		}
	}
	var posted []int
	for range 4 {
		posted = append(posted, here(http.MethodPost, "/only-one").Status)
	}
	if !slices.Contains(posted, http.StatusNotFound) || !slices.Contains(posted, http.StatusOK) {
		t.Errorf("POST, which is not retried on a status: got %v, want 200 and 404 in turn", posted)
	}

	for _, status := range []int{404, 503} {
		path := fmt.Sprint("/", status)
		got := here(http.MethodGet, path)
		if got.Status != status || got.Body != "" || got.Header.Get("X-Server") != "" {
			t.Errorf("%s here: got %d %q and the header %v, want the status alone", path, got.Status, got.Body, got.Header)
		}
		theirs := ask(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", tw.Theirs.Port, path))
		if theirs.Status != status || !strings.HasPrefix(theirs.Body, "the words of ") || theirs.Header.Get("X-Server") == "" {
			t.Errorf("%s from nginx: got %d %q and the header %v, want the answer of the last server", path, theirs.Status, theirs.Body, theirs.Header)
		}
	}
	// An answer without a retry, and no server has failed.
	if got := here(http.MethodGet, "/500"); got.Status != 500 || !strings.HasPrefix(got.Body, "the words of ") {
		t.Errorf("500: got %d %q, want the answer of a server", got.Status, got.Body)
	}
	upstreams := ask(http.MethodGet, fmt.Sprintf("http://localhost:%d/reverse_proxy/upstreams", s.Admin))
	if n := strings.Count(upstreams.Body, `"fails":0`); n != 2 {
		t.Errorf("got %s, want two servers without failures", upstreams.Body)
	}
	// The second lb_retry_match: a connection that fails.
	for range 2 { // one of the two is asked first
		if got := here(http.MethodPut, "/hangup-one"); got.Status != http.StatusOK || got.Body != "the words of two" {
			t.Errorf("PUT, where server one hangs up: got %d %q, want 200 from server two", got.Status, got.Body)
		}
	}

	must(t, s.Reload(testkit.Substitute(caddyfile, names)))
	for status, want := range map[int]string{404: "404 Not Found", 503: "503 Service Unavailable"} {
		if got := here(http.MethodGet, fmt.Sprint("/", status)); got.Status != status || got.Body != want {
			t.Errorf("with handle_errors: got %d %q, want %d %q", got.Status, got.Body, status, want)
		}
	}
}

// cookiesIn returns the Cookie field of the next request after a response.
func cookiesIn(a answer) string {
	var pairs []string
	for _, text := range a.Header["Set-Cookie"] {
		pair, _, _ := strings.Cut(text, ";")
		pairs = append(pairs, pair)
	}
	return strings.Join(pairs, "; ")
}

// TestReferenceSessions has sessions begin without a cookie, as they do: by a
// hash of the cookie some move to another server, with a sticky cookie or by the
// address none does.
func TestReferenceSessions(t *testing.T) {
	parallel(t)
	const sessions = 30
	var lines strings.Builder
	for _, name := range []string{"one", "two", "three"} {
		app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("session"); err != nil {
				http.SetCookie(w, &http.Cookie{Name: "session", Value: r.Header.Get("X-Number")})
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(app.Close)
		fmt.Fprintf(&lines, "\t\tserver %s\n", strings.TrimPrefix(app.URL, "http://"))
	}
	s := startServer(t, "")
	stayed := func(balance string) (n int) {
		t.Helper()
		must(t, s.Reload("{\n\tupstream app {\n"+lines.String()+"\t\tbalance "+balance+"\n\t}\n}\nhttps://localhost:{https} {\n\tproxy_pass app\n}\n"))
		for i := range sessions {
			number := fmt.Sprint("number", i)
			first := s.Send("/", http.Header{"X-Number": {number}})
			next := s.Send("/", http.Header{"Cookie": {cookiesIn(first)}})
			if first.Status != http.StatusOK || next.Status != http.StatusOK {
				t.Fatalf("got %d and %d, want 200", first.Status, next.Status)
			}
			if first.Body == next.Body {
				n++
			}
		}
		return n
	}
	if n := stayed("hash {cookie.session}"); n > sessions*3/4 {
		t.Errorf("by a hash of the cookie %d of %d sessions stay, want about a third, as %s says", n, sessions, upstreamPage)
	}
	if n := stayed("random\n\t\tsticky cookie srv"); n != sessions {
		t.Errorf("with a sticky cookie %d of %d sessions stay, want all", n, sessions)
	}
	if n := stayed("ip_hash"); n != sessions {
		t.Errorf("by ip_hash %d of %d sessions stay, want all", n, sessions)
	}
}

// TestReferenceHealthChecks counts the first active health checks of a server: one by
// each proxy_pass. It also reads the two placeholders for the address.
func TestReferenceHealthChecks(t *testing.T) {
	parallel(t)
	var checks atomic.Int32
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			checks.Add(1)
		}
	}))
	t.Cleanup(app.Close)
	address := strings.TrimPrefix(app.URL, "http://")
	s := startServer(t, fmt.Sprintf(`{
		upstream app {
			server %s
			health_uri /health
			health_interval 1h
			header_down X-Hostport {http.reverse_proxy.upstream.hostport}
			header_down X-Address {http.reverse_proxy.upstream.address}
		}
	}
	https://localhost:{https} {
		proxy_pass /a app
		proxy_pass /b app
		proxy_pass app
	}`, address))
	eventually(t, "each proxy_pass has checked the server", func() bool { return checks.Load() >= 3 })
	got := s.Get("/", "", "")
	if got.Status != http.StatusOK || got.Header.Get("X-Hostport") != address || got.Header.Get("X-Address") != "tcp/"+address {
		t.Errorf("got %d and the header %v, want the address %s, and once with tcp/ in front", got.Status, got.Header, address)
	}
	if n := checks.Load(); n != 3 {
		t.Errorf("got %d checks, want 3, one by each proxy_pass", n)
	}
}

// TestReferencePasswordLimits has "caddy htpasswd --check" read hashes at the limits
// of docs/reference/password-files.md, and one step beyond them.
func TestReferencePasswordLimits(t *testing.T) {
	parallel(t)
	base64Of := func(n int) string { return base64.RawStdEncoding.EncodeToString(make([]byte, n)) }
	argon2 := func(m, cost, salt, digest int) string {
		return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", m, cost, base64Of(salt), base64Of(digest))
	}
	pbkdf2 := func(hash string, iterations, salt, digest int) string {
		return fmt.Sprintf("$pbkdf2%s$%d$%s$%s", hash, iterations, base64Of(salt), base64Of(digest))
	}
	bcrypt := func(prefix, cost string) string { return prefix + cost + "$" + strings.Repeat(".", 53) }
	sha512 := func(rounds int) string { return fmt.Sprintf("$6$rounds=%d$salt$%s", rounds, strings.Repeat(".", 86)) }
	scrypt := func(ln, r, p, salt int) string {
		return fmt.Sprintf("$scrypt$ln=%d,r=%d,p=%d$%s$%s", ln, r, p, base64Of(salt), base64Of(32))
	}
	ssha := func(salt int) string { return "{SSHA}" + base64.StdEncoding.EncodeToString(make([]byte, 20+salt)) }
	for _, test := range []struct {
		name           string
		within, beyond []string
	}{
		{"bcrypt", []string{bcrypt("$2y$", "14"), bcrypt("$2a$", "04"), bcrypt("$2b$", "10")}, []string{bcrypt("$2y$", "15"), bcrypt("$2y$", "03"), bcrypt("$2x$", "10")}},
		{"Argon2", []string{argon2(262144, 3, 16, 32), argon2(8, 1, 8, 16), argon2(8, 1, 64, 32)}, []string{argon2(262144, 4, 16, 32), argon2(262145, 1, 16, 32), argon2(8, 1, 7, 32), argon2(8, 1, 65, 32), argon2(8, 1, 16, 24)}},
		{"other kinds of Argon2", nil, []string{strings.Replace(argon2(8, 1, 16, 32), "2id", "2d", 1), strings.Replace(argon2(8, 1, 16, 32), "v=19$", "", 1)}},
		{"scrypt", []string{scrypt(18, 8, 1, 16), scrypt(14, 8, 1, 64)}, []string{scrypt(18, 8, 2, 16), scrypt(14, 8, 1, 65)}},
		{"SHA crypt", []string{sha512(1_000_000), sha512(1_000)}, []string{sha512(1_000_001)}},
		{"PBKDF2", []string{pbkdf2("-sha256", 4_000_000, 64, 32), pbkdf2("-sha512", 2_000_000, 16, 64), pbkdf2("", 4_000_000, 1, 20)}, []string{pbkdf2("-sha256", 4_000_001, 16, 32), pbkdf2("-sha512", 2_000_001, 16, 64), pbkdf2("-sha256", 1, 65, 32)}},
		{"salted SHA-1", []string{ssha(4), ssha(64)}, []string{ssha(3), ssha(65)}},
		{"names in braces", []string{"{CRYPT}" + bcrypt("$2y$", "14"), "{blf-crypt}" + bcrypt("$2y$", "04"), "{SHA512-CRYPT}" + sha512(1_000), "{ARGON2}" + argon2(8, 1, 8, 16), "!{CRYPT}" + sha512(1_000), "{CRYPT}!" + sha512(1_000)},
			[]string{"{CRYPT}" + bcrypt("$2y$", "15"), "{BLF-CRYPT}" + sha512(1_000), "{CRYPT}{PLAIN}secret", "{CRYPT}{CRYPT}" + sha512(1_000), "{CRYPT}" + argon2(8, 1, 8, 16), "{SHA512-CRYPT.B64}JDYk"}},
		{"plain text", []string{"{PLAIN}secret"}, []string{"secret"}},
		{"unknown formats", nil, []string{"_J9..CCCCXBrApuq2UDI", "$sha1$40000$salt$" + strings.Repeat(".", 28), "$md5$salt$$" + strings.Repeat(".", 22), "$3$$" + strings.Repeat("0", 32), "$gy$j9T$salt$" + strings.Repeat(".", 43), "{MD5}" + base64Of(16)}},
		{"marks of locked accounts", []string{"*", "!", "!!", "x", "", "!" + sha512(5_000)}, []string{"?"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, "")
			var text strings.Builder
			text.WriteString("valid:*\n") // or a file without a valid line would be refused
			for i, hash := range slices.Concat(test.within, test.beyond) {
				fmt.Fprintf(&text, "user%d:%s\n", i, hash)
			}
			out, code := s.caddy("htpasswd", "--check", "--json", s.Write("users", text.String()))
			var report struct {
				Files []struct {
					Users []struct{ Name string }
				}
			}
			if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 || len(report.Files) != 1 {
				t.Fatalf("got exit code %d, %v, want a report: %s", code, err, out)
			}
			accepted := make(map[string]bool)
			for _, user := range report.Files[0].Users {
				accepted[user.Name] = true
			}
			for i := range slices.Concat(test.within, test.beyond) {
				if got, want := accepted[fmt.Sprint("user", i)], i < len(test.within); got != want {
					t.Errorf("hash %d: got accepted=%t, want %t", i, got, want)
				}
			}
		})
	}
}

// TestReferenceCommand types what docs/reference/command.md says, and what makes the
// command exit with each of its codes.
func TestReferenceCommand(t *testing.T) {
	parallel(t)
	program(t, "script")
	dir := t.TempDir()
	d := &desk{t: t, dir: dir, env: environment(dir)}
	file := filepath.Join(dir, ".htpasswd")
	want := []string{"Adding password for user alice", "Adding password for user bob", "users who can log in: 2;", "Adding password for user carol"}
	for i, command := range blocks(t, commandPage, "console") {
		password := []line{{"New password: ", "secret"}, {"Re-type new password: ", "secret"}}
		if strings.Contains(command, "--check") || strings.Contains(command, "--generate") {
			password = nil
		}
		command = strings.NewReplacer("sudo caddy", caddyBinary, "/etc/caddy/.htpasswd", file).Replace(strings.TrimSpace(command))
		if said := d.talk(command, password); !strings.Contains(said, want[i]) {
			t.Errorf("%s: got %q, want '%s'", command, said, want[i])
		}
	}

	var messages, last strings.Builder
	generate := exec.Command(caddyBinary, "htpasswd", "--generate", file, "dave")
	generate.Stdout, generate.Stderr = &last, &messages
	must(t, generate.Run())
	if password := strings.TrimSuffix(last.String(), "\n"); len(password) != 20 || strings.ContainsAny(password, "0Oo1Il\n ") || strings.Contains(messages.String(), password) {
		t.Errorf("got %q on standard output and %q on standard error, want a password of 20 characters and messages", last.String(), messages.String())
	} else if said := testkit.Run(t, caddyBinary, "htpasswd", "-vb", file, "dave", password); !strings.Contains(said, "correct") {
		t.Errorf("got %q for the generated password", said)
	}

	invalid := filepath.Join(dir, "invalid")
	must(t, os.WriteFile(invalid, []byte("no colon\n"), 0o600))
	codes := make(map[string]bool)
	for _, test := range []struct {
		name string
		args []string
		code int
	}{
		{"a user who is in the file", []string{"-vb", file, "alice", "secret"}, 0},
		{"no such user to remove", []string{"-D", file, "erin"}, 0},
		{"no file", []string{"-b", filepath.Join(dir, "none"), "alice", "secret"}, 1},
		{"a file of a fleet, but no running Caddy", []string{"--address", "localhost:1", "-b", "fleet://staff", "alice", "secret"}, 1},
		{"no user", []string{file}, 2},
		{"a cost above the limit", []string{"-nb", "-C", "15", "alice", "secret"}, 2},
		{"rounds below the limit", []string{"-nb5", "-r", "999", "alice", "secret"}, 2},
		{"nothing on standard input", []string{"-i", file, "alice"}, 2},
		{"a wrong password", []string{"-vb", file, "alice", "wrong"}, 3},
		{"a long user name", []string{"-b", file, strings.Repeat("a", 256), "secret"}, 5},
		{"a long password", []string{"-b", file, "alice", strings.Repeat("p", 73)}, 5},
		{"a colon in the user name", []string{"-b", file, "al:ice", "secret"}, 6},
		{"no such user", []string{"-vb", file, "erin", "secret"}, 6},
		{"not an htpasswd file", []string{"-b", invalid, "alice", "secret"}, 7},
		{"a check of it", []string{"--check", file, invalid}, 7},
	} {
		s := &server{Server: &testkit.Server{T: t, Dir: dir}}
		if out, code := s.caddy(append([]string{"htpasswd"}, test.args...)...); code != test.code {
			t.Errorf("%s: got exit code %d, want %d: %s", test.name, code, test.code, out)
		}
		codes[fmt.Sprint(test.code)] = true
	}
	codes["4"] = true // TestToolInterrupted of internal/tool
	for code := range codes {
		if !strings.Contains(section(t, commandPage, "Exit codes"), "\n| "+code+" | ") {
			t.Errorf("got no exit code %s on the page, want a row", code)
		}
	}
}

// TestReferenceFlags looks for each flag of "caddy htpasswd" in the table of flags,
// and compares what -n and -p write with Apache's htpasswd.
func TestReferenceFlags(t *testing.T) {
	parallel(t)
	table := section(t, commandPage, "Flags")
	flags := regexp.MustCompile(`(?m)^  (?:(-\w), |    )(--[\w-]+)`).FindAllStringSubmatch(toolHelp(t), -1)
	if len(flags) < 15 {
		t.Errorf("got only %d flags: %q, want at least 15", len(flags), flags)
	}
	for _, flag := range flags {
		want := "`" + flag[2] + "`"
		if flag[1] != "" {
			want = "`" + flag[1] + "` " + want
		}
		if flag[2] != "--help" && !strings.Contains(table, want) {
			t.Errorf("got no %s in the table, want a row", want)
		}
	}
	here := testkit.Run(t, caddyBinary, "htpasswd", "-nbp", "alice", "secret")
	apache := testkit.Run(t, "htpasswd", "-nbp", "alice", "secret")
	if !strings.HasSuffix(here, "alice:{PLAIN}secret\n") || !strings.HasSuffix(apache, "alice:secret\n\n") {
		t.Errorf("got %q here and %q from Apache's htpasswd, want the line with one line end, and with two", here, apache)
	}
}

// TestPerformanceCommands checks that the benchmarks that docs/performance.md names can
// be built, and what make would run. It does not run them, because they take an hour.
func TestPerformanceCommands(t *testing.T) {
	parallel(t)
	packages := regexp.MustCompile(`\./(bench|speed|flood)\b`)
	for command := range strings.Lines(block(t, "../docs/performance.md", "console", "make bench-")) {
		args := strings.Fields(command)
		found := packages.FindAllString(testkit.Run(t, args[0], "-C", "..", "-n", args[1]), -1)
		if len(found) == 0 {
			t.Errorf("%s: got no package of benchmarks, want one", strings.TrimSpace(command))
		}
		for _, name := range found {
			testkit.Run(t, "go", "vet", name)
		}
	}
}
