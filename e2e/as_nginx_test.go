package e2e

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// These tests run the same upstream group in nginx and in Caddy, and send the
// same requests to both.

// namedServer is an upstream server in its own process, which can be killed and restarted.
type namedServer struct {
	t       *testing.T
	name    string
	address string
	cmd     *exec.Cmd
}

func startNamedServer(t *testing.T, name string) *namedServer {
	b := &namedServer{t: t, name: name, address: fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])}
	t.Cleanup(b.kill)
	b.start()
	return b
}

func (b *namedServer) start() {
	b.t.Helper()
	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), backendVariable+"="+b.address+" "+b.name)
	b.cmd.Stderr = os.Stderr
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, b.name+" listens", func() bool {
		conn, err := net.Dial("tcp", b.address)
		return err == nil && conn.Close() == nil
	})
}

func (b *namedServer) kill() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

// groupTwins are a Caddy and an nginx with the same upstream servers.
type groupTwins struct {
	t        *testing.T
	caddy    int // ports
	nginx    int
	client   *http.Client
	backends []*namedServer
}

// newGroupTwins starts both with equivalent groups, in which {a}, {b} and so on
// stand for the addresses of the servers.
func newGroupTwins(t *testing.T, names, caddyGroup, nginxGroup string) *groupTwins {
	t.Helper()
	program(t, "nginx")
	tw := &groupTwins{t: t}
	addresses := make(map[string]string)
	for _, name := range strings.Split(names, "") {
		b := startNamedServer(t, name)
		tw.backends = append(tw.backends, b)
		addresses["{"+name+"}"] = b.address
	}
	both := testkit.StartTwins(t, startServer(t, "").Server,
		"{\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}\n\tupstream web {\n"+caddyGroup+"\n\t}\n}\nhttp://127.0.0.1:{http} {\n\tproxy_pass web\n}\n",
		fmt.Sprintf(`
		set_real_ip_from 127.0.0.1;
		real_ip_header X-Forwarded-For;
		upstream web {
			%s
		}
		server {
			listen 127.0.0.1:{port};
			location / { proxy_pass http://web; }
		}
	`, nginxGroup), testkit.NginxCommand, addresses)
	tw.client, tw.caddy, tw.nginx = both.Ours.Client, both.Ours.HTTP, both.Theirs.Port
	return tw
}

// ask sends a request to one of them, and returns which server answered, or the status.
func (tw *groupTwins) ask(port int, method, clientIP string) string {
	tw.t.Helper()
	var body io.Reader
	if method == http.MethodPost || method == http.MethodPatch {
		body = strings.NewReader("a body")
	}
	r, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d/", port), body)
	if err != nil {
		tw.t.Fatal(err)
	}
	if clientIP != "" {
		r.Header.Set("X-Forwarded-For", clientIP)
	}
	resp, err := tw.client.Do(r)
	if err != nil {
		tw.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		tw.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return resp.Header.Get("X-Server")
}

// closingServer returns the address of a server that closes every connection.
func closingServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// TestMethodsAsNginx has a server that accepts connections and closes them. With
// methods that are safe to retry, the other server answers.
func TestMethodsAsNginx(t *testing.T) {
	parallel(t)
	dead := closingServer(t)
	tw := newGroupTwins(t, "a", "max_fails 0\nserver "+dead+"\nserver {a}", "server "+dead+" max_fails=0; server {a} max_fails=0;")
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"} {
		ours, theirs := 0, 0
		for range 10 {
			ours += len(tw.ask(tw.caddy, method, "")) & 1 // "a", or a status
			theirs += len(tw.ask(tw.nginx, method, "")) & 1
		}
		if ours != theirs {
			t.Errorf("%s: got %d of 10 requests answered, want %d, as nginx", method, ours, theirs)
		}
	}
}

// TestOrderAsNginx compares the order of servers over successive requests.
func TestOrderAsNginx(t *testing.T) {
	parallel(t)
	for _, test := range []struct{ name, names, caddy, nginx string }{
		{"weights 5, 1 and 1", "abc", "server {a} weight=5\nserver {b}\nserver {c}", "server {a} weight=5; server {b}; server {c};"},
		{"weights 3 and 2", "ab", "server {a} weight=3\nserver {b} weight=2", "server {a} weight=3; server {b} weight=2;"},
		{"one server is a backup and one is down", "abcd", "server {a}\nserver {b} backup\nserver {c} down\nserver {d} weight=2", "server {a}; server {b} backup; server {c} down; server {d} weight=2;"},
		{"a server twice", "ab", "server {a} weight=2\nserver {a}\nserver {b}", "server {a} weight=2; server {a}; server {b};"},
		{"a server three times, and a backup twice", "abc", "server {a}\nserver {a}\nserver {b}\nserver {a}\nserver {c} backup\nserver {c} backup", "server {a}; server {a}; server {b}; server {a}; server {c} backup; server {c} backup;"},
		{"least_conn while all servers are idle", "abc", "balance least_conn\nserver {a} weight=2\nserver {b}\nserver {c}", "least_conn; server {a} weight=2; server {b}; server {c};"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tw := newGroupTwins(t, test.names, test.caddy, test.nginx)
			var ours, theirs string
			for range 21 {
				ours += tw.ask(tw.caddy, "GET", "")
				theirs += tw.ask(tw.nginx, "GET", "")
			}
			if ours != theirs {
				t.Errorf("got the order %s, want %s, as nginx", ours, theirs)
			}
		})
	}
}

// TestSharesAsNginx counts the requests of servers on several lines. The order may differ
// from nginx's, to which each line is a server.
func TestSharesAsNginx(t *testing.T) {
	parallel(t)
	tw := newGroupTwins(t, "abc", "server {a} weight=2\nserver {b}\nserver {a}\nserver {c} weight=2", "server {a} weight=2; server {b}; server {a}; server {c} weight=2;")
	ours, theirs := make(map[string]int), make(map[string]int)
	for range 24 { // four rounds
		ours[tw.ask(tw.caddy, "GET", "")]++
		theirs[tw.ask(tw.nginx, "GET", "")]++
	}
	if want := map[string]int{"a": 12, "b": 4, "c": 8}; !maps.Equal(ours, want) || !maps.Equal(theirs, want) {
		t.Errorf("got %v from Caddy and %v from nginx, want %v", ours, theirs, want)
	}
}

// TestAllDownAsNginx has groups whose servers are all down, or nearly.
func TestAllDownAsNginx(t *testing.T) {
	parallel(t)
	for _, test := range []struct{ name, caddy, nginx, want string }{
		{"one server", "server {a} down", "server {a} down;", "502 Bad Gateway"},
		{"two servers", "server {a} down\nserver {b} down", "server {a} down; server {b} down;", "502 Bad Gateway"},
		{"a backup too", "server {a} down\nserver {b} backup down", "server {a} down; server {b} backup down;", "502 Bad Gateway"},
		{"not the backup", "server {a} down\nserver {b} backup", "server {a} down; server {b} backup;", "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tw := newGroupTwins(t, "ab", test.caddy, test.nginx)
			for _, method := range []string{"GET", "HEAD", "POST"} {
				if ours, theirs := tw.ask(tw.caddy, method, ""), tw.ask(tw.nginx, method, ""); ours != test.want || theirs != test.want {
					t.Errorf("%s: got %s from Caddy and %s from nginx, want %s", method, ours, theirs, test.want)
				}
			}
		})
	}
}

// TestGroupsThatNginxRefuses checks that both refuse a group with backups only.
func TestGroupsThatNginxRefuses(t *testing.T) {
	parallel(t)
	program(t, "nginx")
	for _, servers := range []string{"server 127.0.0.1:1 backup", "server 127.0.0.1:1 backup\nserver 127.0.0.1:2 backup", "server 127.0.0.1:1 backup down"} {
		if _, err := startServer(t, "").Adapt("{\nupstream web {\n" + servers + "\n}\n}\n"); err == nil {
			t.Errorf("%s: got no error, want one, as nginx", servers)
		}
		conf := filepath.Join(t.TempDir(), "nginx.conf")
		must(t, os.WriteFile(conf, []byte("pid "+conf+".pid; error_log stderr; events {} http { upstream web { "+strings.ReplaceAll(servers, "\n", "; ")+"; } }"), 0o600))
		if out, err := exec.Command("nginx", "-t", "-c", conf).CombinedOutput(); err == nil || !strings.Contains(string(out), "no servers in upstream") {
			t.Errorf("%s: got %v from nginx, want no servers in upstream: %s", servers, err, out)
		}
	}
}

// TestIPHashAsNginx checks that each client gets the server that nginx chooses, so
// that sessions survive a migration.
func TestIPHashAsNginx(t *testing.T) {
	parallel(t)
	for _, test := range []struct{ name, names, caddy, nginx string }{
		{"three servers", "abc", "server {a}\nserver {b}\nserver {c}", "server {a}; server {b}; server {c};"},
		{"servers with weights", "abc", "server {a} weight=5\nserver {b}\nserver {c} weight=2", "server {a} weight=5; server {b}; server {c} weight=2;"},
		{"a server twice", "abc", "server {a}\nserver {b} weight=2\nserver {b}\nserver {c}", "server {a}; server {b} weight=2; server {b}; server {c};"},
		{"one server is down", "abc", "server {a}\nserver {b} down\nserver {c}", "server {a}; server {b} down; server {c};"},
		{"the server with the most weight is down", "abc", "server {a} weight=60 down\nserver {b}\nserver {c}", "server {a} weight=60 down; server {b}; server {c};"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tw := newGroupTwins(t, test.names, "balance ip_hash\n"+test.caddy, "ip_hash; "+test.nginx)
			random := rand.New(rand.NewPCG(5, 6))
			seen := make(map[string]bool)
			for range 150 {
				ip := fmt.Sprintf("%d.%d.%d.%d", 1+random.IntN(126), random.IntN(256), random.IntN(256), 1+random.IntN(254))
				if random.IntN(3) == 0 {
					ip = fmt.Sprintf("2001:db8:%x:%x::%x:%x", random.IntN(1<<16), random.IntN(1<<16), random.IntN(1<<16), 1+random.IntN(1<<16-1))
				}
				ours, theirs := tw.ask(tw.caddy, "GET", ip), tw.ask(tw.nginx, "GET", ip)
				if ours != theirs {
					t.Errorf("client %s: got server %s, want %s, as nginx", ip, ours, theirs)
				}
				seen[ours] = true
			}
			if len(seen) < 2 {
				t.Errorf("got answers from %v only, want several servers", seen)
			}
		})
	}
}

// TestOutagesAsNginx kills and restarts servers before given requests. Caddy loses
// no request that nginx does not lose.
func TestOutagesAsNginx(t *testing.T) {
	parallel(t)
	for _, test := range []struct{ name, caddy, nginx string }{
		{"round robin", "server {a} weight=2\nserver {b}\nserver {c} backup", "server {a} weight=2 fail_timeout=1s; server {b} fail_timeout=1s; server {c} backup fail_timeout=1s;"},
		{"least_conn", "balance least_conn\nserver {a}\nserver {b}\nserver {c}", "least_conn; server {a} fail_timeout=1s; server {b} fail_timeout=1s; server {c} fail_timeout=1s;"},
		{"ip_hash", "balance ip_hash\nserver {a}\nserver {b}\nserver {c}", "ip_hash; server {a} fail_timeout=1s; server {b} fail_timeout=1s; server {c} fail_timeout=1s;"},
		{"hash", "balance hash {client_ip}\nserver {a}\nserver {b}\nserver {c}", "hash $remote_addr consistent; server {a} fail_timeout=1s; server {b} fail_timeout=1s; server {c} fail_timeout=1s;"},
		{"random", "balance random\nserver {a}\nserver {b}\nserver {c}", "random two; server {a} fail_timeout=1s; server {b} fail_timeout=1s; server {c} fail_timeout=1s;"},
		{"more failures allowed", "max_fails 3\nserver {a}\nserver {b}\nserver {c}", "server {a} max_fails=3 fail_timeout=1s; server {b} max_fails=3 fail_timeout=1s; server {c} max_fails=3 fail_timeout=1s;"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tw := newGroupTwins(t, "abc", "fail_duration 1s\n"+test.caddy, test.nginx)
			a, b, c := tw.backends[0], tw.backends[1], tw.backends[2]
			lost, asked := 0, 0
			for _, step := range []struct {
				kill, start []*namedServer
				requests    int
			}{
				{nil, nil, 10},
				{[]*namedServer{a}, nil, 20},
				{[]*namedServer{b}, []*namedServer{a}, 20},
				{[]*namedServer{c}, nil, 20},
				{nil, []*namedServer{b, c}, 20},
				{[]*namedServer{a, b, c}, nil, 5},
				{nil, []*namedServer{a, b, c}, 20},
			} {
				for _, namedServer := range step.start {
					namedServer.start()
				}
				if len(step.start) > 0 {
					time.Sleep(1200 * time.Millisecond) // fail_timeout, by nginx's clock
				}
				for _, namedServer := range step.kill {
					namedServer.kill()
				}
				for i := range step.requests {
					asked++
					method, ip := []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST"}[asked%6], fmt.Sprintf("10.%d.%d.1", asked, asked)
					if i < 5 && method == "POST" {
						// Caddy keeps connections open, and this nginx does not. A POST is lost on a
						// connection that is closed at that moment, which no test can control.
						method = "GET"
					}
					ours, theirs := tw.ask(tw.caddy, method, ip), tw.ask(tw.nginx, method, ip)
					if len(theirs) != 1 {
						lost++
					}
					if len(ours) != 1 && len(theirs) == 1 {
						t.Errorf("request %d, %s: got %s, want an answer of %s, as nginx gives one", asked, method, ours, theirs)
					}
					if len(ours) == 1 && !slices.ContainsFunc(tw.backends, func(b *namedServer) bool { return b.name == ours && b.cmd != nil }) {
						t.Errorf("request %d: got an answer of %s, want one of a running server", asked, ours)
					}
				}
			}
			if lost > 5 { // without any server
				t.Logf("nginx lost %d of %d requests", lost, asked)
			}
		})
	}
}
