package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// flooded is a handler in a synctest bubble, in which each hash takes hashTime.
type flooded struct {
	*Handler
	t     testing.TB
	store *userStore
}

const hashTime = 50 * time.Millisecond

// underFlood runs f with a handler for a file, and settings.
func underFlood(t *testing.T, settings *App, file string, f func(t *testing.T, h *flooded)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if settings.MaxHashes == 0 {
			settings.MaxHashes = 1
		}
		store := storeOf(t, file)
		h := handlerOf(userStores{store}, &cachePolicy{now: time.Now})
		h.guard = newGuard(settingsOf(settings), time.Now)
		h.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
			time.Sleep(hashTime)
			return verifyOnce(class, hash, password)
		}
		f(t, &flooded{h, t, store})
		h.guard.checkIdle(t)
	})
}

// computed holds the results of verifyOnce, by hash and password.
var computed sync.Map

// verifyOnce is class.Verify, but computes each hash of a password only once. Tests count
// the calls.
func verifyOnce(class crypt.Class, hash string, password []byte) bool {
	key := [2]string{hash, string(password)}
	if isRight, ok := computed.Load(key); ok {
		return isRight.(bool)
	}
	isRight := class.Verify(hash, password)
	computed.Store(key, isRight)
	return isRight
}

// computeOneHashOf computes only the first of every n hashes. All take their time, and the
// others do not match. It is for tests with many guesses.
func (h *flooded) computeOneHashOf(n int) {
	compute, i := h.guard.verify, 0
	h.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
		i++
		if i%n == 1 {
			return compute(class, hash, password)
		}
		time.Sleep(hashTime)
		return false
	}
}

// login logs in and returns the result in a word.
func (h *flooded) login(ip, user, password string) string {
	h.t.Helper()
	c := credentialsOf(user, password)
	defer c.release()
	v, err := h.check(h.t.Context(), origin{ip: ip}, c)
	switch {
	case errors.As(err, new(*throttledError)):
		return "throttled"
	case err != nil:
		return err.Error()
	}
	return v.result.String()
}

func (h *flooded) expect(ip, user, password, want string) {
	h.t.Helper()
	if got := h.login(ip, user, password); got != want {
		h.t.Errorf("%s from %s with %q: %s, want %s", user, ip, password, got, want)
	}
}

// openGuesses returns the number of open guesses of all entries.
func (h *flooded) openGuesses() (n int32) {
	memories := h.store.current.Load().memories
	for i := range memories {
		if known := memories[i].clients.Load(); known != nil {
			for j := range known.guesses {
				n += known.guesses[j].Load()
			}
		}
	}
	return n
}

// results counts the results of logins.
type results struct {
	mu    sync.Mutex
	count map[string]int
}

func (r *results) add(result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = make(map[string]int)
	}
	r.count[result]++
}

// cost is what a flood has cost.
type cost struct{ hashes, comparisons int64 }

func (h *flooded) cost() cost {
	return cost{h.guard.hashCount(), int64(h.guard.cacheHits.Load() + h.guard.cacheMisses.Load())}
}

const (
	loginWrong     = "wrong_password"
	loginPassed    = "ok"
	loginUnknown   = "unknown_user"
	loginThrottled = "throttled"
)

// TestGuessing sends ten thousand wrong passwords: from one address and from many, for one
// user and for many, in sequence and concurrently. The number of hashes, and of
// comparisons with the right password, stays within the limits.
func TestGuessing(t *testing.T) {
	t.Parallel()
	n := 10_000
	if underRace {
		n = 2_000
	}
	for _, test := range []struct {
		name     string
		settings App
		from, as func(i int) string
		limit    int64
		verified bool // alice has logged in before, from home
		home     string
	}{
		{"one user, one address", App{}, at("192.0.2.1"), at("alice"), 10, true, "192.0.2.99"},
		{"one user, her own address", App{}, at("192.0.2.99"), at("alice"), 10, true, "192.0.2.99"},
		{"one user without recognized clients", App{}, at("192.0.2.1"), at("alice"), 10, false, ""},
		{"one user, no such name", App{}, at("192.0.2.1"), at("nobody"), 10, true, "192.0.2.99"},
		{"one user, locked", App{}, at("192.0.2.1"), at("locked"), 10, true, "192.0.2.99"},
		{"a limit of one", App{Throttle: &Throttle{Login: &Limit{Failures: 1}}}, at("192.0.2.99"), at("alice"), 1, true, "192.0.2.99"},
		{"three slots", App{MaxHashes: 3}, at("192.0.2.99"), at("alice"), 10, true, "192.0.2.99"},
		{"no address: the limit of the user", App{}, at(""), at("alice"), 100, true, ""},
		{"one user, many addresses", App{}, numbered("192.0.%d.%d"), at("alice"), 100, true, "198.51.100.1"},
		{"no such user, many addresses", App{}, numbered("192.0.%d.%d"), at("nobody"), 100, true, "198.51.100.1"},
		{"many users, one address", App{}, at("192.0.2.1"), numbered("user%d%d"), 30, true, "192.0.2.99"},
		{"one user, one /64", App{}, numbered("2001:db8::%x:%x"), at("alice"), 10, true, "192.0.2.99"},
	} {
		for _, atOnce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, all at once: %v", test.name, atOnce), func(t *testing.T) {
				t.Parallel()
				settings := test.settings
				underFlood(t, &settings, "alice:"+shaSecret1+"\nlocked:!\n", func(t *testing.T, h *flooded) {
					if test.verified {
						h.expect(test.home, "alice", "secret1", loginPassed)
					}
					before := h.cost()
					var r results
					var group sync.WaitGroup
					for i := range n {
						guess := func() { r.add(h.login(test.from(i), test.as(i), fmt.Sprint("guess", i))) }
						if atOnce {
							group.Go(guess)
						} else {
							guess()
						}
					}
					group.Wait()
					after := h.cost()
					most := test.limit
					if atOnce {
						most += int64(settings.MaxHashes) - 1 // the hashes that have started
					}
					if got := after.hashes - before.hashes; got < test.limit || got > most {
						t.Errorf("got %d hashes, want %d to %d", got, test.limit, most)
					}
					if got := after.comparisons - before.comparisons; got > most+int64(settings.MaxHashes) {
						t.Errorf("got %d comparisons, want at most %d", got, most+int64(settings.MaxHashes))
					}
					if got := r.count[loginThrottled]; got < n-int(most) || got > n-int(test.limit) {
						t.Errorf("got %v, want %d to %d of %q", r.count, n-int(most), n-int(test.limit), loginThrottled)
					}
					// The right password is refused like a guess, except from a recognized client.
					if test.as(0) == "alice" && test.as(1) == "alice" {
						h.expect(test.from(n+1), "alice", "secret1", loginThrottled)
						if test.verified && test.home != test.from(0) {
							h.expect(test.home, "alice", "secret1", loginPassed)
						}
						time.Sleep(time.Hour)
						h.expect(test.from(n+1), "alice", "secret1", loginPassed)
					}
				})
			})
		}
	}
}

func at(s string) func(int) string { return func(int) string { return s } }

func numbered(format string) func(int) string {
	return func(i int) string { return fmt.Sprintf(format, i>>8, i&255) }
}

// TestGuessesWithoutWaiting has an attacker who does not wait for the answer. Every
// comparison with the right password counts.
func TestGuessesWithoutWaiting(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		const home = "192.0.2.99"
		logger, logs := observed()
		h.logger = logger
		h.expect(home, "alice", "secret1", loginPassed)
		before := h.cost()
		for i := range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				c := credentialsOf("alice", fmt.Sprint("guess", i))
				defer c.release()
				h.check(ctx, origin{ip: home}, c)
			}()
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		time.Sleep(time.Minute / 2)
		if got := h.cost().comparisons - before.comparisons; got != 10 {
			t.Errorf("got %d comparisons, want 10", got)
		}
		if got := logs.FilterMessage("login failed").Len(); got != 10 {
			t.Errorf("got %d lines, want 10", got)
		}
		if n := h.openGuesses(); n != 0 {
			t.Errorf("got %d guesses that stay open, want none", n)
		}
		h.expect(home, "alice", "secret1", loginThrottled)
	})
}

// TestHashStartsBeforeOpenGuesses starts a hash while as many guesses are open as the
// limit allows. There is no room for one more.
func TestHashStartsBeforeOpenGuesses(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		const home = "192.0.2.99"
		h.expect(home, "alice", "secret1", loginPassed)
		known := h.users.now().find([]byte("alice")).entry.recognized()
		guesses := &known.guesses[known.place(h.guard.keyer(), h.guard.keyer().client(home))]
		guesses.Add(10) // compared, but not yet in the queue
		before := h.cost()
		h.expect(home, "alice", "guess", loginThrottled)
		h.expect(home, "alice", "secret1", loginThrottled)
		if after := h.cost(); after != before {
			t.Errorf("got %+v, want no cost since %+v", after, before)
		}
		guesses.Add(-1)
		h.expect(home, "alice", "secret1", loginPassed)
		h.expect(home, "alice", "guess", loginWrong)
		h.expect(home, "alice", "secret1", loginThrottled)
		guesses.Add(-9)
		h.expect(home, "alice", "secret1", loginPassed)
	})
}

// TestRecognizedClientNeedsNoWorker has a flood that keeps the worker slot busy. A
// recognized client logs in without waiting, any number of times, and leaves no open
// guess.
func TestRecognizedClientNeedsNoWorker(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		h.expect("", "alice", "secret1", loginPassed) // without an address
		done := make(chan string)
		go func() { done <- h.login("192.0.2.7", "nobody", "x") }()
		synctest.Wait()
		start := time.Now()
		for range 200 {
			h.expect("192.0.2.1", "alice", "secret1", loginPassed)
			h.expect("", "alice", "secret1", loginPassed)
		}
		if took := time.Since(start); took != 0 || h.openGuesses() != 0 {
			t.Errorf("got %s and %d open guesses, want no wait and none", took, h.openGuesses())
		}
		// The guesses of one recognized client do not affect another.
		<-done
		h.expect("192.0.2.2", "alice", "secret1", loginPassed)
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() { h.login("192.0.2.1", "alice", fmt.Sprint("guess", i)) })
		}
		synctest.Wait()
		start = time.Now()
		h.expect("192.0.2.2", "alice", "secret1", loginPassed)
		if took := time.Since(start); took != 0 {
			t.Errorf("a recognized client: got a wait of %s for the guesses of another, want none", took)
		}
		group.Wait()
	})
}

// TestSharedIsAGuess has a login wait for a hash that another login has requested. Its own
// limits decide whether it gets the result.
func TestSharedIsAGuess(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"secret1", "wrong"} {
		underFlood(t, &App{MaxHashes: 2, Throttle: &Throttle{Login: &Limit{Failures: 1}}}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
			first, second := make(chan string), make(chan string)
			go h.login("192.0.2.2", "alice", "guess") // exceeds the limit of the second client
			time.Sleep(hashTime / 2)
			go func() { first <- h.login("192.0.2.1", "alice", password) }()
			synctest.Wait()
			go func() { second <- h.login("192.0.2.2", "alice", password) }()
			want := map[string]string{"secret1": loginPassed, "wrong": loginWrong}[password]
			if one, two := <-first, <-second; one != want || two != loginThrottled {
				t.Errorf("%s: got %q and %q, want %q and %q", password, one, two, want, loginThrottled)
			}
			if n := h.cost().hashes; n != 2 {
				t.Errorf("got %d hashes, want 2", n)
			}
		})
	}
}

// TestTwoHandlersAreNoOracle sends the same user name and wrong password to a site with
// two files, and to a site with one of them. What the second site does is the same for
// names in either file and for unknown names.
func TestTwoHandlersAreNoOracle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const names = 200
		var one, two strings.Builder
		for i := range names {
			fmt.Fprintf(&one, "one%d:%s\n", i, shaSecret1)
			fmt.Fprintf(&two, "two%d:%s\n", i, shaSecret1)
		}
		stores := userStores{storeOf(t, one.String()), storeOf(t, two.String())}
		both, first := handlerOf(stores, &cachePolicy{now: time.Now}), handlerOf(stores[:1], &cachePolicy{now: time.Now})
		both.guard = newGuard(settingsOf(new(App)), time.Now)
		first.guard = both.guard
		again := make(map[string]int) // names for which the second site had to compute a hash, too
		for _, kind := range []string{"one", "two", "unknown"} {
			for i := range names {
				user, ip := fmt.Sprint(kind, i), fmt.Sprintf("10.0.%d.%d", i>>8, i&255)
				(&flooded{first, t, nil}).login(ip, user, "wrong")
				before := both.guard.hashCount()
				(&flooded{both, t, nil}).login(ip, user, "wrong")
				again[kind] += int(both.guard.hashCount() - before)
			}
		}
		// Names in the shared file need none and names in the other file one each; unknown names are like either.
		if again["one"] != 0 || again["two"] != names || again["unknown"] < names/3 || again["unknown"] > names*2/3 {
			t.Errorf("second handler: got hashes %v, want 0 for users of the first file, %d for users of the second, and a third to two thirds of %d for unknown ones", again, names, names)
		}
	})
}

// TestMistypedUnderFlood has a user mistype the password and then send the right one,
// while a flood of new clients needs hashes.
func TestMistypedUnderFlood(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect("192.0.2.1", "alice", "mistyped", loginWrong)
		var stop atomic.Bool
		var flood sync.WaitGroup
		for i := range 40 {
			flood.Go(func() {
				for j := 0; !stop.Load(); j++ {
					h.login(fmt.Sprintf("10.%d.%d.%d", i, j>>8, j&255), fmt.Sprint("user", i, j), "guess")
				}
			})
		}
		time.Sleep(time.Second)
		start := time.Now()
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		if took := time.Since(start); took > 10*hashTime {
			t.Errorf("got in after %s, want at most %s", took, 10*hashTime)
		}
		stop.Store(true)
		flood.Wait()
	})
}

// TestRecognizedClients checks that only the login limit applies to a user's last eight
// clients, until the entry changes.
func TestRecognizedClients(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1+"\nbob:"+shaSecret1, func(t *testing.T, h *flooded) {
		for i := range 9 {
			h.expect(fmt.Sprint("198.51.100.", i), "alice", "secret1", loginPassed)
		}
		flood := func() {
			for i := range 101 {
				h.login(fmt.Sprint("192.0.2.", i), "alice", fmt.Sprint("guess", i))
			}
		}
		flood()
		h.expect("198.51.100.0", "alice", "secret1", loginThrottled) // the ninth client has replaced it
		h.expect("198.51.100.1", "alice", "secret1", loginPassed)
		h.expect("198.51.100.8", "alice", "secret1", loginPassed)
		h.expect("198.51.100.8", "alice", "guess", loginWrong)
		// The client limit does not apply either, except to other users from this address.
		for i := range 31 {
			h.login("198.51.100.8", fmt.Sprint("user", i), "guess")
		}
		h.expect("198.51.100.8", "alice", "secret1", loginPassed)
		h.expect("198.51.100.8", "bob", "secret1", loginThrottled)
		// An edit of the file that does not change the entry has no effect.
		reloadStore(t, h.store, "zoe:!\nalice:"+shaSecret1)
		h.expect("198.51.100.8", "alice", "secret1", loginPassed)
		h.expect("198.51.100.0", "alice", "secret1", loginThrottled)
		// A new password resets the user's limits and the recognized clients.
		reloadStore(t, h.store, "alice:"+apr1Secret2)
		h.expect("198.51.100.0", "alice", "secret2", loginPassed)
		flood()
		h.expect("198.51.100.1", "alice", "secret2", loginThrottled)
		h.expect("198.51.100.0", "alice", "secret2", loginPassed)
	})
}

// TestKnownWrong repeats a wrong password. It is hashed once.
func TestKnownWrong(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1+"\nlocked:!", func(t *testing.T, h *flooded) {
		for _, user := range []string{"alice", "nobody", "locked"} {
			before := h.cost()
			for i := range 1000 {
				if got := h.login("192.0.2.1", user, "old"); got == loginPassed || got == loginThrottled {
					t.Fatalf("%s, time %d: got %q, want a wrong password that exceeds no limit", user, i, got)
				}
			}
			if got := h.cost().hashes - before.hashes; got != 1 {
				t.Errorf("%s: got %d hashes, want 1", user, got)
			}
		}
		var group sync.WaitGroup
		before := h.cost()
		for range 1000 {
			group.Go(func() { h.login("192.0.2.1", "alice", "older") })
		}
		group.Wait()
		if got := h.cost().hashes - before.hashes; got != 1 {
			t.Errorf("all at once: got %d hashes, want 1", got)
		}
		// Two sites with the same file that share no hash.
		other := &flooded{handlerOf(h.users.fixed, &cachePolicy{now: time.Now, off: true}), t, h.store}
		other.guard = h.guard
		before = h.cost()
		for _, site := range []*flooded{h, other} {
			group.Go(func() { site.login("192.0.2.1", "alice", "oldest") })
		}
		group.Wait()
		if got := h.cost().hashes - before.hashes; got != 1 {
			t.Errorf("two sites at once: got %d hashes, want 1", got)
		}
		h.expect("192.0.2.1", "alice", "secret1", loginPassed) // no failed login is counted
		reloadStore(t, h.store, "alice:"+apr1Secret2+"\nnobody:"+shaSecret1)
		h.expect("192.0.2.1", "alice", "secret2", loginPassed)
		h.expect("192.0.2.1", "alice", "secret1", loginWrong)
		h.expect("192.0.2.1", "nobody", "secret1", loginPassed)
		reloadStore(t, h.store, "alice:"+shaSecret1)
		h.expect("192.0.2.1", "alice", "secret1", loginPassed) // right as soon as the file has changed
	})
}

// TestPasswordChangeOpens exceeds the limits of a user. When the administrator resets the
// password, the user can log in immediately, even with a login that is already waiting.
func TestPasswordChangeOpens(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		for i := range 12 {
			h.login("192.0.2.1", "alice", fmt.Sprint("guess", i))
		}
		for i := range 100 {
			h.login(fmt.Sprint("192.0.3.", i), "alice", fmt.Sprint("guess", i))
		}
		h.expect("192.0.2.1", "alice", "secret2", loginThrottled)
		h.expect("192.0.4.1", "alice", "secret2", loginThrottled)
		reloadStore(t, h.store, "alice:"+apr1Secret2)
		h.expect("192.0.2.1", "alice", "secret2", loginPassed)
		h.expect("192.0.4.1", "alice", "secret2", loginPassed)
	})
	t.Run("while it waits for a hash", func(t *testing.T) {
		underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
			go h.login("192.0.2.7", "nobody", "x")
			synctest.Wait()
			done := make(chan string)
			go func() { done <- h.login("192.0.2.1", "alice", "secret2") }()
			synctest.Wait()
			reloadStore(t, h.store, "alice:"+apr1Secret2)
			if got := <-done; got != loginPassed {
				t.Errorf("got %q, want %q", got, loginPassed)
			}
			if got := h.cost().hashes; got != 2 {
				t.Errorf("got %d hashes, want 2", got)
			}
		})
	})
}

// TestSprayFlat tries many user names and addresses. The memory does not grow, and other
// users can log in.
func TestSprayFlat(t *testing.T) {
	g := newGuard(settingsOf(new(App)), time.Now)
	h := handlerOf(userStores{storeOf(t, "alice:"+shaSecret1)}, &cachePolicy{now: clock})
	h.guard = g
	spray := func(n int) {
		for range n {
			c := credentialsOf(fmt.Sprint("user", rand.Uint64()), fmt.Sprint(rand.Uint64()))
			h.check(t.Context(), origin{ip: fmt.Sprintf("10.%d.%d.%d", rand.IntN(256), rand.IntN(256), rand.IntN(256))}, c)
			c.release()
		}
	}
	var before, after memStats
	spray(1000)
	runtime.GC()
	before.read()
	if underRace {
		spray(10_000)
	} else {
		spray(30_000)
	}
	runtime.GC()
	after.read()
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<18 {
		t.Errorf("got %d more bytes in use, want at most %d", grown, 1<<18)
	}
	runtime.KeepAlive(h)
	g.checkIdle(t)
	(&flooded{h, t, nil}).expect("192.0.2.1", "alice", "secret1", loginPassed)
}

// TestSameWork has a file with mixed formats. Known, unknown and locked users need one
// hash each, with the same distribution of formats, and have the same limits.
func TestSameWork(t *testing.T) {
	t.Parallel()
	const users = 300
	var file strings.Builder
	for i := range users {
		fmt.Fprintf(&file, "known%d:%s\nlocked%d:!\n", i, []string{bcrypt4Secret1, apr1Secret1, shaSecret1}[i%3], i)
	}
	byFormat := make(map[string]map[string]int64)
	for _, kind := range []string{"known", "locked", "unknown"} {
		underFlood(t, &App{}, file.String(), func(t *testing.T, h *flooded) {
			h.computeOneHashOf(10)
			for i := range users {
				user, ip := fmt.Sprint(kind, i), fmt.Sprintf("10.0.%d.%d", i>>8, i&255)
				for guess := range 12 {
					before := h.cost()
					start := time.Now()
					got := h.login(ip, user, fmt.Sprint("guess", guess))
					hashes, took := h.cost().hashes-before.hashes, time.Since(start)
					if (got == loginThrottled) != (guess >= 10) || hashes == 1 != (guess < 10) || took != time.Duration(hashes)*hashTime {
						t.Fatalf("%s, guess %d: got %q with %d hashes in %s, want one hash for each of 10 guesses, then %q", user, guess, got, hashes, took, loginThrottled)
					}
				}
			}
			counts := h.guard.hashesByFormat()
			for format := range counts {
				counts[format] /= 10
			}
			byFormat[kind] = counts
			if n := h.cost().comparisons; n != 0 {
				t.Errorf("got %d comparisons, want none: no password was verified", n)
			}
		})
	}
	for kind, counts := range byFormat {
		for format, n := range counts {
			if n < users/3-60 || n > users/3+60 { // six standard deviations, nearly
				t.Errorf("%s: got %d of %s, want about %d", kind, n, format, users/3)
			}
		}
		if len(counts) != 3 {
			t.Errorf("%s: got %v, want three formats", kind, counts)
		}
	}
}

// TestPeopleFirst has two hundred users log in for the first time after a restart, while a
// flood keeps the worker slots busy.
func TestPeopleFirst(t *testing.T) {
	t.Parallel()
	var file strings.Builder
	for i := range 200 {
		fmt.Fprintf(&file, "person%d:%s\n", i, shaSecret1)
	}
	for _, test := range []struct {
		name   string
		homes  func(i int) string
		off    bool
		hashes int // until the last user has logged in
	}{
		{"no limits", numbered("10.0.%d.%d"), true, 202 * 8 / 7},
		{"one address for all people", at("10.0.0.1"), true, 202 * 8 / 7},
		{"with limits", at("10.0.0.1"), false, 202},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := &App{MaxHashes: 2}
			if test.off {
				off := &Limit{Off: true}
				settings.Throttle = &Throttle{off, off, off}
			}
			underFlood(t, settings, file.String(), func(t *testing.T, h *flooded) {
				var stop atomic.Bool
				var flood, people sync.WaitGroup
				for i := range 32 {
					flood.Go(func() {
						for j := 0; !stop.Load(); j++ {
							if h.login("192.0.2.1", "person0", fmt.Sprint(i, " guess ", j)) == loginThrottled {
								time.Sleep(10 * time.Millisecond) // the network
							}
						}
					})
				}
				time.Sleep(time.Second)
				var r results
				start := time.Now()
				for i := range 200 {
					if !test.off && i == 0 {
						continue // throttled by the flood
					}
					people.Go(func() { r.add(h.login(test.homes(i), fmt.Sprint("person", i), "secret1")) })
				}
				people.Wait()
				if took := time.Since(start); took > time.Duration(test.hashes)*hashTime/2 || r.count[loginPassed] < 199 || len(r.count) != 1 {
					t.Errorf("got %v after %s, want 199 or more of %q and nothing else within %s", r.count, took, loginPassed, time.Duration(test.hashes)*hashTime/2)
				}
				stop.Store(true)
				flood.Wait()
			})
		})
	}
	t.Run("only who waited 10 s gets 503", func(t *testing.T) {
		off := &Limit{Off: true}
		underFlood(t, &App{Throttle: &Throttle{off, off, off}}, file.String(), func(t *testing.T, h *flooded) {
			var r results
			var group sync.WaitGroup
			for i := range 400 {
				group.Go(func() {
					start := time.Now()
					got := h.login(fmt.Sprintf("10.0.%d.%d", i>>8, i&255), "nobody", fmt.Sprint(i))
					if (got == errOverloaded.Error()) != (time.Since(start) == maxWait && got != loginUnknown) {
						t.Errorf("got %q after %s, want %q after exactly %s, else %q", got, time.Since(start), errOverloaded, maxWait, loginUnknown)
					}
					r.add(got)
				})
			}
			group.Wait()
			if n := r.count[loginUnknown]; n < 199 || n > 201 || len(r.count) != 2 {
				t.Errorf("got %v, want 199 to 201 of %q and one other answer", r.count, loginUnknown)
			}
		})
	})
}

// TestClockJumps checks that limits are exact, and end, even if the clock jumps.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	now := clock()
	h := handlerOf(userStores{storeOf(t, "alice:"+shaSecret1)}, &cachePolicy{now: clock})
	h.guard = newGuard(settingsOf(new(App)), func() time.Time { return now })
	x := &flooded{h, t, h.users.fixed[0]}
	for i := range 11 {
		x.login("192.0.2.1", "alice", fmt.Sprint("guess", i))
	}
	x.expect("192.0.2.1", "alice", "secret1", loginThrottled)
	for _, jump := range []time.Duration{-24 * time.Hour, 0, 24 * time.Hour, -10 * 365 * 24 * time.Hour} {
		now = clock().Add(jump)
		for i := range 11 {
			x.login("192.0.2.1", "alice", fmt.Sprint("guess", jump, i))
		}
		x.expect("192.0.2.1", "alice", "secret1", loginThrottled)
		now = now.Add(2 * time.Hour) // two windows after any jump
		x.expect("192.0.2.1", "alice", "secret1", loginPassed)
	}
}

// busy takes the only worker slot of a handler with a hash for a user nobody
// has, until hashTime is over.
func (h *flooded) busy() {
	h.t.Helper()
	go h.login("203.0.113.1", "busy", fmt.Sprint(time.Now()))
	synctest.Wait()
}

// expectAtOnce expects an answer that needs no hash, while the only worker slot is busy.
func (h *flooded) expectAtOnce(ip, user, password, want string) {
	h.t.Helper()
	h.busy()
	start, before := time.Now(), h.cost().hashes
	h.expect(ip, user, password, want)
	if took, n := time.Since(start), h.cost().hashes-before; took != 0 || n != 0 {
		h.t.Errorf("%s from %s with %q: got the answer after %s and %d hashes, want it at once", user, ip, password, took, n)
	}
	time.Sleep(hashTime)
	synctest.Wait() // the slot is free again
}

// makeOf returns a hash of a password.
func makeOf(t testing.TB, format string, cost int, password string) string {
	t.Helper()
	hash, err := crypt.Make(format, cost, []byte(password))
	must(t, err)
	return hash
}
