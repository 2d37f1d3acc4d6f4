package caddyhtpasswd

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// openFiles returns how many files the process has open.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(entries)
}

// TestReloadsUnderLoad checks that reloads affect no request, and leave nothing behind.
func TestReloadsUnderLoad(t *testing.T) {
	const reloads, people = 20, 4
	caddyfile := func(i int) string {
		return fmt.Sprintf("{\n\tservers {\n\t\tprotocols h1 h2\n\t}\n\thtpasswd {\n\t\tpoll %ds\n\t}\n}\n", 1+i%3) + httpsSite(fmt.Sprintf(`
	htpasswd {
		file {dir}/users {dir}/more
		group_file {dir}/groups
		realm "Version %d"
	}
	respond "{http.auth.user.id}|{http.auth.user.groups}"`, i))
	}
	s := startSite(t, nil, map[string]string{"users": alice + userA, "more": bob + carol, "groups": "staff: alice bob\n"}, caddyfile(0))
	logins := [people][3]string{{"alice", "secret", "alice|staff"}, {"a", ":b", "a|"}, {"bob", "hunter2", "bob|staff"}, {"carol", "carols", "carol|"}}
	for _, l := range logins {
		if a := s.get("/", l[0], l[1]); a.status != 200 || a.body != l[2] {
			t.Fatalf("%s: got %+v, want status 200 and %q", l[0], a, l[2])
		}
	}
	known := process.guard.hashCount()
	if err := s.reload(caddyfile(1)); err != nil { // the first reload starts what stays
		t.Fatal(err)
	}
	settled := func() (int, int) {
		s.client.CloseIdleConnections()
		runtime.GC()
		return runtime.NumGoroutine(), openFiles(t)
	}
	var goroutines, fds int
	eventually(t, "the old configuration is gone", func() bool {
		g, f := settled()
		same := g == goroutines && f == fds
		goroutines, fds = g, f
		if !same {
			time.Sleep(20 * time.Millisecond) // wait for goroutines that are ending
		}
		return same
	})

	var stop atomic.Bool
	var served atomic.Int64
	var wg sync.WaitGroup
	for i := range people {
		clients := s.clients()
		wg.Go(func() {
			client := clients["HTTP/2"]
			if i%2 == 1 {
				client = clients["HTTP/1.1"]
			}
			for !stop.Load() {
				r, err := http.NewRequest("GET", fmt.Sprintf("https://localhost:%d/", s.port), nil)
				if err != nil {
					t.Error(err)
					return
				}
				r.SetBasicAuth(logins[i][0], logins[i][1])
				resp, err := client.Do(r)
				for retries := 0; err != nil && retries < 5; retries++ {
					resp, err = client.Do(r) // Caddy may close new connections during a reload
				}
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || string(body) != logins[i][2] {
					t.Errorf("%s: got %d %q, error %v, want 200 %q", logins[i][0], resp.StatusCode, body, err, logins[i][2])
					return
				}
				served.Add(1)
			}
			client.CloseIdleConnections()
		})
	}
	for i := range reloads {
		if err := s.reload(caddyfile(2 + i)); err != nil {
			t.Error(err)
		}
		before := served.Load()
		eventually(t, "requests were served", func() bool { return served.Load() > before+people || t.Failed() })
	}
	stop.Store(true)
	wg.Wait()
	if n := process.guard.hashCount() - known; n != 0 {
		t.Errorf("got %d hashes of passwords that were verified, want none", n)
	}
	eventually(t, "the last configuration serves", func() bool {
		s.client.CloseIdleConnections()
		return s.get("/", "", "").header.Get("Www-Authenticate") == fmt.Sprintf(`Basic realm="Version %d", charset="UTF-8"`, reloads+1)
	})
	for path, want := range map[string][2]int{"users": {1, 0}, "more": {1, 0}, "groups": {0, 1}} {
		if n := references(filepath.Join(s.dir, path)); n != want {
			t.Errorf("%s is held %v times, want %v", path, n, want)
		}
	}
	var g, f int
	eventually(t, "goroutines and open files are as before", func() bool {
		g, f = settled()
		return g <= goroutines+3 && f <= fds+3 || t.Failed()
	})

	t.Run("an edit of one entry", func(t *testing.T) {
		s := s.in(t)
		s.write("more", bobSecret+carol)
		computed := hashes(func() {
			eventually(t, "the new password works", func() bool { return s.get("/", "bob", "secret").status == 200 })
		})
		for _, l := range [][3]string{logins[0], logins[1], logins[3]} {
			if n := hashes(func() { checkStatus(t, s.get("/", l[0], l[1]), 200, "") }); n != 0 {
				t.Errorf("%s: got %d hashes, want none: the password is cached", l[0], n)
			}
		}
		if a := s.get("/", "bob", "hunter2"); a.status != 401 {
			t.Errorf("the old password: got %+v, want status 401", a)
		}
		if computed < 1 {
			t.Errorf("the new password: got %d hashes, want one or more", computed)
		}
	})
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"users", "more", "groups"} {
		if n := references(filepath.Join(s.dir, path)); n != [2]int{} {
			t.Errorf("%s is held %v times after the end, want none", path, n)
		}
	}
}

// TestRefusedReload checks that a refused reload changes nothing.
func TestRefusedReload(t *testing.T) {
	const old = "{\n\thtpasswd {\n\t\tpoll 1s\n\t}\n}\n"
	const next = "{\n\thtpasswd {\n\t\tpoll 9s\n\t}\n}\n"
	handler := func(realm, file string) string {
		return httpsSite("\thtpasswd {\n\t\tfile " + file + "\n\t\trealm " + realm + "\n\t}\n\trespond " + realm)
	}
	s := startSite(t, nil, map[string]string{"users": alice, "other": bob, "groups": "g: alice\n"}, old+handler("old", "{dir}/users"))
	checkStatus(t, s.get("/", "alice", "secret"), 200, "")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := fmt.Sprintf("http://127.0.0.1:%d {\n\tbind 127.0.0.1\n\thtpasswd {\n\t\tfile {dir}/other\n\t}\n}\n", taken.Addr().(*net.TCPAddr).Port)
	for _, row := range []struct {
		name, before, caddyfile, want string
		users                         string // the new text of the file in use
	}{
		{"syntax error", "", strings.TrimSuffix(next+handler("new", "{dir}/users"), "}\n"), "Caddyfile", alice},
		{"unknown subdirective", "", next + httpsSite("\thtpasswd {\n\t\tfiles {dir}/users\n\t}"), "files", alice},
		{"missing file", "", next + handler("new", "{dir}/missing"), "missing", alice},
		{"missing second file", "", next + handler("new", "{dir}/other {dir}/users {dir}/missing"), "missing", alice},
		{"missing group file", "", next + httpsSite("\thtpasswd {\n\t\tfile {dir}/users {dir}/other\n\t\tgroup_file {dir}/groups {dir}/missing\n\t}"), "missing", alice},
		{"port in use", "", next + handler("new", "{dir}/users") + busy, "address already in use", alice},
		{"broken file that is in use", "", next + handler("new", "{dir}/users"), "no valid user:hash line (invalid lines: 1)", "<html>\n"},
		{"broken file, another site valid", "", next + handler("new", "{dir}/other") + "http://localhost:{http} {\n\thtpasswd {\n\t\tfile {dir}/users\n\t}\n}\n", "no valid user:hash line (invalid lines: 1)", "<html>\n"},
		{"settings of the app", "", "{\n\thtpasswd {\n\t\tpoll 1ms\n\t}\n}\n" + handler("new", "{dir}/users"), "poll", alice},
		{"user_header", "", next + httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t\tuser_header Host\n\t}"), "user_header", alice},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			s.write("users", row.users)
			failed := hashes(func() {
				if err := s.reload(row.caddyfile); err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("%v, not an error about %q", err, row.want)
				}
				a := s.get("/", "alice", "secret")
				checkStatus(t, a, 200, "")
				if a.body != "old" {
					t.Errorf("got %q, want the previous configuration to serve: %q", a.body, "old")
				}
				checkStatus(t, s.get("/", "", ""), 401, `Basic realm="old", charset="UTF-8"`)
			})
			if failed != 0 {
				t.Errorf("got %d hashes, want none: the password is cached", failed)
			}
			if got := process.active.get().poll; got != time.Second {
				t.Errorf("poll: got %s, want %s", got, time.Second)
			}
			for name, want := range map[string][2]int{"users": {1, 0}, "other": {}, "groups": {}, "missing": {}} {
				if n := references(filepath.Join(s.dir, name)); n != want {
					t.Errorf("%s is held %v times, not %v", name, n, want)
				}
			}
		})
	}
	s.write("users", alice)
	t.Run("fixed: loaded", func(t *testing.T) {
		s := s.in(t)
		if err := s.reload(next + handler("new", "{dir}/users")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new configuration serves", func() bool {
			s.client.CloseIdleConnections()
			return s.get("/", "alice", "secret").body == "new"
		})
		if got := process.active.get().poll; got != 9*time.Second {
			t.Errorf("poll: got %s, want %s", got, 9*time.Second)
		}
	})
}

// TestRefusedStart checks that an invalid file or setting prevents the start.
func TestRefusedStart(t *testing.T) {
	for _, row := range []struct{ name, users, block, want string }{
		{"missing", "", "file {dir}/missing", "no such file"},
		{"broken", "<html>\n", "file {dir}/users", "no valid user:hash line (invalid lines: 1)"},
		{"only invalid lines", "alice:nonsense\nbob\n", "file {dir}/users", "no valid user:hash line (invalid lines: 2)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := startServer(t, "")
			s.write("users", row.users)
			err := s.reload(httpsSite("\thtpasswd {\n" + row.block + "\n}\nrespond open"))
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), s.dir) {
				t.Errorf("got error %v, want one with %q and a path in %s", err, row.want, s.dir)
			}
			if c, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", s.port)); err == nil {
				c.Close()
				t.Errorf("port %d: got a connection, want none: nothing serves", s.port)
			}
		})
	}
}

// TestPasswordChanged checks that an old password is refused as soon as the file changes.
func TestPasswordChanged(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob}, "{\n\thtpasswd {\n\t\tpoll 500ms\n\t}\n}\n"+httpsSite(`
	htpasswd {
		file {dir}/users
	}
	respond ok`))
	path := filepath.Join(s.dir, "users")
	checkStatus(t, s.get("/", "alice", "secret"), 200, "")
	checkStatus(t, s.get("/", "bob", "hunter2"), 200, "")
	t.Run("changed", func(t *testing.T) {
		s := s.in(t)
		s.write("users", aliceOther+bob)
		eventually(t, "the old password is refused", func() bool { return s.get("/", "alice", "secret").status == 401 })
		checkStatus(t, s.get("/", "alice", "other"), 200, "")
		checkStatus(t, s.get("/", "alice", "secret"), 401, restricted)
		if n := hashes(func() { checkStatus(t, s.get("/", "bob", "hunter2"), 200, "") }); n != 0 {
			t.Errorf("bob: got %d hashes, want none", n)
		}
	})
	t.Run("renamed over, user removed", func(t *testing.T) {
		s := s.in(t)
		if err := os.Rename(s.write("users.new", aliceOther+carol), path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "bob is out", func() bool { return s.get("/", "bob", "hunter2").status == 401 })
		if n := hashes(func() { checkStatus(t, s.get("/", "alice", "other"), 200, "") }); n != 0 {
			t.Errorf("alice: got %d hashes, want none", n)
		}
	})
	t.Run("locked", func(t *testing.T) {
		s := s.in(t)
		s.write("users", "alice:!"+aliceOther[len("alice:"):]+carol)
		eventually(t, "alice is out", func() bool { return s.get("/", "alice", "other").status == 401 })
		s.write("users", aliceOther+carol)
		eventually(t, "alice is in", func() bool { return s.get("/", "alice", "other").status == 200 })
	})
	t.Run("file deleted: keeps serving", func(t *testing.T) {
		s := s.in(t)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is noticed", func() bool { return strings.Contains(s.log(), "cannot load file") })
		checkStatus(t, s.get("/", "alice", "other"), 200, "")
		checkStatus(t, s.get("/", "alice", "secret"), 401, restricted)
		checkStatus(t, s.get("/", "", ""), 401, restricted)
		if err := s.reload(httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond new")); err == nil {
			t.Error("got no error of a reload without the file, want one")
		}
		if a := s.get("/", "alice", "other"); a.status != 200 || a.body != "ok" {
			t.Errorf("got %+v, want status 200 and %q of the previous configuration", a, "ok")
		}
		s.write("users", aliceOther+carol)
		eventually(t, "it is loaded again", func() bool { return strings.Contains(s.log(), "file loaded again after earlier errors") })
		checkStatus(t, s.get("/", "alice", "other"), 200, "")
	})
}

// TestPasswordChangedInFlight changes a password while its hash is computed.
func TestPasswordChangedInFlight(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": slow + carol}, httpsSite(`
	htpasswd {
		file {dir}/users
	}
	respond ok`))
	var file *pooledFile[*userStore]
	process.sources.pool.Range(func(_, value any) bool {
		if f, ok := value.(*pooledFile[*userStore]); ok && f.Name() == filepath.Join(s.dir, "users") {
			file = f
		}
		return true
	})
	if file == nil {
		t.Fatal("got no such file in the pool, want one")
	}
	for name, text := range map[string]string{"removed in flight": carol, "changed in flight": "slow" + carol[len("carol"):]} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			if err := file.store.load(slow+carol, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			begun, end := make(chan struct{}, 10), make(chan struct{}) // what the file says then is tried, too
			process.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
				begun <- struct{}{}
				<-end
				return class.Verify(hash, password)
			}
			status := make(chan int)
			go func() {
				r := s.request("GET", "/", nil)
				r.SetBasicAuth("slow", "secret")
				resp, err := s.client.Do(r)
				if err != nil {
					status <- 0
					return
				}
				resp.Body.Close()
				status <- resp.StatusCode
			}()
			within(t, "the hash is being computed", func() { <-begun })
			if err := file.store.load(text, zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			close(end)
			if got := <-status; got != 401 {
				t.Errorf("got status %d, want 401", got)
			}
		})
	}
}
