package e2e

import (
	"crypto/sha1" //nolint:gosec // the format
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// oldHashes returns hashes of twelve formats, as files of twenty years have them, three
// with names in braces, as of Dovecot and LDAP, and their passwords.
func oldHashes(t *testing.T) (hashes, passwords map[string]string) {
	t.Helper()
	hashes, passwords = make(map[string]string), make(map[string]string)
	add := func(user, password, hash string) { hashes[user], passwords[user] = hash, password }
	for _, f := range []struct {
		format string
		cost   int
	}{
		{"descrypt", 0}, {"plain", 0}, {"sha1", 0}, {"apr1", 0}, {"sha256crypt", 0}, {"sha256crypt", 1000},
		{"sha512crypt", 0}, {"sha512crypt", 4999}, {"bcrypt", 4}, {"bcrypt", 9},
	} {
		user := fmt.Sprint(f.format, f.cost)
		password := "pw " + user
		if f.format == "descrypt" {
			password = "12345678"
		}
		hash, err := crypt.Make(f.format, f.cost, []byte(password))
		must(t, err)
		add(user, password, hash)
	}
	program(t, "openssl")
	add("md5crypt", "pässword", strings.TrimSpace(testkit.Run(t, "openssl", "passwd", "-1", "-salt", "abcdefgh", "pässword")))
	sum := sha1.Sum([]byte("salty" + "saltsalt")) //nolint:gosec // the format
	for name, format := range map[string]string{"{CRYPT}": "sha512crypt", "{DES-CRYPT}": "descrypt", "{BLF-CRYPT}": "bcrypt"} {
		cost := 0
		if format == "bcrypt" {
			cost = 5
		}
		hash, err := crypt.Make(format, cost, []byte("exported"))
		must(t, err)
		add("exported-"+format, "exported", name+hash)
	}
	add("ssha", "salty", "{SSHA}"+base64.StdEncoding.EncodeToString(append(sum[:], "saltsalt"...)))
	return hashes, passwords
}

// TestRehashTwelveFormats has everybody in a file of twelve formats log in once. The file
// then has only strong hashes, with which nginx and Apache accept everybody, too.
// Meanwhile nobody is refused.
func TestRehashTwelveFormats(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	program(t, "apache2")
	hashes, passwords := oldHashes(t)
	dir := testkit.PublicDir(t)
	path := filepath.Join(dir, "users")
	text := "# twenty years\n\n"
	for user, hash := range hashes {
		text += user + ":" + hash + ":comment of " + user + "\n"
	}
	text += "locked:!\n"
	must(t, os.WriteFile(path, []byte(text), 0o644))
	const nginxConf = "server {\nlisten 127.0.0.1:{port};\nlocation / {\nauth_basic x;\nauth_basic_user_file PATH;\nempty_gif;\n}\n}"
	const apacheConf = "Listen 127.0.0.1:{port}\nDocumentRoot {dir}\nAlias / {dir}/page\n<Location />\nAuthType Basic\nAuthName x\nAuthUserFile PATH\nRequire valid-user\n</Location>\n"
	peers := map[string]*testkit.Peer{
		"nginx":  startNginx(t, strings.ReplaceAll(nginxConf, "PATH", path)),
		"Apache": startApache(t, strings.ReplaceAll(apacheConf, "PATH", path)),
	}
	must(t, os.WriteFile(filepath.Join(peers["Apache"].Dir, "page"), []byte(page), 0o644))
	s := startServer(t, "https://localhost:{https} {\n\thtpasswd {\n\t\tfile "+path+"\n\t\trehash\n\t}\n\trespond ok\n}\n")
	everybody := func() {
		t.Helper()
		for user, password := range passwords {
			if a := s.Get("/", user, password); a.Status != http.StatusOK {
				t.Errorf("%s: got %d, want 200", user, a.Status)
			}
		}
	}
	everybody()
	users := func() *htfile.Users {
		t.Helper()
		users, err := htfile.Parse(readText(t, path))
		must(t, err)
		return users
	}
	eventually(t, "all hashes are bcrypt with cost 10", func() bool {
		everybody()
		formats := users().Formats()
		return len(formats) == 1 && formats[0] == htfile.FormatCount{Format: "bcrypt", Cost: "10", Users: len(hashes)}
	})
	want := text
	for user, hash := range hashes {
		want = strings.Replace(want, user+":"+hash+":", user+":"+users().Find(user).Hash+":", 1)
	}
	if got := readText(t, path); got != want {
		t.Errorf("got the file\n%s, want\n%s", got, want)
	}
	for name, peer := range peers {
		for user, password := range passwords {
			for _, test := range []struct {
				password string
				isIn     bool
			}{{password, true}, {password + "x", false}} {
				r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", peer.Port), nil)
				must(t, err)
				r.SetBasicAuth(user, test.password)
				a, err := testkit.Send(http.DefaultClient, r)
				must(t, err)
				if isIn := a.Status == http.StatusOK; isIn != test.isIn || !isIn && a.Status != http.StatusUnauthorized {
					t.Errorf("%s, %s: got %d, want in: %t", name, user, a.Status, test.isIn)
				}
			}
		}
	}
	everybody()
	if a := s.Get("/", "locked", ""); a.Status != http.StatusUnauthorized {
		t.Errorf("a locked user: got %d", a.Status)
	}
	if said := s.Log(); strings.Contains(said, "login failed") && !strings.Contains(said, `"reason":"locked user"`) {
		t.Error("a login failed")
	}
}

// TestPermissionsRehash has a server, as the user caddy, that cannot write the file of
// root, and one that can write the file in the directory of the page.
func TestPermissionsRehash(t *testing.T) {
	p := newPermissions(t)
	commands := permissionCommands["TestPermissionsRehash"]
	site := func() string { return strings.Replace(p.site(), p.users, p.users+"\n\t\trehash", 1) }
	before := readText(t, p.users)
	s := p.start(p.server(site()), wwwDataID)
	for range 3 {
		if !isIn(s) {
			t.Error("with a file that cannot be written: alice cannot log in")
		}
	}
	const message = `"msg":"cannot replace weak password hashes; logins still work"`
	if said := s.process.Said(); strings.Count(said, message) != 1 || !strings.Contains(said, "permission denied") || strings.Contains(said, "sudo") || readText(t, p.users) != before {
		t.Errorf("got %s, want one warning with the cause", said)
	}

	dir := filepath.Join(p.dir, "own")
	owner := []string{"-o caddy -g caddy", fmt.Sprintf("-o %d -g %[1]d", caddyID), "/var/lib/caddy-htpasswd", dir}
	p.run(commands[0], owner...)
	p.run(commands[1], append(owner, "/etc/caddy/.htpasswd", p.users)...)
	p.users = filepath.Join(dir, "users")
	if out := p.run(commands[2], owner...); !strings.Contains(out, "users who can log in: 1") {
		t.Errorf("%s: got %s", commands[2], out)
	}
	s = p.start(p.server(site()))
	if !isIn(s) {
		t.Error("alice cannot log in")
	}
	eventually(t, "the hash is replaced", func() bool {
		if !isIn(s) {
			t.Error("alice is refused meanwhile")
		}
		return strings.HasPrefix(readText(t, p.users), "alice:$2y$10$")
	})
	info, err := os.Stat(p.users)
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || stat.Uid != caddyID || stat.Gid != caddyID {
		t.Errorf("got %v of %d:%d, want mode and owner unchanged", info.Mode(), stat.Uid, stat.Gid)
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(s.process.Said(), `"msg":"weak password hashes replaced"`) })
	if said := s.process.Said(); strings.Contains(said, message) {
		t.Errorf("got a warning, want none: %s", said)
	}

	// Permission is lost, and a user with a weak hash logs in: one line, and logins work.
	must(t, os.Chown(p.users, 0, caddyID))
	text := readText(t, p.users) + bobSecret
	must(t, os.WriteFile(p.users, []byte(text), 0o640))
	eventually(t, "bob can log in", func() bool { return s.get("/", "bob", "secret").Status == http.StatusOK })
	eventually(t, "the log says why", func() bool {
		s.get("/", "bob", "secret")
		return strings.Contains(s.process.Said(), "which is not the user of the server")
	})
	if said := s.process.Said(); strings.Count(said, message) != 1 || readText(t, p.users) != text {
		t.Errorf("got %s, want one warning", said)
	}
}

// TestPermissionsRehashWithNginx gives the directory and the file to the group of nginx.
// The file keeps this group when the server replaces it.
func TestPermissionsRehashWithNginx(t *testing.T) {
	p := newPermissions(t)
	dir := filepath.Join(p.dir, "own")
	must(t, os.Mkdir(dir, 0o750))
	must(t, os.Chown(dir, caddyID, caddyID))
	p.users = filepath.Join(dir, "users")
	must(t, os.WriteFile(p.users, []byte(alice), 0o640))
	must(t, os.Chown(p.users, caddyID, caddyID))
	p.run(permissionCommands["TestPermissionsRehashWithNginx"][0], "/var/lib/caddy-htpasswd", dir, "www-data", fmt.Sprint(wwwDataID))
	s := p.start(p.server(strings.Replace(p.site(), p.users, p.users+"\n\t\trehash", 1)), wwwDataID)
	eventually(t, "the hash is replaced", func() bool {
		return isIn(s) && strings.HasPrefix(readText(t, p.users), "alice:$2y$10$")
	})
	info, err := os.Stat(p.users)
	must(t, err)
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || stat.Uid != caddyID || stat.Gid != wwwDataID {
		t.Errorf("got %v of %d:%d, want mode, owner and group unchanged", info.Mode(), stat.Uid, stat.Gid)
	}
	if out, err := p.as(panelID, []uint32{wwwDataID}, "cat", p.users).CombinedOutput(); err != nil {
		t.Errorf("a member of the group cannot read the file: %s", out)
	}
}

// TestExampleAccounts runs the commands of the text.
func TestExampleAccounts(t *testing.T) {
	parallel(t)
	e := loadExample(t, "accounts", "localhost:2019", "$CADDY_ADMIN")
	run := func(line string) string {
		t.Helper()
		out, ok := e.run(e.said(line))
		if !ok {
			t.Fatalf("%s: %s", line, out)
		}
		return out
	}
	run("mkdir -p -m 700 build/accounts")
	run("go run ./cmd/caddy htpasswd -cmb build/accounts/users alice swordfish")
	run("go run ./cmd/caddy htpasswd -sb build/accounts/users bob swordfish")
	e.start()
	const check = "go run ./cmd/caddy htpasswd --check build/accounts/users"
	if out := run(check); !strings.Contains(out, "  apr1: 1\n") || !strings.Contains(out, "  sha1 (weak): 1\n") {
		t.Errorf("got %s", out)
	}
	e.check([]exampleAnswer{{"curl -k -u alice:swordfish https://localhost:8443/", 0, "Hello, alice.\n", nil}})
	eventually(t, "alice's hash is replaced, and bob's is not", func() bool {
		out, _ := e.run(check)
		return strings.Contains(out, "  bcrypt 10: 1\n") && strings.Contains(out, "  sha1 (weak): 1\n")
	})
	e.check([]exampleAnswer{{"curl -k -u bob:swordfish https://localhost:8443/", 0, "Hello, bob.\n", nil}})
	eventually(t, "bob's hash is replaced", func() bool {
		out, _ := e.run(check)
		return strings.Contains(out, "  bcrypt 10: 2\n")
	})
	if out := run("curl localhost:2019/htpasswd"); !strings.Contains(out, `"rehash":{"pending":0}`) {
		t.Errorf("got %s", out)
	}
	if out := run(`curl -k -u bob:swordfish -H "Origin: https://localhost:8443" -d current_password=swordfish -d new_password=orbit-walnut-kettle -d new_password_again=orbit-walnut-kettle https://localhost:8443/account/password`); !strings.Contains(out, ">The password of bob has been changed.<") {
		t.Errorf("the form: got %s", out)
	}
	e.check([]exampleAnswer{
		{"curl -k -i -u bob:swordfish https://localhost:8443/", 401, "", nil},
		{"curl -k -u bob:orbit-walnut-kettle https://localhost:8443/", 0, "Hello, bob.\n", nil},
	})
	e.checkAll()
}
