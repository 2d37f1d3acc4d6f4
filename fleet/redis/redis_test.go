package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// permissions are those in the documentation of the package, which are enough.
const (
	permissions         = "resetchannels ~htpasswd:* &htpasswd:* -@all +hello +ping +select +evalsha +eval +time +hget +hset +hdel +hlen +hgetall +hmget +hstrlen +pexpire +del +publish +subscribe +cluster|slots +asking"
	sentinelPermissions = "-@all +hello +ping +sentinel|get-master-addr-by-name +sentinel|sentinels +subscribe &*"
)

// open returns a store with the settings, as a server with this configuration has.
func open(t *testing.T, e Engine) *store {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	testkit.Must(t, e.Provision(ctx))
	testkit.Must(t, e.Validate())
	s, err := e.Open()
	testkit.Must(t, err)
	return s.(*store)
}

// conforms runs the conformance suite.
func conforms(t *testing.T, e Engine) {
	t.Helper()
	storetest.Run(t, func(t *testing.T) fleet.Store { return open(t, e) })
}

// adds reports whether the store adds a failed login now.
func adds(t *testing.T, s *store, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := s.Add(ctx, []fleet.Addition{someAddition})
	return err
}

var (
	someSet      = fleet.Set{Name: "login", Window: time.Minute}
	someAddition = fleet.Addition{Counter: fleet.Counter{Set: someSet, Key: 77}, N: 1}
)

func TestPermissionsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("redis.go")
	testkit.Must(t, err)
	for _, line := range []string{"//\tuser caddy on >PASSWORD " + permissions + "\n", "//\t" + sentinelPermissions + "\n"} {
		if !strings.Contains(string(text), line) {
			t.Errorf("the package comment has no line %q", line)
		}
	}
}

// TestSingle tests a server with the documented permissions, in another database.
func TestSingle(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t, "user caddy on >right "+permissions)
	e := Engine{Addresses: []string{r.Address()}, Username: "caddy", Password: "right", Database: 3}
	conforms(t, e)
	expectNoViolation(t, r)
	if keys := r.Command("-n", "3", "keys", "*"); keys == "" {
		t.Error("the database has no keys")
	}

	t.Run("another password", func(t *testing.T) {
		e := e
		e.Password = "wrong"
		s := open(t, e)
		defer s.Close()
		if err := adds(t, s, 5*time.Second); err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("the error is %v, want WRONGPASS, without the password", err)
		}
		if err := s.Ping(t.Context()); err == nil {
			t.Error("Ping succeeds")
		}
	})
	t.Run("another prefix", func(t *testing.T) {
		e := e
		e.Prefix = "other"
		s := open(t, e)
		defer s.Close()
		if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("the error is %v, want NOPERM", err)
		}
		r.Command("acl", "log", "reset")
	})
}

// expectNoViolation checks that the store has sent no command that its user may not use.
// The client ignores some errors.
func expectNoViolation(t *testing.T, r *testkit.Redis) {
	t.Helper()
	if log := r.Command("acl", "log"); log != "" {
		t.Errorf("commands were refused: %s", log)
	}
	for line := range strings.Lines(r.Command("info", "errorstats")) {
		if name, _, isError := strings.Cut(line, ":"); isError && name != "errorstat_NOSCRIPT" {
			t.Errorf("Redis has counted errors: %s", line)
		}
	}
}

// TestUnixSocket tests the other kind of address.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t, "unixsocket redis.sock")
	s := open(t, Engine{Addresses: []string{"unix/" + filepath.Join(r.Dir, "redis.sock")}})
	defer s.Close()
	testkit.Must(t, adds(t, s, 5*time.Second))
}

// startCluster starts servers of a cluster, which share the slots.
func startCluster(t *testing.T, n int) (servers []*testkit.Redis) {
	t.Helper()
	for range n {
		r := testkit.StartRedis(t, "cluster-enabled yes", "cluster-port "+fmt.Sprint(testkit.FreePorts(t, 1)[0]), "user caddy on >right "+permissions)
		servers = append(servers, r)
	}
	const slots = 16384
	for i, r := range servers {
		r.Command("cluster", "addslotsrange", fmt.Sprint(i*slots/n), fmt.Sprint((i+1)*slots/n-1))
		r.Command("cluster", "set-config-epoch", fmt.Sprint(i+1))
		if i > 0 {
			bus := servers[0].Command("config", "get", "cluster-port")
			r.Command("cluster", "meet", "127.0.0.1", fmt.Sprint(servers[0].Port), bus[strings.LastIndexByte(bus, '\n')+1:])
		}
	}
	for _, r := range servers {
		testkit.Eventually(t, "the cluster is complete", func() bool {
			return strings.Contains(r.Command("cluster", "info"), "cluster_state:ok") &&
				strings.Contains(r.Command("cluster", "info"), fmt.Sprintf("cluster_size:%d", n))
		})
	}
	return servers
}

func TestClusterOfOne(t *testing.T) {
	t.Parallel()
	r := startCluster(t, 1)[0]
	conforms(t, Engine{Addresses: []string{r.Address()}, Cluster: true, Username: "caddy", Password: "right"})
	expectNoViolation(t, r)
}

// TestClusterMovesSlots moves a slot from one server to another, while the store uses it.
func TestClusterMovesSlots(t *testing.T) {
	t.Parallel()
	servers := startCluster(t, 2)
	s := open(t, Engine{Addresses: []string{servers[0].Address(), servers[1].Address()}, Username: "caddy", Password: "right"})
	defer s.Close()
	count := func(key uint64) int {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a := someAddition
		a.Key = key
		counts, err := s.Add(ctx, []fleet.Addition{a, {Counter: fleet.Counter{Set: fleet.Set{Name: "client", Window: time.Minute}, Key: key}, N: 1}})
		testkit.Must(t, err)
		return counts[0].N
	}
	key := s.keyOf(someAddition.Counter)
	slot := servers[0].Command("cluster", "keyslot", key)
	from, to := servers[0], servers[1]
	if n := 0; true {
		_, err := fmt.Sscan(slot, &n)
		testkit.Must(t, err)
		if n >= 8192 {
			from, to = to, from
		}
	}
	if n := count(77); n != 1 {
		t.Fatalf("the count is %d, want 1", n)
	}
	fromID, toID := from.Command("cluster", "myid"), to.Command("cluster", "myid")
	to.Command("cluster", "setslot", slot, "importing", fromID)
	from.Command("cluster", "setslot", slot, "migrating", toID)
	if n := count(77); n != 2 { // the old server has the key
		t.Fatalf("the count is %d, want 2", n)
	}
	from.Command("migrate", "127.0.0.1", fmt.Sprint(to.Port), key, "0", "5000")
	for want := 3; want < 6; want++ { // ASK
		if n := count(77); n != want {
			t.Fatalf("the count is %d, want %d", n, want)
		}
	}
	to.Command("cluster", "setslot", slot, "node", toID)
	from.Command("cluster", "setslot", slot, "node", toID)
	for want := 6; want < 9; want++ { // MOVED
		if n := count(77); n != want {
			t.Fatalf("the count is %d, want %d", n, want)
		}
	}
	for key := range uint64(200) { // both servers
		count(1000 + key)
	}
	testkit.Must(t, s.Ping(t.Context()))
	testkit.Must(t, s.RemoveAll(t.Context(), []fleet.Set{someSet}))
	if n := count(77); n != 1 {
		t.Errorf("after RemoveAll the count is %d, want 1", n)
	}
	to.Kill()
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping succeeds, but a server is down")
	}
}

// TestScriptFlush tests a server that has forgotten the scripts, or some of them.
func TestScriptFlush(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	ctx := t.Context()
	for i := range 3 {
		counts, err := s.Add(ctx, []fleet.Addition{someAddition, someAddition})
		testkit.Must(t, err)
		if got := []int{counts[0].N, counts[1].N}; !slices.Equal(got, []int{2*i + 1, 2*i + 2}) {
			t.Fatalf("the counts are %v after %d additions", got, 2*i)
		}
		old := fmt.Sprint(i)
		if i == 0 {
			old = ""
		}
		testkit.Must(t, s.Replace(ctx, "staff", old, fleet.Text{Revision: fmt.Sprint(i + 1)}))
		r.Command("script", "flush")
	}
	testkit.Must(t, s.Ping(ctx))
}

// TestHang tests that calls return soon after their context is done, and that what was
// sent to a server that hangs is not sent again.
func TestHang(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	testkit.Must(t, adds(t, s, 5*time.Second))
	r.Hang()
	const calls = 20
	var longest time.Duration
	for i := range calls {
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		if i%2 == 0 {
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		} else { // without a deadline
			time.AfterFunc(100*time.Millisecond, cancel)
		}
		_, err := s.Add(ctx, []fleet.Addition{someAddition})
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !strings.Contains(fmt.Sprint(err), "i/o timeout") {
			t.Errorf("the error is %v, want that of the context", err)
		}
		longest = max(longest, time.Since(begin))
		cancel()
	}
	if longest > 2*time.Second {
		t.Errorf("a call with a limit of 100 ms took %s", longest)
	}
	r.Continue()
	testkit.Eventually(t, "the server answers", func() bool { return s.Ping(t.Context()) == nil })
	counts, err := s.Add(t.Context(), []fleet.Addition{someAddition})
	testkit.Must(t, err)
	if n := counts[0].N; n < 2 || n > calls+2 {
		t.Errorf("%d failed logins are counted, want 2 to %d: at most once each", n, calls+2)
	}
	t.Logf("slowest call %s, %d of %d were executed", longest, counts[0].N-2, calls)
}

// TestOutOfMemory tests that Ping tells whether counters can be written.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t, "maxmemory-policy noeviction")
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	testkit.Must(t, s.Ping(t.Context()))
	r.Command("config", "set", "maxmemory", "1000")
	for name, err := range map[string]error{"Ping": s.Ping(t.Context()), "Add": adds(t, s, 5*time.Second)} {
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("%s: the error is %v, want OOM", name, err)
		}
	}
	r.Command("config", "set", "maxmemory", "0")
	testkit.Must(t, s.Ping(t.Context()))
	r.Command("config", "set", "min-replicas-to-write", "1")
	if err := s.Ping(t.Context()); err == nil {
		t.Error("Ping succeeds, but the server accepts no writes")
	}
}

// TestSubscription tests that a lost subscription is noticed, and made again.
func TestSubscription(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	connected, disconnected, events := make(chan struct{}, 100), make(chan error, 100), make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Subscribe(ctx, fleet.Subscriber{
			Event:        func(event []byte) { events <- string(event) },
			Connected:    func() { connected <- struct{}{} },
			Disconnected: func(err error) { disconnected <- err },
		})
	}()
	expect := func(what string, limit time.Duration, arrived func() bool) {
		t.Helper()
		begin := time.Now()
		testkit.Eventually(t, what, arrived)
		if elapsed := time.Since(begin); elapsed > limit {
			t.Errorf("%s after %s, want at most %s", what, elapsed, limit)
		}
	}
	receives := func() bool {
		testkit.Must(t, s.Publish(t.Context(), []byte("hello")))
		select {
		case <-events:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}
	expect("connected", 5*time.Second, func() bool { return len(connected) == 1 })
	expect("event", 5*time.Second, receives)

	r.Hang()
	expect("a server that hangs is noticed", maxSilence+2*pingInterval+time.Second, func() bool { return len(disconnected) > 0 })
	r.Continue()
	expect("connected again", 8*time.Second, func() bool { return len(connected) == 2 })
	expect("event", 5*time.Second, receives)

	n := len(disconnected)
	r.Kill()
	expect("a killed server is noticed", 3*time.Second, func() bool { return len(disconnected) > n })
	r.Restart()
	expect("connected again", 8*time.Second, func() bool { return len(connected) == 3 })
	expect("event", 5*time.Second, receives)

	n = len(disconnected)
	r.Command("client", "kill", "type", "pubsub")
	expect("a closed connection is noticed", 3*time.Second, func() bool { return len(disconnected) > n })
	expect("connected again", 5*time.Second, func() bool { return len(connected) == 4 })
	cancel()
	expect("Subscribe returns", time.Second, func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
}

// TestDamagedTexts has texts that no server writes, but anybody can who can use Redis.
func TestDamagedTexts(t *testing.T) {
	t.Parallel()
	r := testkit.StartRedis(t)
	s := open(t, Engine{Addresses: []string{r.Address()}})
	defer s.Close()
	ctx := t.Context()
	set := func(name, revision, data string) {
		r.Command("eval", "redis.call('HSET', KEYS[1], 'revision', "+revision+", 'data', "+data+")", "1", s.text(name))
	}
	t.Run("a text of 60 MB is not read", func(t *testing.T) {
		set("large", "'1'", "string.rep('x', 60000000)")
		if revision, err := s.Revision(ctx, "large"); err != nil || revision != "1" {
			t.Errorf("Revision: %q and %v, want 1", revision, err)
		}
		if _, err := s.Load(ctx, "large"); !errors.Is(err, fleet.ErrTooLarge) {
			t.Errorf("Load: %v, want ErrTooLarge", err)
		}
	})
	t.Run("a revision of 60 MB is not read", func(t *testing.T) {
		set("revision", "string.rep('1', 60000000)", "'x'")
		if _, err := s.Revision(ctx, "revision"); !errors.Is(err, fleet.ErrTooLarge) {
			t.Errorf("Revision: %v, want ErrTooLarge", err)
		}
		if _, err := s.Load(ctx, "revision"); !errors.Is(err, fleet.ErrTooLarge) {
			t.Errorf("Load: %v, want ErrTooLarge", err)
		}
	})
	if n := r.Command("info", "commandstats"); strings.Contains(n, "cmdstat_hmget") {
		t.Error("a text was read")
	}
	t.Run("the largest text", func(t *testing.T) {
		set("largest", fmt.Sprintf("string.rep('1', %d)", fleet.MaxRevision), fmt.Sprintf("string.rep('x', %d)", fleet.MaxText))
		if text, err := s.Load(ctx, "largest"); err != nil || len(text.Data) != fleet.MaxText || len(text.Revision) != fleet.MaxRevision {
			t.Errorf("Load: %d bytes and %v, want %d", len(text.Data), err, fleet.MaxText)
		}
	})
	t.Run("a revision without data is a damaged text, and not none", func(t *testing.T) {
		set("damaged", "'1'", "'x'")
		r.Command("hdel", s.text("damaged"), "data")
		text, err := s.Load(ctx, "damaged")
		if err != nil || text.Revision != "1" || len(text.Data) != 0 {
			t.Errorf("Load: %+v and %v, want revision 1", text, err)
		}
		testkit.Must(t, s.Replace(ctx, "damaged", "1", fleet.Text{Revision: "2"}))
	})
	t.Run("data without a revision are none", func(t *testing.T) {
		set("none", "'1'", "'x'")
		r.Command("hdel", s.text("none"), "revision")
		for what, call := range map[string]func() error{
			"Revision": func() error { _, err := s.Revision(ctx, "none"); return err },
			"Load":     func() error { _, err := s.Load(ctx, "none"); return err },
		} {
			if err := call(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want fs.ErrNotExist", what, err)
			}
		}
		testkit.Must(t, s.Replace(ctx, "none", "", fleet.Text{Revision: "1"}))
	})
}
