// Package e2e runs caddy-htpasswd, as users build it, beside and against real
// programs: nginx, Apache, a browser, an ACME server, clients. It is a module
// of its own, so that the plugin does not depend on what these need.
package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

var (
	must       = testkit.Must
	eventually = testkit.Eventually
	freePorts  = testkit.FreePorts
	program    = testkit.Program
	start      = testkit.Start
)

// caddyBinary is Caddy with the plugin, built once for all tests.
var caddyBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		caddyBinary = filepath.Join(dir, "caddy")
		build := exec.Command("go", "build", "-o", caddyBinary, "./cmd/caddy")
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building caddy: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// server is a Caddy in a process of its own, with the site
// https://localhost:{https}.
type server struct {
	t     testing.TB
	dir   string
	https int
	http  int
	admin int

	process *testkit.Process
	client  *http.Client // trusts the certificates of the server's own authority
}

// startCaddy runs a Caddyfile of these global options and sites, in which
// {dir}, {https} and {http} stand for a folder of its own and for ports.
func startCaddy(t testing.TB, global, sites string) *server {
	t.Helper()
	ports := freePorts(t, 3)
	s := &server{t: t, dir: t.TempDir(), https: ports[0], http: ports[1], admin: ports[2]}
	return s.begin(global, sites)
}

// startIn is startCaddy for who has put files into a folder before.
func startIn(t testing.TB, dir, global, sites string) *server {
	t.Helper()
	ports := freePorts(t, 3)
	s := &server{t: t, dir: dir, https: ports[0], http: ports[1], admin: ports[2]}
	return s.begin(global, sites)
}

func (s *server) begin(global, sites string) *server {
	s.t.Helper()
	s.configure(global, sites)
	s.run()
	return s
}

// configure writes the Caddyfile.
func (s *server) configure(global, sites string) {
	s.t.Helper()
	text := "{\n\tadmin localhost:{admin}\n\thttps_port {https}\n\thttp_port {http}\n\tskip_install_trust\n\tstorage file_system {dir}/storage\n\tpersist_config off\n" +
		global + "\n}\n" + sites + "\n"
	s.write("Caddyfile", s.fill(text))
}

// fill puts the folder and the ports into a text.
func (s *server) fill(text string) string {
	return strings.NewReplacer("{dir}", s.dir, "{https}", fmt.Sprint(s.https), "{http}", fmt.Sprint(s.http), "{admin}", fmt.Sprint(s.admin)).Replace(text)
}

// run starts the process and waits until it serves.
func (s *server) run() {
	s.t.Helper()
	s.process = start(s.t, s.dir, s.env(), caddyBinary, "run", "--config", "Caddyfile")
	s.awaitReady()
}

func (s *server) awaitReady() {
	s.t.Helper()
	eventually(s.t, "caddy serves", func() bool {
		resp, err := http.Get(fmt.Sprintf("http://localhost:%d/config/", s.admin))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	s.client = s.newClient()
	text, err := os.ReadFile(filepath.Join(s.dir, "Caddyfile"))
	must(s.t, err)
	if strings.Contains(string(text), fmt.Sprintf("https://localhost:%d", s.https)) {
		eventually(s.t, "the certificate is there", func() bool {
			s.client = s.newClient()
			c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.https), s.client.Transport.(*http.Transport).TLSClientConfig)
			return err == nil && c.Close() == nil
		})
	}
}

func (s *server) env() []string {
	return append(os.Environ(), "HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir)
}

// caFile is the certificate of the authority that the server's own certificates
// are of.
func (s *server) caFile() string {
	return filepath.Join(s.dir, "storage/pki/authorities/local/root.crt")
}

func (s *server) newClient() *http.Client {
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(s.caFile()); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
}

// caddy runs a command of the binary, such as "reload", and returns what it
// says and its exit code.
func (s *server) caddy(args ...string) (string, int) {
	s.t.Helper()
	cmd := exec.Command(caddyBinary, args...)
	cmd.Dir, cmd.Env = s.dir, s.env()
	out, err := cmd.CombinedOutput()
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// reload has the server use other global options and sites.
func (s *server) reload(global, sites string) error {
	s.t.Helper()
	s.configure(global, sites)
	if out, code := s.caddy("reload", "--config", "Caddyfile", "--address", fmt.Sprintf("localhost:%d", s.admin)); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, out)
	}
	testkit.AwaitOneListener(s.t, s.https, s.http)
	s.client.CloseIdleConnections() // by which the old configuration would serve
	return nil
}

// kill ends the process as a power cut would.
func (s *server) kill() { s.process.Stop(syscall.SIGKILL) }

// write writes a file in the server's folder.
func (s *server) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	must(s.t, os.WriteFile(path, []byte(text), 0o640))
	return path
}

// url is the address of a path on the server.
func (s *server) url(path string) string { return fmt.Sprintf("https://localhost:%d%s", s.https, path) }

// answer is a response, read to the end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks for a path, with a password if user isn't empty.
func (s *server) get(path, user, password string) answer {
	s.t.Helper()
	a, err := s.try(path, user, password)
	must(s.t, err)
	return a
}

// try is get for who expects errors.
func (s *server) try(path, user, password string) (answer, error) {
	r, err := http.NewRequest(http.MethodGet, s.url(path), nil)
	if err != nil {
		return answer{}, err
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return send(s.client, r)
}

func send(client *http.Client, r *http.Request) (answer, error) {
	resp, err := client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header, body.String()}, nil
}

// htpasswd runs "caddy htpasswd", which makes the password files of the tests.
func (s *server) htpasswd(args ...string) {
	s.t.Helper()
	if out, code := s.caddy(append([]string{"htpasswd"}, args...)...); code != 0 {
		s.t.Fatalf("caddy htpasswd %q: %d, %s", args, code, out)
	}
}

// htpasswdIn is that for a folder without a server yet.
func htpasswdIn(t testing.TB, dir string, args ...string) {
	t.Helper()
	(&server{t: t, dir: dir}).htpasswd(args...)
}

// authorization is the value of the header with Basic credentials.
func authorization(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
