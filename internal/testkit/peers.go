package testkit

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Peer is a real nginx or Apache that runs until the end of the test.
type Peer struct {
	Dir       string
	Port      int // {port} in its configuration; on 127.0.0.1
	PlainPort int // {plain_port} in its configuration
	Process   *Process
}

// PeerCommand writes a configuration into a directory, and returns the command that
// runs the server with it in the foreground.
type PeerCommand func(t testing.TB, dir, conf string) []string

// NewPeer writes a configuration into a directory, and returns the command that runs
// the server with it. In the configuration, {dir} stands for the directory, and {port}
// and {plain_port} for free ports.
func NewPeer(t testing.TB, dir, conf string, command PeerCommand) (*Peer, []string) {
	t.Helper()
	ports := FreePorts(t, 2)
	p := &Peer{Dir: dir, Port: ports[0], PlainPort: ports[1]}
	names := strings.NewReplacer("{dir}", dir, "{port}", fmt.Sprint(p.Port), "{plain_port}", fmt.Sprint(p.PlainPort))
	return p, command(t, dir, names.Replace(conf))
}

// StartPeer is like NewPeer, and runs the server until the end of the test.
func StartPeer(t testing.TB, dir, conf string, command PeerCommand) *Peer {
	t.Helper()
	p, args := NewPeer(t, dir, conf, command)
	p.Process = Start(t, dir, os.Environ(), args[0], args[1:]...)
	AwaitPort(t, p.Port)
	return p
}

// AwaitPort waits until a port of 127.0.0.1 accepts connections.
func AwaitPort(t testing.TB, port int) {
	t.Helper()
	Eventually(t, fmt.Sprintf("port %d is open", port), func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil && c.Close() == nil
	})
}

// PublicDir returns a new directory that all users of the machine can read.
func PublicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "public")
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755)) //nolint:gosec // on purpose
	return dir
}

// NginxCommand is the PeerCommand of nginx. The configuration is the content of its
// http block: "server { listen 127.0.0.1:{port}; ... }".
func NginxCommand(t testing.TB, dir, conf string) []string {
	t.Helper()
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // files of tests are often readable by the test's user only
	}
	file := filepath.Join(dir, "nginx.conf")
	Must(t, os.WriteFile(file, fmt.Appendf(nil, `%s
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	%s
}
`, user, conf), 0o600))
	return []string{Program(t, "nginx"), "-p", dir, "-e", filepath.Join(dir, "nginx.log"), "-c", file}
}

// apacheModules is the directory of Apache's modules in Debian.
const apacheModules = "/usr/lib/apache2/modules"

// ApacheCommand returns the PeerCommand of Apache with these modules in addition to
// those for Basic authentication. The configuration is the rest, including "Listen
// 127.0.0.1:{port}". If root runs it, it reads files as www-data: use PublicDir for
// them.
func ApacheCommand(modules ...string) PeerCommand {
	return func(t testing.TB, dir, conf string) []string {
		t.Helper()
		program := Program(t, "apache2")
		if _, err := os.Stat(apacheModules); err != nil {
			t.Skip(err) // not Debian's Apache
		}
		var b strings.Builder
		fmt.Fprintf(&b, "ServerRoot %[1]s\nDefaultRuntimeDir %[1]s\nPidFile %[1]s/apache.pid\nErrorLog %[1]s/apache.log\nServerName localhost\n", dir)
		if os.Getuid() == 0 { // it refuses to serve as root
			b.WriteString("User www-data\nGroup www-data\n")
		}
		for _, module := range append([]string{"mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic"}, modules...) {
			fmt.Fprintf(&b, "LoadModule %s_module %s/mod_%[1]s.so\n", module, apacheModules)
		}
		file := filepath.Join(dir, "apache.conf")
		Must(t, os.WriteFile(file, []byte(b.String()+conf+"\n"), 0o600))
		return []string{program, "-d", dir, "-f", file, "-D", "FOREGROUND"}
	}
}

// Accepts reports whether nginx or Apache accepts a configuration.
func Accepts(t testing.TB, conf string, command PeerCommand) bool {
	t.Helper()
	p, args := NewPeer(t, PublicDir(t), conf, command)
	cmd := exec.Command(args[0], append(args[1:], "-t")...) //nolint:gosec // one of the two
	cmd.Dir = p.Dir
	return Succeeds(t, cmd)
}

// Succeeds runs a command, and reports whether it succeeds.
func Succeeds(t testing.TB, cmd *exec.Cmd) bool {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Logf("%s: %v: %s", filepath.Base(cmd.Path), cmd.ProcessState, strings.TrimSpace(string(out)))
	return err == nil
}

// Twins are two servers with the same files and applications: ours, and a real nginx or
// Apache.
type Twins struct {
	Ours   *Server
	Theirs *Peer
}

// StartTwins starts another server in the directory of ours, and loads a Caddyfile into
// ours. In both configurations, the keys of names are replaced by their values.
func StartTwins(t testing.TB, ours *Server, caddyfile, conf string, command PeerCommand, names map[string]string) *Twins {
	t.Helper()
	theirs := StartPeer(t, ours.Dir, Substitute(conf, names), command)
	if caddyfile = Substitute(caddyfile, names); caddyfile != "" {
		if err := ours.Reload(caddyfile); err != nil {
			t.Fatalf("%v:\n%s", err, caddyfile)
		}
	}
	return &Twins{ours, theirs}
}

// Substitute replaces the first of each pair by the second, and the keys of names by
// their values.
func Substitute(text string, names map[string]string, pairs ...string) string {
	for from, to := range names {
		pairs = append(pairs, from, to)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
