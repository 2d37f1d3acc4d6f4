package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// useDevices gives a handler device cookies, with a secret.
func (h *flooded) useDevices() {
	h.device = new(DeviceCookie).settings()
	ring := keyring.NewRing(new(keyring.Fallback)) // without a secret that another test has loaded
	ring.Set(keyring.NewKeys(secretA, ""))
	h.guard.settings().keys = ring
}

// tokenOf returns a new token for a user with the hash of the user's line.
func (h *flooded) tokenOf(user string) string {
	return h.tokenFor(user, h.users.now().find([]byte(user)).entry.Hash)
}

func (h *flooded) tokenFor(user, hash string) string {
	return h.guard.deviceSigners().Issue(new(devicecookie.Candidates), &devicecookie.Owner{User: []byte(user), Hash: hash}, h.guard.now())
}

// sending returns what a handler has taken from a request with tokens.
func sending(name string, tokens ...string) *sentDevices {
	d := &sentDevices{name: name}
	for _, token := range tokens {
		header := map[string][]string{"Cookie": {name + "=" + token}}
		d.candidates, _ = devicecookie.Take(header, name)
	}
	return d
}

// loginWith logs in with a token, and returns the result in a word.
func (h *flooded) loginWith(token, ip, user, password string) string {
	h.t.Helper()
	return h.loginFrom(h.t.Context(), origin{ip: ip, devices: sending(h.device.name, token)}, user, password)
}

func (h *flooded) loginFrom(ctx context.Context, from origin, user, password string) string {
	c := credentialsOf(user, password)
	defer c.release()
	v, err := h.check(ctx, from, c)
	switch {
	case errors.As(err, new(*throttledError)):
		return loginThrottled
	case err != nil:
		return err.Error()
	}
	return v.result.String()
}

func (h *flooded) expectWith(token, ip, user, password, want string) {
	h.t.Helper()
	if got := h.loginWith(token, ip, user, password); got != want {
		h.t.Errorf("%s from %s with %q and a cookie: %s, want %s", user, ip, password, got, want)
	}
}

// openDeviceGuesses returns the number of open guesses of all tokens.
func (h *flooded) openDeviceGuesses() (n int32) {
	for i := range h.guard.devices.guesses {
		n += h.guard.devices.guesses[i].Load()
	}
	return n
}

// withDevices is underFlood with device cookies. In the end, no guess may be open.
func withDevices(t *testing.T, settings *App, file string, f func(t *testing.T, h *flooded)) {
	t.Helper()
	underFlood(t, settings, file, func(t *testing.T, h *flooded) {
		h.useDevices()
		f(t, h)
		synctest.Wait()
		if n := h.openDeviceGuesses() + h.openGuesses(); n != 0 {
			t.Errorf("%d guesses are open, want none", n)
		}
	})
}

// TestDeviceLimits sends hundreds of wrong passwords with one cookie. Exactly as many are
// hashed, and compared with the cached password, as the limits of the cookie and those
// without a cookie allow.
func TestDeviceLimits(t *testing.T) {
	t.Parallel()
	off := &Limit{Off: true}
	for _, test := range []struct {
		name     string
		settings App
		from     func(i int) string
		cacheOff bool
		verified bool // alice has logged in before, from home
		device   int64
		others   int64 // the limits without a cookie
	}{
		{"one address", App{}, at("192.0.2.1"), false, false, 10, 10},
		{"one address, the password is cached", App{}, at("192.0.2.1"), false, true, 10, 10},
		{"the user's own address", App{}, at("192.0.2.99"), false, true, 10, 10},
		{"without an address", App{}, at(""), false, true, 10, 100},
		{"a thousand addresses", App{}, numbered("192.%d.%d.1"), false, true, 10, 100},
		{"without a cache", App{}, numbered("192.%d.%d.1"), true, true, 10, 100},
		{"three slots", App{MaxHashes: 3}, at("192.0.2.1"), false, true, 10, 10},
		{"a limit of one", App{Throttle: &Throttle{Login: &Limit{Failures: 1}}}, at("192.0.2.1"), false, true, 1, 1},
		{"only the user limit", App{Throttle: &Throttle{Login: off, Client: off}}, at("192.0.2.1"), false, true, 100, 100},
		{"only the client limit", App{Throttle: &Throttle{Login: off, User: off}}, at("192.0.2.1"), false, true, 30, 30},
		{"a lower client limit", App{Throttle: &Throttle{Client: &Limit{Failures: 5}}}, at("192.0.2.1"), false, true, 10, 5},
		{"a lower user limit", App{Throttle: &Throttle{User: &Limit{Failures: 5}}}, numbered("192.%d.%d.1"), false, true, 5, 5},
	} {
		for _, atOnce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all at once: %v", test.name, atOnce), func(t *testing.T) {
				t.Parallel()
				settings := test.settings
				withDevices(t, &settings, "alice:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
					h.cache.off = test.cacheOff
					if test.verified {
						h.expect("192.0.2.99", "alice", "secret1", loginPassed)
					}
					token, before := h.tokenOf("alice"), h.cost()
					var r results
					var group sync.WaitGroup
					for i := range 500 {
						guess := func() { r.add(h.loginWith(token, test.from(i), "alice", fmt.Sprint("guess", i))) }
						if atOnce {
							group.Go(guess)
						} else {
							guess()
						}
					}
					group.Wait()
					least := test.device + test.others
					most := least
					if atOnce {
						most += int64(settings.MaxHashes) - 1 // of those without a cookie, the hashes that have started
					}
					after := h.cost()
					if got := after.hashes - before.hashes; got < least || got > most {
						t.Errorf("got %d hashes, want %d to %d", got, least, most)
					}
					if got := after.comparisons - before.comparisons; got > most {
						t.Errorf("got %d comparisons, want at most %d", got, most)
					}
					if got := int64(r.count[loginWrong]); got < least || got > most {
						t.Errorf("got %v, want %d to %d wrong passwords", r.count, least, most)
					}
					if n := h.guard.deviceLimitsExceeded.Load(); n != 1 {
						t.Errorf("limits of the cookie were exceeded %d times, want once", n)
					}
					if test.settings.Throttle == nil {
						h.expectWith(token, "203.0.113.1", "alice", "secret1", map[bool]string{true: loginThrottled, false: loginPassed}[test.others == 100])
						h.expectWith(h.tokenOf("alice"), "203.0.113.2", "alice", "secret1", loginPassed)
						time.Sleep(time.Minute)
						h.expectWith(token, "203.0.113.3", "alice", "secret1", loginPassed)
					}
				})
			})
		}
	}
}

// TestStolenDeviceCookie guesses for two hours with a stolen cookie, each time from
// another address. The cookie is worth 100 guesses an hour. The others are those that
// anybody has. The user without the cookie is as before.
func TestStolenDeviceCookie(t *testing.T) {
	t.Parallel()
	withDevices(t, &App{}, "alice:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
		h.expect("198.51.100.1", "alice", "secret1", loginPassed)
		h.computeOneHashOf(100)
		token, before := h.tokenOf("alice"), h.cost().hashes
		for begin := time.Now(); time.Since(begin) < 2*time.Hour-time.Second; {
			h.loginWith(token, fmt.Sprintf("192.%d.%d.1", int(time.Since(begin).Seconds())/200, int(time.Since(begin).Seconds())%200), "alice", fmt.Sprint("guess", time.Since(begin)))
			time.Sleep(2 * time.Second)
		}
		if n := h.cost().hashes - before; n != 400 {
			t.Errorf("got %d hashes in two hours, want 200 with the cookie and 200 without", n)
		}
		h.expect("198.51.100.1", "alice", "secret1", loginPassed) // recognized
		h.expectWith(h.tokenOf("alice"), "198.51.100.2", "alice", "secret1", loginPassed)
	})
}

// TestDeviceIsCountedNowhereElse has failed logins with and without a cookie.
func TestDeviceIsCountedNowhereElse(t *testing.T) {
	const home = "192.0.2.1"
	withDevices(t, &App{}, "alice:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
		token := h.tokenOf("alice")
		for i := range 9 {
			h.expectWith(token, home, "alice", fmt.Sprint("guess", i), loginWrong)
			h.expectWith(token, home, "alice", fmt.Sprint("guess", i), loginWrong) // the same again is free
		}
		for s, key := range map[scope]uint64{scopeClient: h.guard.keyer().client(home), scopeUser: userKeyOf(h, "alice", home)[scopeUser], scopeLogin: userKeyOf(h, "alice", home)[scopeLogin]} {
			if n := h.guard.failures[s].Peek(key); n != 0 {
				t.Errorf("limit %v without the cookie: got %d failed logins, want none", s, n)
			}
		}
		if h.guard.hasFailed(h.guard.keyer().client(home)) {
			t.Error("the address is served after others")
		}
		h.expectWith(token, home, "alice", "secret1", loginPassed)
		for i := range 30 {
			h.login(home, "alice", fmt.Sprint("other", i))
		}
		h.expect(home, "alice", "secret1", loginThrottled)
		h.expectWith(token, home, "alice", "secret1", loginPassed)
		h.expectWith(token, home, "alice", "guess10", loginWrong) // the tenth
		h.expectWith(token, home, "alice", "secret1", loginThrottled)
		h.expectWith(token, "192.0.2.2", "alice", "secret1", loginPassed) // as without the cookie
		time.Sleep(time.Minute)
		h.expectWith(token, home, "alice", "secret1", loginPassed)
	})
}

// userKeyOf returns the keys of a login without a cookie.
func userKeyOf(h *flooded, user, ip string) (keys limitKeys) {
	l := h.users.now().find([]byte(user))
	keys.set(h.guard.keyer(), h.guard.keyer().client(ip), &l, []byte(user))
	return keys
}

// TestInvalidDeviceTokens exceeds the limit of an address, and then logs in with each kind
// of token that is not valid. It changes nothing.
func TestInvalidDeviceTokens(t *testing.T) {
	const home = "192.0.2.1"
	withDevices(t, &App{}, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\nlocked:!\ninvalid:$2y$\n", func(t *testing.T, h *flooded) {
		for _, user := range []string{"alice", "locked", "invalid", "nobody"} {
			for i := range 12 {
				h.login(home, user, fmt.Sprint("guess", i))
			}
		}
		good := h.tokenOf("alice")
		now := time.Now()
		at := func(shift time.Duration) string {
			h.guard.now = func() time.Time { return now.Add(shift) }
			defer func() { h.guard.now = time.Now }()
			return h.tokenOf("alice")
		}
		keys := h.guard.settings().keys
		keys.Set(keyring.NewKeys(secretB, ""))
		otherSecret := h.tokenOf("alice")
		keys.Set(keyring.NewKeys(secretA, ""))
		for name, token := range map[string]string{
			"none": "", "forged": forged(good), "truncated": good[:50], "of another user": h.tokenOf("bob"), "of another secret": otherSecret,
			"of another hash": h.tokenFor("alice", apr1Secret2), "expired": at(-defaultDeviceMaxAge), "from the future": at(devicecookie.MaxAhead + 2*time.Second),
		} {
			if got := h.loginWith(token, home, "alice", "secret1"); got != loginThrottled {
				t.Errorf("%s: got %s, want %s", name, got, loginThrottled)
			}
		}
		for _, user := range []string{"locked", "invalid", "nobody"} {
			decoy := h.decoy([]byte(user)).entry.Hash
			for _, hash := range []string{h.users.now().find([]byte("alice")).entry.Hash, decoy, "!", ""} {
				h.expectWith(h.tokenFor(user, hash), home, user, "secret1", loginThrottled)
			}
		}
		for _, token := range []string{at(devicecookie.MaxAhead), at(-defaultDeviceMaxAge / 2), good} {
			h.expectWith(token, home, "alice", "secret1", loginPassed)
		}
		h.guard.now = func() time.Time { return now.Add(-time.Hour) }
		if d := dueAfter(h, good); d == nil {
			t.Error("the clock is set back: no new token is due")
		}
		h.guard.now = time.Now
		h.guard.settings().keys.Set(nil)
		h.expectWith(good, home, "alice", "secret1", loginThrottled)
		if d := dueAfter(h, good); d != nil {
			t.Error("with a local secret, a token is due")
		}
	})
}

// forged returns a token with another last character.
func forged(token string) string {
	last := "x"
	if strings.HasSuffix(token, last) {
		last = "y"
	}
	return token[:len(token)-1] + last
}

// dueAfter logs alice in with a token, and returns for whom a new one is due.
func dueAfter(h *flooded, token string) *devicecookie.Owner {
	h.t.Helper()
	from := origin{ip: "192.0.2.77", devices: sending(h.device.name, token)}
	if got := h.loginFrom(h.t.Context(), from, "alice", "secret1"); got != loginPassed {
		h.t.Errorf("got %s, want %s", got, loginPassed)
	}
	return from.devices.due
}

// TestDeviceRenewal checks when a login should issue a token.
func TestDeviceRenewal(t *testing.T) {
	withDevices(t, &App{}, "alice:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
		if dueAfter(h, "") == nil {
			t.Error("without a token: none is due")
		}
		token := h.tokenOf("alice")
		for range 3 { // the second and third time, it is in the cache
			if dueAfter(h, token) != nil {
				t.Error("with a token: another is due")
			}
		}
		time.Sleep(h.device.maxAge/2 - time.Second)
		if dueAfter(h, token) != nil {
			t.Error("before half its time: another is due")
		}
		time.Sleep(time.Second)
		if dueAfter(h, token) == nil {
			t.Error("after half its time: none is due")
		}
		keys := h.guard.settings().keys
		token = h.tokenOf("alice")
		before := h.guard.deviceSigners()
		keys.Set(keyring.NewKeys(secretA, "")) // as after a reload
		if h.guard.deviceSigners() != before {
			t.Error("the cached tokens are lost with a reload of the same secret")
		}
		keys.Set(keyring.NewKeys(secretB, secretA))
		if dueAfter(h, token) == nil {
			t.Error("of the old secret: none is due")
		}
		keys.Set(keyring.NewKeys(secretB, ""))
		if dueAfter(h, h.tokenOf("alice")) != nil {
			t.Error("of the new secret: another is due")
		}
	})
}

// TestDeviceAfterRehash replaces the hash of a user as rehash does. This process accepts
// the token of the old hash, and has it renewed. Another process does not accept it.
func TestDeviceAfterRehash(t *testing.T) {
	const home = "192.0.2.1"
	newHash := makeOf(t, "bcrypt", 4, "secret1")
	other := makeOf(t, "apr1", 0, "secret1")
	withDevices(t, &App{}, "alice:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
		token := h.tokenOf("alice")
		h.expectWith(token, home, "alice", "secret1", loginPassed)
		h.expectWith(token, home, "alice", "secret1", loginPassed) // now it is in the cache
		replaceHash := func(old, hash string, adopt func(before, after entry)) {
			h.store.pending.expect(htfile.Change{Name: "alice", Old: old, New: hash}, adopt)
			reloadStore(t, h.store, "alice:"+hash+"\n")
		}
		old := h.users.now().find([]byte("alice")).entry.Hash
		replaceHash(old, other, entry.inherit)
		h.guessUntilThrottled(home, "alice")
		h.expectWith(token, home, "alice", "secret1", loginPassed)
		if dueAfter(h, token) == nil {
			t.Error("a token of the old hash: none is due")
		}
		if d := dueAfter(h, h.tokenOf("alice")); d != nil {
			t.Error("a token of the new hash: another is due")
		}
		restarted := storeOf(t, "alice:"+other+"\n")
		h.users = userSources{fixed: userStores{restarted}}
		h.guessUntilThrottled(home, "alice")
		h.expectWith(token, home, "alice", "secret1", loginThrottled)
		h.users = userSources{fixed: userStores{h.store}}
		replaceHash(other, newHash, func(entry, entry) {}) // as after a change of the password
		h.guessUntilThrottled(home, "alice")
		h.expectWith(token, home, "alice", "secret1", loginThrottled)
	})
}

// guessUntilThrottled exceeds the login limit of an address without a cookie.
func (h *flooded) guessUntilThrottled(ip, user string) {
	h.t.Helper()
	for i := range 10 {
		h.login(ip, user, fmt.Sprint("guess", time.Now(), i))
	}
	h.expect(ip, user, "secret1", loginThrottled)
}

// TestPreviousHashes keeps the last hashes of a user, each once.
func TestPreviousHashes(t *testing.T) {
	var d deviceMemories
	d.get("alice", "a")
	for _, change := range [][2]string{{"a", "b"}, {"a", "b"}, {"b", "c"}, {"c", "d"}} {
		d.rehashed("alice", change[0], change[1])
	}
	if o := d.get("alice", "d").owner; o.Hash != "d" || !slices.Equal(o.Previous, []string{"b", "c"}) {
		t.Errorf("got hash %s, previous ones %q, want d, and b and c", o.Hash, o.Previous)
	}
}

// TestDeviceComesFirst has a holder log in while hundreds of addresses wait for a hash.
func TestDeviceComesFirst(t *testing.T) {
	withDevices(t, &App{Throttle: &Throttle{User: &Limit{Off: true}}}, "alice:"+shaSecret1+"\nbob:"+shaSecret1+"\n", func(t *testing.T, h *flooded) {
		h.computeOneHashOf(1000)
		var group sync.WaitGroup
		for i := range 200 {
			group.Go(func() { h.login(fmt.Sprintf("192.%d.0.1", i), "nobody", fmt.Sprint("guess", i)) })
		}
		synctest.Wait()
		took := func(f func()) time.Duration {
			start := time.Now()
			f()
			return time.Since(start)
		}
		h.guard.verify = underlying(h)
		if got := took(func() { h.expectWith(h.tokenOf("alice"), "203.0.113.1", "alice", "secret1", loginPassed) }); got > 3*hashTime {
			t.Errorf("the holder waited %s, want at most 3 hashes of %s", got, hashTime)
		}
		// The owner of many cookies takes one turn of two.
		for i := range 50 {
			token := h.tokenOf("bob")
			group.Go(func() { h.loginWith(token, fmt.Sprintf("198.51.100.%d", i), "bob", fmt.Sprint("guess", i)) })
		}
		synctest.Wait()
		h.cache.off = true
		if got := took(func() { h.expectWith(h.tokenOf("alice"), "203.0.113.9", "alice", "secret1", loginPassed) }); got > 4*hashTime {
			t.Errorf("beside another account with many cookies, the holder waited %s, want at most 4 hashes of %s", got, hashTime)
		}
		group.Wait()
	})
}

// underlying returns a verify that computes every hash.
func underlying(*flooded) func(class crypt.Class, hash string, password []byte) bool {
	return func(class crypt.Class, hash string, password []byte) bool {
		time.Sleep(hashTime)
		return verifyOnce(class, hash, password)
	}
}

// TestGoneHolder has a holder go away before the hash starts. If the password was compared
// with the cached one, the guess counts.
func TestGoneHolder(t *testing.T) {
	for _, test := range []struct {
		name   string
		cached bool
		want   int
	}{
		{"the cached password is compared", true, 1},
		{"nothing is compared", false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			withDevices(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
				if test.cached {
					h.expect("192.0.2.1", "alice", "secret1", loginPassed)
				}
				h.busy()
				token := h.tokenOf("alice")
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(hashTime/2, cancel)
				from := origin{ip: "192.0.2.2", devices: sending(h.device.name, token)}
				if got := h.loginFrom(ctx, from, "alice", "guess"); got != context.Canceled.Error() {
					t.Errorf("got %s, want %v", got, context.Canceled)
				}
				time.Sleep(hashTime)
				synctest.Wait()
				if n := h.deviceFailures(token); n != test.want {
					t.Errorf("got %d failed logins, want %d", n, test.want)
				}
			})
		})
	}
}

// deviceFailures returns the number of failed logins with a token of alice.
func (h *flooded) deviceFailures(token string) int {
	h.t.Helper()
	c := credentialsOf("alice", "")
	defer c.release()
	a := attempt{credentials: c, keyer: h.guard.keyer(), from: origin{devices: sending(h.device.name, token)}}
	h.begin(&a, noClient)
	if a.device == nil {
		h.t.Error("the token is not valid")
		return 0
	}
	return h.guard.failures[scopeLogin].Peek(a.device.key)
}

// TestDeviceRecognizesAddresses has a holder log in with a cached password at a new
// address. Later, the address is recognized without the cookie.
func TestDeviceRecognizesAddresses(t *testing.T) {
	withDevices(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		h.expectAtOnceWith(h.tokenOf("alice"), "203.0.113.1", "alice", "secret1")
		h.expectAtOnce("203.0.113.1", "alice", "secret1", loginPassed)
	})
}

func (h *flooded) expectAtOnceWith(token, ip, user, password string) {
	h.t.Helper()
	start := time.Now()
	h.busy()
	h.expectWith(token, ip, user, password, loginPassed)
	if took := time.Since(start); took != 0 {
		h.t.Errorf("the holder waited %s, want no wait", took)
	}
	time.Sleep(hashTime)
	synctest.Wait()
}

// TestDeviceWithoutCache has two sites with one file, one of which has no cache. A login
// with a cookie there needs a hash, though the other site has cached the password.
func TestDeviceWithoutCache(t *testing.T) {
	withDevices(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		other := &flooded{handlerOf(h.users.fixed, &cachePolicy{now: time.Now, off: true}), t, h.store}
		other.guard, other.device = h.guard, h.device
		before := h.cost().hashes
		token := h.tokenOf("alice")
		h.expectWith(token, "192.0.2.2", "alice", "secret1", loginPassed)
		other.expectWith(token, "192.0.2.2", "alice", "secret1", loginPassed)
		if n := h.cost().hashes - before; n != 1 {
			t.Errorf("got %d hashes, want 1, of the site without a cache", n)
		}
	})
}

// TestDeviceLimitsLoweredWhileQueued lowers the limits while device attempts wait for their
// hash. Those over the new limit are refused, and those that were compared count.
func TestDeviceLimitsLoweredWhileQueued(t *testing.T) {
	withDevices(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		var current atomic.Pointer[settings]
		current.Store(h.guard.settings())
		h.guard.settings = current.Load
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		token, before := h.tokenOf("alice"), h.cost().hashes
		var r results
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() { r.add(h.loginWith(token, "192.0.2.2", "alice", fmt.Sprint("guess", i))) })
		}
		synctest.Wait()
		lower := *current.Load()
		lower.limits[scopeLogin].Max = 3
		current.Store(&lower)
		group.Wait()
		if n := h.cost().hashes - before; n != 3 || r.count[loginThrottled] != 5 || h.deviceFailures(token) != 8 {
			t.Errorf("got %d hashes, %v, %d failed logins, want 3, 5 refused, 8", n, r.count, h.deviceFailures(token))
		}
	})
}

// TestNetworks checks which clients take turns as one network.
func TestNetworks(t *testing.T) {
	g := newGuard(settingsOf(new(App)), clock)
	for _, row := range []struct {
		one, two string
		same     bool
	}{
		{"192.0.2.1", "192.0.2.200", true}, {"192.0.2.1", "192.0.3.1", false}, {"192.0.2.1", "::ffff:192.0.2.9", true},
		{"2001:db8:1:2::1", "2001:db8:1:ffff::1", true}, {"2001:db8:1::", "2001:db8:2::", false}, {"", "x", true}, {"", "192.0.2.1", false},
	} {
		if got := g.network(row.one) == g.network(row.two); got != row.same {
			t.Errorf("%q and %q: got the same network: %t, want %t", row.one, row.two, got, row.same)
		}
	}
}
