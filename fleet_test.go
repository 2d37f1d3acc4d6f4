package caddyhtpasswd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

func init() {
	caddy.RegisterModule(new(testEngine))
}

// testEngine is the engine "test": a store in the memory of the tests.
type testEngine struct {
	Store  string `json:"store"`
	Server string `json:"server,omitempty"` // for faults
}

func (*testEngine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "htpasswd.fleets.test", New: func() caddy.Module { return new(testEngine) }}
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler.
func (e *testEngine) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	for d.NextBlock(0) {
		if d.Val() != "store" || !d.AllArgs(&e.Store) {
			return d.Errf("expected 'store <name>'")
		}
	}
	return nil
}

// Open implements fleet.Engine.
func (e *testEngine) Open() (fleet.Store, error) {
	name := caddy.NewReplacer().ReplaceAll(e.Store, "")
	if name == "broken" {
		return nil, errors.New("broken settings")
	}
	s, _ := testStores.LoadOrStore(name, new(testStore))
	store := s.(*testStore)
	store.opened.Add(1)
	store.open.Add(1)
	conn := store.Connect()
	conn.Fault = func() storetest.Fault { return store.fault(e.Server) }
	return &testConn{conn, store}, nil
}

// testStores are the stores by name.
var testStores sync.Map

type testStore struct {
	storetest.Memory
	opened, open atomic.Int64 // connections
	faults       sync.Map     // functions by server
}

func (s *testStore) fault(server string) storetest.Fault {
	if f, ok := s.faults.Load(server); ok {
		return f.(func() storetest.Fault)()
	}
	return storetest.Works
}

// setFault sets what happens to the calls of a server.
func (s *testStore) setFault(server string, fault storetest.Fault) {
	s.faults.Store(server, func() storetest.Fault { return fault })
}

type testConn struct {
	*storetest.Conn
	store *testStore
}

func (c *testConn) Close() error {
	c.store.open.Add(-1)
	return nil
}

// storeNamed returns the store of a test, which begins empty.
func storeNamed(t testing.TB) *testStore {
	s, isOld := testStores.LoadOrStore(t.Name(), new(testStore))
	if !isOld {
		t.Cleanup(func() { testStores.Delete(t.Name()) })
	}
	return s.(*testStore)
}

// member is one of the servers of a fleet in this process.
type member struct {
	*Handler
	t      testing.TB
	app    *App
	shared *shared
	store  *userStore
	hashes *atomic.Int64
	logs   *observer.ObservedLogs
	skew   atomic.Int64 // of its clock
}

// fleetUsers is the file of all members.
const fleetUsers = "alice:" + shaSecret1 + "\nbob:" + shaSecret1 + "\n"

// newMember starts a server of the fleet of the test with settings, which have neither
// secret nor fleet of their own.
func newMember(t testing.TB, settings App) *member {
	t.Helper()
	storeNamed(t)
	m := &member{t: t, hashes: new(atomic.Int64)}
	m.shared = newShared(func() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) })
	m.app = m.start(settings)
	m.store = newUserStore("/users")
	reloadStore(t, m.store, fleetUsers)
	m.Handler = handlerOf(userStores{m.store}, &cachePolicy{now: time.Now})
	m.guard = m.shared.guard
	m.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
		m.hashes.Add(1)
		return verifyOnce(class, hash, password)
	}
	return m
}

// start starts a configuration.
func (m *member) start(settings App) *App {
	m.t.Helper()
	a := &settings
	a.shared = m.shared
	if a.Secret == "" {
		a.Secret = secretA
	}
	if a.FleetRaw == nil {
		a.FleetRaw = json.RawMessage(fmt.Sprintf(`{"engine":"test","store":%q}`, m.t.Name()))
	}
	must(m.t, a.Provision(configContext(m.t)))
	must(m.t, a.Validate())
	core, logs := observer.New(zap.InfoLevel)
	a.settings.logger, m.logs = zap.New(core), logs
	must(m.t, a.Start())
	m.t.Cleanup(func() { must(m.t, a.Cleanup()) })
	return a
}

// named returns settings with a fleet in which the server has a name, for faults.
func named(t testing.TB, server string, settings App) App {
	settings.FleetRaw = json.RawMessage(fmt.Sprintf(`{"engine":"test","store":%q,"server":%q}`, t.Name(), server))
	return settings
}

// login logs in and returns the result in a word.
func (m *member) login(ip, user, password string) string {
	m.t.Helper()
	return m.loginWith(nil, ip, user, password)
}

// loginWith is login with the device cookies of the request.
func (m *member) loginWith(sent *sentDevices, ip, user, password string) string {
	m.t.Helper()
	c := credentialsOf(user, password)
	defer c.release()
	v, err := m.check(m.t.Context(), origin{ip: ip, devices: sent}, c)
	switch {
	case errors.As(err, new(*throttledError)):
		return loginThrottled
	case err != nil:
		return err.Error()
	}
	return v.result.String()
}

func (m *member) expect(ip, user, password, want string) {
	m.t.Helper()
	if got := m.login(ip, user, password); got != want {
		m.t.Errorf("%s from %s with %q: %s, want %s", user, ip, password, got, want)
	}
}

// retryAfter returns the time that a refused login has to wait, or 0.
func (m *member) retryAfter(ip, user string) time.Duration {
	c := credentialsOf(user, "another")
	defer c.release()
	_, err := m.check(m.t.Context(), origin{ip: ip}, c)
	if refused, ok := errors.AsType[*throttledError](err); ok {
		return refused.wait
	}
	return 0
}

// connected waits until members receive events.
func connected(t testing.TB, members ...*member) {
	t.Helper()
	for i, m := range members {
		eventually(t, fmt.Sprintf("server %d is connected", i), func() bool { return m.app.fleet.client.Status().Connected })
	}
}

// off is a limit that is disabled.
var off = &Limit{Off: true}

func limitOf(n int, window time.Duration) *Limit {
	return &Limit{Failures: n, Window: caddy.Duration(window)}
}

// fleetSettings are settings with a login limit.
func fleetSettings(login int) App {
	return App{MaxHashes: 2, Throttle: &Throttle{Login: limitOf(login, time.Minute), Client: off, User: off}}
}

// TestFleetGuesses sends 200 wrong passwords at once to three servers: the number of hashes
// is that of one server and one more for each worker slot. Then each server refuses, for
// the same time.
func TestFleetGuesses(t *testing.T) {
	for _, test := range []struct {
		name     string
		throttle Throttle
		ip, user func(i int) string
	}{
		{"one client, one user", Throttle{Login: limitOf(10, time.Minute), Client: off, User: off}, one("192.0.2.1"), one("alice")},
		{"one client, many users", Throttle{Login: off, Client: limitOf(10, time.Minute), User: off}, one("192.0.2.1"), many("user%d")},
		{"many clients, one user", Throttle{Login: off, Client: off, User: limitOf(10, time.Hour)}, many("192.0.2.%d"), one("alice")},
		{"many clients, one unknown user", Throttle{Login: off, Client: off, User: limitOf(10, time.Hour)}, many("192.0.2.%d"), one("nobody")},
	} {
		t.Run(test.name, func(t *testing.T) {
			const hashing = 5 * time.Millisecond
			var members []*member
			for range 3 {
				m := newMember(t, App{MaxHashes: 2, Throttle: &test.throttle})
				m.guard.verify = func(crypt.Class, string, []byte) bool {
					m.hashes.Add(1)
					time.Sleep(hashing)
					return false
				}
				members = append(members, m)
			}
			connected(t, members...)
			var group sync.WaitGroup
			for i := range 200 {
				group.Go(func() { members[i%3].login(test.ip(i), test.user(i), fmt.Sprint("guess", i)) })
			}
			group.Wait()
			var hashes, logged int64
			for _, m := range members {
				hashes += m.hashes.Load()
			}
			// On a busy machine, a call can take longer than a login waits for. Then the
			// server counts for itself.
			most, isShared := int64(15), true
			for _, m := range members {
				if s := m.app.fleet.client.Status(); s.Failed+s.Skipped > 0 {
					t.Logf("%d calls of the store failed, and %d were skipped", s.Failed, s.Skipped)
					most, isShared = 3*(10+1), false
				}
			}
			if hashes < 10 || hashes > most {
				t.Errorf("got %d hashes, want 10 to %d", hashes, most)
			}
			var longest, shortest time.Duration
			for i, m := range members {
				var wait time.Duration
				eventually(t, fmt.Sprintf("server %d refuses", i), func() bool {
					wait = m.retryAfter(test.ip(300), test.user(300))
					return wait > 0
				})
				if longest = max(longest, wait); shortest == 0 || wait < shortest {
					shortest = wait
				}
				for s := range scopeCount {
					logged += int64(m.guard.limitsExceeded[s].Load()) //nolint:gosec // a few
				}
			}
			if isShared && longest-shortest > time.Second {
				t.Errorf("the servers refuse for %s to %s, want the same within a second", shortest, longest)
			}
			if logged < 1 || logged > 3 {
				t.Errorf("the limit was exceeded %d times, want once for each server that noticed", logged)
			}
		})
	}
}

func one(text string) func(int) string { return func(int) string { return text } }

func many(format string) func(int) string {
	return func(i int) string { return fmt.Sprintf(format, i) }
}

// TestFleetCalls counts the calls of the store.
func TestFleetCalls(t *testing.T) {
	store := storeNamed(t)
	a, b := newMember(t, fleetSettings(2)), newMember(t, fleetSettings(2))
	connected(t, a, b)
	settled := func() int { // without the events that are sent in the background
		calls := -1
		eventually(t, "no more calls", func() bool {
			before := calls
			calls = store.Calls()
			return before == calls
		})
		return calls
	}
	step := func(name string, calls int, do func()) {
		t.Helper()
		before := settled()
		do()
		if got := settled() - before; got != calls {
			t.Errorf("%s: got %d calls, want %d", name, got, calls)
		}
	}
	step("the first good login, an event that nobody waits for", 1, func() { a.expect("192.0.2.1", "alice", "secret1", loginPassed) })
	step("verified passwords", 0, func() {
		for range 10_000 {
			a.expect("192.0.2.1", "alice", "secret1", loginPassed)
		}
	})
	step("a new wrong password", 1, func() { a.expect("192.0.2.9", "alice", "wrong1", loginWrong) })
	step("the same wrong password", 0, func() { a.expect("192.0.2.9", "alice", "wrong1", loginWrong) })
	step("the limit is exceeded, with an event", 2, func() { b.expect("192.0.2.9", "alice", "wrong2", loginWrong) })
	eventually(t, "the other server refuses", func() bool { return a.retryAfter("192.0.2.9", "alice") > 0 })
	step("refusals", 0, func() {
		for _, m := range []*member{a, b} {
			m.expect("192.0.2.9", "alice", "wrong3", loginThrottled)
		}
	})
	for counter, n := range store.Counters() {
		if counter.Name != "login" || n != 2 || counter.Window != time.Minute {
			t.Errorf("got the counter %v with %d, want only the login limit with 2", counter, n)
		}
	}
}

// TestFleetIsNotCalledUnderTheQueueLock uses the hash queue during each call.
func TestFleetIsNotCalledUnderTheQueueLock(t *testing.T) {
	m := newMember(t, named(t, "a", fleetSettings(3)))
	connected(t, m)
	var calls atomic.Int64
	storeNamed(t).faults.Store("a", func() storetest.Fault {
		done := make(chan struct{})
		go func() {
			m.guard.queue.State()
			close(done)
		}()
		select {
		case <-done:
			calls.Add(1)
		case <-time.After(10 * time.Second):
			t.Error("the hash queue is locked during a call")
		}
		return storetest.Works
	})
	for i := range 5 {
		m.login("192.0.2.1", "alice", fmt.Sprint("wrong", i))
	}
	if n := calls.Load(); n < 3 {
		t.Errorf("got %d calls, want 3 or more", n)
	}
}

// TestFleetStoreDown checks logins while the store refuses, hangs and loses answers.
func TestFleetStoreDown(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{"refuses": storetest.Refuses, "hangs": storetest.Hangs, "hangs after the call": storetest.HangsRun, "loses answers": storetest.Lost} {
		t.Run(name, func(t *testing.T) {
			store := storeNamed(t)
			a, b := newMember(t, named(t, "a", fleetSettings(3))), newMember(t, named(t, "b", fleetSettings(3)))
			connected(t, a, b)
			store.setFault("a", fault)
			store.setFault("b", fault)
			begin := time.Now()
			for _, m := range []*member{a, b} {
				for i := range 3 {
					m.expect("192.0.2.1", "alice", fmt.Sprint("wrong", i), loginWrong)
				}
				m.expect("192.0.2.1", "alice", "wrong", loginThrottled)
				m.expect("192.0.2.2", "alice", "secret1", loginPassed)
				m.expect("192.0.2.3", "bob", "secret1", loginPassed)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("the logins took %s, want only one of each server to wait for the store", took)
			}
			store.setFault("a", storetest.Works)
			store.setFault("b", storetest.Works)
			eventually(t, "the kept failed logins are sent", func() bool {
				return a.app.fleet.client.Status().Unsent+b.app.fleet.client.Status().Unsent == 0
			})
			for counter, n := range store.Counters() {
				if n > 6 {
					t.Errorf("got %d failed logins of %v, want no more than the 6 that there were", n, counter)
				}
			}
		})
	}
}

// TestFleetRecognizes checks that a client that has logged in at one server is not stopped
// by the user limit at another one.
func TestFleetRecognizes(t *testing.T) {
	settings := App{Throttle: &Throttle{Login: limitOf(3, time.Minute), Client: off, User: limitOf(5, time.Hour)}}
	a, b := newMember(t, settings), newMember(t, settings)
	connected(t, a, b)
	a.expect("192.0.2.1", "alice", "secret1", loginPassed)
	for i := range 5 {
		b.expect(fmt.Sprintf("198.51.100.%d", i), "alice", fmt.Sprint("wrong", i), loginWrong)
	}
	b.expect("198.51.100.9", "alice", "secret1", loginThrottled)
	eventually(t, "the other server recognizes the client", func() bool { return b.login("192.0.2.1", "alice", "secret1") == loginPassed })
	b.expect("198.51.100.9", "alice", "secret1", loginThrottled)
	// The login limit applies to recognized clients, too.
	c := newMember(t, settings)
	connected(t, c)
	for i := range 3 {
		a.expect("192.0.2.1", "alice", fmt.Sprint("mistyped", i), loginWrong)
	}
	eventually(t, "the login limit is exceeded everywhere", func() bool {
		return b.retryAfter("192.0.2.1", "alice") > 0 && c.retryAfter("192.0.2.1", "alice") > 0
	})
}

// TestFleetReloads turns a fleet on and off and changes it while the process runs.
func TestFleetReloads(t *testing.T) {
	store := storeNamed(t)
	m := newMember(t, fleetSettings(10))
	connected(t, m)
	first := m.app.fleet
	next := m.start(fleetSettings(9))
	must(t, m.app.Stop())
	must(t, m.app.Cleanup())
	if next.fleet != first || store.opened.Load() != 1 || !first.client.Status().Connected {
		t.Errorf("got another connection after a reload with the same fleet, or %d connections", store.opened.Load())
	}
	abandoned := App{Secret: secretB, FleetRaw: json.RawMessage(fmt.Sprintf(`{"engine":"test","store":%q}`, t.Name())), shared: m.shared}
	must(t, abandoned.Provision(configContext(t)))
	if abandoned.fleet == first || store.opened.Load() != 2 {
		t.Error("got the same connection with another secret, want another one")
	}
	must(t, abandoned.Cleanup())
	if n := store.open.Load(); n != 1 {
		t.Errorf("got %d connections after a configuration was abandoned, want 1", n)
	}
	m.login("192.0.2.1", "alice", "wrong")
	calls := store.Calls()
	without := &App{shared: m.shared, Secret: secretA}
	must(t, without.Provision(configContext(t)))
	must(t, without.Start())
	must(t, next.Stop())
	must(t, next.Cleanup())
	m.login("192.0.2.1", "alice", "wrong2")
	if n, open := store.Calls()-calls, store.open.Load(); n > 0 || open != 0 {
		t.Errorf("got %d calls and %d connections without a fleet, want none", n, open)
	}
	again := m.start(fleetSettings(10))
	must(t, without.Stop())
	must(t, without.Cleanup())
	eventually(t, "the fleet is connected again", func() bool { return again.fleet.client.Status().Connected })
	m.login("192.0.2.1", "alice", "wrong3")
	if store.Calls() == calls {
		t.Error("got no call after the fleet was turned on again")
	}
}

// TestFleetSettings has configurations that are refused, and some that have the same fleet.
func TestFleetSettings(t *testing.T) {
	t.Setenv("TEST_STORE", "from-env")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(secretA+"\n"), 0o600))
	for _, test := range []struct{ name, app, want string }{
		{"no secret", `{"fleet":{"engine":"test","store":"x"}}`, "fleet: expected a secret in the configuration, found none; create one with 'openssl rand -base64 32'"},
		{"no engine", `{"secret":"` + secretA + `","fleet":{}}`, "fleet: expected an object with an 'engine'"},
		{"not an object", `{"secret":"` + secretA + `","fleet":"redis"}`, "fleet: expected an object with an 'engine'"},
		{"an engine that is not built in", `{"secret":"` + secretA + `","fleet":{"engine":"redis"}}`, "fleet: unknown engine 'redis': this Caddy has test; for redis, build Caddy with: xcaddy build --with github.com/seed10b5b978/caddy-htpasswd --with github.com/seed10b5b978/caddy-htpasswd/fleet/redis"},
		{"an unknown setting", `{"secret":"` + secretA + `","fleet":{"engine":"test","stores":"x"}}`, "stores"},
		{"a store that cannot be opened", `{"secret":"` + secretA + `","fleet":{"engine":"test","store":"broken"}}`, "fleet: broken settings"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &App{shared: newShared(time.Now)}
			must(t, json.Unmarshal([]byte(test.app), a))
			err := a.Provision(configContext(t))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secretA) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			must(t, a.Cleanup())
		})
	}
	keys := make(map[string]string)
	for name, app := range map[string]App{
		"plain":        {Secret: secretA, FleetRaw: json.RawMessage(`{"engine":"test","store":"from-env"}`)},
		"other order":  {Secret: secretA, FleetRaw: json.RawMessage(`{"store": "from-env", "engine": "test"}`)},
		"placeholder":  {Secret: "{file." + filepath.Join(dir, "secret") + "}", FleetRaw: json.RawMessage(`{"engine":"test","store":"{env.TEST_STORE}"}`)},
		"other store":  {Secret: secretA, FleetRaw: json.RawMessage(`{"engine":"test","store":"y"}`)},
		"other secret": {Secret: secretB, FleetRaw: json.RawMessage(`{"engine":"test","store":"from-env"}`)},
		"old secret":   {Secret: secretA, OldSecret: secretB, FleetRaw: json.RawMessage(`{"engine":"test","store":"from-env"}`)},
	} {
		app.shared = newShared(time.Now)
		must(t, app.Provision(configContext(t)))
		keys[name] = app.fleetInPool
		must(t, app.Cleanup())
	}
	for name, key := range keys {
		if want := name == "plain" || name == "other order" || name == "placeholder"; (key == keys["plain"]) != want {
			t.Errorf("%s: the same fleet: %v, want %v", name, !want, want)
		}
	}
	invalid := &App{shared: newShared(time.Now), MaxStale: -1}
	invalid.setDefaults(zap.NewNop())
	if err := invalid.Validate(); err == nil || !strings.Contains(err.Error(), "max_stale") {
		t.Errorf("got %v, want an error about max_stale", err)
	}
}

// TestFleetCaddyfile adapts the global option.
func TestFleetCaddyfile(t *testing.T) {
	const secret = "\tsecret " + secretA + "\n"
	for _, test := range []struct{ name, block, want, err string }{
		{"an engine with settings", secret + "\tfleet test {\n\t\tstore x\n\t}\n\tmax_stale 24h\n\tpoll 1s\n", `"fleet":{"engine":"test","store":"x"},"max_stale":86400000000000`, ""},
		{"before the secret", "\tfleet test {\n\t\tstore x\n\t}\n" + secret, `"fleet":{"engine":"test","store":"x"}`, ""},
		{"an engine without settings", secret + "\tfleet test\n\tmax_stale 1h\n", `"fleet":{"engine":"test","store":""},"max_stale":3600000000000`, ""},
		{"no secret", "\tfleet test\n", "", "fleet: expected a secret in the configuration, found none; create one with 'openssl rand -base64 32'"},
		{"no engine", secret + "\tfleet\n", "", "fleet: expected the engine"},
		{"an engine that is not built in", secret + "\tfleet redis {\n\t\taddress localhost:6379\n\t}\n", "", "--with github.com/seed10b5b978/caddy-htpasswd/fleet/redis"},
		{"a semicolon", secret + "\tfleet redis;\n", "", "fleet: "},
		{"twice", secret + "\tfleet test\n\tfleet test\n", "", "fleet"},
		{"an unknown setting", secret + "\tfleet test {\n\t\tshop x\n\t}\n", "", "expected 'store <name>'"},
		{"max_stale without a duration", "\tmax_stale often\n", "", "max_stale: expected an age such as 24h, found 'often'"},
		{"max_stale of nothing", "\tmax_stale 0s\n", "", "max_stale: expected an age such as 24h, found '0s'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := inProcess{}.Adapt(nil, "{\n\thtpasswd {\n"+test.block+"\t}\n}\n")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), secretA) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			must(t, err)
			if !strings.Contains(string(config), test.want) {
				t.Errorf("got %s, want %s", config, test.want)
			}
		})
	}
}
