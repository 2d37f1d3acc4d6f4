//go:build unix

package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// TestRefusalsNeedNoWorker has logins refused while the only worker slot is busy. A
// refusal without a hash does not wait in the hash queue.
func TestRefusalsNeedNoWorker(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "alice:"+shaSecret1+"\nlocked:!\n", func(t *testing.T, h *flooded) {
		for _, user := range []string{"alice", "locked", "nobody"} {
			want := map[string]string{"alice": loginWrong, "locked": resultLockedUser.String(), "nobody": loginUnknown}[user]
			h.expect(home, user, "old", want)
			h.expectAtOnce(home, user, "old", want) // known to be wrong
			for i := range 9 {
				h.login(home, user, fmt.Sprint("guess", i))
			}
			h.expectAtOnce(home, user, "guess", loginThrottled)
		}
	})
}

// TestLimitsWhereNobodyCanLogIn guesses at a file in which no user can log in. There is no
// hash to compute, but the limits apply.
func TestLimitsWhereNobodyCanLogIn(t *testing.T) {
	underFlood(t, &App{}, "locked:!\n", func(t *testing.T, h *flooded) {
		for _, user := range []string{"locked", "nobody"} {
			var r results
			for i := range 100 {
				r.add(h.login("192.0.2.1", user, fmt.Sprint("guess", i)))
			}
			if n := r.count[loginThrottled]; n != 90 {
				t.Errorf("%s: got %d of 100 guesses refused because of the limit, want 90: %v", user, n, r.count)
			}
		}
		if n := h.cost().hashes; n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
	})
}

// TestCheapRefusals checks that a refusal without a hash waits in ServeHTTP, because the
// client could repeat the request immediately.
func TestCheapRefusals(t *testing.T) {
	h := handlerOf(userStores{storeOf(t, "alice:"+shaSecret1)}, &cachePolicy{now: clock})
	for _, test := range []struct {
		name   string
		header string
		want   bool
	}{
		{"a wrong password", "Basic " + encoded("alice:wrong"), false},
		{"the same wrong password again", "Basic " + encoded("alice:wrong"), true},
		{"an unknown user", "Basic " + encoded("nobody:wrong"), false},
		{"the same unknown user again", "Basic " + encoded("nobody:wrong"), true},
		{"malformed credentials", "Basic " + encoded("alice"), true},
	} {
		c := parseCredentials(test.header)
		v, err := h.check(t.Context(), origin{}, c)
		c.release()
		if err != nil || v.result == resultPassed || v.isCheap() != test.want {
			t.Errorf("%s: got %v, cheap %t, error %v, want a refusal, cheap %t", test.name, v.result, v.isCheap(), err, test.want)
		}
	}
}

func TestMalformedCredentialsAreLogged(t *testing.T) {
	logger, logs := observed()
	h := handlerOf(userStores{storeOf(t, "alice:"+shaSecret1)}, &cachePolicy{now: clock})
	h.guard, h.logger = newGuard(settingsOf(new(App)), clock), logger
	c := parseCredentials("Basic " + encoded("alice"))
	defer c.release()
	h.check(t.Context(), origin{ip: "192.0.2.1"}, c)
	if logs.Len() != 1 || logs.All()[0].ContextMap()["reason"] != resultReasons[resultMalformed] || logs.All()[0].ContextMap()["client_ip"] != "192.0.2.1" {
		t.Errorf("got\n%swant one line with the reason and the address", logText(logs))
	}
}

// TestRepeatedWrongPasswordLeavesNoGuess has a recognized client repeat one wrong
// password. It is counted once, and leaves no open guess.
func TestRepeatedWrongPasswordLeavesNoGuess(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect(home, "alice", "secret1", loginPassed)
		for range 100 {
			h.expect(home, "alice", "old", loginWrong)
		}
		if n := h.openGuesses(); n != 0 {
			t.Errorf("%d guesses are open, want none", n)
		}
		h.expect(home, "alice", "secret1", loginPassed)
	})
}

// TestGuessEndsWhenAnotherFileDecides has a recognized client guess while an earlier file
// gets an entry for the user. The earlier file then takes precedence. The line at which
// the client guessed is unchanged, and no guess at it stays open.
func TestGuessEndsWhenAnotherFileDecides(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("bob:" + shaSecret1)
		second := storeOf(t, "alice:"+shaSecret1)
		h.users.fixed, h.store = append(h.users.fixed, second), second
		h.expect(home, "alice", "secret1", loginPassed)
		source.change("alice:!", true)
		h.expect(home, "alice", "guess", resultLockedUser.String())
		if n := h.openGuesses(); n != 0 {
			t.Errorf("%d guesses are open, want none", n)
		}
	})
}

// TestGoneWithNothingCompared has a recognized client go away before its hash starts. If
// its password was compared with nothing, the client has learned nothing, and nothing is
// counted.
func TestGoneWithNothingCompared(t *testing.T) {
	const home = "192.0.2.1"
	for _, test := range []struct {
		name string
		wait time.Duration // since the password was verified
		want int
	}{
		{"the cached password is compared", time.Second, 1},
		{"the cached password is too old", time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
				h.cache.maxAge = time.Minute
				h.expect(home, "alice", "secret1", loginPassed)
				time.Sleep(test.wait)
				h.busy()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(hashTime/2, cancel)
				password := "guess"
				if test.want == 0 {
					password = "secret1" // a wrong password differs from the cached one even if that has expired
				}
				c := credentialsOf("alice", password)
				defer c.release()
				if _, err := h.check(ctx, origin{ip: home}, c); !errors.Is(err, context.Canceled) {
					t.Errorf("got error %v, want %v", err, context.Canceled)
				}
				time.Sleep(hashTime)
				synctest.Wait()
				if got := h.guard.counts()[scopeUser] - 1; got != test.want { // one is of the user who keeps the slot busy
					t.Errorf("got %d failed logins, want %d", got, test.want)
				}
			})
		})
	}
}

// TestHashOutlivesItsRequest has a client go away while its hash is computed. The hash
// continues with a copy of the password, which is overwritten in the end.
func TestHashOutlivesItsRequest(t *testing.T) {
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		var hashed []byte
		before := h.guard.verify
		h.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
			hashed = password
			return before(class, hash, password)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(hashTime/2, cancel)
		c := credentialsOf("alice", "secret1")
		if _, err := h.check(ctx, origin{ip: "192.0.2.1"}, c); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
		c.release()
		other := credentialsOf("alice", "other") // reuses the first credentials from the pool
		time.Sleep(hashTime)
		synctest.Wait()
		if got := h.guard.counts(); got != [scopeCount]int{} {
			t.Errorf("got %v failed logins, want none: the password was right", got)
		}
		if len(hashed) != len("secret1") || !allZero(hashed) {
			t.Errorf("the hash was computed of %d bytes, and %q is left of them, want 7 and nothing", len(hashed), hashed)
		}
		if string(other.password) != "other" {
			t.Errorf("the credentials of another request are %q, want what it sent", other.password)
		}
		other.release()
		before = neverHashed(t)
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
	})
}

// TestSitesWithOtherFilesShareNoHash has two sites refuse a user who is locked in a
// different file on each. Both compute the same hash, of a third file. The failed login is
// counted for both files.
func TestSitesWithOtherFilesShareNoHash(t *testing.T) {
	underFlood(t, &App{MaxHashes: 2}, "bob:"+shaSecret1, func(t *testing.T, h *flooded) {
		var group sync.WaitGroup
		for range 2 {
			site := &flooded{handlerOf(userStores{storeOf(t, "alice:!"), h.store}, &cachePolicy{now: time.Now}), t, h.store}
			site.guard = h.guard
			group.Go(func() { site.expect("192.0.2.1", "alice", "guess", resultLockedUser.String()) })
		}
		group.Wait()
		if got, want := h.guard.counts(), [scopeCount]int{2, 2, 2}; got != want {
			t.Errorf("got %v failed logins, want %v", got, want)
		}
	})
}

// TestNewLineNeedsNoOldHash changes a user's line while a login computes its hash. A
// second login with the same password waits only for the hash of the new line.
func TestNewLineNeedsNoOldHash(t *testing.T) {
	underFlood(t, &App{MaxHashes: 2}, "alice:"+apr1Secret2, func(t *testing.T, h *flooded) {
		first := make(chan string)
		go func() { first <- h.login("192.0.2.1", "alice", "secret1") }()
		synctest.Wait()
		reloadStore(t, h.store, "alice:"+shaSecret1)
		time.Sleep(hashTime / 2)
		start := time.Now()
		h.expect("192.0.2.2", "alice", "secret1", loginPassed)
		if took := time.Since(start); took != hashTime {
			t.Errorf("the login took %s, want %s", took, hashTime)
		}
		if got := <-first; got != loginPassed {
			t.Errorf("the first login: got %s, want %s", got, loginPassed)
		}
	})
}

// TestReloadForgetsNothing reloads a large file while its first and last users log in.
// Their lines do not change. A verified password is cached in every version, whatever the
// order of the login and the reload.
func TestReloadForgetsNothing(t *testing.T) {
	var others strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&others, "user%d:!\n", i)
	}
	texts := [2]string{}
	for i := range texts {
		texts[i] = fmt.Sprintf("first:%s\n%sother%d:!\nlast:%s\n", shaSecret1, others.String(), i, shaSecret1)
	}
	m := &cachePolicy{now: clock}
	t.Run("verified before the reload", func(t *testing.T) {
		store := storeOf(t, texts[0])
		h := handlerOf(userStores{store}, m)
		users := []*credentials{credentialsOf("first", "secret1"), credentialsOf("last", "secret1")}
		logIn := func() {
			for _, c := range users {
				if v, err := h.check(t.Context(), origin{}, c); v.result != resultPassed || err != nil {
					t.Errorf("%s: got %v, error %v, want it to pass", c.user, v.result, err)
				}
			}
		}
		logIn()
		done := make(chan struct{})
		hashes := hashesIn(func() {
			go func() {
				defer close(done)
				for i := range 100 {
					reloadStore(t, store, texts[(i+1)%2])
				}
			}()
			for isDone := false; !isDone; {
				select {
				case <-done:
					isDone = true
				default:
				}
				logIn()
			}
		})
		if hashes != 0 {
			t.Errorf("got %d hashes, want none: the passwords are no longer cached", hashes)
		}
	})
	t.Run("verified during the reload", func(t *testing.T) {
		for i := range 100 {
			store := storeOf(t, texts[0])
			done := make(chan struct{})
			go func() {
				defer close(done)
				reloadStore(t, store, texts[1])
			}()
			time.Sleep(time.Duration(i) * 10 * time.Microsecond) // some during the reload
			checkLogin(t, userStores{store}, "first", "secret1", m)
			<-done
			runSteps(t, userStores{store}, m, []step{{"first", "secret1", resultPassed, 0}})
			if t.Failed() {
				t.Fatalf("round %d: the password is no longer cached", i)
			}
		}
	})
}

// TestPasswordOfTheOldLineIsNotCached changes a user's line while a password that is right
// for the old line is being cached. It must not be cached for the new line.
func TestPasswordOfTheOldLineIsNotCached(t *testing.T) {
	store := storeOf(t, "alice:"+shaSecret1)
	isChanged := false
	m := &cachePolicy{now: func() time.Time {
		if !isChanged {
			isChanged = true
			reloadStore(t, store, "alice:"+apr1Secret2)
		}
		return clock()
	}}
	for range 2 {
		if got, _ := checkLogin(t, userStores{store}, "alice", "secret1", m); got != resultWrongPassword {
			t.Errorf("got %v, want %v", got, resultWrongPassword)
		}
	}
	if !isChanged {
		t.Error("the line was not changed")
	}
}

// TestRepeatedOfAnotherSite sends one wrong password to two sites with the same file at
// the same time. They do not share a hash, because one site has no cache. But the second
// login finds the result of the first: it is logged as repeated, and counted once.
func TestRepeatedOfAnotherSite(t *testing.T) {
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		logger, logs := observed()
		h.logger = logger
		other := &flooded{handlerOf(h.users.fixed, &cachePolicy{now: time.Now, off: true}), t, h.store}
		other.guard, other.logger = h.guard, logger
		var group sync.WaitGroup
		for _, site := range []*flooded{h, other} {
			group.Go(func() { site.expect("192.0.2.1", "alice", "old", loginWrong) })
		}
		group.Wait()
		lines, repeated := logs.FilterMessage("login failed"), logs.FilterField(zap.Bool("repeated", true))
		if lines.Len() != 2 || repeated.Len() != 1 {
			t.Errorf("got %d lines, %d of them repeated, want 2 and 1:\n%s", lines.Len(), repeated.Len(), logText(logs))
		}
		if got, want := h.guard.counts(), [scopeCount]int{1, 1, 1}; got != want {
			t.Errorf("got %v failed logins, want %v", got, want)
		}
	})
}

// TestRecognizedClientsShareTheUsersLimit has a user log in, and then other clients guess
// the user's password. Failed logins from before count as well.
func TestRecognizedClientsShareTheUsersLimit(t *testing.T) {
	underFlood(t, &App{Throttle: &Throttle{User: &Limit{Failures: 20}}}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		guess := func(from, n int) (refused int) {
			for i := range n {
				if h.login(fmt.Sprint("192.0.2.", from+i), "alice", fmt.Sprint("guess", from+i)) == loginThrottled {
					refused++
				}
			}
			return refused
		}
		if n := guess(0, 15); n != 0 {
			t.Errorf("%d guesses refused, want none", n)
		}
		h.expect("198.51.100.1", "alice", "secret1", loginPassed)
		if n := guess(15, 15); n != 10 {
			t.Errorf("%d of 15 more guesses refused, want 10 at a limit of 20", n)
		}
	})
}

// TestCountedInTheFileThatDecides adds the user with the same hash to an earlier file
// while a wrong password is hashed. The failed login counts against the limits of the
// earlier file.
func TestCountedInTheFileThatDecides(t *testing.T) {
	underFlood(t, &App{}, "bob:!", func(t *testing.T, h *flooded) {
		h.users.fixed = append(h.users.fixed, storeOf(t, "alice:"+shaSecret1))
		h.swapWhileHashing("alice:" + shaSecret1)
		h.expect("192.0.2.1", "alice", "guess", loginWrong)
		var keys limitKeys
		decides := h.users.now().find([]byte("alice"))
		keys.set(h.guard.keyer(), h.guard.keyer().client("192.0.2.1"), &decides, []byte("alice"))
		if decides.store != h.users.fixed[0] {
			t.Error("the second file decides, want the first")
		}
		for s := range scopeCount {
			if n := h.guard.failures[s].Peek(keys[s]); n != 1 {
				t.Errorf("%v: got %d failed logins of the user of the first file, want 1", s, n)
			}
		}
	})
}

// TestSitesWithOtherCachesShareNoResult has two sites with one file wait for a hash of the
// same right password, which was verified an hour ago. The first site still trusts the
// cached password. The second must not let the login pass without a hash because of it.
func TestSitesWithOtherCachesShareNoResult(t *testing.T) {
	for name, cache := range map[string]cachePolicy{
		"without a cache":            {now: time.Now, off: true},
		"with a shorter max_age":     {now: time.Now, maxAge: time.Minute},
		"with the same as the first": {now: time.Now},
	} {
		t.Run(name, func(t *testing.T) {
			underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
				h.expect("198.51.100.1", "alice", "secret1", loginPassed)
				time.Sleep(time.Hour)
				other := &flooded{handlerOf(h.users.fixed, &cache), t, h.store}
				other.guard = h.guard
				h.busy()
				before := h.cost().hashes
				var group sync.WaitGroup
				for i, site := range []*flooded{h, other} {
					group.Go(func() { site.expect(fmt.Sprint("192.0.2.", i), "alice", "secret1", loginPassed) })
					synctest.Wait()
				}
				group.Wait()
				want := int64(2) // the hash that keeps the slot busy, and the hash of the other site
				if !cache.off && cache.maxAge == 0 {
					want = 1
				}
				if n := h.cost().hashes - before; n != want {
					t.Errorf("got %d hashes, want %d", n, want)
				}
			})
		})
	}
}

// TestCacheOffKeepsNothing logs in on a site without a cache. Another site with the same
// file then has to compute the hash.
func TestCacheOffKeepsNothing(t *testing.T) {
	store := storeOf(t, "alice:"+shaSecret1)
	runSteps(t, userStores{store}, &cachePolicy{now: clock, off: true}, []step{{"alice", "secret1", resultPassed, 1}})
	if store.current.Load().find([]byte("alice")).verified.Load() != nil {
		t.Error("the password is cached")
	}
	runSteps(t, userStores{store}, &cachePolicy{now: clock}, []step{{"alice", "secret1", resultPassed, 1}})
}

// TestOldPasswordIsNoHit logs in with a cached password that has expired. The comparison
// is no cache hit.
func TestOldPasswordIsNoHit(t *testing.T) {
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.cache.maxAge = time.Minute
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		time.Sleep(time.Hour)
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		if hits, misses := h.guard.cacheHits.Load(), h.guard.cacheMisses.Load(); hits != 0 || misses == 0 {
			t.Errorf("got %d hits and %d misses, want none and some", hits, misses)
		}
	})
}

// TestAllFilesAreWaitedFor changes the second of two files. A login before the change is
// noticed waits for that file, too.
func TestAllFilesAreWaitedFor(t *testing.T) {
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("bob:" + shaSecret1)
		h.users.fixed = userStores{storeOf(t, "carol:"+shaSecret1), h.store}
		source.change("alice:"+shaSecret1, true)
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
	})
}

// TestHashedOftenIsRecognizedOnce has one client log in with a hash many times. It takes
// one place among the recognized clients, and replaces no other.
func TestHashedOftenIsRecognizedOnce(t *testing.T) {
	underFlood(t, &App{Throttle: &Throttle{User: &Limit{Failures: 1}}}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.cache.maxAge = time.Minute
		h.expect("198.51.100.1", "alice", "secret1", loginPassed)
		for range 2 * recognizedPlaces {
			time.Sleep(time.Hour)
			h.expect("198.51.100.2", "alice", "secret1", loginPassed)
		}
		h.expect("192.0.2.1", "alice", "guess", loginWrong) // exceeds the user's limit
		h.expect("192.0.2.2", "alice", "secret1", loginThrottled)
		h.expect("198.51.100.1", "alice", "secret1", loginPassed)
	})
}

// TestRecognizedWithoutAddress fills all places of recognized clients. Clients without an
// address need no place.
func TestRecognizedWithoutAddress(t *testing.T) {
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		for i := range 2 * recognizedPlaces {
			h.expect(fmt.Sprint("198.51.100.", i), "alice", "secret1", loginPassed)
		}
		h.expectAtOnce("", "alice", "secret1", loginPassed)
	})
}
