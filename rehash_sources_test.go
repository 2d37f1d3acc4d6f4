//go:build unix

package caddyhtpasswd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

// isStrong reports whether a file has a hash that makeQuickly has made.
func isStrong(t *testing.T, path string) bool {
	t.Helper()
	return strings.Contains(readText(t, path), ":$6$")
}

// TestRehashOfAPattern replaces hashes in the files of a pattern: in one that is there at
// first, and in one that is added. A removed file is neither used nor created again.
func TestRehashOfAPattern(t *testing.T) {
	t.Parallel()
	weak := ":" + makeOf(t, "sha1", 0, "secret") + "\n"
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(path("a.u"), []byte("alice"+weak), 0o600))
	s := newRehashSite(t, path("*.u"), 0)
	made := makeQuickly(s.guard)
	s.passes("alice", "secret")
	s.await(rehashWritten, 1)
	a := s.users.now()[0]

	must(t, os.WriteFile(path("b.u"), []byte("bob"+weak), 0o600))
	s.passes("bob", "secret")
	s.await(rehashWritten, 2)
	if !isStrong(t, path("a.u")) || !isStrong(t, path("b.u")) || made()["secret"] != 2 {
		t.Errorf("got %d hashes, want one in each file", made()["secret"])
	}
	for _, store := range s.users.now() {
		if store.rehash.handlers.Load() != 1 {
			t.Errorf("%s: %d handlers use it, want 1", store.path, store.rehash.handlers.Load())
		}
	}
	for _, user := range []string{"alice", "bob"} {
		s.passes(user, "secret")
	}

	must(t, os.Remove(path("a.u")))
	if got, _ := s.login("192.0.2.1", "unknown", "secret"); got != resultUnknownUser { // waits until the change is loaded
		t.Errorf("got %s, want %s", got, resultUnknownUser)
	}
	if got, _ := s.login("192.0.2.1", "alice", "secret"); got != resultUnknownUser {
		t.Errorf("alice: got %s, want %s", got, resultUnknownUser)
	}
	if a.rehash.isUsed() || a.rehash.worker.Load().Add(rehash.Login{}, nil) {
		t.Error("the removed file is still used")
	}
	b := s.users.now()[0]
	must(t, s.Cleanup())
	if n := b.rehash.handlers.Load(); n != 0 {
		t.Errorf("after the end, %d handlers use the file", n)
	}
}

// TestRehashOfARemovedFile removes a file of a pattern while a new hash of its user is
// made. The file is not created again.
func TestRehashOfARemovedFile(t *testing.T) {
	t.Parallel()
	weak := ":" + makeOf(t, "sha1", 0, "secret") + "\n"
	dir := t.TempDir()
	gone := filepath.Join(dir, "a.u")
	must(t, os.WriteFile(gone, []byte("alice"+weak), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "b.u"), []byte("bob"+weak), 0o600))
	s := newRehashSite(t, filepath.Join(dir, "*.u"), 0)
	s.guard.makeBcrypt = func(_ int, password []byte, _ func()) (string, error) {
		if err := os.Remove(gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		return crypt.Make("sha512crypt", 5001, password)
	}
	s.passes("alice", "secret")
	s.await(rehashFailed, 1)
	s.passes("bob", "secret")
	s.await(rehashWritten, 1)
	if _, err := os.Lstat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want none of the removed file", err)
	}
}

// TestRehashEndsWithTheHandler has a list of files change while a handler ends, which must
// not use the files again.
func TestRehashEndsWithTheHandler(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "secret")+"\n")
	s := newRehashSite(t, path+"*", 0)
	other := &Handler{Files: []string{path, path + "*", path}, Rehash: new(Rehash), shared: s.shared}
	must(t, other.Provision(configContext(t)))
	store := s.users.now()[0]
	if n := store.rehash.handlers.Load(); n != 2 {
		t.Errorf("%d handlers use the file, want 2: one of them has it three times", n)
	}
	stop := make(chan bool)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			other.users.listed.update()
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	must(t, other.Cleanup())
	close(stop)
	<-ended
	other.users.listed.update()
	if n := store.rehash.handlers.Load(); n != 1 {
		t.Errorf("%d handlers use the file, want 1", n)
	}
}

// TestRehashIsTakenAway removes rehash from a handler while a login waits for its hash,
// and another handler still uses the file.
func TestRehashIsTakenAway(t *testing.T) {
	t.Parallel()
	text := "alice:" + makeOf(t, "sha1", 0, "secret") + "\nbob:" + makeOf(t, "sha1", 0, "secret") + "\n"
	path := writeFile(t, text)
	s := newRehashSite(t, path, 0)
	without := &Handler{Files: []string{path}, shared: s.shared}
	must(t, without.Provision(configContext(t)))
	t.Cleanup(func() { without.Cleanup() })
	began, goOn := make(chan bool), make(chan bool)
	s.guard.makeBcrypt = func(int, []byte, func()) (string, error) {
		began <- true
		<-goOn
		return "", errors.New("not made")
	}
	s.passes("alice", "secret")
	<-began
	s.passes("bob", "secret")
	store := s.users.fixed[0]
	must(t, s.Cleanup())
	close(goOn)
	eventually(t, "no login waits", func() bool { pending, _ := store.rehash.worker.Load().State(); return pending == 0 })
	if readText(t, path) != text {
		t.Error("the file has changed")
	}
}

// TestRehashOfUsersText has users in the configuration: their logins work, and the server
// says once that it cannot replace their hashes.
func TestRehashOfUsersText(t *testing.T) {
	hash := makeOf(t, "sha1", 0, "secret")
	t.Setenv("HTPASSWD_REHASH", "alice:"+hash+"\n")
	path := writeFile(t, "alice:"+makeOf(t, "sha1", 0, "of the file")+"\nbob:"+hash+"\n")
	s := newRehashSite(t, path, 0)
	made := makeQuickly(s.guard)
	sources := []Source{{Users: "{env.HTPASSWD_REHASH}"}, {File: path}}
	for range 2 { // also after a reload
		h := &Handler{Sources: sources, Rehash: new(Rehash), shared: s.shared}
		must(t, h.Provision(configContext(t)))
		t.Cleanup(func() { h.Cleanup() })
		s.Handler = h
		s.passes("alice", "secret")
	}
	s.passes("bob", "secret")
	s.await(rehashWritten, 1)
	if text := readText(t, path); made()["secret"] != 1 || strings.Count(text, ":$6$") != 1 || !strings.HasPrefix(text, "alice:{SHA}") {
		t.Errorf("got %d hashes, the file %q, want a hash of bob", made()["secret"], text)
	}
	lines := s.logs.FilterMessage("cannot replace weak password hashes; logins still work").All()
	if len(lines) != 1 || lines[0].ContextMap()["file"] != "{env.HTPASSWD_REHASH}" || !strings.Contains(lines[0].ContextMap()["fix"].(string), "move the users to a file") {
		t.Errorf("got the lines %v, want one about the text", lines)
	}
	for _, file := range s.shared.sources.inUse() {
		admin := newAdminFile(&file)
		want := ""
		if file.store.isText {
			want = errNotAFile.Error()
		}
		if admin.Rehash == nil || admin.Rehash.LastError != want {
			t.Errorf("%s: got the status %+v, want the error %q", admin.Path, admin.Rehash, want)
		}
	}
	metrics := make(map[string]float64)
	for text, value := range gather(t, s.shared.metrics) {
		if strings.Contains(text, "file_last_rehash_successful") {
			metrics[map[bool]string{true: "text", false: "file"}[strings.Contains(text, "HTPASSWD_REHASH")]] = value
		}
	}
	if len(metrics) != 2 || metrics["text"] != 0 || metrics["file"] != 1 {
		t.Errorf("got the metrics %v", metrics)
	}
	if log := logText(s.logs); strings.Contains(log, hash) {
		t.Error("the log shows the text")
	}
}
