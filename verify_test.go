package caddyhtpasswd

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// storeOf returns the store of a file with its own path.
func storeOf(t testing.TB, text string) *userStore {
	t.Helper()
	s := newUserStore(fmt.Sprintf("/%s/%d", t.Name(), storeCount.Add(1)))
	reloadStore(t, s, text)
	return s
}

var storeCount atomic.Int64

func reloadStore(t testing.TB, s *userStore, text string) {
	t.Helper()
	if err := s.load(text, zap.NewNop()); err != nil {
		t.Error(err)
	}
}

// clock stands still.
func clock() time.Time { return time.Unix(1_700_000_000, 0) }

func credentialsOf(user, password string) *credentials {
	return parseCredentials("Basic " + encoded(user+":"+password))
}

// unlimitedGuard limits neither failed logins nor hashes. Its keys are its own:
// each server of a test has another process.
var (
	unlimitedGuard = newGuard(func() *settings {
		return &settings{maxHashes: 1 << 10, keys: keyring.NewRing(&unlimitedKeys), logger: zap.NewNop()}
	}, clock)
	unlimitedKeys keyring.Fallback
)

// handlerOf returns a handler for files.
func handlerOf(stores userStores, m *cachePolicy) *Handler {
	return &Handler{users: userSources{fixed: stores}, cache: *m, guard: unlimitedGuard, logger: zap.NewNop(), Realm: defaultRealm}
}

// checkLogin has a handler for stores check credentials. It returns the result and, if the
// login passes, the user.
func checkLogin(t testing.TB, stores userStores, user, password string, m *cachePolicy) (result, string) {
	t.Helper()
	return checkLoginWith(t, t.Context(), stores, user, password, m)
}

// checkLoginWith is checkLogin with a context.
func checkLoginWith(t testing.TB, ctx context.Context, stores userStores, user, password string, m *cachePolicy) (result, string) {
	t.Helper()
	c := credentialsOf(user, password)
	defer c.release()
	v, err := handlerOf(stores, m).check(ctx, origin{}, c)
	if err != nil {
		t.Error(err)
	}
	user, _ = v.user.(string)
	return v.result, user
}

// hashCount returns how many hashes were computed.
func (g *guard) hashCount() (n int64) {
	for _, count := range g.hashesByFormat() {
		n += count
	}
	return n
}

// hashesByFormat returns how many hashes of each format were computed.
func (g *guard) hashesByFormat() map[string]int64 {
	metrics := make(chan prometheus.Metric, 100)
	g.hashTimes.Collect(metrics)
	close(metrics)
	counts := make(map[string]int64)
	for m := range metrics {
		var read dto.Metric
		if err := m.Write(&read); err != nil {
			panic(err)
		}
		counts[read.GetLabel()[0].GetValue()] = int64(read.GetHistogram().GetSampleCount())
	}
	return counts
}

// checkIdle fails unless the hash queue is empty.
func (g *guard) checkIdle(t testing.TB) {
	t.Helper()
	if running, waiting := g.queue.State(); running != 0 || waiting != 0 {
		t.Errorf("got %d running and %d waiting hashes, want none", running, waiting)
	}
}

// hashesIn returns how many hashes unlimitedGuard computes during f.
func hashesIn(f func()) int64 {
	before := unlimitedGuard.hashCount()
	f()
	return unlimitedGuard.hashCount() - before
}

// waiting is a context that calls a function when a login is about to wait for it for the
// first time. In the hash queue, the hash has then been started or joined.
type waiting struct {
	context.Context
	once sync.Once
	then func()
}

func whenWaiting(ctx context.Context, then func()) *waiting {
	return &waiting{Context: ctx, then: then}
}

func (w *waiting) Done() <-chan struct{} {
	w.once.Do(w.then)
	return w.Context.Done()
}

// within fails if f takes longer than any machine needs.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s: not after a minute", what)
	}
}

// step is a check with its result.
type step struct {
	user, password string
	want           result
	hashes         int64
}

func runSteps(t *testing.T, stores userStores, m *cachePolicy, steps []step) {
	t.Helper()
	for i, s := range steps {
		var got result
		n := hashesIn(func() { got, _ = checkLogin(t, stores, s.user, s.password, m) })
		if got != s.want || n != s.hashes {
			t.Errorf("step %d, %s with %q: got %v with %d hashes, want %v with %d", i, s.user, s.password, got, n, s.want, s.hashes)
		}
	}
}

func TestCheck(t *testing.T) {
	const file = "alice:" + bcrypt4Secret1 + "\nbob:" + apr1Secret2 + "\ncarol:!\ndave:rubbish\n"
	on, off := cachePolicy{now: clock}, cachePolicy{now: clock, off: true}
	for _, test := range []struct {
		name  string
		file  string
		m     cachePolicy
		steps []step
	}{
		{"a right password is hashed once", file, on, []step{
			{"alice", "secret1", resultPassed, 1}, {"alice", "secret1", resultPassed, 0}, {"alice", "secret1", resultPassed, 0},
		}},
		{"a wrong password doesn't evict the right one", file, on, []step{
			{"alice", "secret1", resultPassed, 1}, {"alice", "secret2", resultWrongPassword, 1}, {"alice", "secret1", resultPassed, 0},
			{"bob", "secret1", resultWrongPassword, 1}, {"mallory", "secret1", resultUnknownUser, 1}, {"alice", "", resultWrongPassword, 1},
			{"alice", "secret1", resultPassed, 0},
		}},
		{"a wrong password is not cached as right", file, on, []step{
			{"alice", "secret2", resultWrongPassword, 1}, {"alice", "secret2", resultWrongPassword, 0}, {"alice", "secret1", resultPassed, 1},
		}},
		{"a password cached for one user is not another's", "alice:" + bcrypt4Secret1 + "\nbob:" + bcrypt4Secret1, on, []step{
			{"alice", "secret1", resultPassed, 1}, {"bob", "secret1", resultPassed, 1}, {"bob", "secret2", resultWrongPassword, 1},
		}},
		{"cache off: a hash each time", file, off, []step{
			{"alice", "secret1", resultPassed, 1}, {"alice", "secret1", resultPassed, 1}, {"alice", "secret2", resultWrongPassword, 1},
		}},
		{"one hash for a user who cannot log in, known or not", file, on, []step{
			{"mallory", "x", resultUnknownUser, 1}, {"mallory", "x", resultUnknownUser, 0}, {"carol", "x", resultLockedUser, 1}, {"dave", "rubbish", resultInvalidLine, 1},
			{"dave", "secret1", resultInvalidLine, 1}, {"", "", resultUnknownUser, 1}, {"Alice", "secret1", resultUnknownUser, 1},
		}},
		{"one hash for a user who cannot log in, with the cache off", file, off, []step{{"mallory", "x", resultUnknownUser, 1}, {"carol", "x", resultLockedUser, 1}, {"dave", "x", resultInvalidLine, 1}}},
		{"an empty file: no hash", "", on, []step{{"alice", "secret1", resultUnknownUser, 0}}},
		{"only locked accounts: no hash", "alice:!\nbob:*", on, []step{{"alice", "!", resultLockedUser, 0}, {"mallory", "x", resultUnknownUser, 0}}},
		{"over 72 bytes with bcrypt the first 72 decide",
			"alice:" + bcrypt4P72, on, []step{
				{"alice", strings.Repeat("p", 71), resultWrongPassword, 1}, {"alice", strings.Repeat("p", 72), resultPassed, 1},
				{"alice", strings.Repeat("p", 73), resultPassed, 1}, {"alice", strings.Repeat("p", 73), resultPassed, 0},
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			runSteps(t, userStores{storeOf(t, test.file)}, &test.m, test.steps)
		})
	}
}

// htpasswd -nbB -C 4 alice, with a password of 72 p.
const bcrypt4P72 = "$2y$04$17VwMl.avk88Ff6WqY5pa.ImtIH2VTjeSz7px86W5bIjmPhnuHH9a"

func TestCheckMalformed(t *testing.T) {
	stores := userStores{storeOf(t, "alice:"+shaSecret1+"\n")}
	for _, header := range []string{"", "Basic", "Basic " + encoded("alice:secret1\x00"), "Bearer " + encoded("alice:secret1")} {
		n := hashesIn(func() {
			c := parseCredentials(header)
			defer c.release()
			if v, err := handlerOf(stores, &cachePolicy{now: clock}).check(t.Context(), origin{}, c); v != (verdict{result: resultMalformed}) || err != nil {
				t.Errorf("%q: got %v, error %v, want %v", header, v.result, err, resultMalformed)
			}
		})
		if n != 0 {
			t.Errorf("%q: got %d hashes, want none", header, n)
		}
	}
}

func TestMaxAge(t *testing.T) {
	const age = time.Minute
	start := clock()
	now := start
	m := &cachePolicy{maxAge: age, now: func() time.Time { return now }}
	stores := userStores{storeOf(t, "alice:"+bcrypt4Secret1)}
	for _, test := range []struct {
		name   string
		at     time.Duration
		hashes int64
	}{
		{"the first time", 0, 1},
		{"just before max_age", age - 1, 0},
		{"at max_age", age, 0},
		{"just after max_age", age + 1, 1},
		{"max_age after the second computation", 2*age + 1, 0},
		{"the clock jumps back", -age, 0},
		{"the clock jumps ahead", 1000 * age, 1},
		{"the clock jumps back again", 0, 0},
	} {
		now = start.Add(test.at)
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, test.hashes}})
		if t.Failed() {
			t.Fatalf("that was: %s", test.name)
		}
	}
	// Handlers with a smaller and a larger max_age use the same entry.
	now = start.Add(2000 * age)
	runSteps(t, stores, &cachePolicy{now: m.now}, []step{{"alice", "secret1", resultPassed, 0}})
	runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
	runSteps(t, stores, &cachePolicy{now: m.now, off: true}, []step{{"alice", "secret1", resultPassed, 1}})
	// A wrong password stays wrong, even if the right one has expired.
	runSteps(t, stores, m, []step{{"alice", "secret2", resultWrongPassword, 1}, {"alice", "secret1", resultPassed, 0}})
}

func TestMaxAgeAcrossVersions(t *testing.T) {
	now := clock()
	m := &cachePolicy{maxAge: time.Minute, now: func() time.Time { return now }}
	store := storeOf(t, "alice:"+bcrypt4Secret1)
	stores := userStores{store}
	runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
	now = now.Add(time.Minute)
	reloadStore(t, store, "alice:"+bcrypt4Secret1+"\nbob:!")
	runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 0}})
	now = now.Add(1) // a new version does not extend the time
	runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
}

func TestMemoryAcrossVersions(t *testing.T) {
	const before = "alice:" + bcrypt4Secret1 + "\nbob:" + bcrypt4Secret2
	for _, test := range []struct {
		name, after string
		steps       []step
	}{
		{"another user's line changed", "zoe:" + shaSecret1 + "\nbob:" + bcrypt5Secret2 + "\nalice:" + bcrypt4Secret1 + ":comment",
			[]step{{"alice", "secret1", resultPassed, 0}, {"bob", "secret2", resultPassed, 1}}},
		{"another password", "alice:" + bcrypt4Secret2 + "\nbob:" + bcrypt4Secret2,
			[]step{{"alice", "secret1", resultWrongPassword, 1}, {"alice", "secret2", resultPassed, 1}, {"bob", "secret2", resultPassed, 0}}},
		{"the lines of two users exchanged", "alice:" + bcrypt4Secret2 + "\nbob:" + bcrypt4Secret1,
			[]step{{"alice", "secret1", resultWrongPassword, 1}, {"bob", "secret2", resultWrongPassword, 1}, {"alice", "secret2", resultPassed, 1}, {"bob", "secret1", resultPassed, 1}}},
		{"another hash of the same password", "alice:" + bcrypt4Secret1b + "\nbob:" + bcrypt4Secret2,
			[]step{{"alice", "secret1", resultPassed, 1}, {"alice", "secret1", resultPassed, 0}}},
		{"user removed", "bob:" + bcrypt4Secret2, []step{{"alice", "secret1", resultUnknownUser, 1}, {"bob", "secret2", resultPassed, 0}}},
		{"user locked", "alice:!" + bcrypt4Secret1 + "\nbob:" + bcrypt4Secret2, []step{{"alice", "secret1", resultLockedUser, 1}}},
		{"user shadowed by an invalid line", "alice:\x00\nalice:" + bcrypt4Secret1 + "\nbob:" + bcrypt4Secret2, []step{{"alice", "secret1", resultInvalidLine, 1}}},
		{"user renamed", "ALICE:" + bcrypt4Secret1 + "\nbob:" + bcrypt4Secret2, []step{{"ALICE", "secret1", resultPassed, 1}, {"alice", "secret1", resultUnknownUser, 1}}},
		{"file emptied", "", []step{{"alice", "secret1", resultUnknownUser, 0}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := storeOf(t, before)
			stores, m := userStores{store}, &cachePolicy{now: clock}
			runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}, {"bob", "secret2", resultPassed, 1}})
			reloadStore(t, store, test.after)
			runSteps(t, stores, m, test.steps)
		})
	}
	t.Run("user removed and added again", func(t *testing.T) {
		store := storeOf(t, before)
		stores, m := userStores{store}, &cachePolicy{now: clock}
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
		reloadStore(t, store, "bob:!")
		reloadStore(t, store, before)
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
	})
	t.Run("a version that is refused", func(t *testing.T) {
		store := storeOf(t, before)
		stores, m := userStores{store}, &cachePolicy{now: clock}
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
		if store.load("<html>", zap.NewNop()) == nil {
			t.Error("got no error, want one")
		}
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 0}})
	})
}

// TestSwapWhileHashing changes the file while a hash of the previous version is computed.
func TestSwapWhileHashing(t *testing.T) {
	for _, test := range []struct {
		name, before, after string
		password            string
		want                result
		hashes              int64
	}{
		{"password changed", "alice:" + bcrypt6Secret1, "alice:" + bcrypt4Secret2, "secret1", resultWrongPassword, 2},
		{"user removed", "alice:" + bcrypt6Secret1, "bob:" + shaSecret1, "secret1", resultUnknownUser, 2},
		{"user removed, another user has the same hash", "alice:" + bcrypt6Secret1, "bob:" + bcrypt6Secret1, "secret1", resultUnknownUser, 2},
		{"file emptied", "alice:" + bcrypt6Secret1, "", "secret1", resultUnknownUser, 1},
		{"user locked", "alice:" + bcrypt6Secret1, "alice:!" + bcrypt6Secret1, "secret1", resultLockedUser, 1},
		{"line of the user becomes invalid", "alice:" + bcrypt6Secret1, "alice:rubbish\nbob:" + shaSecret1, "secret1", resultInvalidLine, 2},
		{"line of a locked user becomes invalid", "alice:\nbob:" + bcrypt6Secret1, "alice\nbob:" + bcrypt6Secret1, "secret1", resultInvalidLine, 2},
		{"another hash of the same password", "alice:" + bcrypt6Secret1, "alice:" + apr1Secret1, "secret1", resultPassed, 2},
		{"same line at another place", "alice:" + bcrypt6Secret1, "bob:!\nalice:" + bcrypt6Secret1, "secret1", resultPassed, 1},
		{"a wrong password stays wrong", "alice:" + bcrypt6Secret1, "alice:" + bcrypt6Secret1 + "\nbob:!", "secret2", resultWrongPassword, 1},
	} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cache off: %v", test.name, off), func(t *testing.T) {
				store := storeOf(t, test.before)
				m := &cachePolicy{now: clock, off: off}
				swapped := false
				ctx := whenWaiting(t.Context(), func() {
					swapped = true
					reloadStore(t, store, test.after)
				})
				var got result
				var user string
				n := hashesIn(func() { got, user = checkLoginWith(t, ctx, userStores{store}, "alice", test.password, m) })
				if !swapped {
					t.Error("got no change of the file while the hash was computed, want one: the test shows nothing")
				}
				if got != test.want || n != test.hashes || (user != "") != (got == resultPassed) {
					t.Errorf("got %v for user %q with %d hashes, want %v with %d", got, user, n, test.want, test.hashes)
				}
				// A verified password is cached only for lines that it matches.
				again := int64(1)
				if got != resultPassed || !off {
					again = 0
				}
				runSteps(t, userStores{store}, m, []step{{"alice", test.password, test.want, again}})
			})
		}
	}
	t.Run("an earlier file gets an entry for the user", func(t *testing.T) {
		first, second := storeOf(t, ""), storeOf(t, "alice:"+bcrypt6Secret1)
		stores, m := userStores{first, second}, &cachePolicy{now: clock}
		ctx := whenWaiting(t.Context(), func() { reloadStore(t, first, "alice:!") })
		if got, _ := checkLoginWith(t, ctx, stores, "alice", "secret1", m); got != resultLockedUser {
			t.Errorf("got %v, want %v", got, resultLockedUser)
		}
	})
	t.Run("password changed while cached", func(t *testing.T) { // no hash, so no change during it
		store := storeOf(t, "alice:"+bcrypt4Secret1)
		stores, m := userStores{store}, &cachePolicy{now: clock}
		runSteps(t, stores, m, []step{{"alice", "secret1", resultPassed, 1}})
		reloadStore(t, store, "alice:"+bcrypt4Secret2)
		runSteps(t, stores, m, []step{{"alice", "secret1", resultWrongPassword, 1}, {"alice", "secret1", resultWrongPassword, 0}})
	})
}

// TestSwapsUnderLoad loads two versions of a file, alternating, while clients log in.
// alice is in both, bob has a different password in each, and carol is in one.
func TestSwapsUnderLoad(t *testing.T) {
	versions := [2]string{
		"alice:" + shaSecret1 + "\nbob:" + apr1Secret1 + "\ncarol:" + shaSecret1,
		"dave:!\nbob:" + apr1Secret2 + "\nalice:" + shaSecret1,
	}
	store := storeOf(t, versions[0])
	stores := userStores{store}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for _, who := range []struct {
		user, password string
		allowed        []result
	}{
		{"alice", "secret1", []result{resultPassed}},
		{"alice", "secret2", []result{resultWrongPassword}},
		{"bob", "secret1", []result{resultPassed, resultWrongPassword}},
		{"bob", "secret2", []result{resultPassed, resultWrongPassword}},
		{"bob", "secret3", []result{resultWrongPassword}},
		{"carol", "secret1", []result{resultPassed, resultUnknownUser}},
		{"carol", "secret2", []result{resultWrongPassword, resultUnknownUser}},
		{"dave", "secret1", []result{resultUnknownUser, resultLockedUser}},
	} {
		for _, m := range []cachePolicy{{now: clock}, {now: clock, off: true}} {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					got, _ := checkLogin(t, stores, who.user, who.password, &m)
					ok := false
					for _, o := range who.allowed {
						ok = ok || got == o
					}
					if !ok {
						t.Errorf("%s with %s: got %v, want one of %v", who.user, who.password, got, who.allowed)
						return
					}
				}
			})
		}
	}
	for i := range 1000 {
		reloadStore(t, store, versions[(i+1)%2])
		if i%10 == 0 { // a login that never finds a version that lasts is answered as overloaded
			time.Sleep(10 * time.Millisecond)
		}
	}
	close(stop)
	group.Wait()
	runSteps(t, stores, &cachePolicy{now: clock}, []step{{"bob", "secret4", resultWrongPassword, 1}, {"carol", "secret4", resultWrongPassword, 1}})
}

// TestNothingShared has the same user in two files, with the same line. A password that
// was verified with one file is not cached for the other.
func TestNothingShared(t *testing.T) {
	m := &cachePolicy{now: clock}
	t.Run("other passwords", func(t *testing.T) {
		one, two := userStores{storeOf(t, "alice:"+bcrypt4Secret1)}, userStores{storeOf(t, "alice:"+bcrypt4Secret2)}
		runSteps(t, one, m, []step{{"alice", "secret1", resultPassed, 1}, {"alice", "secret2", resultWrongPassword, 1}})
		runSteps(t, two, m, []step{{"alice", "secret1", resultWrongPassword, 1}, {"alice", "secret2", resultPassed, 1}})
		runSteps(t, one, m, []step{{"alice", "secret1", resultPassed, 0}})
	})
	t.Run("the same line", func(t *testing.T) {
		one, two := userStores{storeOf(t, "alice:"+bcrypt4Secret1)}, userStores{storeOf(t, "alice:"+bcrypt4Secret1)}
		runSteps(t, one, m, []step{{"alice", "secret1", resultPassed, 1}})
		runSteps(t, two, m, []step{{"alice", "secret1", resultPassed, 1}})
	})
	t.Run("the same line at the same time", func(t *testing.T) {
		one, two := storeOf(t, "alice:"+bcrypt4Secret1), storeOf(t, "alice:"+bcrypt4Secret1)
		release := hold(t, userStores{one}, "alice", "secret1")
		within(t, "the other file waits for the computation of this one", func() {
			runSteps(t, userStores{two}, m, []step{{"alice", "secret1", resultPassed, 1}})
		})
		release()
	})
}

// hold starts a hash for a user, as a check does. It lasts until the returned function is
// called, and then the password matches.
func hold(t testing.TB, stores userStores, user, password string) (release func()) {
	t.Helper()
	c := credentialsOf(user, password)
	l := stores.find(c.user)
	if !l.isUsable() {
		t.Fatalf("%s: got an entry without a hash, want one with", user)
	}
	started, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		v, shared, err := unlimitedGuard.queue.Do(context.Background(), hashqueue.Task[attemptKey, verdict]{
			Key: new(Handler).keyOf(&attempt{lookup: l, work: l, credentials: c}),
			Start: func() (func() verdict, error) {
				return func() verdict {
					close(started)
					<-end
					return verdict{result: resultPassed, user: user}
				}, nil
			},
		})
		if v.result != resultPassed || shared || err != nil {
			t.Errorf("got %v, shared %t, error %v, want the password to be right", v, shared, err)
		}
		c.release()
	}()
	<-started
	release = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	t.Cleanup(release)
	return release
}

func TestOneComputationForAll(t *testing.T) {
	const n = 100
	stores, m := userStores{storeOf(t, "alice:"+bcrypt6Secret1)}, &cachePolicy{now: clock}
	var good atomic.Int64
	count := hashesIn(func() {
		var start, group sync.WaitGroup
		start.Add(n)
		for range n {
			group.Go(func() {
				start.Done()
				start.Wait()
				if got, _ := checkLogin(t, stores, "alice", "secret1", m); got == resultPassed {
					good.Add(1)
				}
			})
		}
		group.Wait()
	})
	if good.Load() != n || count != 1 {
		t.Errorf("got %d of %d right with %d hashes, want all with 1", good.Load(), n, count)
	}
}

// TestWaitersShareTheirOwnOnly keeps a hash from ending. Logins with an equal key wait for
// it, others do not.
func TestWaitersShareTheirOwnOnly(t *testing.T) {
	m := &cachePolicy{now: clock}
	store := storeOf(t, "alice:"+bcrypt4Secret1+"\nbob:"+bcrypt4Secret1)
	stores := userStores{store}
	release := hold(t, stores, "alice", "secret1")
	within(t, "others don't wait for alice", func() {
		runSteps(t, stores, m, []step{
			{"alice", "secret2", resultWrongPassword, 1},
			{"bob", "secret1", resultPassed, 1},
			{"mallory", "secret1", resultUnknownUser, 1}, // although the decoy has alice's hash
		})
	})
	got := make(chan result)
	joined := make(chan struct{})
	n := hashesIn(func() {
		go func() {
			o, _ := checkLoginWith(t, whenWaiting(t.Context(), func() { close(joined) }), stores, "alice", "secret1", m)
			got <- o
		}()
		<-joined
		release()
		if o := <-got; o != resultPassed {
			t.Errorf("got %v, want %v", o, resultPassed)
		}
	})
	if n != 0 {
		t.Errorf("got %d hashes, want none", n)
	}
}

// TestUnknownNames has unknown and invalid users send the password of their decoy. They do
// not use its cached password, and cache nothing for it.
func TestUnknownNames(t *testing.T) {
	for _, m := range []cachePolicy{{now: clock}, {now: clock, off: true}} {
		store := storeOf(t, "alice:"+bcrypt4Secret1+"\nbob:"+apr1Secret1+"\nlocked:!\nbad:rubbish")
		stores := userStores{store}
		for _, name := range []string{"mallory", "trent", "peggy", "victor", "locked", "bad", ""} {
			for _, password := range []string{"secret1", "wrong"} {
				n := hashesIn(func() {
					if got, user := checkLogin(t, stores, name, password, &m); got != resultUnknownUser && got != resultLockedUser && got != resultInvalidLine || user != "" {
						t.Errorf("%q: got %v and user %q, want an unknown, locked or invalid user and no name", name, got, user)
					}
				})
				if n != 1 {
					t.Errorf("%q: got %d hashes, want 1", name, n)
				}
			}
		}
		for i, user := range store.current.Load().file.All {
			if store.current.Load().memories[i].verified.Load() != nil {
				t.Errorf("%q: got a cached password, want none: nobody has logged in", user.Name)
			}
		}
		runSteps(t, stores, &cachePolicy{now: clock}, []step{{"alice", "secret1", resultPassed, 1}, {"bob", "secret1", resultPassed, 1}})
	}
}

// TestResultTexts checks that each result has its own text, and that the zero value does
// not pass.
func TestResultTexts(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for o := resultUnchecked; o <= resultPassed; o++ {
		if s := o.String(); s == "" || seen[s] {
			t.Errorf("%d: got the text %q, want one of its own", o, s)
		} else {
			seen[s] = true
		}
	}
	if result(0) == resultPassed {
		t.Errorf("the zero value: got %v, want another", result(0))
	}
}

// TestVerifiedHoldsNoFile reloads a file many times, with a login each time. The cached
// password is passed on, and must not keep the text of old versions in memory.
func TestVerifiedHoldsNoFile(t *testing.T) {
	const size = 1 << 20
	store, m := storeOf(t, "alice:"+bcrypt4Secret1), &cachePolicy{now: clock}
	var before, after memStats
	before.read()
	const versions = 40
	for i := range versions {
		text := fmt.Sprintf("alice:%s\nuser%d:%s\n#%s", bcrypt4Secret1, i, shaSecret1, strings.Repeat("x", size))
		for j := range i {
			text = fmt.Sprintf("user%d:%s\n", j, shaSecret1) + text
		}
		reloadStore(t, store, text)
		runSteps(t, userStores{store}, m, []step{{fmt.Sprintf("user%d", i), "secret1", resultPassed, 1}})
	}
	runtime.GC()
	after.read()
	runtime.KeepAlive(store)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > versions/4*size {
		t.Errorf("got %d bytes in use after %d versions of %d, want at most %d", held, versions, size, versions/4*size)
	}
}

// TestWarnOfShadowed has users in the second file who are already in the first.
func TestWarnOfShadowed(t *testing.T) {
	t.Parallel()
	logger, logs := observed()
	one, two := storeOf(t, "alice:!\nbob:rubbish\nzoe:"+shaSecret1), storeOf(t, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\ncarol:"+shaSecret1)
	userStores{one, two}.warnOfShadowed(logger, nil)
	if got := logs.FilterField(zap.Int("users", 2)).Len(); got != 1 || logs.Len() != 1 {
		t.Errorf("got the log\n%s\nwant one line about 2 users", logText(logs))
	}
}
