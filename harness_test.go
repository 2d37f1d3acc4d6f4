package caddyhtpasswd

import (
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// caddyVariable is the environment variable that makes a process run Caddy.
const caddyVariable = "CADDY_HTPASSWD_TEST_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(caddyVariable) != "" {
		caddycmd.Main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inProcess is the Caddy of this process. There is only one, so tests that use it do not
// run in parallel.
type inProcess struct{}

func (inProcess) Adapt(_ *testkit.Server, caddyfile string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func (inProcess) Load(_ *testkit.Server, config []byte) error { return caddy.Load(config, true) }

// server is a testkit.Server with the Caddy of this process.
type server struct {
	*testkit.Server
	t      testing.TB
	dir    string // file names in the Caddyfile are relative to it
	port   int    // of https://localhost; plain HTTP is on http
	http   int
	admin  int // of the admin API, in a Caddyfile with "admin localhost:{admin}"
	client *http.Client

	guesses int // sent so far
}

// startServer runs a Caddyfile. Without throttle in the Caddyfile, there are no rate
// limits. testkit.Server says which names are replaced.
func startServer(t testing.TB, caddyfile string) *server {
	t.Helper()
	return startServerWith(t, testkit.ServerOptions{}, caddyfile)
}

// startServerWith is startServer with other options.
func startServerWith(t testing.TB, options testkit.ServerOptions, caddyfile string) *server {
	t.Helper()
	process = newShared(time.Now) // so that failed logins of one test do not count in the next
	kit := testkit.NewServer(t, inProcess{}, options)
	s := &server{Server: kit, t: t, dir: kit.Dir, port: kit.HTTPS, http: kit.HTTP, admin: kit.Admin, client: kit.Client}
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

// now returns the server with the test and the client of s.
func (s *server) now() *testkit.Server { return s.In(s.t, s.client) }

// in returns the server for a test within the test that started it, with
// another client if there is one.
func (s *server) in(t testing.TB, clients ...*http.Client) *server {
	other := *s
	other.t = t
	for _, c := range clients {
		other.client = c
	}
	return &other
}

func (s *server) reload(caddyfile string) error {
	s.t.Helper()
	return s.now().Reload(caddyfile)
}

func (s *server) load(config []byte, hasSite bool) error {
	s.t.Helper()
	return s.now().Load(config, hasSite)
}

func (s *server) adapt(caddyfile string) ([]byte, error) { return s.Adapt(caddyfile) }

func (s *server) write(name, text string) string {
	s.t.Helper()
	return s.now().Write(name, text)
}

func (s *server) log() string {
	s.t.Helper()
	return s.now().Log()
}

// answer is a response, read to the end.
type answer struct {
	status int
	header http.Header
	body   string
}

func answerOf(a testkit.Answer) answer { return answer{a.Status, a.Header, a.Body} }

func (s *server) get(path, user, password string) answer {
	s.t.Helper()
	return answerOf(s.now().Get(path, user, password))
}

func (s *server) send(path string, header http.Header) answer {
	s.t.Helper()
	return answerOf(s.now().Send(path, header))
}

func (s *server) plain(path string, header http.Header) answer {
	s.t.Helper()
	return answerOf(s.now().Plain(path, header))
}

func (s *server) request(method, path string, body io.Reader) *http.Request {
	s.t.Helper()
	return s.now().Request(method, path, body)
}

func (s *server) do(r *http.Request) answer {
	s.t.Helper()
	return answerOf(s.now().Do(r))
}

func (s *server) raw(text string) (a answer, interim int) {
	s.t.Helper()
	said, interim := s.now().Raw(text)
	return answerOf(said), interim
}

func (s *server) clients() map[string]*http.Client { return s.now().Clients() }

// Helpers that the tests in e2e use, too.
var (
	must       = testkit.Must
	eventually = testkit.Eventually
	freePorts  = testkit.FreePorts
	program    = testkit.Program
	readText   = testkit.ReadText
)

// replace replaces a file with a new one, as editors do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o640))
	must(t, os.Rename(path+".new", path))
}
