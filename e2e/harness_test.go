// Package e2e tests caddy-htpasswd against real programs: nginx, Apache, a
// browser, an ACME server, clients. It is a separate module, so that the plugin
// does not depend on the modules that these tests need.
package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"flag"
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
	readText   = testkit.ReadText
)

// answer is a response, read to the end.
type answer = testkit.Answer

// caddyBinary is Caddy with the plugin, built once for all tests.
var caddyBinary string

// backendVariable makes the test binary an upstream server instead of running
// tests. Its value is the server's address and name, separated by a space.
const backendVariable = "CADDY_HTPASSWD_TEST_BACKEND"

// atOnce limits how many tests run at the same time. They mostly wait for other
// processes.
var atOnce = make(chan struct{}, 4)

// parallel runs a test in parallel with others, limited by atOnce. TestSoak,
// which takes longest, starts at once and does not count.
func parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	atOnce <- struct{}{}
	t.Cleanup(func() { <-atOnce })
}

func TestMain(m *testing.M) {
	if address, name, isBackend := strings.Cut(os.Getenv(backendVariable), " "); isBackend {
		fmt.Fprintln(os.Stderr, serveName(address, name))
		os.Exit(1)
	}
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
		// For the ACME server of TestAutomaticHTTPS, which runs in this process.
		for name, value := range map[string]string{
			"PEBBLE_VA_NOSLEEP":      "1",
			"PEBBLE_AUTHZREUSE":      "0", // so that a renewal needs a challenge; 1 of 100 does not even so
			"PEBBLE_WFE_NONCEREJECT": "0", // it would reject some at random
		} {
			if err := os.Setenv(name, value); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		flag.Parse()
		// All tests may start; parallel limits how many run.
		if err := flag.Set("test.parallel", "1000"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// server is a Caddy in its own process. There are two ways to configure it.
// startServer and Reload take complete configurations, such as those of the
// documentation. startCaddy and reload write a Caddyfile, as an administrator
// does, and use the commands "caddy run" and "caddy reload".
type server struct {
	*testkit.Server
	process *testkit.Process
	binary  string // "" for caddyBinary
}

// program returns the path of the server's binary.
func (s *server) program() string {
	if s.binary != "" {
		return s.binary
	}
	return caddyBinary
}

// startServer starts a server with a Caddyfile. Rate limits are off unless the
// Caddyfile sets them. Without a Caddyfile, the server starts at Reload.
func startServer(t testing.TB, caddyfile string) *server {
	t.Helper()
	s := new(server)
	s.Server = testkit.NewServer(t, ownProcess{s}, testkit.ServerOptions{Admin: true})
	if caddyfile != "" {
		must(t, s.Reload(caddyfile))
	}
	return s
}

// ownProcess is the Caddy of a server.
type ownProcess struct{ *server }

// Adapt runs "caddy adapt".
func (p ownProcess) Adapt(s *testkit.Server, caddyfile string) ([]byte, error) {
	s.Write("Caddyfile", caddyfile)
	cmd := p.command("adapt", "--config", "Caddyfile")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	config, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return config, nil
}

// Load starts the process with the first configuration, and loads later ones
// through the admin API.
func (p ownProcess) Load(s *testkit.Server, config []byte) error {
	if p.process == nil {
		s.Write("caddy.json", string(config))
		p.start("caddy.json")
		return nil
	}
	r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://localhost:%d/load", s.Admin), bytes.NewReader(config))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Cache-Control", "must-revalidate") // reload even if it has not changed
	a, err := testkit.Send(adminClient, r)
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return err
}

// start starts the process and waits until it serves.
func (s *server) start(config string) {
	s.T.Helper()
	s.process = start(s.T, s.Dir, s.env(), s.program(), "run", "--config", config)
	s.awaitAdmin()
}

// awaitAdmin waits until the admin API shows the configuration, which then serves.
func (s *server) awaitAdmin() {
	s.T.Helper()
	eventually(s.T, "caddy serves", func() bool {
		if s.process.Ended() {
			log, _ := os.ReadFile(filepath.Join(s.Dir, "log")) // has the reason if the output does not
			s.T.Fatalf("caddy exited: %s%s", s.process.Said(), log)
		}
		resp, err := http.Get(fmt.Sprintf("http://localhost:%d/config/", s.Admin))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// startCaddy starts a server with these global options and sites. In them, {dir},
// {https} and {http} stand for the server's own directory and ports.
func startCaddy(t testing.TB, global, sites string) *server {
	t.Helper()
	return startIn(t, t.TempDir(), global, sites)
}

// startIn is like startCaddy, but with a directory that has files already.
func startIn(t testing.TB, dir, global, sites string) *server {
	t.Helper()
	s := newServerIn(t, dir)
	s.configure(global, sites)
	s.run()
	return s
}

// newServerIn returns a server that is not running yet.
func newServerIn(t testing.TB, dir string) *server {
	t.Helper()
	s := new(server)
	s.Server = testkit.NewServer(t, ownProcess{s}, testkit.ServerOptions{Dir: dir, Admin: true, DefaultLimits: true})
	return s
}

// configure writes the Caddyfile.
func (s *server) configure(global, sites string) {
	s.T.Helper()
	text := "{\n\tadmin localhost:{admin}\n\thttps_port {https}\n\thttp_port {http}\n\tskip_install_trust\n\tstorage file_system {dir}/storage\n\tpersist_config off\n" +
		global + "\n}\n" + sites + "\n"
	s.Write("Caddyfile", s.Fill(text))
}

// run starts the process with the Caddyfile and waits until it serves.
func (s *server) run() {
	s.T.Helper()
	s.start("Caddyfile")
	s.awaitSite()
}

// awaitSite waits until the Caddyfile's site, if there is one, has a certificate.
func (s *server) awaitSite() {
	s.T.Helper()
	s.Client = s.newClient()
	if strings.Contains(readText(s.T, filepath.Join(s.Dir, "Caddyfile")), fmt.Sprintf("https://localhost:%d", s.HTTPS)) {
		eventually(s.T, "the site has a certificate", func() bool {
			s.Client = s.newClient()
			c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.HTTPS), s.Client.Transport.(*http.Transport).TLSClientConfig)
			return err == nil && c.Close() == nil
		})
	}
}

func (s *server) env() []string { return environment(s.Dir) }

// environment returns an environment in which Caddy keeps its data in dir.
func environment(dir string) []string {
	return append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
}

// caFile returns the root certificate of the server's internal CA.
func (s *server) caFile() string {
	return filepath.Join(s.Dir, "storage/pki/authorities/local/root.crt")
}

// newClient returns a client that trusts the server's internal CA.
func (s *server) newClient() *http.Client {
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(s.caFile()); err == nil {
		pool.AppendCertsFromPEM(text)
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
}

// command returns a command of the binary, to run in the server's directory.
func (s *server) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program(), args...)
	cmd.Dir, cmd.Env = s.Dir, s.env()
	return cmd
}

// caddy runs a command of the binary, such as "reload", and returns its output
// and exit code.
func (s *server) caddy(args ...string) (string, int) {
	s.T.Helper()
	cmd := s.command(args...)
	out, err := cmd.CombinedOutput()
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit {
		s.T.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// reload loads other global options and sites into the server.
func (s *server) reload(global, sites string) error {
	s.T.Helper()
	s.configure(global, sites)
	if out, code := s.caddy("reload", "--config", "Caddyfile", "--address", fmt.Sprintf("localhost:%d", s.Admin)); code != 0 {
		return fmt.Errorf("exit code %d: %s", code, out)
	}
	testkit.AwaitOneListener(s.T, s.HTTPS, s.HTTP)
	s.Client.CloseIdleConnections() // which the old configuration would serve
	return nil
}

// kill ends the process as a power cut would.
func (s *server) kill() { s.process.Stop(syscall.SIGKILL) }

// get is like Get, but does not retry.
func (s *server) get(path, user, password string) answer {
	s.T.Helper()
	a, err := s.try(path, user, password)
	must(s.T, err)
	return a
}

// try is like get, but returns the error.
func (s *server) try(path, user, password string) (answer, error) {
	r, err := http.NewRequest(http.MethodGet, s.URL(path), nil)
	if err != nil {
		return answer{}, err
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return testkit.Send(s.Client, r)
}

// htpasswd runs "caddy htpasswd", which creates the password files of the tests.
func (s *server) htpasswd(args ...string) {
	s.T.Helper()
	if out, code := s.caddy(append([]string{"htpasswd"}, args...)...); code != 0 {
		s.T.Fatalf("caddy htpasswd %q: %d, %s", args, code, out)
	}
}

// htpasswdIn does the same in a directory that has no server yet.
func htpasswdIn(t testing.TB, dir string, args ...string) {
	t.Helper()
	(&server{Server: &testkit.Server{T: t, Dir: dir}}).htpasswd(args...)
}

// authorization returns the Authorization header with Basic credentials.
func authorization(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// serveName runs a server that reads every body and answers with its name.
func serveName(address, name string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Server", name)
	}))
}
