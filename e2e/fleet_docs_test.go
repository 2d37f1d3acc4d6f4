package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const fleetsPage = "../docs/fleets.md"

var _ = ranBy("TestDocsFleets",
	"xcaddy build --with github.com/seed10b5b978/caddy-htpasswd --with github.com/seed10b5b978/caddy-htpasswd/fleet/redis",
	"./caddy list-modules | grep htpasswd.fleets.redis",
	"cd fleet/redis && go build -o ../../build/caddy ./cmd/caddy",
	"openssl rand -base64 32 | sudo install -m 400 -o caddy -g caddy /dev/stdin /etc/caddy/htpasswd-secret",
	"echo replace-this-password | sudo install -m 400 -o caddy -g caddy /dev/stdin /etc/caddy/redis-password",
	"curl localhost:2019/htpasswd",
	"caddy htpasswd fleet://staff alice",
	"sudo caddy htpasswd -v fleet://staff alice",
	"sudo caddy htpasswd --list fleet://staff",
	"sudo caddy htpasswd --check fleet://staff",
	"caddy htpasswd -D fleet://staff alice",
	"sudo caddy htpasswd --import fleet://staff /etc/caddy/.htpasswd",
	"sudo caddy htpasswd --export fleet://staff > staff.htpasswd",
	"user default off")

// fleetBinary builds Caddy with the module for Redis, as the page says.
var fleetBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(caddyBinary), "caddy-redis")
	build := exec.Command("go", "build", "-o", path, "./cmd/caddy")
	build.Dir = "../fleet/redis"
	out, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return path, err
})

// docsFleet is a Redis, and the files that servers of the page share.
type docsFleet struct {
	t           *testing.T
	dir         string
	names       map[string]string // what replaces names of the page
	forSentinel bool
}

// newDocsFleet creates the secret and the password with the commands of the page.
func newDocsFleet(t *testing.T) *docsFleet {
	t.Helper()
	f := &docsFleet{t: t, dir: t.TempDir()}
	f.names = map[string]string{"/etc/caddy/": f.dir + "/", "sudo install -m 400 -o caddy -g caddy": "install -m 400"}
	for _, name := range []string{"htpasswd-secret", "redis-password"} {
		line := strings.TrimSpace(block(t, fleetsPage, "console", "/dev/stdin /etc/caddy/"+name))
		testkit.Run(t, "sh", "-c", testkit.Substitute(line, f.names))
	}
	return f
}

// redis starts a Redis with the page's users and further arguments, in which {port} is its
// port. address is what the page has instead of its address.
func (f *docsFleet) redis(address string, args ...string) *docsRedis {
	f.t.Helper()
	r := &docsRedis{t: f.t, dir: f.t.TempDir(), port: freePorts(f.t, 1)[0]}
	acl := block(f.t, fleetsPage, "text", "user caddy on")
	if f.forSentinel {
		acl = strings.Replace(acl, "user default off\n", "", 1) // Sentinel needs a user, too
	}
	must(f.t, os.WriteFile(filepath.Join(r.dir, "redis.conf"), []byte(acl), 0o600))
	if len(args) == 0 {
		args = []string{"--port", "{port}"}
	}
	r.args = []string{"redis.conf", "--bind", "127.0.0.1", "--save", ""}
	for _, arg := range args {
		r.args = append(r.args, strings.Replace(arg, "{port}", fmt.Sprint(r.port), 1))
	}
	r.start()
	f.names[address] = fmt.Sprintf("127.0.0.1:%d", r.port)
	return r
}

// docsRedis is a running Redis.
type docsRedis struct {
	t       *testing.T
	dir     string
	port    int
	args    []string
	process *testkit.Process
}

func (r *docsRedis) start() {
	r.t.Helper()
	r.process = start(r.t, r.dir, os.Environ(), program(r.t, "redis-server"), r.args...)
	testkit.AwaitPort(r.t, r.port)
}

// docsFleetServer is a server of a fleet, with the names of the page.
type docsFleetServer struct {
	*server
	docsClient
	fleet *docsFleet
}

// server starts a server with a Caddyfile of the page.
func (f *docsFleet) server(caddyfile string) *docsFleetServer {
	f.t.Helper()
	binary, err := fleetBinary()
	must(f.t, err)
	s := &server{binary: binary}
	s.Server = testkit.NewServer(f.t, ownProcess{s}, testkit.ServerOptions{Admin: true, DefaultLimits: true})
	if shared := f.names["/mnt/shared/caddy"]; shared != "" { // the tests' own storage is in the server's directory
		must(f.t, os.Symlink(shared, filepath.Join(s.Dir, "storage")))
	}
	served := &docsFleetServer{s, docsClient{t: f.t, port: s.HTTPS}, f}
	served.load(caddyfile)
	return served
}

// load loads a Caddyfile of the page.
func (s *docsFleetServer) load(caddyfile string) {
	s.t.Helper()
	if err := s.Reload(testkit.Substitute(docsCaddyfile(s.server, caddyfile), s.fleet.names)); err != nil {
		s.t.Fatalf("%v:\n%s", err, caddyfile)
	}
	s.AwaitCertificate("example.com")
}

// tool runs a command of the page with text as standard input, and returns its output.
func (s *docsFleetServer) tool(line, stdin string, wantCode int) string {
	s.t.Helper()
	args, isTool := strings.CutPrefix(testkit.Substitute(strings.TrimPrefix(line, "sudo "), s.fleet.names), "caddy htpasswd ")
	if !isTool {
		s.t.Fatalf("got %q, want a command of the tool", line)
	}
	if stdin != "" {
		args = "-i " + args
	}
	cmd := exec.Command("sh", "-c", fmt.Sprintf("%s htpasswd --address localhost:%d %s", s.program(), s.Admin, args))
	cmd.Dir, cmd.Env, cmd.Stdin = s.Dir, s.env(), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != wantCode {
		s.t.Fatalf("%s: got %v, want exit code %d: %s", line, err, wantCode, out)
	}
	return string(out)
}

// status returns the status of a login.
func (s *docsFleetServer) status(login string) int {
	s.t.Helper()
	a, err := s.do(asked{path: "/", login: login})
	must(s.t, err)
	return a.Status
}

// await waits until a login has a status.
func (s *docsFleetServer) await(login string, want int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("the login %s gets %d", login, want), func() bool { return s.status(login) == want })
}

// connected returns whether the admin API says that the server is connected.
func (s *docsFleetServer) connected() bool {
	s.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://localhost:%d/htpasswd", s.Admin))
	must(s.t, err)
	defer resp.Body.Close()
	var state struct {
		Fleet struct {
			Connected bool `json:"connected"`
		} `json:"fleet"`
	}
	must(s.t, json.NewDecoder(resp.Body).Decode(&state))
	return state.Fleet.Connected
}

func (s *docsFleetServer) awaitConnected(want bool) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("connected is %v", want), func() bool { return s.connected() == want })
}

const (
	fleetPassword = "correct horse battery staple"
	asFleetAlice  = "alice:" + fleetPassword
)

// TestDocsFleets does what docs/fleets.md says, with a real Redis.
func TestDocsFleets(t *testing.T) {
	parallel(t)
	program(t, "redis-server")
	sections := []string{"When you need it", "Two servers and one Redis", "Redis with Sentinel", "Managed Redis with TLS", "What is promised"}
	configurations := make(map[string]string)
	for _, heading := range sections {
		found := sectionBlocks(t, fleetsPage, heading, "caddyfile")
		if len(found) != 1 {
			t.Fatalf("%s: got %d configurations, want one", heading, len(found))
		}
		configurations[heading] = found[0]
	}
	if all := len(blocks(t, fleetsPage, "caddyfile")); all != len(sections) {
		t.Errorf("got tests of %d configurations, want all %d", len(sections), all)
	}
	_, site, _ := strings.Cut(configurations["Two servers and one Redis"], "\n}\n")

	t.Run("two servers and one Redis", func(t *testing.T) {
		f := newDocsFleet(t)
		redis := f.redis("10.0.0.5:6379")
		one, two := f.server(configurations["Two servers and one Redis"]), f.server(configurations["Two servers and one Redis"])
		one.awaitConnected(true)
		two.awaitConnected(true)
		if got := two.status(asFleetAlice); got != http.StatusUnauthorized {
			t.Errorf("before the first user: got %d, want 401", got)
		}
		one.tool("caddy htpasswd fleet://staff alice", fleetPassword+"\n", 0)
		began := time.Now()
		two.await(asFleetAlice, http.StatusOK)
		one.await(asFleetAlice, http.StatusOK)
		t.Logf("the user could log in on both servers after %v", time.Since(began))
		for line, want := range map[string]string{
			"sudo caddy htpasswd --list fleet://staff":  "alice",
			"sudo caddy htpasswd --check fleet://staff": "",
		} {
			if out := two.tool(line, "", 0); !strings.Contains(out, want) {
				t.Errorf("%s: got %q, want %q in it", line, out, want)
			}
		}
		two.tool("caddy htpasswd -v fleet://staff alice", fleetPassword+"\n", 0)
		two.tool("caddy htpasswd -v fleet://staff alice", "wrong\n", 3)

		for i := range 10 { // the limit of logins, half at each server
			s := []*docsFleetServer{one, two}[i%2]
			if got := s.status(fmt.Sprintf("bob:guess %d", i)); got != http.StatusUnauthorized {
				t.Errorf("guess %d: got %d, want 401", i, got)
			}
		}
		one.await("bob:guess", http.StatusTooManyRequests)
		two.await("bob:guess", http.StatusTooManyRequests)
		request, err := http.NewRequest(http.MethodDelete, fmt.Sprintf("http://localhost:%d/htpasswd/throttle", one.Admin), nil)
		must(t, err)
		if a, err := testkit.Send(adminClient, request); err != nil || a.Status != http.StatusOK {
			t.Errorf("DELETE: got %d %v %s, want 200", a.Status, err, a.Body)
		}
		two.await("bob:another guess", http.StatusUnauthorized)

		redis.process.Stop(syscall.SIGKILL)
		one.awaitConnected(false)
		if got := one.status(asFleetAlice); got != http.StatusOK {
			t.Errorf("without Redis: got %d, want 200", got)
		}
		one.tool("caddy htpasswd --list fleet://staff", "", 0)
		one.kill()
		one.process = nil
		one.load(configurations["Two servers and one Redis"]) // starts with the copy
		if got := one.status(asFleetAlice); got != http.StatusOK {
			t.Errorf("started without Redis: got %d, want 200", got)
		}
		redis.start() // empty
		one.awaitConnected(true)
		two.awaitConnected(true)
		three := f.server(strings.Replace(configurations["Two servers and one Redis"], "\trespond", "\t# A server without a copy.\n\trespond", 1))
		three.await(asFleetAlice, http.StatusOK) // the others have written the users back
		three.tool("caddy htpasswd -D fleet://staff alice", "", 0)
		one.await(asFleetAlice, http.StatusUnauthorized)
		two.await(asFleetAlice, http.StatusUnauthorized)
	})

	t.Run("an existing file", func(t *testing.T) {
		f := newDocsFleet(t)
		f.redis("10.0.0.5:6379")
		page := configurations["Two servers and one Redis"]
		both := strings.Replace(page, "file fleet://staff", "file fleet://staff /etc/caddy/.htpasswd", 1)
		if !strings.Contains(section(t, fleetsPage, "Move an existing file"), "`file fleet://staff /etc/caddy/.htpasswd`") {
			t.Error("the page has other steps than this test")
		}
		must(t, os.WriteFile(filepath.Join(f.dir, ".htpasswd"), []byte("alice:{PLAIN}"+fleetPassword+"\n"), 0o600))
		one := f.server(both)
		if got := one.status(asFleetAlice); got != http.StatusOK {
			t.Errorf("with both: got %d, want 200", got)
		}
		one.awaitConnected(true)
		one.tool("caddy htpasswd --import fleet://staff /etc/caddy/.htpasswd", "", 0)
		if out := one.tool("caddy htpasswd --list fleet://staff", "", 0); !strings.Contains(out, "alice") {
			t.Errorf("got the users %q, want alice", out)
		}
		one.load(page)
		one.await(asFleetAlice, http.StatusOK)
		one.tool("caddy htpasswd --export fleet://staff > staff.htpasswd", "", 0)
		if text := readText(t, filepath.Join(one.Dir, "staff.htpasswd")); text != "alice:{PLAIN}"+fleetPassword+"\n" {
			t.Errorf("got the export %q, want the file", text)
		}
	})

	t.Run("Sentinel", func(t *testing.T) {
		f := newDocsFleet(t)
		f.forSentinel = true
		redis := f.redis("10.0.0.5:6379")
		for _, name := range []string{"10.0.0.5:26379", "10.0.0.6:26379", "10.0.0.7:26379"} {
			dir, port := t.TempDir(), freePorts(t, 1)[0]
			conf := fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor htpasswd 127.0.0.1 %d 2\n", port, redis.port)
			must(t, os.WriteFile(filepath.Join(dir, "sentinel.conf"), []byte(conf), 0o600))
			start(t, dir, os.Environ(), program(t, "redis-sentinel"), "sentinel.conf")
			testkit.AwaitPort(t, port)
			f.names[name] = fmt.Sprintf("127.0.0.1:%d", port)
		}
		f.firstUser(configurations["Redis with Sentinel"] + site)
	})

	t.Run("TLS", func(t *testing.T) {
		f := newDocsFleet(t)
		program(t, "openssl")
		testkit.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
			"-subj", "/CN=redis.example.net", "-addext", "subjectAltName=DNS:redis.example.net",
			"-keyout", filepath.Join(f.dir, "redis.key"), "-out", filepath.Join(f.dir, "redis.crt"))
		f.redis("redis.example.net:6380", "--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no",
			"--tls-cert-file", filepath.Join(f.dir, "redis.crt"), "--tls-key-file", filepath.Join(f.dir, "redis.key"), "--tls-ca-cert-file", filepath.Join(f.dir, "redis.crt"))
		f.names["\ttls\n"] = fmt.Sprintf("\ttls %s/redis.crt\n\t\t\ttls_server_name redis.example.net\n", f.dir)
		f.firstUser(configurations["Managed Redis with TLS"] + site)
	})

	t.Run("max_stale", func(t *testing.T) {
		f := newDocsFleet(t)
		f.redis("10.0.0.5:6379")
		f.firstUser(configurations["What is promised"] + site)
	})

	t.Run("Caddy's storage", func(t *testing.T) {
		f := newDocsFleet(t)
		f.names["/mnt/shared/caddy"] = t.TempDir()
		one, two := f.server(configurations["When you need it"]), f.server(configurations["When you need it"])
		one.tool("caddy htpasswd storage://staff alice", fleetPassword+"\n", 0)
		one.await(asFleetAlice, http.StatusOK)
		two.await(asFleetAlice, http.StatusOK)
	})
}

// firstUser starts a server, and creates the first user.
func (f *docsFleet) firstUser(caddyfile string) {
	f.t.Helper()
	s := f.server(caddyfile)
	s.awaitConnected(true)
	s.tool("caddy htpasswd fleet://staff alice", fleetPassword+"\n", 0)
	s.await(asFleetAlice, http.StatusOK)
}
