package caddyhtpasswd

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// settingsOf returns the settings that App derives from a configuration.
func settingsOf(a *App) func() *settings {
	a.setDefaults(zap.NewNop())
	return func() *settings { return a.settings }
}

func TestClient(t *testing.T) {
	t.Parallel()
	g := newGuard(settingsOf(new(App)), clock)
	for _, test := range []struct {
		name, one, two string
		same           bool
	}{
		{"IPv4", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 the same", "192.0.2.1", "192.0.2.1", true},
		{"IPv4 in IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"IPv4 in IPv6, two", "::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"one /64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"one /64 in other spellings", "2001:db8:0:0:1::1", "2001:DB8::2", true},
		{"two /64", "2001:db8::1", "2001:db8:0:1::1", false},
		{"a zone", "fe80::1%eth0", "fe80::2", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := g.keyer().client(test.one), g.keyer().client(test.two)
			if one == noClient || two == noClient || (one == two) != test.same {
				t.Errorf("%s and %s: got keys %x and %x, want the same: %t", test.one, test.two, one, two, test.same)
			}
		})
	}
	for _, none := range []string{"", "@", "localhost", "/run/socket"} {
		if key := g.keyer().client(none); key != noClient {
			t.Errorf("%q: got key %x, want %x", none, key, noClient)
		}
	}
	if g.keyer().client("192.0.2.1") == newGuard(g.settings, clock).keyer().client("192.0.2.1") {
		t.Error("two guards: got the same key for a client, want another for each process")
	}
}

func TestWaitForLimits(t *testing.T) {
	t.Parallel()
	now := clock()
	settings := &App{Throttle: &Throttle{
		Login:  &Limit{Failures: 2, Window: 60e9},
		Client: &Limit{Failures: 3, Window: 120e9},
		User:   &Limit{Failures: 4, Window: 3600e9},
	}}
	at := func(client, name uint64) *limitKeys { return &limitKeys{client ^ name, client, name} }
	for _, test := range []struct {
		name        string
		failures    []*limitKeys
		t           *limitKeys
		acquainted  bool
		guesses     int
		wait, later time.Duration // later: after half a minute
	}{
		{"nothing", nil, at(1, 2), false, 0, 0, 0},
		{"login, not exceeded", []*limitKeys{at(1, 2)}, at(1, 2), false, 0, 0, 0},
		{"login, exceeded with an open guess", []*limitKeys{at(1, 2)}, at(1, 2), false, 1, 60e9, 30e9},
		{"login", []*limitKeys{at(1, 2), at(1, 2)}, at(1, 2), false, 0, 60e9, 30e9},
		{"login, for recognized clients as well", []*limitKeys{at(1, 2), at(1, 2)}, at(1, 2), true, 0, 60e9, 30e9},
		{"login of the same user from another client", []*limitKeys{at(1, 2), at(1, 2)}, at(3, 2), false, 0, 0, 0},
		{"login of another user", []*limitKeys{at(1, 2), at(1, 2)}, at(1, 4), false, 0, 0, 0},
		{"client", []*limitKeys{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), false, 0, 120e9, 90e9},
		{"client, not for recognized clients", []*limitKeys{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), true, 0, 0, 0},
		{"another client", []*limitKeys{at(1, 2), at(1, 4), at(1, 6)}, at(3, 8), false, 0, 0, 0},
		{"user", []*limitKeys{at(1, 2), at(3, 2), at(5, 2), at(7, 2)}, at(9, 2), false, 0, 3600e9, 3570e9},
		{"user, not for recognized clients", []*limitKeys{at(1, 2), at(3, 2), at(5, 2), at(7, 2)}, at(9, 2), true, 0, 0, 0},
		{"all limits: only the login limit applies to a recognized client", []*limitKeys{at(1, 2), at(7, 2), at(7, 2), at(7, 2)}, at(7, 2), true, 0, 60e9, 30e9},
		{"login off: the client limit applies to a recognized client", []*limitKeys{at(1, 2), at(1, 4), at(1, 6)}, at(1, 8), true, -1, 120e9, 90e9},
		{"the longest of two", []*limitKeys{at(1, 2), at(3, 2), at(5, 2), at(7, 2), at(7, 2)}, at(7, 2), false, 0, 3600e9, 3570e9},
		{"no address: only the user", []*limitKeys{at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 2), false, 0, 0, 0},
		{"no address: exceeded", []*limitKeys{at(noClient, 2), at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 2), true, 0, 3600e9, 3570e9},
		{"no address: another user", []*limitKeys{at(noClient, 2), at(noClient, 2), at(noClient, 2), at(noClient, 2)}, at(noClient, 4), false, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			now = clock()
			g := newGuard(settingsOf(settings), func() time.Time { return now })
			if test.guesses < 0 {
				test.guesses, g.settings().limits[scopeLogin] = 0, ratelimit.Limit{}
			}
			spread := func(t *limitKeys) *limitKeys { // keys are hashes
				keys := limitKeys{rendezvous.Mix(t[0] + 100), noClient, rendezvous.Mix(t[2] + 300)}
				if t[scopeClient] != noClient {
					keys[scopeClient] = rendezvous.Mix(t[1] + 200)
				}
				return &keys
			}
			for _, f := range test.failures {
				g.count(spread(f))
			}
			if wait := g.wait(spread(test.t), test.acquainted, test.guesses); wait != test.wait {
				t.Errorf("%s, want %s", wait, test.wait)
			}
			now = now.Add(30 * time.Second)
			if wait := g.wait(spread(test.t), test.acquainted, test.guesses); wait != test.later {
				t.Errorf("later %s, want %s", wait, test.later)
			}
			now = now.Add(time.Hour)
			if wait := g.wait(spread(test.t), test.acquainted, 0); wait != 0 {
				t.Errorf("after all windows: got a wait of %s, want none", wait)
			}
		})
	}
}

func TestCountReportsExceededLimits(t *testing.T) {
	t.Parallel()
	g := newGuard(settingsOf(&App{Throttle: &Throttle{
		Login: &Limit{Failures: 2}, Client: &Limit{Off: true}, User: &Limit{Failures: 3},
	}}), clock)
	at := limitKeys{rendezvous.Mix(1), rendezvous.Mix(2), rendezvous.Mix(3)}
	for i, want := range [][]scope{nil, {scopeLogin}, {scopeUser}, nil, nil} {
		if got := g.count(&at); !slices.Equal(got, want) {
			t.Errorf("failure %d uses up %v, want %v", i+1, got, want)
		}
	}
	if !g.hasFailed(rendezvous.Mix(2)) || g.hasFailed(rendezvous.Mix(4)) || g.hasFailed(noClient) {
		t.Error("without a limit: got another answer than that the client of key 2 has failed, and no other")
	}
}

// TestCountWithoutAddress has clients without an address. Only the user limit can be
// exceeded, because these clients cannot be told apart.
func TestCountWithoutAddress(t *testing.T) {
	two := &Limit{Failures: 2}
	g := newGuard(settingsOf(&App{Throttle: &Throttle{two, two, two}}), clock)
	at := limitKeys{rendezvous.Mix(1), noClient, rendezvous.Mix(3)}
	for i, want := range [][]scope{nil, {scopeUser}, nil} {
		if got := g.count(&at); !slices.Equal(got, want) {
			t.Errorf("failed login %d exceeds the limits %v, want %v", i+1, got, want)
		}
	}
	if got, want := g.counts(), [scopeCount]int{scopeUser: 3}; got != want {
		t.Errorf("got %v failed logins, want %v", got, want)
	}
}

// TestWaitIsTheLongest exceeds two limits, and the first one lasts longer.
func TestWaitIsTheLongest(t *testing.T) {
	g := newGuard(settingsOf(&App{Throttle: &Throttle{
		Login: &Limit{Failures: 1, Window: 3600e9}, Client: &Limit{Failures: 1, Window: 60e9}, User: &Limit{Failures: 1, Window: 60e9},
	}}), clock)
	at := limitKeys{rendezvous.Mix(1), rendezvous.Mix(2), rendezvous.Mix(3)}
	g.count(&at)
	if wait := g.wait(&at, false, 0); wait != time.Hour {
		t.Errorf("got a wait of %s, want %s", wait, time.Hour)
	}
}

func TestLimitKeys(t *testing.T) {
	t.Parallel()
	g := newGuard(settingsOf(new(App)), clock)
	one, two := storeOf(t, "alice:"+shaSecret1+"\nbob:"+shaSecret1), storeOf(t, "alice:"+shaSecret1)
	of := func(client uint64, user string, stores ...*userStore) (k limitKeys) {
		f := userStores(stores).find([]byte(user))
		k.set(g.keyer(), client, &f, []byte(user))
		return k
	}
	before := of(1, "alice", one)
	for name, other := range map[string]limitKeys{
		"another client": of(2, "alice", one), "another file": of(1, "alice", two), "another user": of(1, "bob", one), "unknown": of(1, "alic", one),
	} {
		if other[scopeLogin] == before[scopeLogin] || other[scopeUser] == before[scopeUser] != (name == "another client") {
			t.Errorf("%s: got keys %x, want others than %x, but the same of the user for another client", name, other, before)
		}
	}
	if of(1, "alice", one, two) != before || of(1, "alice", two, one) != of(1, "alice", two) {
		t.Error("two files: got keys of another file, want those of the file that decides")
	}
	reloadStore(t, one, "bob:"+shaSecret1+"\nalice:"+shaSecret1+":comment")
	if of(1, "alice", one) != before {
		t.Error("another line edited: got other keys, want the same")
	}
	userStores{one}.find([]byte("alice")).entry.recognize(1, g.keyer(), g.keyer().source(one), before[scopeUser])
	if of(1, "alice", one) != before {
		t.Error("a client that is recognized changes the keys of its user")
	}
	mine := g
	if g = newGuard(g.settings, clock); of(1, "alice", one)[scopeUser] == before[scopeUser] {
		t.Error("a guard takes the key of another one")
	}
	g = mine
	for _, text := range []string{"alice:" + apr1Secret1, "alice:!", "bob:!"} {
		reloadStore(t, one, text)
		if now := of(1, "alice", one); now[scopeUser] == before[scopeUser] || now[scopeLogin] == before[scopeLogin] {
			t.Errorf("after %q: got keys %x, want others than %x", text, now, before)
		}
	}
}

func TestWrongPasswords(t *testing.T) {
	t.Parallel()
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
		t.Error("got another answer than that the password added is there, and no other")
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
			t.Fatal("got a password that was never added, want none")
		}
	}
	if kept < n*8/10 {
		t.Errorf("got %d of %d passwords kept, want %d or more", kept, n, n*8/10)
	}
}

func BenchmarkWait(b *testing.B) {
	g := newGuard(settingsOf(new(App)), time.Now)
	keys := limitKeys{rendezvous.Mix(1), rendezvous.Mix(2), rendezvous.Mix(3)}
	for _, failures := range []int{0, 5} {
		b.Run(fmt.Sprint(failures), func(b *testing.B) {
			for range failures {
				g.count(&keys)
			}
			for b.Loop() {
				if g.wait(&keys, false, 0) != 0 {
					b.Fatal("got a wait, want none")
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
			return // Caddy passes only addresses that can be parsed
		}
		if key := g.keyer().client(ip); (key == noClient) != (err != nil) || key != g.keyer().client(ip) {
			t.Errorf("%q: got key %x, want a client's unless it is no address (%v), and the same again", ip, key, err)
		}
	})
}

// TestPace checks the rate of refusals without a hash. Further refusals wait.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(settingsOf(new(App)), time.Now)
		second := refusalsPerCore * runtime.GOMAXPROCS(0)
		start := time.Now()
		for range 3*second + second/10 {
			g.awaitRefusal(t.Context())
		}
		if took := time.Since(start).Round(time.Millisecond); took != 3*time.Second {
			t.Errorf("got %s for the refusals of 3 s, want 3 s", took)
		}
		// A client that goes away no longer waits.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		start = time.Now()
		for range 2 * second {
			g.awaitRefusal(gone)
		}
		g.awaitRefusal(t.Context())
		if took := time.Since(start); took > time.Second {
			t.Errorf("got %s behind clients that are gone, want at most 1 s", took)
		}
		// Refusals that would wait longer than maxWait are not delayed.
		var group sync.WaitGroup
		start = time.Now()
		for range 12 * second {
			group.Go(func() { g.awaitRefusal(t.Context()) })
		}
		group.Wait()
		if took := time.Since(start); took > maxWait {
			t.Errorf("got %s for the last one, want at most %s", took, maxWait)
		}
	})
}
