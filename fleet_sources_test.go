package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
)

// filesStore is the store of the running test.
var filesStore struct {
	atomic.Pointer[testStore]
	isDown atomic.Bool
}

const filesSecret = "a secret of the fleet in these tests"

// fleetFileSite is a site whose users are in the fleet. Its poll is so long that a test ends
// before: only events can be the reason that a change arrives.
const fleetFileSite = `{
	admin localhost:{admin}
	htpasswd {
		poll 1h
		secret "` + filesSecret + `"
		fleet test {
			store STORE
		}
		GLOBAL
	}
}
https://localhost:{https} {
	tls internal
	htpasswd {
		file fleet://staff
		MORE
	}
	respond "hello {http.auth.user.id}"
}`

func (s *server) fleetSiteWith(global, more string) string {
	return strings.NewReplacer("GLOBAL", global, "MORE", more, "STORE", s.t.Name()).Replace(fleetFileSite)
}

// otherServer is another server of the fleet, with the mirror of a file.
type otherServer struct {
	*mirror.Mirror
	t *testing.T
}

func newOtherServer(t *testing.T, name, secret string) *otherServer {
	own := newShared(time.Now)
	state := newFleetState("test", filesStore.Load().Connect(), keyring.NewExplicitKeys(keyring.Secret(secret), ""), own.guard, own.reach())
	state.client.Start()
	c := state.mirrorConfig(name)
	c.Name, c.Path, c.Timeout = "fleet://"+name, filepath.Join(t.TempDir(), name), sharedTimeout
	c.Validate = sharedUsers.validate
	c.Poll = func() (time.Duration, <-chan struct{}) { return 50 * time.Millisecond, nil }
	c.Logger = zap.NewNop
	o := &otherServer{mirror.New(c), t}
	o.Start()
	t.Cleanup(func() {
		must(t, o.Close())
		must(t, state.client.Close())
	})
	return o
}

func (o *otherServer) set(text string) {
	o.t.Helper()
	must(o.t, o.Edit(o.t.Context(), func(string) (string, error) { return text, nil }))
}

func (o *otherServer) text() string {
	text, _, err := o.Fetch()
	if err != nil {
		return err.Error()
	}
	return text
}

// startFilesFleet prepares a store and returns a server without a configuration.
func startFilesFleet(t *testing.T) (s *server, data string) {
	store := new(testStore)
	store.faults.Store("", func() storetest.Fault {
		if filesStore.isDown.Load() {
			return storetest.Refuses
		}
		return storetest.Works
	})
	testStores.Store(t.Name(), store)
	filesStore.Store(store)
	filesStore.isDown.Store(false)
	data = inOwnData(t)
	return startServer(t, ""), data
}

// restart stops Caddy, and starts it as another process would, without its memory.
func (s *server) restart(caddyfile string) error {
	s.t.Helper()
	must(s.t, caddy.Stop())
	process = newShared(time.Now)
	return s.reload(caddyfile)
}

// TestFleetFile checks users who are in the store of a fleet, as other servers change them.
func TestFleetFile(t *testing.T) {
	s, data := startFilesFleet(t)
	must(t, s.reload(s.fleetSiteWith("", "")))
	s.eventually("never written", "ann", http.StatusUnauthorized)
	if log := s.log(); !strings.Contains(log, "caddy htpasswd fleet://staff USER") {
		t.Error("the log does not say how to create a user")
	}
	other := newOtherServer(t, "staff", filesSecret)
	other.set(plainLine("ann"))
	s.eventually("another server has written it", "ann", http.StatusOK)
	other.set(plainLine("ann") + plainLine("bob"))
	s.eventually("another server has added a user", "bob", http.StatusOK)

	target, _, ok := process.sources.editable("fleet://staff")
	if !ok {
		t.Fatal("the file cannot be changed")
	}
	must(t, target.Edit(t.Context(), func(text string) (string, error) { return text + plainLine("carl"), nil }))
	s.eventually("changed here", "carl", http.StatusOK)
	eventually(t, "the other server has it", func() bool { return strings.Contains(other.text(), "carl") })

	for name, text := range filesStore.Load().Texts() {
		if strings.Contains(string(text.Data)+text.Revision+name, "ann") || strings.Contains(string(text.Data), "PLAIN") {
			t.Error("the store learns users or hashes")
		}
	}

	filesStore.Load().Flush() // somebody empties the store
	eventually(t, "the newest version is written back", func() bool { return len(filesStore.Load().Texts()) == 1 })

	var status struct{ Files []adminFile }
	answer, err := http.Get(fmt.Sprintf("http://localhost:%d/htpasswd", s.admin))
	must(t, err)
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	must(t, answer.Body.Close())
	must(t, json.Unmarshal(body, &status))
	if len(status.Files) != 1 || status.Files[0].Path != "fleet://staff" || status.Files[0].Version != 3 || status.Files[0].Users != 3 ||
		status.Files[0].Copy != filepath.Join(data, "htpasswd", "fleet", "staff") || status.Files[0].Written.IsZero() || status.Files[0].Checked.IsZero() {
		t.Errorf("got the files %+v", status.Files)
	}

	other.set("rubbish")
	eventually(t, "the broken version is logged", func() bool { return strings.Contains(s.log(), "keeping the previous version") })
	if got := s.get("/", "carl", "secret").status; got != http.StatusOK {
		t.Errorf("broken: got %d, want 200: the previous version", got)
	}
	other.set(plainLine("bob"))
	s.eventually("a user was removed", "ann", http.StatusUnauthorized)
	if strings.Contains(s.log(), "{PLAIN}") {
		t.Error("the log has a password")
	}
}

// TestFleetFileForged checks that a store can let nobody in.
func TestFleetFileForged(t *testing.T) {
	s, _ := startFilesFleet(t)
	other := newOtherServer(t, "staff", filesSecret)
	other.set(plainLine("ann"))
	must(t, s.reload(strings.Replace(s.fleetSiteWith("", ""), "poll 1h", "poll 100ms", 1)))
	s.eventually("it works", "ann", http.StatusOK)
	genuine := filesStore.Load().Texts()["staff"]
	must(t, other.Edit(t.Context(), func(string) (string, error) { return plainLine("ann") + plainLine("bob"), nil }))
	s.eventually("it works", "bob", http.StatusOK)

	keys := func(secret string) *sealed.Keys {
		return sealed.NewKeys(keyring.NewExplicitKeys(keyring.Secret(secret), "").FleetFiles, nil)
	}
	forged := func(k *sealed.Keys, name string) *fleet.Text {
		h, data, err := k.SealText(name, plainLine("mallory"), 999, time.Now())
		must(t, err)
		return &fleet.Text{Revision: h.Revision(), Data: data}
	}
	late := genuine
	late.Revision = forged(keys(filesSecret), "x").Revision
	for _, test := range []struct {
		name string
		text *fleet.Text
		want string
	}{
		{"sealed with another secret", forged(keys(filesSecret+"2"), "staff"), "write the same secret on all servers"},
		{"sealed for another file", forged(keys(filesSecret), "other"), "find out who else can write to the store"},
		{"not sealed", &fleet.Text{Revision: late.Revision, Data: []byte(plainLine("mallory"))}, "cannot use the version in the store"},
		{"an older version that claims to be new", &late, "it is of another version than the store says"},
		{"too large", &fleet.Text{Revision: late.Revision, Data: make([]byte, fleet.MaxText+1)}, "it is larger than any text that servers write"},
		{"a revision that is too large", &fleet.Text{Revision: strings.Repeat("9", fleet.MaxRevision+1)}, "it is larger than any text that servers write"},
	} {
		before := len(s.log())
		filesStore.Load().SetText("staff", test.text)
		eventually(t, test.name+": logged", func() bool { return strings.Contains(s.log()[before:], test.want) })
		for user, want := range map[string]int{"bob": http.StatusOK, "mallory": http.StatusUnauthorized} {
			if got := s.get("/", user, "secret").status; got != want {
				t.Errorf("%s: %s: got %d, want %d", test.name, user, got, want)
			}
		}
		filesStore.Load().SetText("staff", nil) // the administrator deletes it
		eventually(t, test.name+": written back", func() bool {
			text, ok := filesStore.Load().Texts()["staff"]
			return ok && text.Revision > genuine.Revision
		})
		eventually(t, test.name+": no error any more", func() bool { return process.sources.inUse()[0].status.Failure == "" })
	}
	filesStore.Load().SetText("staff", &genuine) // the store goes back
	eventually(t, "the newest version is written back", func() bool { return filesStore.Load().Texts()["staff"].Revision > genuine.Revision })
	if got := s.get("/", "bob", "secret").status; got != http.StatusOK {
		t.Errorf("an older version: got %d, want 200", got)
	}
}

// TestLocalCopyIsAbsolute has a data directory that is a relative path, as without a home
// directory.
func TestLocalCopyIsAbsolute(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "data")
	path, err := localCopy(fileapi.Source{Scheme: fileapi.SchemeFleet, Name: "staff"})
	if err != nil || !filepath.IsAbs(path) || !strings.HasSuffix(filepath.ToSlash(path), "/data/caddy/htpasswd/fleet/staff") {
		t.Errorf("got %q and error %v", path, err)
	}
}

// TestFleetFileDown checks reloads and restarts while the store is down.
func TestFleetFileDown(t *testing.T) {
	s, data := startFilesFleet(t)
	newOtherServer(t, "staff", filesSecret).set(plainLine("ann"))
	site := s.fleetSiteWith("", "change_password /password")
	must(t, s.reload(site))
	s.eventually("it works", "ann", http.StatusOK)
	copied := filepath.Join(data, "htpasswd", "fleet", "staff")
	eventually(t, "there is a local copy", func() bool { _, err := os.Stat(copied); return err == nil })

	filesStore.isDown.Store(true)
	must(t, s.reload(site))
	const failedLoad = "cannot load file; keeping the previous version"
	before := strings.Count(s.log(), failedLoad)
	must(t, s.restart(site))
	if got := s.get("/", "ann", "secret").status; got != http.StatusOK {
		t.Errorf("restarted with a local copy: got %d, want 200", got)
	}
	if !strings.Contains(s.log(), "shared file may be outdated; using the last known version") {
		t.Error("the log does not say so")
	}
	if got := strings.Count(s.log(), failedLoad); got != before {
		t.Errorf("got %d lines %q after a restart, want %d: a warning says it", got, failedLoad, before)
	}
	target, _, _ := process.sources.editable("fleet://staff")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := target.Edit(ctx, func(string) (string, error) { return "", nil }); !errors.Is(err, mirror.ErrUnavailable) {
		t.Errorf("an edit: got %v, want %v", err, mirror.ErrUnavailable)
	}
	if got := s.get("/password", "ann", "secret"); got.status == http.StatusOK {
		t.Error("the page offers to change a password although the store is down")
	}
	filesStore.isDown.Store(false)
	newOtherServer(t, "staff", filesSecret).set(plainLine("bob"))
	s.eventually("the store works again", "bob", http.StatusOK)
	eventually(t, "the copy is the new version", func() bool { return strings.Contains(readText(t, copied), "bob") })

	filesStore.isDown.Store(true)
	must(t, os.WriteFile(copied, []byte(readText(t, copied)+plainLine("mallory")), 0o600))
	for _, want := range []string{"was changed, damaged, or written with another secret", "there is no local copy of an earlier version"} {
		if err := s.restart(site); err == nil || !strings.Contains(err.Error(), "fleet://staff: cannot reach the store") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
		must(t, os.RemoveAll(copied))
	}
}

// TestFleetFileRehash checks that the server replaces weak hashes in the store.
func TestFleetFileRehash(t *testing.T) {
	s, _ := startFilesFleet(t)
	other := newOtherServer(t, "staff", filesSecret)
	other.set("# staff\n" + plainLine("ann"))
	must(t, s.reload(s.fleetSiteWith("", "rehash")))
	s.eventually("it works", "ann", http.StatusOK)
	eventually(t, "the other server has a better hash", func() bool { return strings.HasPrefix(other.text(), "# staff\nann:$2y$10$") })
	s.eventually("it still works", "ann", http.StatusOK)

	other.set(plainLine("bob"))
	s.eventually("another server has written a weak hash", "bob", http.StatusOK)
	filesStore.isDown.Store(true)
	must(t, s.reload(s.fleetSiteWith("", "rehash 12")))
	if log := s.log(); strings.Contains(log, "cannot replace weak password hashes") || !strings.Contains(log, "shared file may be outdated") {
		t.Error("the log does not say once that the store is down")
	}
}

// TestFleetFileMaxStale checks that an old version is not loaded at a start.
func TestFleetFileMaxStale(t *testing.T) {
	s, _ := startFilesFleet(t)
	k := sealed.NewKeys(keyring.NewExplicitKeys(filesSecret, "").FleetFiles, nil)
	h, data, err := k.SealText("staff", plainLine("ann"), 7, time.Now().Add(-2*time.Hour))
	must(t, err)
	filesStore.Load().SetText("staff", &fleet.Text{Revision: h.Revision(), Data: data})
	if err := s.reload(s.fleetSiteWith("max_stale 1h", "")); err == nil || !strings.Contains(err.Error(), "max_stale allows no version older than 1h0m0s") {
		t.Errorf("got %v, want an error", err)
	}
	must(t, s.reload(s.fleetSiteWith("max_stale 3h", "")))
	s.eventually("it is new enough", "ann", http.StatusOK)
	eventually(t, "it is sealed anew: it is older than the half", func() bool {
		h, err := sealed.ParseRevision(filesStore.Load().Texts()["staff"].Revision)
		return err == nil && h.Version == 8 && time.Since(h.Time) < time.Hour
	})
	s.eventually("it works", "ann", http.StatusOK)
}

// TestFleetFileSecret checks that users stay logged in while the secret is replaced, and
// that the text is sealed for the new one.
func TestFleetFileSecret(t *testing.T) {
	const next = "another secret of the fleet in these tests"
	s, _ := startFilesFleet(t)
	newOtherServer(t, "staff", filesSecret).set(plainLine("ann"))
	must(t, s.reload(s.fleetSiteWith("", "")))
	s.eventually("it works", "ann", http.StatusOK)
	must(t, s.reload(strings.Replace(s.fleetSiteWith("", ""), `"`+filesSecret+`"`, `"`+next+`" "`+filesSecret+`"`, 1)))
	s.eventually("both secrets", "ann", http.StatusOK)
	k := sealed.NewKeys(keyring.NewExplicitKeys(next, "").FleetFiles, nil)
	eventually(t, "it is sealed for the new secret", func() bool {
		_, text, _, err := k.OpenText("staff", filesStore.Load().Texts()["staff"].Data)
		return err == nil && text == plainLine("ann")
	})
	must(t, s.reload(strings.Replace(s.fleetSiteWith("", ""), filesSecret, next, 1)))
	s.eventually("the new secret", "ann", http.StatusOK)
}

// TestFleetGroupFile checks groups that are in the store of a fleet.
func TestFleetGroupFile(t *testing.T) {
	s, _ := startFilesFleet(t)
	users, groups := newOtherServer(t, "staff", filesSecret), newOtherServer(t, "groups", filesSecret)
	users.set(plainLine("ann") + plainLine("bob"))
	must(t, s.reload(s.fleetSiteWith("", "group_file fleet://groups\nrequire group admins")))
	s.eventually("no groups yet", "ann", http.StatusForbidden)
	groups.set("admins: ann\n")
	s.eventually("in the group", "ann", http.StatusOK)
	s.eventually("not in the group", "bob", http.StatusForbidden)
	if _, kind, ok := process.sources.editable("fleet://groups"); !ok || kind != "groups" {
		t.Errorf("got kind %q, %t, want groups", kind, ok)
	}
}
