package caddyhtpasswd

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// backendVariable tells a process that it is not to test but to be a server:
// its address and its name, with a blank between them.
const backendVariable = "CADDY_HTPASSWD_TEST_BACKEND"

// caddyVariable tells a process to be caddy.
const caddyVariable = "CADDY_HTPASSWD_TEST_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(caddyVariable) != "" {
		caddycmd.Main()
		os.Exit(0)
	}
	address, name, isBackend := strings.Cut(os.Getenv(backendVariable), " ")
	if !isBackend {
		os.Exit(m.Run())
	}
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Server", name)
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// server is a Caddy that runs in this process, as any other would: there is
// one at a time, so tests that use it don't run in parallel.
type server struct {
	t      testing.TB
	dir    string // file names in the Caddyfile are relative to it
	port   int    // of https://localhost; plain HTTP is on httpPort
	http   int
	admin  int // of the admin API, in a Caddyfile with "admin localhost:{admin}"
	client *http.Client

	guesses int // sent so far
}

// startServer runs a Caddyfile, in which {dir}, {https} and {http} stand for a
// new folder, a port for the site https://localhost:{https}, and one for plain
// HTTP; {admin} is one for the admin API, which is off otherwise. What it logs, at every level, goes to the file log in the folder.
func startServer(t testing.TB, caddyfile string) *server {
	t.Helper()
	sharedGuard = newGuard(running.get, time.Now) // else the failures of one test would be those of the next
	ports := freePorts(t, 3)
	s := &server{t: t, dir: t.TempDir(), port: ports[0], http: ports[1], admin: ports[2]}
	s.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	if caddyfile != "" {
		if err := s.reload(caddyfile); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// reload loads another configuration, as "caddy reload" does.
func (s *server) reload(caddyfile string) error {
	s.t.Helper()
	config, err := s.adapt(caddyfile)
	if err != nil {
		return err
	}
	return s.load(config, strings.Contains(caddyfile, "{https}"))
}

// load loads a configuration, and waits until the site is there if it has one.
func (s *server) load(config []byte, hasSite bool) error {
	s.t.Helper()
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	// The old configuration may still serve what comes by connections that are open, or close them.
	old := s.client.Transport.(*http.Transport)
	s.client.Transport = old.Clone()
	old.CloseIdleConnections()
	testkit.AwaitOneListener(s.t, s.port, s.http)
	if hasSite {
		eventually(s.t, "the certificate is there", func() bool {
			c, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", s.port), s.client.Transport.(*http.Transport).TLSClientConfig)
			if err != nil {
				return false
			}
			return c.Close() == nil
		})
	}
	return nil
}

// withDefaultBudgets before a Caddyfile without throttle leaves the budgets as
// they are by default; otherwise they are off.
const withDefaultBudgets = "# default budgets\n"

// adapt turns a Caddyfile into JSON, with the settings each test needs.
func (s *server) adapt(caddyfile string) ([]byte, error) {
	text := strings.NewReplacer("{dir}", s.dir, "{https}", fmt.Sprint(s.port), "{http}", fmt.Sprint(s.http), "{admin}", fmt.Sprint(s.admin)).Replace(caddyfile)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, err
	}
	admin, _ := root["admin"].(map[string]any)
	if admin == nil {
		admin = map[string]any{"disabled": true}
	}
	admin["config"] = map[string]any{"persist": false}
	root["admin"] = admin
	root["storage"] = map[string]any{"module": "file_system", "root": filepath.Join(s.dir, "storage")}
	root["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{
		"level":  "DEBUG",
		"writer": map[string]any{"output": "file", "filename": filepath.Join(s.dir, "log"), "roll": false},
		// At level DEBUG Caddy copies its TLS app for each event, which races with the app's Start.
		"exclude": []string{"events"},
	}}}
	if apps, ok := root["apps"].(map[string]any); ok {
		if !strings.Contains(caddyfile, "throttle ") && !strings.HasPrefix(caddyfile, withDefaultBudgets) { // most tests are about something else
			app, _ := apps["htpasswd"].(map[string]any)
			if app == nil {
				app = make(map[string]any)
			}
			off := map[string]any{"off": true}
			app["throttle"] = map[string]any{"login": off, "client": off, "user": off}
			apps["htpasswd"] = app
		}
		if app, ok := apps["http"].(map[string]any); ok && app["http_port"] == nil { // else the redirects would be on port 80
			for _, server := range app["servers"].(map[string]any) {
				if server := server.(map[string]any); server["automatic_https"] == nil {
					server["automatic_https"] = map[string]any{"disable_redirects": true}
				}
			}
		}
		apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	}
	return json.Marshal(root)
}

// write writes a file in the server's folder.
func (s *server) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// log returns what the server has logged so far.
func (s *server) log() string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// answer is a response, read to the end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get asks for a path over HTTPS, with a password if user isn't empty.
func (s *server) get(path, user, password string) answer {
	s.t.Helper()
	r := s.request(http.MethodGet, path, nil)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return s.do(r)
}

func (s *server) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	r, err := http.NewRequest(method, fmt.Sprintf("https://localhost:%d%s", s.port, path), body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *server) do(r *http.Request) answer {
	s.t.Helper()
	resp, err := s.client.Do(r)
	for range 3 {
		if r.Body != nil || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		// Shortly after a reload what is left of Caddy's old server can still take
		// a connection, and closes it.
		resp, err = s.client.Do(r)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body.String()}
}

// What the tests in e2e use, too.
var (
	must       = testkit.Must
	eventually = testkit.Eventually
	freePorts  = testkit.FreePorts
	program    = testkit.Program
	run        = testkit.Run
)

// start runs a program until the end of the test and returns a function that
// tells what it has said so far.
func start(t *testing.T, dir string, env []string, name string, args ...string) func() string {
	t.Helper()
	return testkit.Start(t, dir, env, name, args...).Said
}

// toolSHA is a hash of "secret1" (htpasswd -nbs bob secret1).
const toolSHA = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="

// readText returns the text of a file.
func readText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// replace puts a new file in the place of another, as editors do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o640))
	must(t, os.Rename(path+".new", path))
}
