package caddyhtpasswd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// settingsOf returns what App makes of settings.
func settingsOf(a *App) func() *App {
	a.setDefaults(zap.NewNop())
	return func() *App { return a }
}

func TestCounters(t *testing.T) {
	const window = time.Minute
	for _, test := range []struct {
		name  string
		at    []time.Duration // of failures
		now   time.Duration
		count int
		left  time.Duration
	}{
		{"none", nil, 0, 0, 0},
		{"one", []time.Duration{0}, 0, 1, window},
		{"the window begins with the first", []time.Duration{0, 20 * time.Second, 40 * time.Second}, 50 * time.Second, 3, 10 * time.Second},
		{"to the last moment", []time.Duration{0, 1}, window - time.Millisecond, 2, time.Millisecond},
		{"and then all are forgotten", []time.Duration{0, 59 * time.Second}, window, 0, 0},
		{"another window", []time.Duration{0, 0, 0, window}, window, 1, window},
		{"before the beginning of time", []time.Duration{-time.Hour}, -time.Hour, 1, window},
		{"T11 the clock jumps ahead", []time.Duration{0, 0}, 1e6 * time.Hour / 100, 0, 0},
		{"T11 the clock jumps back", []time.Duration{0, 0}, -time.Hour, 0, 0},
		{"T11 a little back: no longer than two windows", []time.Duration{0, 0}, -30 * time.Second, 2, 90 * time.Second},
		{"T11 failures after a jump back", []time.Duration{0, 0, -time.Hour}, -time.Hour, 1, window},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := new(counters)
			key := rand.Uint64()
			for _, at := range test.at {
				c.add(key, at.Milliseconds(), window)
			}
			if n, left := c.count(key, test.now.Milliseconds(), window); n != test.count || left != test.left {
				t.Errorf("%d for %s, want %d for %s", n, left, test.count, test.left)
			}
			if n, _ := c.count(^key, test.now.Milliseconds(), window); n != 0 {
				t.Errorf("another key has %d", n)
			}
		})
	}
}

func TestCountersAreExactInParallel(t *testing.T) {
	c, key := new(counters), rand.Uint64()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				c.add(key, 0, time.Minute)
			}
		})
	}
	group.Wait()
	if n, _ := c.count(key, 0, time.Minute); n != 8000 || c.most(key) != 8000 {
		t.Errorf("%d, %d", n, c.most(key))
	}
}

func TestCountersDontOverflow(t *testing.T) {
	c := new(counters)
	c.add(1, 0, time.Minute)
	c.sets[1][0].cell.Store(pack(0, countMask))
	if n := c.add(1, 0, time.Minute); n != countMask {
		t.Error(n)
	}
	if n, left := c.count(1, 0, time.Minute); n != countMask || left != time.Minute {
		t.Error(n, left)
	}
}

// TestCountersUnderSpray is T4: a million failures of a million keys within one
// window use up nobody's budget, and nobody is forgotten who has failed more
// than once.
func TestCountersUnderSpray(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := new(counters)
	guessers := make([]uint64, 1000)
	for i := range guessers {
		guessers[i] = random.Uint64()
		for range 3 {
			c.add(guessers[i], 0, time.Minute)
		}
	}
	for range 1_000_000 {
		c.add(random.Uint64(), 0, time.Minute)
	}
	for _, key := range guessers {
		if n := c.most(key); n != 3 {
			t.Fatalf("T4 %d of 3 failures are counted", n)
		}
	}
	for range 100_000 {
		if n := c.most(random.Uint64()); n != 0 {
			t.Fatalf("T4 %d failures of one who has done nothing", n)
		}
	}
}

// TestSprayDoesNotHelpGuessing is what the counters are for: however many others
// fail at the same time, one key has no more failures in a window than its
// budget, but for what comes to the set of the key while it has none.
func TestSprayDoesNotHelpGuessing(t *testing.T) {
	const window, hours, budget = time.Hour, 4, 100
	for _, others := range []int{0, 18_000, 200_000} { // an hour; at 5 and at 55 hashes a second
		random := rand.New(rand.NewPCG(3, 4))
		c, key := new(counters), random.Uint64()
		guesses, step := 0, int64(1000) // milliseconds
		for now := int64(0); now < (hours * window).Milliseconds(); now += step {
			for range others * int(step) / int(window.Milliseconds()) {
				c.add(random.Uint64(), now, window)
			}
			if n, _ := c.count(key, now, window); n < budget {
				c.add(key, now, window)
				guesses++
			}
		}
		if guesses > hours*budget+hours {
			t.Errorf("with %d others an hour: %d guesses in %d windows of %d", others, guesses, hours, budget)
		}
	}
}

func TestClient(t *testing.T) {
	g := newGuard(settingsOf(new(App)), clock)
	for _, test := range []struct {
		name, one, two string
		same           bool
	}{
		{"IPv4", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 the same", "192.0.2.1", "192.0.2.1", true},
		{"IPv4 in IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"IPv4 in IPv6, two", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"T6 one /64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"T6 one /64 in other spellings", "2001:db8:0:0:1::1", "2001:DB8::2", true},
		{"T6 two /64", "2001:db8::1", "2001:db8:0:1::1", false},
		{"a zone", "fe80::1%eth0", "fe80::2", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := g.client(test.one), g.client(test.two)
			if one == noClient || two == noClient || (one == two) != test.same {
				t.Errorf("%s and %s: %x and %x", test.one, test.two, one, two)
			}
		})
	}
	for _, none := range []string{"", "@", "localhost", "/run/socket"} {
		if key := g.client(none); key != noClient {
			t.Errorf("%q: %x", none, key)
		}
	}
	if g.client("192.0.2.1") == newGuard(g.settings, clock).client("192.0.2.1") {
		t.Error("the keys of all processes are the same")
	}
}

func TestOver(t *testing.T) {
	now := clock()
	settings := &App{Throttle: &Throttle{
		Login:  &Budget{Failures: 2, Window: 60e9},
		Client: &Budget{Failures: 3, Window: 120e9},
		User:   &Budget{Failures: 4, Window: 3600e9},
	}}
	at := func(client, name uint64) *target { return &target{client ^ name, client, name} }
	for _, test := range []struct {
		name        string
		failures    []*target
		t           *target
		acquainted  bool
		guesses     int
		wait, later time.Duration // later: after half a minute
	}{
		{"nothing", nil, at(1, 2), false, 0, 0, 0},
		{"login, not used up", []*target{at(1, 2)}, at(1, 2), false, 0, 0, 0},
		{"login, used up by a guess under way", []*target{at(1, 2)}, at(1, 2), false, 1, 60e9, 30e9},
		{"login", []*target{at(1, 2), at(1, 2)}, at(1, 2), false, 0, 60e9, 30e9},
		{"login, for those who have been here as well", []*target{at(1, 2), at(1, 2)}, at(1, 2), true, 0, 60e9, 30e9},
		{"login of the same user elsewhere", []*target{at(1, 2), at(1, 2)}, at(3, 2), false, 0, 0, 0},
		{"login of another user", []*target{at(1, 2), at(1, 2)}, at(1, 4), false, 0, 0, 0},
		{"client", []*target{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), false, 0, 120e9, 90e9},
		{"client, not for those who have been here", []*target{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), true, 0, 0, 0},
		{"client elsewhere", []*target{at(1, 2), at(1, 4), at(1, 6)}, at(3, 8), false, 0, 0, 0},
		{"user", []*target{at(1, 2), at(3, 2), at(5, 2), at(7, 2)}, at(9, 2), false, 0, 3600e9, 3570e9},
		{"user, not for those who have been here", []*target{at(1, 2), at(3, 2), at(5, 2), at(7, 2)}, at(9, 2), true, 0, 0, 0},
		{"login off: who has been here is held to the client's", []*target{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), true, -1, 120e9, 90e9},
		{"the longest of two", []*target{at(1, 2), at(3, 2), at(5, 2), at(7, 2), at(7, 2)}, at(7, 2), false, 0, 3600e9, 3570e9},
		{"no address: only the user", []*target{at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 2), false, 0, 0, 0},
		{"no address: used up", []*target{at(noClient, 2), at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 2), true, 0, 3600e9, 3570e9},
		{"no address: another user", []*target{at(noClient, 2), at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 4), false, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			now = clock()
			g := newGuard(settingsOf(settings), func() time.Time { return now })
			if test.guesses < 0 {
				test.guesses, g.settings().limits[loginScope] = 0, limit{}
				defer func() { g.settings().setDefaults(zap.NewNop()) }()
			}
			spread := func(t *target) *target { // keys are hashes
				keys := target{rendezvous.Mix(t[0] + 100), noClient, rendezvous.Mix(t[2] + 300)}
				if t[clientScope] != noClient {
					keys[clientScope] = rendezvous.Mix(t[1] + 200)
				}
				return &keys
			}
			for _, f := range test.failures {
				g.spend(spread(f))
			}
			if wait := g.over(spread(test.t), test.acquainted, test.guesses); wait != test.wait {
				t.Errorf("%s, want %s", wait, test.wait)
			}
			now = now.Add(30 * time.Second)
			if wait := g.over(spread(test.t), test.acquainted, test.guesses); wait != test.later {
				t.Errorf("later %s, want %s", wait, test.later)
			}
			now = now.Add(time.Hour)
			if wait := g.over(spread(test.t), test.acquainted, 0); wait != 0 {
				t.Errorf("%s after all windows", wait)
			}
		})
	}
}

func TestFailUsesUp(t *testing.T) {
	g := newGuard(settingsOf(&App{Throttle: &Throttle{
		Login: &Budget{Failures: 2}, Client: &Budget{Off: true}, User: &Budget{Failures: 3},
	}}), clock)
	at := target{rendezvous.Mix(1), rendezvous.Mix(2), rendezvous.Mix(3)}
	for i, want := range [][]scope{nil, {loginScope}, {userScope}, nil, nil} {
		if got := g.spend(&at); !slices.Equal(got, want) {
			t.Errorf("failure %d uses up %v, want %v", i+1, got, want)
		}
	}
	if !g.hasFailed(rendezvous.Mix(2)) || g.hasFailed(rendezvous.Mix(4)) || g.hasFailed(noClient) {
		t.Error("who has failed is to be known though there is no limit")
	}
}

func TestTargets(t *testing.T) {
	g := newGuard(settingsOf(new(App)), clock)
	one, two := storeOf(t, "alice:"+shaSecret1+"\nbob:"+shaSecret1), storeOf(t, "alice:"+shaSecret1)
	of := func(client uint64, user string, stores ...*userStore) (t target) {
		f := userStores(stores).find([]byte(user))
		t.set(g, client, &f, []byte(user))
		return t
	}
	before := of(1, "alice", one)
	for name, other := range map[string]target{
		"another client": of(2, "alice", one), "X6 another file": of(1, "alice", two), "another user": of(1, "bob", one), "unknown": of(1, "alic", one),
	} {
		if other[loginScope] == before[loginScope] || other[userScope] == before[userScope] != (name == "another client") {
			t.Errorf("%s: %x, as %x", name, other, before)
		}
	}
	if of(1, "alice", one, two) != before || of(1, "alice", two, one) != of(1, "alice", two) {
		t.Error("the file that decides is not the one that counts")
	}
	reloadStore(t, one, "bob:"+shaSecret1+"\nalice:"+shaSecret1+":comment")
	if of(1, "alice", one) != before {
		t.Error("an edit of the file that leaves the entry as it is changes its keys")
	}
	for _, text := range []string{"alice:" + apr1Secret1, "alice:!", "bob:!"} {
		reloadStore(t, one, text)
		if now := of(1, "alice", one); now[userScope] == before[userScope] || now[loginScope] == before[loginScope] {
			t.Errorf("T13 after %q the budget is what it was", text)
		}
	}
}

func TestWrongPasswords(t *testing.T) {
	p := new(wrongPasswords)
	sum := func(i int) *digest {
		d := digest{}
		for j := range d {
			d[j] = byte(rendezvous.Mix(uint64(i)) >> (j % 8 * 8))
		}
		return &d
	}
	p.add(1, sum(1))
	if !p.has(1, sum(1)) || p.has(2, sum(1)) || p.has(1, sum(2)) {
		t.Error("not the one that was added, and only that")
	}
	kept := 0
	const n = 10_000
	for i := range n {
		p.add(2, sum(i))
	}
	for i := range n {
		if p.has(2, sum(i)) {
			kept++
		}
		if p.has(3, sum(i)) || p.has(2, sum(n+i)) {
			t.Fatal("has what was never added")
		}
	}
	if kept < n*8/10 {
		t.Errorf("%d of %d are remembered", kept, n)
	}
}

func BenchmarkOver(b *testing.B) {
	g := newGuard(settingsOf(new(App)), time.Now)
	t := target{rendezvous.Mix(1), rendezvous.Mix(2), rendezvous.Mix(3)}
	for _, failures := range []int{0, 5} {
		b.Run(fmt.Sprint(failures), func(b *testing.B) {
			for range failures {
				g.spend(&t)
			}
			for b.Loop() {
				if g.over(&t, false, 0) != 0 {
					b.Fatal("over")
				}
			}
		})
	}
}

func FuzzClient(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0", "", "@"} {
		f.Add(s)
	}
	g := newGuard(settingsOf(new(App)), clock)
	f.Fuzz(func(t *testing.T, ip string) {
		_, err := netip.ParseAddr(ip)
		if isIPv4(ip) {
			return // Caddy hands over only such that can be parsed
		}
		if key := g.client(ip); (key == noClient) != (err != nil) || key != g.client(ip) {
			t.Errorf("%q: %x", ip, key)
		}
	})
}

// TestPace is about refusals without a hash: so many a second, and more wait.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(settingsOf(new(App)), time.Now)
		second := refusalsPerCore * runtime.GOMAXPROCS(0)
		start := time.Now()
		for range 3*second + second/10 {
			g.awaitRefusal(t.Context())
		}
		if took := time.Since(start).Round(time.Millisecond); took != 3*time.Second {
			t.Errorf("3 seconds' refusals took %s", took)
		}
		// Who goes away leaves the turn to others.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		for range 2 * second {
			g.awaitRefusal(gone)
		}
		g.awaitRefusal(t.Context())
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s behind those who are gone", took)
		}
		// More than can be answered within maxWait are answered at once.
		var group sync.WaitGroup
		start = time.Now()
		for range 12 * second {
			group.Go(func() { g.awaitRefusal(t.Context()) })
		}
		group.Wait()
		if took := time.Since(start); took > maxWait {
			t.Errorf("the last one waited %s", took)
		}
	})
}
