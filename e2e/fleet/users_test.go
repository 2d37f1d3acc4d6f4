package fleet

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stop ends a process as an administrator does.
const stop = syscall.SIGTERM

// awaitRefused waits until a password is refused by all nodes.
func awaitRefused(t testing.TB, nodes []*node, user, password string) time.Duration {
	t.Helper()
	begin := time.Now()
	for _, n := range nodes {
		eventually(t, n.name+" refuses "+user, func() bool {
			return n.login(newClientAddress(), user, password).status == http.StatusUnauthorized
		})
	}
	return time.Since(begin)
}

// TestUsersOfAFleet adds, changes and removes users with the tool at one server. All
// servers follow.
func TestUsersOfAFleet(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	l := newLink(t, r.address())
	s := settings{
		store: store(l.address()), secret: secret,
		limits:  "\t\tthrottle off",
		sources: "\t\tfile fleet://staff",
	}
	nodes := startFleet(t, 3, s)
	run := func(n *node, args ...string) string {
		t.Helper()
		out, code := n.fleetTool(args...)
		if code != 0 {
			t.Fatalf("caddy htpasswd %q: %d: %s", args, code, out)
		}
		return out
	}

	t.Run("a file that nobody has written admits nobody", func(t *testing.T) {
		for _, n := range nodes {
			if r := n.login(newClientAddress(), "alice", password); r.status != http.StatusUnauthorized {
				t.Errorf("%s: got %+v, want 401", n.name, r)
			}
			if found := n.warnings(0); len(found) > 2 || strings.Count(strings.Join(found, "\n"), "caddy htpasswd fleet://staff") != 1 {
				t.Errorf("%s: got the warnings %q, want one that says how to create a user, and that there are no users", n.name, found)
			}
		}
	})

	var slowest time.Duration
	note := func(d time.Duration) {
		t.Helper()
		slowest = max(slowest, d)
		t.Log(d.Round(time.Millisecond))
	}
	t.Run("a new user can log in at all servers", func(t *testing.T) {
		for i := range 5 {
			user := fmt.Sprintf("alice%d", i)
			run(nodes[i%3], "-bC5", "fleet://staff", user, password)
			note(awaitLogin(t, nodes, user, password))
		}
	})
	t.Run("a changed password is the only one", func(t *testing.T) {
		run(nodes[1], "-bC5", "fleet://staff", "alice0", "another")
		note(awaitLogin(t, nodes, "alice0", "another"))
		note(awaitRefused(t, nodes, "alice0", password))
	})
	t.Run("a removed user cannot log in", func(t *testing.T) {
		run(nodes[2], "-D", "fleet://staff", "alice0")
		note(awaitRefused(t, nodes, "alice0", "another"))
	})
	t.Logf("the slowest change took %s", slowest.Round(time.Millisecond))

	t.Run("-v, --list, --check and --export read the local copy", func(t *testing.T) {
		for _, n := range nodes {
			if out := run(n, "--list", "fleet://staff"); !strings.Contains(out, "alice1") || strings.Contains(out, "alice0") {
				t.Errorf("--list: %s", out)
			}
			run(n, "--check", "fleet://staff")
			run(n, "-vb", "fleet://staff", "alice1", password)
			if out, code := n.fleetTool("-vb", "fleet://staff", "alice1", "wrong"); code == 0 {
				t.Errorf("-v with a wrong password: %s", out)
			}
			out := run(n, "--export", "fleet://staff")
			for line := range strings.Lines(out) {
				if !strings.HasPrefix(line, "#") && !strings.Contains(line, ":$2") {
					t.Errorf("--export: %q", line)
				}
			}
		}
	})

	t.Run("50 runs of the tool at once lose nothing", func(t *testing.T) {
		var wg sync.WaitGroup
		begin := time.Now()
		for i := range 50 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if out, code := nodes[i%3].fleetTool("-bC4", "fleet://staff", fmt.Sprintf("many%02d", i), password); code != 0 {
					t.Errorf("run %d: %d: %s", i, code, out)
				}
			}()
		}
		wg.Wait()
		t.Logf("after %s", time.Since(begin).Round(time.Millisecond))
		for i := range 50 {
			awaitLogin(t, nodes, fmt.Sprintf("many%02d", i), password)
		}
	})

	t.Run("the local copy is private", func(t *testing.T) {
		found := 0
		must(t, filepath.WalkDir(nodes[0].dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !strings.Contains(path, "htpasswd/fleet") {
				return err
			}
			info, err := d.Info()
			must(t, err)
			if want := map[bool]os.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
			}
			found++
			return nil
		}))
		if found < 2 {
			t.Error("there is no local copy")
		}
	})

	t.Run("a server that starts while the store is down serves its local copy", func(t *testing.T) {
		l.setCut(true)
		nodes[0].process.Stop(stop)
		since := marks(nodes)
		nodes[0].start()
		awaitLogin(t, nodes, "alice1", password)
		if found := nodes[0].warnings(since[0]); len(found) == 0 || len(found) > 3 {
			t.Errorf("got the warnings %q, want one about the store, and two about the file", found)
		} else {
			t.Log(found)
		}
		if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "bob", password); code == 0 {
			t.Errorf("the tool changes users while the store is down: %s", out)
		} else {
			t.Logf("the tool says: %s", out)
		}
	})

	t.Run("a new server without a copy does not start while the store is down", func(t *testing.T) {
		n := newNode(t, "new server", s)
		n.launch()
		eventually(t, "it gives up", n.process.Ended)
		if n.process.ExitCode() == 0 {
			t.Error("got exit code 0")
		}
		said := lastLine(n.process.Said() + strings.Join(rawLines(n), "\n"))
		t.Log(said)
		if !strings.Contains(said, "fleet://staff") {
			t.Errorf("the error does not name fleet://staff: %s", said)
		}
	})

	t.Run("it works when the store is back", func(t *testing.T) {
		l.setCut(false)
		eventually(t, "the tool can add a user", func() bool {
			_, code := nodes[0].fleetTool("-bC5", "fleet://staff", "bob", password)
			return code == 0
		})
		awaitLogin(t, nodes, "bob", password)
		n := newNode(t, "new server", s)
		n.start()
		awaitLogin(t, []*node{n}, "bob", password)
	})

	t.Run("a store that has lost the file gets it back", func(t *testing.T) {
		since := marks(nodes)
		r.do("FLUSHALL", "SYNC")
		eventually(t, "the file is there again", func() bool { return len(r.keys()) > 0 })
		awaitLogin(t, nodes, "bob", password)
		n := newNode(t, "new server", s)
		n.start()
		awaitLogin(t, []*node{n}, "bob", password)
		checkWarnings(t, nodes, since, 0, 1)
	})

	t.Run("a removed local copy, or one that was edited, is not used", func(t *testing.T) {
		var path string
		must(t, filepath.WalkDir(nodes[1].dir, func(p string, d os.DirEntry, err error) error {
			if strings.HasSuffix(p, "htpasswd/fleet/staff") {
				path = p
			}
			return err
		}))
		if path == "" {
			t.Fatal("no local copy")
		}
		text, err := os.ReadFile(path)
		must(t, err)
		nodes[1].process.Stop(stop)
		must(t, os.WriteFile(path, []byte(string(text)+"intruder:"+hash(t, password, 4)+"\n"), 0o600))
		l.setCut(true)
		nodes[1].launch()
		eventually(t, "it gives up", nodes[1].process.Ended)
		l.setCut(false)
		nodes[1].start()
		awaitLogin(t, nodes, "bob", password)
		if r := nodes[1].login(newClientAddress(), "intruder", password); r.status != http.StatusUnauthorized {
			t.Errorf("the intruder got %+v", r)
		}
	})
}

// TestServersRefuseStaleUsers has a server with max_stale, which serves no older version
// when it starts, and one without.
func TestServersRefuseStaleUsers(t *testing.T) {
	parallel(t)
	r := startRedis(t)
	l := newLink(t, r.address())
	nodes := startFleet(t, 2, settings{store: store(l.address()), secret: secret, sources: "\t\tfile fleet://staff"})
	if out, code := nodes[0].fleetTool("-bC5", "fleet://staff", "alice", password); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	awaitLogin(t, nodes, "alice", password)
	for _, n := range nodes {
		n.process.Stop(stop)
	}
	l.setCut(true)
	time.Sleep(2 * time.Second) // the version gets older
	nodes[0].limits = "\t\tmax_stale 1s"
	nodes[0].launch()
	eventually(t, "the server with max_stale gives up", nodes[0].process.Ended)
	said := lastLine(nodes[0].process.Said() + strings.Join(rawLines(nodes[0]), "\n"))
	t.Log(said)
	if !strings.Contains(said, "fleet://staff") || !strings.Contains(said, "max_stale") {
		t.Errorf("the error does not name fleet://staff and max_stale: %s", said)
	}
	nodes[1].start()
	awaitLogin(t, nodes[1:], "alice", password)
	l.setCut(false)
	nodes[0].limits = "\t\tmax_stale 10m"
	nodes[0].start()
	awaitLogin(t, nodes, "alice", password)
}

func rawLines(n *node) []string {
	var raw []string
	for _, l := range n.logged() {
		raw = append(raw, l.raw)
	}
	return raw
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// TestUsersInCaddysStorage has two servers with a common storage.
func TestUsersInCaddysStorage(t *testing.T) {
	parallel(t)
	nodes := startFleet(t, 2, settings{limits: "\t\tthrottle off", sources: "\t\tfile storage://staff"})
	// startFleet gives each its own storage.
	for _, n := range nodes {
		n.process.Stop(stop)
	}
	must(t, os.RemoveAll(filepath.Join(nodes[1].dir, "storage")))
	must(t, os.MkdirAll(filepath.Join(nodes[0].dir, "storage"), 0o700))
	must(t, os.Symlink(filepath.Join(nodes[0].dir, "storage"), filepath.Join(nodes[1].dir, "storage")))
	for _, n := range nodes {
		n.start()
	}
	for i := range 4 {
		user := fmt.Sprintf("alice%d", i)
		if out, code := nodes[i%2].fleetTool("-bC5", "storage://staff", user, password); code != 0 {
			t.Fatalf("%d: %s", code, out)
		}
		t.Log(awaitLogin(t, nodes, user, password).Round(time.Millisecond))
	}
	if out, code := nodes[0].fleetTool("-D", "storage://staff", "alice0"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	awaitRefused(t, nodes, "alice0", password)
}
