package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

var _ = ranBy("TestFromBasicAuth",
	"umask 077",
	"caddy htpasswd --check .htpasswd",
	"sudo install -o root -g caddy -m 640 .htpasswd /etc/caddy/.htpasswd",
	"rm users.txt .htpasswd")

const basicAuthPage = "../docs/from-basic-auth.md"

// basicAuthSites returns the Caddyfile with basic_auth in docs/from-basic-auth.md,
// and the one with htpasswd that replaces it.
func basicAuthSites(t *testing.T) (before, after string) {
	t.Helper()
	found := sectionBlocks(t, basicAuthPage, "Replace the directive", "caddyfile")
	if len(found) != 2 {
		t.Fatalf("got %d Caddyfiles, want two", len(found))
	}
	return found[0], found[1]
}

// basicAuthUsers returns the lines with users of a Caddyfile with basic_auth.
func basicAuthUsers(t *testing.T, caddyfile string) string {
	t.Helper()
	_, rest, _ := strings.Cut(caddyfile, "basic_auth")
	_, rest, found := strings.Cut(rest, "{\n")
	users, _, isClosed := strings.Cut(rest, "\t}\n")
	if !found || !isClosed {
		t.Fatalf("no block of basic_auth in\n%s", caddyfile)
	}
	return users
}

// convertBasicAuth runs the commands of the docs on lines of users, and returns
// the path of the password file that they write.
func convertBasicAuth(t *testing.T, users string) string {
	t.Helper()
	dir := testkit.PublicDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "users.txt"), []byte(users), 0o600))
	file := filepath.Join(dir, "installed")
	commands := testkit.Substitute(
		sectionBlocks(t, basicAuthPage, "Convert the users", "sh")[0]+sectionBlocks(t, basicAuthPage, "Convert the users", "console")[0],
		nil, "sudo ", "", "-o root -g caddy ", "", "/etc/caddy/.htpasswd", file, "caddy htpasswd", caddyBinary+" htpasswd")
	cmd := exec.Command("sh", "-e", "-c", commands)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s\nof\n%s", err, out, commands)
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o640 || len(left) != 1 {
		t.Fatalf("got %v, %v and the files %v, want one file of mode 640", info, err, left)
	}
	return file
}

// basicAuthSite runs a Caddyfile of docs/from-basic-auth.md with a password file.
func basicAuthSite(t *testing.T, caddyfile, file string) docsClient {
	t.Helper()
	_, c := docsSite(t, strings.ReplaceAll(caddyfile, "/etc/caddy/.htpasswd", file))
	return c
}

// TestFromBasicAuth runs the Caddyfile with basic_auth, converts its users as the
// docs say, and sends the same requests to the Caddyfile with htpasswd.
func TestFromBasicAuth(t *testing.T) {
	parallel(t)
	before, after := basicAuthSites(t)
	file := convertBasicAuth(t, "\t\t# staff\n\n"+basicAuthUsers(t, before)+"\n")
	for line := range strings.Lines(readText(t, file)) {
		if user, hash, _ := strings.Cut(line, ":"); user != "alice" && user != "bob" || !strings.HasPrefix(hash, "$2a$10$") {
			t.Errorf("got a line of the user %q that is not bcrypt, want alice and bob with bcrypt", user)
		}
	}
	compare(t, basicAuthSite(t, after, file), basicAuthSite(t, before, file), []asked{
		{path: "/", want: 200},
		{path: "/admin", want: 200}, // neither includes it
		{path: "/admin/", want: 401},
		{path: "/admin/x", want: 401},
		{path: "/ADMIN/x", want: 401},
		{path: "/y/../admin/x", want: 401},
		{path: "/admin/x", login: asAlice, want: 200},
		{path: "/admin/x", login: "bob:builder", want: 200},
		{path: "/admin/x", login: "alice:builder", want: 401},
		{path: "/admin/x", login: "Alice:secret", want: 401},
		{path: "/admin/x", login: "carol:secret", want: 401},
		{path: "/admin/x", method: "POST", body: "a text", login: asAlice, want: 200},
		{path: "/admin/x", header: "Authorization: Bearer x", want: 401},
	})
}

// TestFromBasicAuthFormats converts what "caddy hash-password" prints by default.
func TestFromBasicAuthFormats(t *testing.T) {
	parallel(t)
	_, after := basicAuthSites(t)
	hash := func(args ...string) string {
		return strings.TrimSpace(testkit.Run(t, caddyBinary, append([]string{"hash-password", "--plaintext", "secret"}, args...)...))
	}
	users := map[string]string{
		"bcrypt": hash(), "argon2id": hash("--algorithm", "argon2id"), "short": hash("--algorithm", "argon2id", "--argon2id-keylen", "16"),
	}
	lines := ""
	for user, hash := range users {
		lines += user + "   " + hash + "\n"
	}
	c := basicAuthSite(t, after, convertBasicAuth(t, lines))
	for user := range users {
		for password, want := range map[string]int{"secret": 200, "wrong": 401} {
			if a := c.must(asked{path: "/admin/x", login: user + ":" + password}); a.Status != want {
				t.Errorf("%s with the password %q: got %d, want %d", user, password, a.Status, want)
			}
		}
	}
	// What the table says needs a new password.
	for _, args := range [][]string{{"--bcrypt-cost", "15"}, {"--algorithm", "argon2id", "--argon2id-keylen", "64"}} {
		file := filepath.Join(t.TempDir(), "users")
		must(t, os.WriteFile(file, []byte("alice:"+hash(args...)+"\n"), 0o600))
		if out, err := exec.Command(caddyBinary, "htpasswd", "--check", file).CombinedOutput(); err == nil {
			t.Errorf("%v: got %s, want that the line is invalid", args, out)
		}
	}
}

// TestFromBasicAuthNames has users whose lines need a change by hand.
func TestFromBasicAuthNames(t *testing.T) {
	parallel(t)
	before, after := basicAuthSites(t)
	line := strings.TrimSpace(strings.Split(basicAuthUsers(t, before), "\n")[0])
	hash := strings.TrimPrefix(line, "alice ")
	hashFile := filepath.Join(t.TempDir(), "hash")
	must(t, os.WriteFile(hashFile, []byte(hash), 0o600))
	theirs := basicAuthSite(t, strings.Replace(before, line, `"alice smith" `+hash+"\nplaceholder {file."+hashFile+"}\n\"a:b\" "+hash, 1), "")
	file := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(file, []byte("alice smith:"+hash+"\nplaceholder:{file."+hashFile+"}\nbob:"+hash+"\n"), 0o600))
	ours := basicAuthSite(t, after, file)
	compare(t, ours, theirs, []asked{
		{path: "/admin/x", login: "alice smith:secret", want: 200},
		{path: "/admin/x", login: "placeholder:secret", want: 401, theirs: 200},
		{path: "/admin/x", login: "a:b:secret", want: 401},
		{path: "/admin/x", login: "a:secret", want: 401},
	})
}

// TestFromBasicAuthChanges has what docs/from-basic-auth.md says that changes.
func TestFromBasicAuthChanges(t *testing.T) {
	parallel(t)
	before, after := basicAuthSites(t)
	file := convertBasicAuth(t, basicAuthUsers(t, before))

	t.Run("the password reaches the application", func(t *testing.T) {
		for caddyfile, want := range map[string]string{
			before: "true", after: "false", strings.Replace(after, "realm Staff", "realm Staff\nkeep_authorization", 1): "true",
		} {
			if a := basicAuthSite(t, caddyfile, file).must(asked{path: "/admin/x", login: asAlice}); a.Header.Get("X-Saw-Password") != want {
				t.Errorf("got %d and Authorization at the application: %q, want %s, by\n%s", a.Status, a.Header.Get("X-Saw-Password"), want, caddyfile)
			}
		}
	})
	t.Run("plain HTTP", func(t *testing.T) {
		for caddyfile, want := range map[string]int{before: 200, after: 403, strings.Replace(after, "realm Staff", "realm Staff\nallow_http", 1): 200} {
			s := startServer(t, "")
			must(t, s.Reload(testkit.Substitute(caddyfile, map[string]string{
				"example.com {": "http://localhost:{http} {", "/etc/caddy/.htpasswd": file, "reverse_proxy 127.0.0.1:9001": "respond ok",
			})))
			r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://localhost:%d/admin/x", s.HTTP), nil)
			must(t, err)
			r.SetBasicAuth("alice", "secret")
			if a := s.Do(r); a.Status != want {
				t.Errorf("got %d, want %d, by\n%s", a.Status, want, caddyfile)
			}
		}
	})
	t.Run("ten wrong passwords", func(t *testing.T) {
		for caddyfile, want := range map[string]int{before: 200, "{\n\thtpasswd {\n\t\tthrottle login 10 1m\n\t}\n}\n" + after: 429} {
			c := basicAuthSite(t, caddyfile, file)
			for n := range 10 {
				if a := c.must(asked{path: "/admin/x", login: fmt.Sprint("alice:wrong", n)}); a.Status != 401 {
					t.Errorf("wrong password %d: got %d, want 401", n, a.Status)
				}
			}
			if a := c.must(asked{path: "/admin/x", login: asAlice}); a.Status != want {
				t.Errorf("then the correct password: got %d, want %d, by\n%s", a.Status, want, caddyfile)
			}
		}
	})
	t.Run("the user at the application", func(t *testing.T) {
		proxy := "reverse_proxy 127.0.0.1:9001 {\nheader_up X-Remote-User {http.auth.user.id}\n}"
		for name, caddyfile := range map[string]string{
			"basic_auth":                 strings.Replace(before, "reverse_proxy 127.0.0.1:9001", proxy, 1),
			"htpasswd":                   strings.Replace(after, "reverse_proxy 127.0.0.1:9001", proxy, 1),
			"htpasswd, with user_header": strings.Replace(after, "realm Staff", "realm Staff\nuser_header X-Remote-User", 1),
		} {
			if a := basicAuthSite(t, caddyfile, file).must(asked{path: "/admin/x", login: asAlice, header: "X-Remote-User: root"}); !strings.HasSuffix(a.Body, `user="alice"`) {
				t.Errorf("%s: got %d %s, want the user alice", name, a.Status, a.Body)
			}
		}
	})
	t.Run("two headers, and control characters", func(t *testing.T) {
		tab := testkit.Run(t, caddyBinary, "hash-password", "--plaintext", "a\tb", "--bcrypt-cost", "4")
		users := basicAuthUsers(t, before) + "\t\ttab " + tab
		both := convertBasicAuth(t, users)
		for name, c := range map[string]docsClient{
			"basic_auth": basicAuthSite(t, strings.Replace(before, basicAuthUsers(t, before), users, 1), both),
			"htpasswd":   basicAuthSite(t, after, both),
		} {
			want := map[string]int{"basic_auth": 200, "htpasswd": 401}[name]
			if a := c.must(asked{path: "/admin/x", login: "tab:a\tb"}); a.Status != want {
				t.Errorf("%s, a tab in the password: got %d, want %d", name, a.Status, want)
			}
			want = map[string]int{"basic_auth": 200, "htpasswd": 400}[name]
			if a := c.must(asked{path: "/admin/x", twice: []string{basic(asAlice), basic("alice:wrong")}}); a.Status != want {
				t.Errorf("%s, two headers: got %d, want %d", name, a.Status, want)
			}
		}
	})
	t.Run("both directives", func(t *testing.T) {
		c := basicAuthSite(t, strings.Replace(before, "reverse_proxy", "htpasswd /admin/* {\nfile "+file+"\n}\nreverse_proxy", 1), file)
		for login, want := range map[string]string{"": `Basic realm="Staff"`, asAlice: ""} {
			if a := c.must(asked{path: "/admin/x", login: login}); a.Header.Get("WWW-Authenticate") != want || (a.Status == 200) != (want == "") {
				t.Errorf("login %q: got %d with the challenge %q, want that of basic_auth: %q", login, a.Status, a.Header.Get("WWW-Authenticate"), want)
			}
		}
	})
	t.Run("a hash that cannot be used", func(t *testing.T) {
		line := strings.TrimSpace(strings.Split(basicAuthUsers(t, before), "\n")[0])
		c := basicAuthSite(t, strings.Replace(before, line, "alice $9$invalid", 1), file)
		if a := c.must(asked{path: "/admin/x", login: asAlice}); a.Status != 401 {
			t.Errorf("basic_auth: got %d, want that it starts, and 401", a.Status)
		}
		s, _ := docsSite(t, strings.ReplaceAll(after, "/etc/caddy/.htpasswd", func() string {
			file := filepath.Join(t.TempDir(), "users")
			must(t, os.WriteFile(file, []byte("alice:$9$invalid\nbob:"+fastHash(t, "x")+"\n"), 0o600))
			return file
		}()))
		if !strings.Contains(s.Log(), `"line":1`) {
			t.Errorf("htpasswd: got no log line about line 1 of the file, want one")
		}
	})
	t.Run("a placeholder in an earlier directive", func(t *testing.T) {
		for name, caddyfile := range map[string]string{"basic_auth": before, "htpasswd": strings.ReplaceAll(after, "/etc/caddy/.htpasswd", file)} {
			s := newServerIn(t, t.TempDir())
			s.Write("Caddyfile", strings.Replace(caddyfile, "reverse_proxy 127.0.0.1:9001", "root * /srv/{http.auth.user.id}\nfile_server", 1))
			out, err := s.command("validate", "--config", "Caddyfile").CombinedOutput()
			if isRefused := err != nil && strings.Contains(string(out), "{http.auth.user.id}' is used in 'root'"); isRefused != (name == "htpasswd") {
				t.Errorf("%s: got %v %s, want that only htpasswd refuses it", name, err, out)
			}
		}
	})
}
