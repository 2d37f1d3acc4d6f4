package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const permissionsPage = "../docs/permissions.md"

// permissionCommands are the commands of the page, by the test that runs them.
var permissionCommands = map[string][]string{
	"TestPermissionsGroup": {
		"sudo -u caddy test -r /etc/nginx/.htpasswd && echo readable",
		"namei -l /etc/nginx/.htpasswd",
		"sudo caddy htpasswd --check /etc/nginx/.htpasswd",
		"sudo usermod -aG www-data caddy",
		"sudo usermod -aG ssl-cert caddy",
		"sudo systemctl restart caddy", // instead of which the test starts another process
		"sudo chown root:caddy /etc/nginx/.htpasswd",
		"sudo chmod 640 /etc/nginx/.htpasswd",
	},
	"TestPermissionsList": {
		"sudo setfacl -m u:caddy:r /etc/nginx/.htpasswd",
		"getfacl /etc/nginx/.htpasswd",
	},
	"TestPermissionsWriter": {
		"sudo install -d -o panel -g caddy -m 2750 /var/lib/htpasswd",
		"sudo -u panel caddy htpasswd -c /var/lib/htpasswd/users alice",
	},
	"TestPermissionsRehash": {
		"sudo install -d -o caddy -g caddy -m 750 /var/lib/caddy-htpasswd",
		"sudo install -o caddy -g caddy -m 640 /etc/caddy/.htpasswd /var/lib/caddy-htpasswd/users",
		"sudo caddy htpasswd --check /var/lib/caddy-htpasswd/users",
	},
	"TestPermissionsRehashWithNginx": {"sudo chgrp -R www-data /var/lib/caddy-htpasswd"},
}

var _ = func() bool {
	for test, lines := range permissionCommands {
		ranBy(test, lines...)
	}
	ranBy("TestPermissionsDropIn", "[Service]")
	return ranBy("TestPermissionsDeployHook", "#!/bin/sh")
}()

// The users that stand for caddy and for the user who writes files, and the group of
// nginx.
const caddyID, panelID, wwwDataID = 65534, 12345, 33

// permissions is a machine with files of several users.
type permissions struct {
	t             *testing.T
	dir           string
	users, binary string
}

// newPermissions has a password file as Debian's nginx has it.
func newPermissions(t *testing.T) *permissions {
	t.Helper()
	parallel(t)
	if os.Getuid() != 0 {
		t.Skip("only root can start a server as another user")
	}
	p := &permissions{t: t, dir: testkit.PublicDir(t)}
	p.binary, p.users = filepath.Join(p.dir, "caddy"), filepath.Join(p.dir, ".htpasswd")
	binary, err := os.ReadFile(caddyBinary)
	must(t, err)
	must(t, os.WriteFile(p.binary, binary, 0o755))
	must(t, os.WriteFile(p.users, []byte(alice), 0o640))
	must(t, os.Chown(p.users, 0, wwwDataID))
	return p
}

// as returns a command that another user runs.
func (p *permissions) as(user uint32, groups []uint32, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: groups}}
	cmd.Dir = p.dir
	return cmd
}

// run runs a command of the page, with the users and files of the test.
func (p *permissions) run(line string, names ...string) string {
	p.t.Helper()
	if !strings.Contains("\n"+strings.Join(blocks(p.t, permissionsPage, "console"), ""), "\n"+line+"\n") {
		p.t.Errorf("not in the page: %s", line)
	}
	names = append(names, "/etc/nginx/.htpasswd", p.users, "caddy htpasswd", p.binary+" htpasswd",
		"sudo -u caddy ", fmt.Sprintf("setpriv --reuid %d --regid %[1]d --clear-groups ", caddyID), "u:caddy:", fmt.Sprintf("u:%d:", caddyID), "root:caddy", fmt.Sprintf("root:%d", caddyID), "sudo ", "")
	out, err := exec.Command("sh", "-c", strings.NewReplacer(names...).Replace(line)).CombinedOutput()
	if err != nil {
		p.t.Errorf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// server makes a server ready in a directory that caddy can write to.
func (p *permissions) server(site string) *server {
	p.t.Helper()
	own, err := os.MkdirTemp(p.dir, "own")
	must(p.t, err)
	s := newServerIn(p.t, own)
	s.configure(unthrottled, site)
	for _, name := range []string{"", "Caddyfile"} {
		must(p.t, os.Chown(filepath.Join(own, name), caddyID, caddyID))
	}
	return s
}

// site has the password file.
func (p *permissions) site() string {
	return "https://localhost:{https} {\n\thtpasswd {\n\t\tfile " + p.users + "\n\t}\n\trespond ok\n}\n"
}

// refused returns the error of a caddy that does not start.
func (p *permissions) refused(s *server, groups ...uint32) string {
	p.t.Helper()
	cmd := p.as(caddyID, groups, p.binary, "validate", "--config", "Caddyfile")
	cmd.Dir, cmd.Env = s.Dir, s.env()
	out, err := cmd.CombinedOutput()
	if err == nil {
		p.t.Errorf("with the groups %v: got a configuration that is valid, want an error", groups)
	}
	return string(out)
}

// start starts a server as caddy with these groups.
func (p *permissions) start(s *server, groups ...uint32) *server {
	p.t.Helper()
	p.startWithKey(s, groups...)
	s.awaitSite()
	return s
}

// startWithKey is start for a server with a certificate of its own.
func (p *permissions) startWithKey(s *server, groups ...uint32) {
	p.t.Helper()
	cmd := p.as(caddyID, groups, p.binary, "run", "--config", "Caddyfile")
	cmd.Dir, cmd.Env = s.Dir, s.env()
	s.process = testkit.StartCommand(p.t, cmd)
	s.awaitAdmin()
	s.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
}

// isIn reports whether alice can log in.
func isIn(s *server) bool { return s.get("/", "alice", "secret").Status == http.StatusOK }

// TestPermissionsGroup has a file and a key that only root and a group can read.
func TestPermissionsGroup(t *testing.T) {
	p := newPermissions(t)
	commands := permissionCommands["TestPermissionsGroup"]
	s := p.server(p.site())
	if said := p.refused(s); !strings.Contains(said, p.users+": permission denied") {
		t.Errorf("got %s, want what is denied", said)
	}
	if out, err := exec.Command("sh", "-c", strings.NewReplacer("sudo -u caddy ", fmt.Sprintf("setpriv --reuid %d --regid %[1]d --clear-groups ", caddyID), "/etc/nginx/.htpasswd", p.users).Replace(commands[0])).CombinedOutput(); err == nil {
		t.Errorf("%s: got %s, want an exit code other than 0", commands[0], out)
	}
	if out := p.run(commands[1]); !strings.Contains(out, "-rw-r----- root www-data .htpasswd") {
		t.Errorf("%s: got %s, want mode, owner and group", commands[1], out)
	}
	if out := p.run(commands[2]); !strings.Contains(out, "-rw-r----- root www-data") {
		t.Errorf("%s: got %s, want mode, owner and group", commands[2], out)
	}

	// The user database of another system.
	etc := filepath.Join(p.dir, "system", "etc")
	must(t, os.MkdirAll(etc, 0o755))
	for name, text := range map[string]string{
		"passwd": "caddy:x:999:999::/var/lib/caddy:/usr/sbin/nologin\n", "shadow": "caddy:!:20000::::::\n",
		"group": "caddy:x:999:\nwww-data:x:33:\nssl-cert:x:110:\n", "gshadow": "caddy:!::\nwww-data:*::\nssl-cert:!::\n",
	} {
		must(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600))
	}
	// check runs --check with that user database, and reports whether it says that caddy cannot read the file.
	check := func() bool {
		t.Helper()
		mounts := fmt.Sprintf("mount --bind %[1]s/passwd /etc/passwd && mount --bind %[1]s/group /etc/group && ", etc)
		out, err := exec.Command("unshare", "-m", "sh", "-c", mounts+p.binary+" htpasswd --check "+p.users).CombinedOutput()
		if err != nil {
			t.Errorf("--check: %v: %s", err, out)
		}
		return strings.Contains(string(out), "the user caddy cannot read it")
	}
	mayMount := exec.Command("unshare", "-m", "mount", "--bind", etc, etc).Run() == nil
	if mayMount && !check() {
		t.Error("--check: got nothing about a file that caddy cannot read")
	}
	for _, line := range commands[3:5] {
		p.run(line, "sudo usermod", program(t, "usermod")+" -P "+filepath.Dir(etc))
	}
	if got := readText(t, filepath.Join(etc, "group")); got != "caddy:x:999:\nwww-data:x:33:caddy\nssl-cert:x:110:caddy\n" {
		t.Errorf("got the groups\n%s", got)
	}
	if mayMount && check() {
		t.Error("--check: got that caddy cannot read a file of another group that it is in")
	}

	if !isIn(p.start(s, wwwDataID)) {
		t.Error("with the group: alice cannot log in")
	}

	// A key that is root's, and one that is the group's.
	key, cert := filepath.Join(p.dir, "key.pem"), filepath.Join(p.dir, "cert.pem")
	testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert)
	must(t, os.Chmod(key, 0o600))
	withKey := p.server(strings.Replace(p.site(), "\thtpasswd", "\ttls "+cert+" "+key+"\n\thtpasswd", 1))
	if said := p.refused(withKey, wwwDataID); !strings.Contains(said, "open "+key+": permission denied") {
		t.Errorf("got %s, want what is denied", said)
	}
	must(t, os.Chown(key, 0, wwwDataID))
	must(t, os.Chmod(key, 0o640))
	if p.startWithKey(withKey, wwwDataID); !isIn(withKey) {
		t.Error("with a key of the group: alice cannot log in")
	}

	// The file for Caddy alone.
	p.run(commands[6])
	p.run(commands[7])
	if out := p.run(commands[0]); out != "readable\n" {
		t.Errorf("%s: got %q", commands[0], out)
	}
	if info, err := os.Stat(p.users); err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Gid != caddyID {
		t.Errorf("got %v %v, want mode 640 and the group of caddy", info, err)
	}
	if !isIn(p.start(p.server(p.site()))) {
		t.Error("with the group of the file changed: alice cannot log in")
	}
}

// TestPermissionsNginx takes the file away from a real nginx, as the page warns.
func TestPermissionsNginx(t *testing.T) {
	p := newPermissions(t)
	program(t, "nginx")
	asWwwData := func(t testing.TB, dir, conf string) []string {
		command := testkit.NginxCommand(t, dir, conf)
		file := filepath.Join(dir, "nginx.conf")
		must(t, os.WriteFile(file, []byte(strings.Replace(readText(t, file), "user root;", "user www-data;", 1)), 0o600))
		return command
	}
	peer := testkit.StartPeer(t, testkit.PublicDir(t), "server {\nlisten 127.0.0.1:{port};\nauth_basic x;\nauth_basic_user_file "+p.users+";\nlocation / {\nempty_gif;\n}\n}", asWwwData)
	ask := func() int {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", peer.Port), nil)
		must(t, err)
		r.SetBasicAuth("alice", "secret")
		a, err := testkit.Send(http.DefaultClient, r)
		must(t, err)
		return a.Status
	}
	if got := ask(); got != http.StatusOK {
		t.Errorf("before: got %d, want 200", got)
	}
	must(t, os.Chown(p.users, 0, caddyID))
	if got := ask(); got != http.StatusInternalServerError {
		t.Errorf("after chgrp: got %d, want 500, as the page says", got)
	}
}

// TestPermissionsList gives one user the right to read the file.
func TestPermissionsList(t *testing.T) {
	p := newPermissions(t)
	program(t, "setfacl")
	commands := permissionCommands["TestPermissionsList"]
	s := p.server(p.site())
	p.refused(s)
	p.run(commands[0])
	if got := p.run(commands[1]); !regexp.MustCompile(`(?m)^user:(nobody|65534):r--$`).MatchString(got) {
		t.Errorf("%s: got %s", commands[1], got)
	}
	if !isIn(p.start(s)) {
		t.Error("alice cannot log in")
	}
	if out, err := exec.Command(p.binary, "htpasswd", "-b", p.users, "bob", "builder").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	eventually(t, "bob can log in, since the tool keeps the list", func() bool { return s.get("/", "bob", "builder").Status == 200 })

	// Another program replaces the file without the list.
	other := filepath.Join(p.dir, "new")
	must(t, os.WriteFile(other, []byte(alice), 0o640))
	must(t, os.Chown(other, 0, wwwDataID))
	must(t, os.Rename(other, p.users))
	eventually(t, "the server says that it cannot read the file", func() bool { return !s.fileIsGood(p.users) })
	if s.get("/", "bob", "builder").Status != 200 || !strings.Contains(s.process.Said(), "permission denied") {
		t.Error("want the previous version, and why in the log")
	}
}

// TestPermissionsWriter has a program that writes the file, and a server that reads it.
func TestPermissionsWriter(t *testing.T) {
	p := newPermissions(t)
	commands := permissionCommands["TestPermissionsWriter"]
	dir := filepath.Join(p.dir, "htpasswd")
	p.run(commands[0], "-o panel", fmt.Sprintf("-o %d", panelID), "-g caddy", fmt.Sprintf("-g %d", caddyID), "/var/lib/htpasswd", dir)
	p.users = filepath.Join(dir, "users")
	p.run(commands[1], "sudo -u panel ", fmt.Sprintf("setpriv --reuid %d --regid %[1]d --clear-groups ", panelID), "-c /var/lib/htpasswd", "-bc "+dir, " alice", " alice secret")
	check := func() {
		t.Helper()
		info, err := os.Stat(p.users)
		must(t, err)
		if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o640 || stat.Uid != panelID || stat.Gid != caddyID {
			t.Errorf("got %v of %d:%d, want 0640 of the one who writes, and caddy's group", info.Mode(), stat.Uid, stat.Gid)
		}
	}
	check()
	s := p.start(p.server(p.site()))
	if !isIn(s) {
		t.Error("alice cannot log in")
	}
	// A program writes a file beside it, and renames it.
	script := "umask 027 && printf '%s\\n' '" + strings.TrimSpace(bobSecret) + "' >" + dir + "/new && mv " + dir + "/new " + p.users
	if out, err := p.as(panelID, nil, "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	check()
	eventually(t, "bob can log in", func() bool { return s.get("/", "bob", "secret").Status == 200 })
	if said := s.process.Said(); strings.Contains(said, `"level":"error"`) || strings.Contains(said, `"mode"`) {
		t.Errorf("got errors or a warning of a mode in the log, want none: %s", said)
	}
	if out, err := exec.Command(p.binary, "htpasswd", "-bc", filepath.Join(dir, "more"), "carol", "music").CombinedOutput(); err == nil || !strings.Contains(string(out), "the directory "+dir+" belongs to ") {
		t.Errorf("root: got %v %s, want it refused", err, out)
	}
	if out, err := p.as(caddyID, nil, p.binary, "htpasswd", "-b", p.users, "carol", "music").CombinedOutput(); err == nil {
		t.Errorf("the server's user: got %s, want it refused", out)
	}
}

// TestPermissionsDropIn has systemd look at the drop-in.
func TestPermissionsDropIn(t *testing.T) {
	parallel(t)
	program(t, "systemd-analyze")
	dropIn := blocks(t, permissionsPage, "ini")
	if len(dropIn) != 2 || !strings.Contains(dropIn[0], "\nSupplementaryGroups=www-data\n") || !strings.Contains(dropIn[1], "\nStateDirectory=caddy caddy-htpasswd\n") {
		t.Fatalf("got %q, want two drop-ins", dropIn)
	}
	units := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(units, "caddy.service.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(units, "caddy.service"), []byte(strings.ReplaceAll(packagedUnit, "/usr/bin/caddy", caddyBinary)), 0o644))
	for i, text := range dropIn {
		must(t, os.WriteFile(filepath.Join(units, "caddy.service.d", fmt.Sprintf("override%d.conf", i)), []byte(text), 0o644))
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(units, "caddy.service"))
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+units+":")
	if out, err := verify.CombinedOutput(); err != nil || strings.Contains(string(out), "override") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPermissionsDeployHook runs the hook for certbot, with a systemctl that reloads as
// the unit does.
func TestPermissionsDeployHook(t *testing.T) {
	p := newPermissions(t)
	etc, lineage, bin := filepath.Join(p.dir, "etc"), filepath.Join(p.dir, "lineage"), filepath.Join(p.dir, "bin")
	for _, dir := range []string{etc, lineage, bin} {
		must(t, os.Mkdir(dir, 0o755))
	}
	must(t, os.Chmod(lineage, 0o700))
	renew := func(name string) {
		t.Helper()
		testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
			"-subj", "/CN="+name, "-addext", "subjectAltName=DNS:localhost", "-keyout", filepath.Join(lineage, "privkey.pem"), "-out", filepath.Join(lineage, "fullchain.pem"))
	}
	site := strings.NewReplacer("/etc/caddy/.htpasswd", p.users, "/etc/caddy", etc, "example.com {", "https://localhost:{https} {", "reverse_proxy 127.0.0.1:9001", "respond ok").Replace(block(t, permissionsPage, "caddyfile", "tls "))
	s := p.server(site)
	hook := filepath.Join(p.dir, "hook")
	must(t, os.WriteFile(hook, []byte(strings.NewReplacer("/etc/caddy", etc, "-g caddy", fmt.Sprint("-g ", caddyID)).Replace(blocks(t, permissionsPage, "sh")[0])), 0o700))
	must(t, os.WriteFile(filepath.Join(bin, "systemctl"), fmt.Appendf(nil, "#!/bin/sh\n[ \"$*\" = 'reload caddy' ] && cd %s && [ ! -e running ] || %s reload --config Caddyfile --force --address localhost:%d\n", s.Dir, p.binary, s.Admin), 0o755))
	deploy := func() {
		t.Helper()
		cmd := exec.Command(hook)
		cmd.Env = append(os.Environ(), "RENEWED_LINEAGE="+lineage, "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+p.dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	served := func() string {
		t.Helper()
		resp, err := s.Client.Get(s.URL("/"))
		must(t, err)
		resp.Body.Close()
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	renew("first")
	deploy()
	if info, err := os.Stat(filepath.Join(etc, "example.com.key")); err != nil || info.Mode().Perm() != 0o640 || info.Sys().(*syscall.Stat_t).Gid != caddyID {
		t.Errorf("got %v %v, want a key of mode 0640 for the server's group", info, err)
	}
	p.startWithKey(s, wwwDataID)
	must(t, os.WriteFile(filepath.Join(s.Dir, "running"), nil, 0o600))
	eventually(t, "it serves the certificate", func() bool { return served() == "first" })
	renew("second")
	deploy()
	eventually(t, "it serves the renewed certificate", func() bool { return served() == "second" })
}

// TestPasswordFileBelowRoot runs the configuration that hides it, and the same without.
func TestPasswordFileBelowRoot(t *testing.T) {
	parallel(t)
	text := block(t, permissionsPage, "caddyfile", "hide .ht*")
	const warning = "below the root of a file_server"
	s, c := docsSite(t, text)
	c.expect([]asked{
		{path: "/", want: 401},
		{path: "/index.html", login: asAlice, want: 200, sees: "the page"},
		{path: "/.htpasswd", login: asAlice, want: 404},
	})
	if strings.Contains(s.Log(), warning) {
		t.Error("got a warning, want none about a file that is hidden")
	}
	s, c = docsSite(t, strings.Replace(text, " {\n\t\thide .ht*\n\t}", "", 1))
	c.expect([]asked{{path: "/.htpasswd", login: asAlice, want: 200}})
	if !strings.Contains(s.Log(), warning) {
		t.Error("got no warning about a file that is served")
	}
	s, _ = docsSite(t, strings.NewReplacer(" {\n\t\thide .ht*\n\t}", " /public/*").Replace(text))
	if strings.Contains(s.Log(), warning) {
		t.Error("got a warning, want none where no path leads to the file")
	}
}
