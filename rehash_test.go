//go:build unix

package caddyhtpasswd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

// makeQuickly replaces the hashes that a guard makes by others that are not replaced, and
// take a few milliseconds. It returns how often each password was hashed.
func makeQuickly(g *guard) (made func() map[string]int) {
	var mu sync.Mutex
	counts := make(map[string]int)
	g.makeBcrypt = func(_ int, password []byte, _ func()) (string, error) {
		mu.Lock()
		counts[string(password)]++
		mu.Unlock()
		return crypt.Make("sha512crypt", 5001, password)
	}
	return func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		copied := make(map[string]int, len(counts))
		for password, n := range counts {
			copied[password] = n
		}
		return copied
	}
}

// rehashSite is a handler with rehash and limits for a file, in a process of its own.
type rehashSite struct {
	*Handler
	t    testing.TB
	path string
	logs *observer.ObservedLogs
}

// newRehashSite provisions a handler. Its process follows the file.
func newRehashSite(t testing.TB, path string, cost int) *rehashSite {
	t.Helper()
	core, logs := observer.New(zapcore.InfoLevel)
	shared := newShared(time.Now)
	app := new(App)
	app.shared = shared
	app.setDefaults(zap.New(core))
	shared.active.start(app.settings)
	h := &Handler{Files: []string{path}, Rehash: &Rehash{Cost: cost}, shared: shared}
	must(t, h.Provision(configContext(t)))
	t.Cleanup(func() { h.Cleanup() })
	return &rehashSite{h, t, path, logs}
}

// login checks credentials from an address.
func (s *rehashSite) login(ip, user, password string) (result, error) {
	s.t.Helper()
	c := credentialsOf(user, password)
	defer c.release()
	v, err := s.check(s.t.Context(), origin{ip: ip}, c)
	return v.result, err
}

// passes fails unless the credentials pass.
func (s *rehashSite) passes(user, password string) {
	s.t.Helper()
	if got, err := s.login("192.0.2.1", user, password); got != resultPassed || err != nil {
		s.t.Errorf("%s: got %s, %v, want %s", user, got, err, resultPassed)
	}
}

// count returns how many weak hashes had a result.
func (s *rehashSite) count(r rehashResult) int { return int(s.guard.rehashes[r].Load()) }

// hashOf returns the hash of a user in the file.
func (s *rehashSite) hashOf(user string) string {
	s.t.Helper()
	users, err := htfile.Parse(readText(s.t, s.path))
	must(s.t, err)
	if u := users.Find(user); u != nil {
		return u.Hash
	}
	return ""
}

// await waits until so many hashes had a result, and the version of the file is active.
func (s *rehashSite) await(r rehashResult, n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d hashes are %s", n, rehashResultLabels[r]), func() bool { return s.count(r) == n })
	s.users.await(s.t.Context())
}

// TestRehash has a weak hash replaced, and nothing else in the file.
func TestRehash(t *testing.T) {
	t.Parallel()
	sha := makeOf(t, "sha1", 0, "secret")
	strong := makeOf(t, "sha512crypt", 5001, "secret")
	path := writeFile(t, "\ufeff# people\r\n\r\nalice:"+sha+":Alice, of the office\r\nbob:"+strong+"\r\n rubbish\r\ncarol:!\r\nalice:"+sha+"\r\nalice:x")
	s := newRehashSite(t, path, 0)
	s.passes("bob", "secret")
	s.passes("alice", "secret")
	for range 100 {
		s.passes("alice", "secret")
	}
	s.await(rehashWritten, 1)
	hash := s.hashOf("alice")
	if !strings.HasPrefix(hash, "$2y$10$") {
		t.Errorf("got the hash %.7s..., want bcrypt with cost 10", hash)
	}
	want := "\ufeff# people\r\n\r\nalice:" + hash + ":Alice, of the office\r\nbob:" + strong + "\r\n rubbish\r\ncarol:!\r\nalice:" + hash + "\r\nalice:x"
	if got := readText(t, path); got != want {
		t.Errorf("got the file\n%q, want\n%q", got, want)
	}
	hashes := s.guard.hashCount()
	for range 100 {
		s.passes("alice", "secret")
	}
	if got := s.guard.hashCount(); got != hashes {
		t.Errorf("%d more hashes after the new hash was loaded, want none", got-hashes)
	}
	if got := s.logs.FilterMessage("weak password hashes replaced").All(); len(got) != 1 || got[0].ContextMap()["users"] != int64(1) || got[0].ContextMap()["file"] != path {
		t.Errorf("got the log lines %v, want one for one user", got)
	}
	// A new process knows nothing of the old one, so the hash itself must be right.
	again := newRehashSite(t, path, 0)
	again.passes("alice", "secret")
	if got, _ := again.login("192.0.2.1", "alice", "Secret"); got != resultWrongPassword {
		t.Errorf("a wrong password: got %s", got)
	}
}

// TestRehashOnlyWithTheSetting checks that a site without rehash changes nothing, also if
// another site of the same file has it.
func TestRehashOnlyWithTheSetting(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
	s := newRehashSite(t, path, 0)
	without := &Handler{Files: []string{path}, shared: s.shared}
	must(t, without.Provision(configContext(t)))
	defer without.Cleanup()
	c := credentialsOf("alice", "secret")
	defer c.release()
	if v, err := without.check(t.Context(), origin{ip: "192.0.2.1"}, c); v.result != resultPassed || err != nil {
		t.Fatalf("got %s, %v", v.result, err)
	}
	if pending, _, _ := s.users.fixed[0].rehash.state(); pending != 0 {
		t.Errorf("got %d pending logins, want none", pending)
	}
	s.passes("alice", "secret") // the password is cached by the other site
	s.await(rehashWritten, 1)
}

// TestRehashWarnsOfNewWeakHashes checks that the warning about weak hashes is not repeated
// for each write of the server, and still comes for one more weak hash.
func TestRehashWarnsOfNewWeakHashes(t *testing.T) {
	t.Parallel()
	sha := makeOf(t, "sha1", 0, "secret")
	s := newRehashSite(t, writeFile(t, "alice:"+sha+"\nbob:"+sha+"\ncarol:"+sha+"\n"), 0)
	makeQuickly(s.guard)
	warnings := func() int { return s.logs.FilterMessageSnippet("file contains weak password hashes").Len() }
	s.passes("alice", "secret")
	s.await(rehashWritten, 1)
	if n := warnings(); n != 0 {
		t.Errorf("got %d warnings after a write of the server, want none", n)
	}
	replace(t, s.path, readText(t, s.path)+"dora:"+sha+"\n")
	s.users.await(t.Context())
	if n := warnings(); n != 1 {
		t.Errorf("got %d warnings after an edit that adds a weak hash, want 1", n)
	}
}

// TestRehashSkips checks for which passwords no hash is made, and that this is counted once.
func TestRehashSkips(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 73)
	for _, test := range []struct {
		name, format, password string
		want                   rehashResult
	}{
		{"72 bytes", "sha1", long[1:], rehashWritten},
		{"73 bytes", "sha1", long, rehashSkippedLong},
		{"73 bytes, apr1", "apr1", long, rehashSkippedLong},
		{"DES", "descrypt", "12345678", rehashWritten},
		{"DES, 9 bytes", "descrypt", "123456789", rehashSkippedUnsure},
		{"DES, not ASCII", "descrypt", "pässe", rehashSkippedUnsure},
		{"DES, very long", "descrypt", long, rehashSkippedLong},
		{"not ASCII", "sha1", "Пароль", rehashWritten},
		{"no password", "sha1", "", rehashWritten},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			hash := makeOf(t, test.format, 0, test.password)
			s := newRehashSite(t, writeFile(t, "alice:"+hash+"\n"), 0)
			makeQuickly(s.guard)
			for range 10 {
				s.passes("alice", test.password)
			}
			s.await(test.want, 1)
			if got := s.hashOf("alice"); (got != hash) != (test.want == rehashWritten) {
				t.Errorf("the hash has changed: %t", got != hash)
			}
			again := newRehashSite(t, s.path, 0)
			again.passes("alice", test.password)
		})
	}
	t.Run("DES, first the long form", func(t *testing.T) {
		t.Parallel()
		hash := makeOf(t, "descrypt", 0, "123456789")
		s := newRehashSite(t, writeFile(t, "alice:"+hash+"\n"), 0)
		s.passes("alice", "123456789")
		s.passes("alice", "12345678")
		if pending, _, _ := s.users.fixed[0].rehash.state(); pending != 0 || s.count(rehashSkippedUnsure) != 1 {
			t.Error("the short form was hashed, although somebody uses the long one")
		}
	})
}

// TestRehashCosts has two sites with different costs for one file.
func TestRehashCosts(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "bcrypt", 4, "secret")+"\n")
	ten := newRehashSite(t, path, 10)
	ten.passes("alice", "secret")
	ten.await(rehashWritten, 1)
	ten.passes("alice", "secret")
	if hash := ten.hashOf("alice"); !strings.HasPrefix(hash, "$2y$10$") || ten.count(rehashWritten) != 1 {
		t.Errorf("got the hash %.7s...", hash)
	}
	eleven := newRehashSite(t, path, 11)
	eleven.passes("alice", "secret")
	eleven.await(rehashWritten, 1)
	if hash := eleven.hashOf("alice"); !strings.HasPrefix(hash, "$2y$11$") {
		t.Errorf("got the hash %.7s..., want cost 11", hash)
	}
	ten.users.await(t.Context())
	ten.passes("alice", "secret")
	if pending, _, _ := ten.users.fixed[0].rehash.state(); pending != 0 {
		t.Error("a stronger hash is replaced by a weaker one")
	}
}

// TestRehashAndAnAdministrator changes entries while a new hash is being made (A1): what
// the administrator wrote stays.
func TestRehashAndAnAdministrator(t *testing.T) {
	t.Parallel()
	sha := func(password string) string { return makeOf(t, "sha1", 0, password) }
	for _, test := range []struct {
		name, after string // alice's line
		passes      string // her password afterwards; "": none
	}{
		{"a new password", "alice:" + sha("new") + "\n", "new"},
		{"locked", "alice:!" + sha("secret") + "\n", ""},
		{"removed", "", ""},
		{"the same password with another hash", "alice:" + makeOf(t, "sha512crypt", 5001, "secret") + "\n", "secret"},
		{"invalid", "alice:rubbish\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bob := "bob:" + sha("secret") + "\n"
			s := newRehashSite(t, writeFile(t, "alice:"+sha("secret")+"\n"+bob), 0)
			makeQuickly(s.guard)
			quickly, edited := s.guard.makeBcrypt, make(chan bool)
			edit := sync.OnceFunc(func() {
				replace(t, s.path, test.after+bob) // no lock, as with an editor
				close(edited)
			})
			s.guard.makeBcrypt = func(cost int, password []byte, yield func()) (string, error) {
				edit()
				return quickly(cost, password, yield)
			}
			s.passes("alice", "secret")
			<-edited
			s.passes("bob", "secret")
			s.await(rehashWritten, 1)
			s.await(rehashConflict, 1)
			if text := readText(t, s.path); !strings.HasPrefix(text, test.after+"bob:$6$") || strings.Count(text, "\n") != strings.Count(test.after+bob, "\n") {
				t.Errorf("got the file\n%s, want alice's line as the administrator wrote it, and bob's with a new hash", text)
			}
			for _, password := range []string{"secret", "new"} {
				want := password == test.passes
				if got, err := s.login("192.0.2.2", "alice", password); (got == resultPassed) != want || err != nil {
					t.Errorf("%s: got %s, %v, want it to pass: %t", password, got, err, want)
				}
			}
		})
	}
}

// TestRehashOfTwoServers has two processes replace the hash of a user in one file.
func TestRehashOfTwoServers(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
	one, two := newRehashSite(t, path, 0), newRehashSite(t, path, 0)
	one.passes("alice", "secret")
	two.passes("alice", "secret")
	eventually(t, "both are done", func() bool {
		return one.count(rehashWritten)+two.count(rehashWritten) == 1 && one.count(rehashConflict)+two.count(rehashConflict) == 1
	})
	text := readText(t, path)
	if hash := one.hashOf("alice"); text != "alice:"+hash+"\n" || !strings.HasPrefix(hash, "$2y$10$") {
		t.Errorf("got the file %q, want one line with a new hash", text)
	}
	for _, s := range []*rehashSite{one, two} {
		s.users.await(t.Context())
		s.passes("alice", "secret")
	}
}

// TestRehashOfAUserInTwoFiles changes the file that decides.
func TestRehashOfAUserInTwoFiles(t *testing.T) {
	t.Parallel()
	first := "bob:" + makeOf(t, "sha1", 0, "secret") + "\n"
	second := "alice:" + makeOf(t, "sha1", 0, "secret") + "\nbob:" + makeOf(t, "sha1", 0, "secret") + "\ncarol:!\n"
	s := newRehashSite(t, writeFile(t, first), 0)
	other := filepath.Join(t.TempDir(), "second")
	must(t, os.WriteFile(other, []byte(second), 0o600))
	both := &Handler{Files: []string{s.path, other}, Rehash: new(Rehash), shared: s.shared}
	must(t, both.Provision(configContext(t)))
	defer both.Cleanup()
	makeQuickly(s.guard)
	site := &rehashSite{both, t, s.path, s.logs}
	site.passes("bob", "secret")
	site.passes("alice", "secret")
	if got, _ := site.login("192.0.2.1", "carol", "secret"); got != resultLockedUser {
		t.Errorf("got %s for a locked user", got)
	}
	site.await(rehashWritten, 2)
	if text := readText(t, s.path); !strings.HasPrefix(text, "bob:$6$") {
		t.Errorf("the first file: got %q", text)
	}
	lines, want := strings.Split(readText(t, other), "\n"), strings.Split(second, "\n")
	if !strings.HasPrefix(lines[0], "alice:$6$") || lines[1] != want[1] || lines[2] != want[2] {
		t.Errorf("the second file: got %q", lines)
	}
}

// TestRehashKeepsEverything checks that limits, recent wrong passwords, recognized clients
// and open guesses of a user survive new hashes of the same password.
func TestRehashKeepsEverything(t *testing.T) {
	t.Parallel()
	const password = "secret"
	for _, ip := range []string{"192.0.2.1", ""} { // "": a client without an address
		t.Run("from "+ip, func(t *testing.T) {
			t.Parallel()
			hash := makeOf(t, "sha1", 0, password)
			store := storeOf(t, "alice:"+hash+"\n")
			h := handlerOf(userStores{store}, &cachePolicy{now: clock})
			app := &App{Throttle: &Throttle{Login: &Limit{Failures: 3}, Client: &Limit{Failures: 100}, User: &Limit{Failures: 6}}}
			h.guard = newGuard(settingsOf(app), clock)
			h.guard.files = func() []fileInUse {
				file := follow.New(follow.NewFile(store.path), follow.Options{})
				return []fileInUse{{Follower: file, store: store, users: store.current.Load()}}
			}
			s := &rehashSite{Handler: h, t: t}
			expect := func(ip, password string, want result) {
				t.Helper()
				if got, err := s.login(ip, "alice", password); got != want && (want != resultThrottled || err == nil) {
					t.Errorf("from %q: got %s, %v, want %s", ip, got, err, want)
				}
			}
			rehashIt := func(cost int) {
				t.Helper()
				change := htfile.Change{Name: "alice", Old: hash, New: makeOf(t, "bcrypt", cost, password)}
				store.pending.expect(change, entry.inherit)
				reloadStore(t, store, "alice:"+change.New+"\n")
				hash = change.New
				if len(store.pending.byNew) != 0 {
					t.Error("a change that was loaded is still expected")
				}
			}
			expect(ip, password, resultPassed)
			keys := func() (k limitKeys) {
				l := h.users.now().find([]byte("alice"))
				k.set(h.guard.keyer(), h.guard.keyer().client(ip), &l, []byte("alice"))
				return k
			}
			before := keys()
			guesses := &h.users.now().find([]byte("alice")).entry.recognized().guesses[0]
			guesses.Add(1)
			expect(ip, "wrong 1", resultWrongPassword)
			rehashIt(4)
			expect(ip, "wrong 2", resultWrongPassword)
			rehashIt(5)
			if keys() != before {
				t.Error("the keys of the limits have changed")
			}
			if n := h.users.now().find([]byte("alice")).entry.recognized().guesses[0].Load(); n != 1 {
				t.Errorf("got %d open guesses, want 1", n)
			}
			guesses.Add(-1)
			hashes := h.guard.hashCount()
			expect(ip, "wrong 1", resultWrongPassword) // known, so not counted again
			expect(ip, "wrong 2", resultWrongPassword)
			expect(ip, password, resultPassed) // cached
			if n := h.guard.hashCount() - hashes; n != 0 {
				t.Errorf("%d hashes for passwords that are known, want none", n)
			}
			if ip == "" {
				for i := range 4 {
					expect(ip, fmt.Sprint("more ", i), resultWrongPassword)
				}
			} else {
				expect(ip, "wrong 3", resultWrongPassword)
				expect(ip, password, resultThrottled) // login limit
				rehashIt(4)
				expect(ip, password, resultThrottled)
				for i := range 3 {
					expect(fmt.Sprintf("192.0.2.%d", 10+i), fmt.Sprint("more ", i), resultWrongPassword)
				}
			}
			rehashIt(6)
			expect("192.0.2.99", password, resultThrottled) // user limit
			found := h.guard.exceededBy("alice")
			limits := make(map[string]bool)
			for _, e := range found.Exceeded {
				limits[e.Limit.String()] = e.File == store.path && *e.User == "alice"
			}
			if !limits["user"] || limits["login"] != (ip != "") {
				t.Errorf("got the exceeded limits %v", limits)
			}
			// A new password of the administrator ends all of it.
			reloadStore(t, store, "alice:"+makeOf(t, "sha1", 0, "new")+"\n")
			expect("192.0.2.99", "new", resultPassed)
			expect("192.0.2.98", password, resultWrongPassword)
		})
	}
}

// TestRehashDuringALogin loads the new hash while the old one is being computed: the
// login is decided again, and passes.
func TestRehashDuringALogin(t *testing.T) {
	t.Parallel()
	for password, want := range map[string]result{"secret": resultPassed, "wrong": resultWrongPassword} {
		store := storeOf(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
		h := handlerOf(userStores{store}, &cachePolicy{now: clock})
		h.guard = newGuard(settingsOf(new(App)), clock)
		h.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
			if class.Format.Name == "sha1" {
				change := htfile.Change{Name: "alice", Old: hash, New: makeOf(t, "bcrypt", 4, "secret")}
				store.pending.expect(change, entry.inherit)
				reloadStore(t, store, "alice:"+change.New+"\n")
			}
			return class.Verify(hash, password)
		}
		s := &rehashSite{Handler: h, t: t}
		if got, err := s.login("192.0.2.1", "alice", password); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", password, got, err, want)
		}
	}
}

// TestRehashOfAFileThatCannotBeReplaced checks that it is said once, that no hash is made,
// and that it works again when the file can be replaced.
func TestRehashOfAFileThatCannotBeReplaced(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
	link := path + ".link"
	must(t, os.Link(path, link))
	s := newRehashSite(t, path, 0)
	made := makeQuickly(s.guard)
	lines := func() int {
		return s.logs.FilterMessage("cannot replace weak password hashes; logins still work").Len()
	}
	if lines() != 1 {
		t.Errorf("got %d log lines when the configuration was loaded, want one", lines())
	}
	for range 100 {
		s.passes("alice", "secret")
	}
	other := newRehashHandler(t, s)
	s.passes("alice", "secret")
	if lines() != 1 || len(made()) != 0 {
		t.Errorf("got %d log lines and %d hashes, want one and none", lines(), len(made()))
	}
	metric, status := rehashState(t, s)
	if metric != 0 || !strings.Contains(status.LastError, "hard links") || status.Pending != 0 {
		t.Errorf("got the metric %g, status %+v", metric, status)
	}
	must(t, os.Remove(link))
	replace(t, path, readText(t, path)+"# edited\n") // a new version is loaded
	eventually(t, "the new version is loaded", func() bool {
		s.users.await(t.Context())
		return !s.users.fixed[0].rehash.worker.Load().IsBlocked()
	})
	s.passes("alice", "secret")
	s.await(rehashWritten, 1)
	if metric, status := rehashState(t, s); metric != 1 || status.LastError != "" {
		t.Errorf("got the metric %g, status %+v, want 1 and no error", metric, status)
	}
	must(t, other.Cleanup())
}

// newRehashHandler provisions another handler of the same process and file.
func newRehashHandler(t *testing.T, s *rehashSite) *Handler {
	t.Helper()
	h := &Handler{Files: []string{s.path}, Rehash: new(Rehash), shared: s.shared}
	must(t, h.Provision(configContext(t)))
	return h
}

// rehashState returns what the metrics and the admin API say about the file of a site.
func rehashState(t *testing.T, s *rehashSite) (metric float64, status adminRehash) {
	t.Helper()
	metric = -1
	for text, value := range gather(t, s.shared.metrics) {
		if strings.Contains(text, "file_last_rehash_successful") {
			metric = value
		}
	}
	files := s.shared.sources.inUse()
	if len(files) != 1 {
		t.Fatalf("got %d files", len(files))
	}
	if file := newAdminFile(&files[0]); file.Rehash != nil {
		status = *file.Rehash
	}
	return metric, status
}

// gather returns the values of all metrics, by their description and labels.
func gather(t testing.TB, m *metrics) map[string]float64 {
	t.Helper()
	collected := make(chan prometheus.Metric)
	go func() {
		defer close(collected)
		m.Collect(collected)
	}()
	values := make(map[string]float64)
	for c := range collected {
		var read dto.Metric
		must(t, c.Write(&read))
		values[c.Desc().String()+read.String()] = read.GetGauge().GetValue() + read.GetCounter().GetValue()
	}
	return values
}

// TestRehashFilesThatGo deletes the file, or replaces it with rubbish, before the write.
func TestRehashFilesThatGo(t *testing.T) {
	t.Parallel()
	for name, break_ := range map[string]func(path string) error{
		"deleted": os.Remove,
		"rubbish": func(path string) error { return os.WriteFile(path, []byte("rubbish\n"), 0o600) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
			s := newRehashSite(t, path, 0)
			s.guard.makeBcrypt = func(int, []byte, func()) (string, error) {
				must(t, break_(path))
				return makeOf(t, "sha512crypt", 5001, "secret"), nil
			}
			s.passes("alice", "secret")
			result := rehashFailed
			if name == "empty" {
				result = rehashConflict // a valid file, without alice
			}
			eventually(t, "the write is given up", func() bool { return s.count(result) == 1 })
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "alice") {
				t.Errorf("got the file %q, want it unchanged", text)
			}
			if name != "empty" { // which is loaded after a grace period
				s.passes("alice", "secret")
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			must(t, err)
			for _, e := range entries {
				if e.Name() != filepath.Base(path) {
					t.Errorf("%s was left behind", e.Name())
				}
			}
		})
	}
}

// TestRehashEndsWithTheFile checks that the last handler writes what was made, and leaves
// no goroutine.
func TestRehashEndsWithTheFile(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\nbob:"+makeOf(t, "sha1", 0, "secret")+"\n")
	s := newRehashSite(t, path, 0)
	began, goOn := make(chan bool, 1), make(chan bool)
	quickly := crypt.Make
	s.guard.makeBcrypt = func(_ int, password []byte, _ func()) (string, error) {
		select {
		case began <- true:
			return quickly("sha512crypt", 5001, password)
		default:
		}
		<-goOn
		return quickly("sha512crypt", 5001, password)
	}
	other := newRehashHandler(t, s)
	s.passes("alice", "secret")
	<-began
	s.passes("bob", "secret")
	must(t, other.Cleanup()) // the file is still in use
	if pending, _, isUsed := s.users.fixed[0].rehash.state(); pending != 2 || !isUsed {
		t.Errorf("got %d pending logins, used %t, want 2, used", pending, isUsed)
	}
	store := s.users.fixed[0]
	close(goOn)
	within(t, "Cleanup", func() { must(t, s.Cleanup()) })
	users, err := htfile.Parse(readText(t, path))
	must(t, err)
	if hash := users.Find("alice").Hash; !strings.HasPrefix(hash, "$6$") {
		t.Error("the hash that was made is not in the file")
	}
	if pending, _, _ := store.rehash.state(); pending != 0 {
		t.Errorf("got %d pending logins, want none", pending)
	}
	worker := store.rehash.worker.Load()
	if worker.Add(rehash.Login{}, nil) {
		t.Error("a login was added after the end")
	}
}

// TestRehashOfManyAtOnce has 500 people log in at once (A2), each with several requests.
// Each hash is made once, in at most 3 writes, and nobody is refused.
func TestRehashOfManyAtOnce(t *testing.T) {
	const people = 500
	var text strings.Builder
	for i := range people {
		fmt.Fprintf(&text, "user%d:%s\n", i, makeOf(t, "sha1", 0, fmt.Sprint("password ", i)))
	}
	s := newRehashSite(t, writeFile(t, text.String()), 0)
	made := makeQuickly(s.guard)
	var group sync.WaitGroup
	ask := func() {
		for i := range people {
			for range 3 {
				group.Go(func() { s.passes(fmt.Sprint("user", i), fmt.Sprint("password ", i)) })
			}
		}
		group.Wait()
	}
	ask()
	done := false
	for !done {
		done = s.count(rehashWritten) == people
		ask()
	}
	s.users.await(t.Context())
	hashes := s.guard.hashCount()
	ask()
	if n := s.guard.hashCount() - hashes; n != 0 {
		t.Errorf("%d logins were hashed again, want none", n)
	}
	counts := made()
	for password, n := range counts {
		if n != 1 {
			t.Errorf("%s: %d hashes were made, want 1", password, n)
		}
	}
	if writes := s.logs.FilterMessage("weak password hashes replaced").Len(); len(counts) != people || writes > 3 {
		t.Errorf("%d hashes were made, in %d writes, want %d in at most 3", len(counts), writes, people)
	}
	table := s.users.fixed[0].current.Load()
	if usable, weak := table.file.Count(); usable != people || weak != 0 {
		t.Errorf("got %d users, %d weak, want %d and none", usable, weak, people)
	}
}

// TestRehashDelaysNobody has a request pass while the hash takes forever.
func TestRehashDelaysNobody(t *testing.T) {
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\nbob:"+makeOf(t, "apr1", 0, "secret")+"\n")
	s := newRehashSite(t, path, 0)
	goOn := make(chan bool)
	var making atomic.Int32
	s.guard.makeBcrypt = func(int, []byte, func()) (string, error) {
		making.Add(1)
		<-goOn
		return makeOf(t, "sha512crypt", 5001, "secret"), nil
	}
	within(t, "logins beside a hash that is never made", func() {
		s.passes("alice", "secret")
		eventually(t, "the hash is being made", func() bool { return making.Load() == 1 })
		s.passes("alice", "secret")
		for i := range 20 {
			if got, err := s.login(fmt.Sprint("192.0.2.", i), "bob", "secret"); got != resultPassed || err != nil {
				t.Errorf("got %s, %v", got, err)
			}
		}
	})
	if n := making.Load(); n != 1 {
		t.Errorf("%d hashes are being made, want one at a time", n)
	}
	close(goOn)
	s.await(rehashWritten, 2)
}

// TestRehashShowsNothing checks logs, metrics and the admin API for passwords, hashes and
// names.
func TestRehashShowsNothing(t *testing.T) {
	t.Parallel()
	old := makeOf(t, "sha1", 0, "s3cretPassword")
	path := writeFile(t, "alice-in-wonderland:"+old+"\n")
	s := newRehashSite(t, path, 0)
	s.passes("alice-in-wonderland", "s3cretPassword")
	s.await(rehashWritten, 1)
	must(t, os.Link(path, path+".link"))
	s.users.fixed[0].rehash.worker.Load().Check()
	var all strings.Builder
	for _, e := range s.logs.All() {
		fields, err := json.Marshal(e.ContextMap())
		must(t, err)
		all.WriteString(e.Message + string(fields) + "\n")
	}
	_, status := rehashState(t, s)
	fmt.Fprintf(&all, "%+v", status)
	for text := range gather(t, s.shared.metrics) {
		all.WriteString(text + "\n")
	}
	for _, secret := range []string{"s3cret", strings.TrimPrefix(old, "{SHA}"), s.hashOf("alice-in-wonderland")[7:], "wonderland"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("%.4s... is shown in\n%s", secret, &all)
		}
	}
}

// TestRehashOfASite replaces a hash with real requests, and the cost of a Caddyfile.
func TestRehashOfASite(t *testing.T) {
	s := startServer(t, "")
	s.write("users", "alice:"+makeOf(t, "apr1", 0, "secret")+"\n")
	must(t, s.reload("https://localhost:{https} {\n\thtpasswd {\n\t\tfile {dir}/users\n\t\trehash 11\n\t}\n\trespond hello\n}\n"))
	for range 3 {
		if a := s.get("/", "alice", "secret"); a.status != http.StatusOK {
			t.Fatalf("got %d", a.status)
		}
	}
	path := filepath.Join(s.dir, "users")
	eventually(t, "the hash is replaced", func() bool {
		if a := s.get("/", "alice", "secret"); a.status != http.StatusOK {
			t.Fatalf("got %d meanwhile", a.status)
		}
		return strings.HasPrefix(readText(t, path), "alice:$2y$11$")
	})
	if a := s.get("/", "alice", "wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong password: got %d", a.status)
	}
}

// TestRehashAcrossReloads reloads the configuration again and again while hashes are
// replaced. Nobody is refused, each hash is made once, and nothing is left running.
func TestRehashAcrossReloads(t *testing.T) {
	const people = 40
	s := startServer(t, "")
	var text strings.Builder
	for i := range people {
		fmt.Fprintf(&text, "user%d:%s\n", i, makeOf(t, "sha1", 0, fmt.Sprint("password ", i)))
	}
	s.write("users", text.String())
	made := makeQuickly(process.guard)
	site := func(n int) string {
		return fmt.Sprintf("https://localhost:{https} {\n\thtpasswd {\n\t\tfile {dir}/users\n\t\trehash\n\t}\n\trespond %d\n}\n", n)
	}
	must(t, s.reload(site(0)))
	guard := process.guard
	stop := make(chan bool)
	var group sync.WaitGroup
	group.Go(func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				return
			default:
				config, err := s.adapt(site(n))
				if err == nil {
					err = caddy.Load(config, true)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	})
	everybody := func() {
		for i := range people {
			if a := s.get("/", fmt.Sprint("user", i), fmt.Sprint("password ", i)); a.status != http.StatusOK {
				t.Fatalf("user%d: got %d", i, a.status)
			}
		}
	}
	eventually(t, "all hashes are replaced", func() bool {
		everybody()
		return guard.rehashes[rehashWritten].Load() == people
	})
	close(stop)
	group.Wait()
	everybody()
	if counts := made(); len(counts) != people {
		t.Errorf("the hashes of %d passwords were made, want %d", len(counts), people)
	}
	for password, n := range made() {
		if n != 1 {
			t.Errorf("%s: %d hashes were made, want 1", password, n)
		}
	}
	must(t, caddy.Stop())
	eventually(t, "nothing is left running", func() bool {
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 2) //nolint:errcheck // to memory
		return !strings.Contains(stacks.String(), "internal/rehash.(*Worker).run(") && followers() == 0
	})
}
