package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// sharedSite is a site whose users are in a shared file.
const sharedSite = `{
	htpasswd {
		poll 100ms
	}
}
https://localhost:{https} {
	tls internal
	htpasswd {
		file FILE
	}
	respond "hello {http.auth.user.id}"
}`

func siteWith(file string) string { return strings.Replace(sharedSite, "FILE", file, 1) }

// inOwnData makes Caddy's data directory one of the test.
func inOwnData(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	return filepath.Join(dir, "caddy")
}

// plainLine is a line of a password file, for the password "secret".
func plainLine(user string) string { return user + ":{PLAIN}secret\n" }

func (s *server) eventually(what, user string, status int) {
	s.t.Helper()
	eventually(s.t, what, func() bool { return s.get("/", user, "secret").status == status })
}

// TestStorageFile checks users that are in Caddy's storage, which others change.
func TestStorageFile(t *testing.T) {
	data := inOwnData(t)
	s := startServer(t, "")
	path := filepath.Join(s.dir, "storage", "htpasswd", "files", "staff")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(plainLine("ann")), 0o600))
	must(t, s.reload(siteWith("storage://staff")))
	s.eventually("the first version", "ann", http.StatusOK)

	replace(t, path, plainLine("ann")+plainLine("bob"))
	s.eventually("another writer has added a user", "bob", http.StatusOK)
	copied := filepath.Join(data, "htpasswd", "storage", "staff")
	eventually(t, "there is a local copy", func() bool {
		text, err := os.ReadFile(copied)
		return err == nil && strings.HasSuffix(string(text), "\n"+plainLine("ann")+plainLine("bob"))
	})

	before := process.sources.inUse()[0].store
	must(t, s.reload(siteWith("storage://staff")))
	if after := process.sources.inUse()[0].store; after != before {
		t.Error("a reload has another store: cached passwords are lost")
	}

	replace(t, path, "rubbish")
	eventually(t, "the broken version is logged", func() bool {
		return strings.Contains(s.log(), "cannot load file; keeping the previous version")
	})
	if got := s.get("/", "bob", "secret").status; got != http.StatusOK {
		t.Errorf("broken: got %d, want 200: the previous version", got)
	}
	if err := s.reload(siteWith("storage://staff")); err == nil {
		t.Error("broken: a reload succeeds, want an error as for a file")
	}

	replace(t, path, plainLine("bob"))
	s.eventually("a user was removed", "ann", http.StatusUnauthorized)
	must(t, os.Remove(path))
	eventually(t, "the deleted file is logged", func() bool { return strings.Contains(s.log(), "it was deleted; put it back") })
	must(t, s.reload(siteWith("storage://staff")))
	if got := s.get("/", "bob", "secret").status; got != http.StatusOK {
		t.Errorf("deleted: got %d, want 200: the previous version", got)
	}
	if strings.Contains(s.log(), "{PLAIN}") {
		t.Error("the log has a password")
	}
}

// TestStorageFileNeverWritten checks a file that nobody has written: the site starts, and
// the first edit lets its user in.
func TestStorageFileNeverWritten(t *testing.T) {
	inOwnData(t)
	t.Setenv("STAFF", "staff")
	s := startServer(t, siteWith("storage://{env.STAFF}"))
	if got := s.get("/", "ann", "secret").status; got != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", got)
	}
	if log := s.log(); !strings.Contains(log, "shared file was never written; nobody in it can log in") || !strings.Contains(log, "caddy htpasswd storage://staff USER") {
		t.Error("the log does not say how to create a user")
	} else if strings.Contains(log, "file contains no users") {
		t.Error("the log says the same twice")
	}
	target, kind, ok := process.sources.editable("storage://staff")
	if !ok || kind != "users" {
		t.Fatalf("got kind %q, ok %t, want users", kind, ok)
	}
	if _, _, ok := process.sources.editable("storage://other"); ok {
		t.Error("a file that no site uses can be changed")
	}
	must(t, target.Edit(t.Context(), func(text string) (string, error) { return text + plainLine("ann"), nil }))
	s.eventually("an edit", "ann", http.StatusOK)
	if got := readText(t, filepath.Join(s.dir, "storage", "htpasswd", "files", "staff")); got != plainLine("ann") {
		t.Errorf("the storage has %q", got)
	}
}

// TestRelativeDataDirectory checks that the admin API has the absolute path of a local copy:
// the command may run in another directory.
func TestRelativeDataDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("XDG_DATA_HOME", "data")
	s := startServer(t, siteWith("storage://staff"))
	target, _, _ := process.sources.editable("storage://staff")
	must(t, target.Edit(t.Context(), func(string) (string, error) { return plainLine("ann"), nil }))
	s.eventually("an edit", "ann", http.StatusOK)
	path := target.(*mirror.Mirror).Status().Path
	if want, err := filepath.EvalSymlinks(dir); err != nil || !filepath.IsAbs(path) || !strings.HasSuffix(path, "/data/caddy/htpasswd/storage/staff") {
		t.Errorf("got the copy %s, want an absolute path below %s (%v)", path, want, err)
	}
	eventually(t, "there is a local copy", func() bool { _, err := os.Stat(path); return err == nil })
}

// hangingStorage is a storage that ignores the context, and answers when it is released.
type hangingStorage struct {
	certmagic.FileStorage
}

var hanging struct {
	sync.Mutex
	released chan struct{}
}

func init() { caddy.RegisterModule(new(hangingStorage)) }

func (*hangingStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.hanging_test", New: func() caddy.Module { return new(hangingStorage) }}
}

func (s *hangingStorage) CertMagicStorage() (certmagic.Storage, error) { return s, nil }

func (s *hangingStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	if strings.HasPrefix(key, storageFiles) {
		hanging.Lock()
		released := hanging.released
		hanging.Unlock()
		if released != nil {
			<-released
		}
	}
	return s.FileStorage.Stat(ctx, key)
}

// TestStorageThatHangs checks a start and logins while the storage does not answer.
func TestStorageThatHangs(t *testing.T) {
	data := inOwnData(t)
	s := startServer(t, "")
	config, err := s.adapt(siteWith("storage://staff"))
	must(t, err)
	var root map[string]any
	must(t, json.Unmarshal(config, &root))
	root["storage"] = map[string]any{"module": "hanging_test", "Path": filepath.Join(s.dir, "storage")}
	config, err = json.Marshal(root)
	must(t, err)
	path := filepath.Join(s.dir, "storage", "htpasswd", "files", "staff")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(plainLine("ann")), 0o600))
	must(t, s.load(config, true))
	s.eventually("it works", "ann", http.StatusOK)
	eventually(t, "there is a local copy", func() bool {
		_, err := os.Stat(filepath.Join(data, "htpasswd", "storage", "staff"))
		return err == nil
	})
	must(t, caddy.Stop())

	hanging.Lock()
	hanging.released = make(chan struct{})
	hanging.Unlock()
	release := sync.OnceFunc(func() {
		hanging.Lock()
		defer hanging.Unlock()
		close(hanging.released)
		hanging.released = nil
	})
	defer release()
	start := time.Now()
	must(t, s.load(config, true))
	if took := time.Since(start); took > sharedTimeout+20*time.Second {
		t.Errorf("the start took %s", took)
	}
	start = time.Now()
	for user, want := range map[string]int{"ann": http.StatusOK, "mallory": http.StatusUnauthorized} {
		if got := s.get("/", user, "secret").status; got != want {
			t.Errorf("%s: got %d, want %d", user, got, want)
		}
	}
	if took := time.Since(start); took > sharedTimeout {
		t.Errorf("logins took %s while the storage hangs", took)
	}
	if !strings.Contains(s.log(), "shared file may be outdated; using the last known version") {
		t.Error("the log does not say so")
	}
	replace(t, path, plainLine("bob"))
	release()
	s.eventually("it answers again", "bob", http.StatusOK)
}

// TestSharedNames checks names that are no URL of a shared file.
func TestSharedNames(t *testing.T) {
	inOwnData(t)
	s := startServerWith(t, testkit.ServerOptions{}, "")
	for file, want := range map[string]string{
		"storage://":              "expected fleet:// or storage:// and a name",
		"storage://../staff":      "expected fleet:// or storage:// and a name",
		"storage://.staff":        "expected fleet:// or storage:// and a name",
		"storage://a/b":           "expected fleet:// or storage:// and a name",
		"storage://*.users":       "patterns are for files on disk",
		"redis://:secret@staff/1": "has a URL of an unknown kind; expected a path, fleet://<name>",
		"fleet://staff":           "expected the global option 'fleet <engine>'",
		"storage://{env.NONE_19}": "env.NONE_19",
	} {
		err := s.reload(siteWith(file))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
}
