package caddyhtpasswd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

const (
	secretA = "canary-secret-AAAAAAAAAAAAAAAAAA"
	secretB = "canary-secret-BBBBBBBBBBBBBBBBBB"
)

// fleetServer is one of several servers with the same files and limits: a handler, and a
// guard that records the class of each computed hash.
type fleetServer struct {
	*Handler
	classes []string
}

// newFleetServer starts a server with this app, in its own directory, with the files users
// and guests in its working directory.
func newFleetServer(t *testing.T, storage, app string, users, guests string) *fleetServer {
	t.Helper()
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("users", []byte(users), 0o600))
	must(t, os.WriteFile("guests", []byte(guests), 0o600))
	must(t, os.WriteFile("secret", []byte(secretA+"\r\n"), 0o600))
	ctx := contextWithStorage(t, storage)
	a := new(App)
	must(t, json.Unmarshal([]byte(app), a))
	off := &Limit{Off: true}
	a.Throttle = &Throttle{Login: off, Client: off, User: off}
	must(t, a.Provision(ctx))
	must(t, a.Validate())
	a.stored.Start()
	t.Cleanup(a.stored.Stop)
	s := &fleetServer{Handler: provision(t, &Handler{Files: []string{"users", "guests"}})}
	s.guard = newGuard(func() *settings { return a.settings }, clock)
	s.guard.verify = func(class crypt.Class, _ string, _ []byte) bool {
		s.classes = append(s.classes, class.String())
		return false
	}
	return s
}

// contextWithStorage returns the context of a configuration with its own storage.
func contextWithStorage(t testing.TB, dir string) caddy.Context {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"module": "file_system", "root": dir})
	must(t, err)
	ctx, err := caddy.ProvisionContext(&caddy.Config{Admin: &caddy.AdminConfig{Disabled: true}, StorageRaw: raw})
	must(t, err)
	return ctx
}

// TestFleetDecoys checks that servers that share a secret compute hashes of the same class
// for an unknown user, even with different paths of the files.
func TestFleetDecoys(t *testing.T) {
	const names = 1000
	digest86 := digest43[:42] + digest43[:42] + ".."
	users := fileOf(map[string]int{bcrypt4Secret1: 30, bcrypt5Secret2: 10, shaSecret1: 20}) + "long:$6$saltsaltsaltsalt$" + digest86 + "\nshort:$6$salt$" + digest86
	guests := fileOf(map[string]int{apr1Secret1: 20, shaSecret1: 10})
	shared, own := t.TempDir(), t.TempDir()
	t.Setenv("TEST_SECRET", secretA)
	configured := func(secrets ...string) string {
		text, err := json.Marshal(map[string]string{"secret": secrets[0], "old_secret": append(secrets, "")[1]})
		must(t, err)
		return string(text)
	}
	for _, test := range []struct {
		name               string
		storage1, storage2 string
		app1, app2         string
		same               bool
	}{
		{"one storage", shared, shared, `{}`, `{}`, true},
		{"each its own storage", shared, own, `{}`, `{}`, false},
		{"the same secret, each its own storage", shared, own, configured(secretA), configured(secretA), true},
		{"different secrets", shared, shared, configured(secretA), configured(secretB), false},
		{"the secret from the environment", shared, own, configured(secretA), configured("{env.TEST_SECRET}"), true},
		{"the secret from a file with a line end", shared, own, configured(secretA), configured("{file.secret}"), true},
		{"one server has the new secret already", shared, own, configured(secretA), configured(secretB, secretA), true},
		{"the old secret is removed from one server", shared, own, configured(secretB), configured(secretB, secretA), false},
		{"the secret in storage is configured on the other server", shared, own, `{}`, configured("{file." + filepath.Join(shared, secretName) + "}"), true},
		{"one has a secret", shared, shared, `{}`, configured(secretA), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			servers := []*fleetServer{
				newFleetServer(t, test.storage1, test.app1, users, guests),
				newFleetServer(t, test.storage2, test.app2, users, guests),
			}
			for _, s := range servers {
				for i := range names {
					c := credentialsOf(fmt.Sprintf("nobody%d", i), "guess")
					if v, err := s.check(t.Context(), origin{ip: "192.0.2.1"}, c); err != nil || v.result != resultUnknownUser {
						t.Fatalf("got %v, error %v, want %v", v.result, err, resultUnknownUser)
					}
					c.release()
				}
				counts := make(map[string]int)
				for _, class := range s.classes {
					counts[class]++
				}
				if len(s.classes) != names || len(counts) < 5 {
					t.Errorf("got %d hashes of classes %v, want %d of 5 classes or more", len(s.classes), counts, names)
				}
			}
			differ := 0
			for i := range names {
				if servers[0].classes[i] != servers[1].classes[i] {
					differ++
				}
			}
			if test.same && differ > 0 || !test.same && differ < names/4 {
				t.Errorf("%d of %d names cost different hashes; want the same: %v", differ, names, test.same)
			}
		})
	}
}

// TestSourceName has several configurations name a file.
func TestSourceName(t *testing.T) {
	keyOf := func(name string) uint64 {
		var n sourceName
		n.init(name)
		return n.key.Load()
	}
	for _, test := range []struct {
		name string
		do   func(n *sourceName)
		want string
	}{
		{"no configuration names it", func(*sourceName) {}, "/path"},
		{"one site", func(n *sourceName) { n.add("users") }, "users"},
		{"two sites with the same name, one is removed", func(n *sourceName) { n.add("users"); n.add("users"); n.remove("users") }, "users"},
		{"two sites with different names", func(n *sourceName) { n.add("users"); n.add("./users") }, "./users"},
		{"in another order", func(n *sourceName) { n.add("./users"); n.add("users") }, "./users"},
		{"a reload with another name", func(n *sourceName) { n.add("a"); n.add("b"); n.remove("a") }, "b"},
		{"a refused reload with another name", func(n *sourceName) { n.add("b"); n.add("a"); n.remove("a") }, "b"},
		{"all sites are gone", func(n *sourceName) { n.add("a"); n.remove("a") }, "a"},
		{"an unknown name is removed", func(n *sourceName) { n.add("a"); n.remove("b") }, "a"},
	} {
		var n sourceName
		n.init("/path")
		if test.do(&n); n.key.Load() != keyOf(test.want) {
			t.Errorf("%s: not named %q", test.name, test.want)
		}
	}
}

// TestSourceNameOfHandler has two handlers with the same file and different names for it.
// The decoys and limits are the same for both.
func TestSourceNameOfHandler(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("users", []byte("alice:"+shaSecret1+"\nbob:"+apr1Secret1), 0o600))
	must(t, os.WriteFile("guests", []byte("carol:"+bcrypt4Secret1), 0o600))
	path, err := filepath.Abs("users")
	must(t, err)
	t.Setenv("TEST_USERS", "users")
	one := provision(t, &Handler{Files: []string{"{env.TEST_USERS}", "guests"}})
	before := one.users.fixed[0].name.key.Load()
	two := &Handler{Files: []string{path, "guests"}}
	must(t, two.Provision(configContext(t)))
	for i := range 100 {
		name := fmt.Appendf(nil, "nobody%d", i)
		if a, b := one.decoy(name), two.decoy(name); a != b {
			t.Errorf("%s: got %s in %s, and %s in %s, want the same", name, a.class(), a.store.path, b.class(), b.store.path)
		}
	}
	must(t, two.Cleanup())
	if one.users.fixed[0].name.key.Load() != before {
		t.Error("got the name of a handler that is gone, want the one before")
	}
	t.Chdir(t.TempDir())
	must(t, os.WriteFile("users", []byte("alice:"+shaSecret1), 0o600))
	other := provision(t, &Handler{Files: []string{"users"}})
	if other.users.fixed[0].key == one.users.fixed[0].key {
		t.Error("two files of the same name: got one key for their limits, want two")
	}
}

// TestSecretRefused has invalid secrets. No error shows them.
func TestSecretRefused(t *testing.T) {
	t.Setenv("TEST_SHORT", "canary")
	for _, test := range []struct{ name, json, caddyfile, want string }{
		{"short", `{"secret": "canary"}`, `secret canary`, "secret: expected at least 32 characters, found 6; create one with: openssl rand -base64 32"},
		{"one character short", `{"secret": "canary-789012345678901234567890"}`, `secret canary-789012345678901234567890`, "found 31"},
		{"bytes are not characters", `{"secret": "canaryäääääääääääääääääääääää"}`, `secret canaryäääääääääääääääääääääää`, "found 29"},
		{"whitespace around it does not count", `{"secret": "  canary-789012345678901234567890  "}`, `secret "  canary-789012345678901234567890  "`, "found 31"},
		{"short old one", `{"secret": "` + secretA + `", "old_secret": "canary"}`, `secret ` + secretA + ` canary`, "old_secret: expected at least 32 characters, found 6"},
		{"old one alone", `{"old_secret": "` + secretA + `"}`, "", "old_secret: expected a secret that replaces it"},
		{"environment variable that is not set", `{"secret": "{env.TEST_NOT_SET}"}`, `secret {env.TEST_NOT_SET}`, "secret: '{env.TEST_NOT_SET}' is empty or unknown"},
		{"short environment variable", `{"secret": "{env.TEST_SHORT}"}`, `secret {env.TEST_SHORT}`, "found 6"},
		{"file that is not there", `{"secret": "{file./does/not/exist}"}`, `secret {file./does/not/exist}`, "'{file./does/not/exist}' is empty or unknown"},
		{"braces in it", `{"secret": "aaaaaaaaaaaaaaaaaaa{canary}aaaaaaaaaaaa"}`, `secret aaaaaaaaaaaaaaaaaaa{canary}aaaaaaaaaaaa`, "a placeholder in the secret is empty or unknown"},
		{"no argument", "", `secret`, "secret: expected a random text of at least 32 characters"},
		{"an empty argument", "", `secret ""`, "found an empty text"},
		{"a sentence without quotes", "", `secret canary canary canary`, "found 3 arguments"},
		{"twice", "", "secret " + secretA + "\nsecret " + secretB, "secret"},
		{"a block", "", "secret " + secretA + " {\ncanary\n}", "secret: unexpected block: expected none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got error %v, want %q", err, test.want)
				}
			}
			if test.json != "" {
				a := new(App)
				must(t, json.Unmarshal([]byte(test.json), a))
				check(a.Provision(configContext(t)))
			}
			if test.caddyfile != "" {
				config, err := adapted("{\nhtpasswd {\n" + test.caddyfile + "\n}\n}\n:0\n")
				if err == nil {
					text, err2 := json.Marshal(config["apps"].(map[string]any)["htpasswd"])
					must(t, err2)
					a := new(App)
					must(t, json.Unmarshal(text, a))
					err = a.Provision(configContext(t))
				}
				check(err)
			}
		})
	}
}

// TestValidateMakesNoSecret checks that "caddy validate", which often runs as root, does
// not change the storage, and that a start creates the secret.
func TestValidateMakesNoSecret(t *testing.T) {
	s := startServer(t, "")
	s.write("users", alice)
	text := httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond ok")
	config, err := s.adapt(text)
	must(t, err)
	parsed := new(caddy.Config)
	must(t, json.Unmarshal(config, parsed))
	must(t, caddy.Validate(parsed))
	path := filepath.Join(s.dir, "storage", secretName)
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("after validate: got error %v, want that there is no secret", err)
	}
	must(t, s.reload(text))
	found := keyring.Secret(readText(t, path))
	must(t, found.Check())
	info, err := os.Stat(path)
	must(t, err)
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("got mode %o, want 600", got)
	}
	if !bytes.Equal(process.active.get().decoyKey(), found.Subkey(keyring.DecoysPurpose)) {
		t.Error("got another key than that of the stored secret")
	}
	if log := s.log(); strings.Contains(log, string(found)) {
		t.Error("got the secret in the log, want nothing of it")
	}
}

// TestSecretAcrossReloads checks that the configured secret takes effect at the start of
// its configuration, that a refused configuration changes nothing, and that a secret stays
// in use while the storage is down.
func TestSecretAcrossReloads(t *testing.T) {
	s := startServer(t, "")
	s.write("users", alice)
	caddyfile := func(option, file string) string {
		return "{\n\thtpasswd {\n" + option + "\n\t}\n\tadmin localhost:{admin}\n}\n" + httpsSite("\thtpasswd {\n\t\tfile {dir}/"+file+"\n\t}\n\trespond ok")
	}
	check := func(when string, want keyring.Secret) {
		t.Helper()
		if !bytes.Equal(process.active.get().decoyKey(), want.Subkey(keyring.DecoysPurpose)) {
			t.Errorf("%s: got the key of another secret, want that of %.8s", when, want)
		}
		checkStatus(t, s.get("/", "alice", "secret"), 200, "")
		checkStatus(t, s.get("/", "nobody", "secret"), 401, restricted)
	}
	must(t, s.reload(caddyfile("", "users")))
	stored := keyring.Secret(readText(t, filepath.Join(s.dir, "storage", secretName)))
	check("default", stored)
	must(t, s.reload(caddyfile("poll 1m", "users")))
	check("reload", stored)
	must(t, s.reload(caddyfile("secret "+secretA, "users")))
	check("configured", secretA)
	if err := s.reload(caddyfile("secret "+secretB, "none")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	check("refused for its file", secretA)
	if err := s.reload(caddyfile("secret canary-short", "users")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	check("refused for its secret", secretA)
	must(t, s.reload(caddyfile("secret "+secretB+" "+secretA, "users")))
	check("rotated", secretA)
	must(t, s.reload(caddyfile("secret "+secretB, "users")))
	check("the old one removed", secretB)
	must(t, os.Truncate(filepath.Join(s.dir, "storage", secretName), 10))
	must(t, s.reload(caddyfile("", "users")))
	check("the storage is damaged", stored)
	if log := s.log(); strings.Contains(log, "canary") || strings.Count(log, "cannot load secret from storage") != 1 ||
		strings.Contains(log, string(stored[:10])) {
		t.Errorf("got the log\n%s\nwant one warning about the storage, and nothing of a secret", log)
	}
	for _, path := range []string{"/htpasswd", "/metrics"} {
		r := s.request("GET", "", nil)
		r.URL.Scheme, r.URL.Host, r.URL.Path = "http", fmt.Sprintf("localhost:%d", s.admin), path
		r.Host = r.URL.Host
		if a := s.do(r); a.status != 200 || strings.Contains(a.body, "canary") || strings.Contains(a.body, string(stored[:10])) {
			t.Errorf("%s: got %+v, want status 200 and nothing of a secret", path, a)
		}
	}
}

// faultyStorage is a storage that does not return the secret. fault returns the result of
// each call.
type faultyStorage struct {
	certmagic.Storage
	fault func(ctx context.Context) error
}

func (s *faultyStorage) check(ctx context.Context, name string) error {
	if !strings.HasPrefix(name, "htpasswd") {
		return nil
	}
	return s.fault(ctx)
}

func (s *faultyStorage) Load(ctx context.Context, key string) ([]byte, error) {
	if err := s.check(ctx, key); err != nil {
		return nil, err
	}
	return s.Storage.Load(ctx, key)
}

func (s *faultyStorage) Lock(ctx context.Context, name string) error {
	if err := s.check(ctx, name); err != nil {
		return err
	}
	return s.Storage.Lock(ctx, name)
}

// faulty is the module of a storage with a fault.
type faulty struct {
	Root  string `json:"root"`
	Fault string `json:"fault"`
}

func init() { caddy.RegisterModule(faulty{}) }

func (faulty) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.test_faulty", New: func() caddy.Module { return new(faulty) }}
}

func (f *faulty) CertMagicStorage() (certmagic.Storage, error) {
	return &faultyStorage{&certmagic.FileStorage{Path: f.Root}, faults[f.Fault]}, nil
}

var faults = map[string]func(ctx context.Context) error{
	"is down":                      func(context.Context) error { return errors.New("connection refused") },
	"hangs":                        func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	"hangs and does not even stop": func(context.Context) error { select {} },
}

// TestStorageFault starts servers whose storage has a fault. Users can log in, and one
// line says what is wrong.
func TestStorageFault(t *testing.T) {
	for fault := range faults {
		t.Run(fault, func(t *testing.T) {
			s := startServer(t, "")
			s.write("users", alice)
			for _, caddyfile := range []string{"respond one", "respond two"} {
				config, err := s.adapt(httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\t" + caddyfile))
				must(t, err)
				var root map[string]any
				must(t, json.Unmarshal(config, &root))
				root["storage"] = map[string]any{"module": "test_faulty", "fault": fault, "root": filepath.Join(s.dir, "storage")}
				config, err = json.Marshal(root)
				must(t, err)
				before := 0
				if _, err := os.Stat(filepath.Join(s.dir, "log")); err == nil {
					before = len(s.log())
				}
				must(t, caddy.Load(config, true))
				s.client.CloseIdleConnections()
				eventually(t, "it serves", func() bool {
					r := s.request("GET", "/", nil)
					resp, err := s.client.Do(r)
					if err != nil {
						return false
					}
					return resp.Body.Close() == nil
				})
				checkStatus(t, s.get("/", "alice", "secret"), 200, "")
				checkStatus(t, s.get("/", "alice", "wrong"), 401, restricted)
				checkStatus(t, s.get("/", "nobody", "secret"), 401, restricted)
				log := s.log()[before:]
				if n := strings.Count(log, "cannot load secret from storage; using a local one until it can be loaded"); n != 1 {
					t.Errorf("got %d warnings, want 1: %s", n, log)
				}
			}
		})
	}
}

// TestFirstStartsAgree starts several servers with a shared storage at the same time.
func TestFirstStartsAgree(t *testing.T) {
	const servers = 4
	dir := t.TempDir()
	var group sync.WaitGroup
	found := make([][]byte, servers)
	for i := range servers {
		group.Go(func() {
			ring := keyring.NewRing(new(keyring.Fallback))
			s := &keyring.Stored{
				Storage: &certmagic.FileStorage{Path: dir}, Name: secretName, Lock: secretLock, Ring: ring, Logger: zap.NewNop(),
				StartWait: time.Hour, Timeout: loadTimeout, Pause: loadPause,
			}
			s.Start()
			defer s.Stop()
			found[i] = ring.Keys().Decoys
		})
	}
	within(t, "all have started", group.Wait)
	if n := len(slices.CompactFunc(found, bytes.Equal)); n != 1 {
		t.Errorf("got %d secrets, want 1", n)
	}
}
