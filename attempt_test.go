//go:build unix

package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// busy takes the only worker slot of a handler with a hash for a user nobody
// has, until hashTime is over.
func (h *flooded) busy() {
	h.t.Helper()
	go h.login("203.0.113.1", "busy", fmt.Sprint(time.Now()))
	synctest.Wait()
}

// expectAtOnce expects an answer that takes no turn: the only worker slot is busy.
func (h *flooded) expectAtOnce(ip, user, password, want string) {
	h.t.Helper()
	h.busy()
	start, before := time.Now(), h.spent().hashes
	h.expect(ip, user, password, want)
	if took, n := time.Since(start), h.spent().hashes-before; took != 0 || n != 0 {
		h.t.Errorf("%s from %s with %q: got the answer after %s and %d hashes, want it at once", user, ip, password, took, n)
	}
	time.Sleep(hashTime)
}

// TestRefusalsNeedNoTurn has logins refused while the only worker slot is busy:
// whoever is refused without a hash does not wait for one, and so takes no turn
// from anybody.
func TestRefusalsNeedNoTurn(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "alice:"+shaSecret1+"\nlocked:!\n", func(t *testing.T, h *flooded) {
		for _, user := range []string{"alice", "locked", "nobody"} {
			want := map[string]string{"alice": wrong, "locked": resultDeniedUser.String(), "nobody": nobody}[user]
			h.expect(home, user, "old", want)
			h.expectAtOnce(home, user, "old", want) // known to be wrong
			for i := range 9 {
				h.login(home, user, fmt.Sprint("guess", i))
			}
			h.expectAtOnce(home, user, "guess", overBudget)
		}
	})
}

// TestLimitsWhereNobodyCanLogIn guesses at a file without a usable user: there
// is no hash to compute, but the limits hold.
func TestLimitsWhereNobodyCanLogIn(t *testing.T) {
	underFlood(t, &App{}, "locked:!\n", func(t *testing.T, h *flooded) {
		for _, user := range []string{"locked", "nobody"} {
			var r results
			for i := range 100 {
				r.add(h.login("192.0.2.1", user, fmt.Sprint("guess", i)))
			}
			if n := r.count[overBudget]; n != 90 {
				t.Errorf("%s: got %d of 100 guesses refused because of the limit, want 90: %v", user, n, r.count)
			}
		}
		if n := h.spent().hashes; n != 0 {
			t.Errorf("got %d hashes, want none", n)
		}
	})
}

// TestCheapRefusals: a refusal that takes no hash has to wait in ServeHTTP,
// since whoever gets one can ask again at once.
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
		v, err := h.check(t.Context(), "", c)
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
	h.check(t.Context(), "192.0.2.1", c)
	if logs.Len() != 1 || logs.All()[0].ContextMap()["reason"] != resultReasons[resultMalformed] || logs.All()[0].ContextMap()["client_ip"] != "192.0.2.1" {
		t.Errorf("got\n%swant one line with the reason and the address", logText(logs))
	}
}

// TestRepeatedWrongPasswordLeavesNoGuess has a recognized client send one wrong
// password again and again: it was counted once, and does not use up the room
// for others.
func TestRepeatedWrongPasswordLeavesNoGuess(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
		h.expect(home, "alice", "secret1", good)
		for range 100 {
			h.expect(home, "alice", "old", wrong)
		}
		if n := h.openGuesses(); n != 0 {
			t.Errorf("%d guesses are open, want none", n)
		}
		h.expect(home, "alice", "secret1", good)
	})
}

// TestGuessEndsWhenAnotherFileDecides has a recognized client guess while an
// earlier file is about to name the user. That one decides then, but the line at
// which the client guessed is as it was, and no guess at it is left open.
func TestGuessEndsWhenAnotherFileDecides(t *testing.T) {
	const home = "192.0.2.1"
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("bob:" + shaSecret1)
		second := storeOf(t, "alice:"+shaSecret1)
		h.users, h.store = append(h.users, second), second
		h.expect(home, "alice", "secret1", good)
		source.change("alice:!", true)
		h.expect(home, "alice", "guess", resultDeniedUser.String())
		if n := h.openGuesses(); n != 0 {
			t.Errorf("%d guesses are open, want none", n)
		}
	})
}

// TestGoneWithNothingCompared is a recognized client that goes away before its
// turn. If there was nothing to compare its password with at once, it has
// learned nothing, and nothing is counted.
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
				h.expect(home, "alice", "secret1", good)
				time.Sleep(test.wait)
				h.busy()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(hashTime/2, cancel)
				password := "guess"
				if test.want == 0 {
					password = "secret1" // a wrong one is told from the old one, however old that is
				}
				c := credentialsOf("alice", password)
				defer c.release()
				if _, err := h.check(ctx, home, c); !errors.Is(err, context.Canceled) {
					t.Errorf("got error %v, want %v", err, context.Canceled)
				}
				time.Sleep(hashTime)
				if got := h.guard.counts()[scopeUser] - 1; got != test.want { // one is of the user who keeps the slot busy
					t.Errorf("got %d failed logins, want %d", got, test.want)
				}
			})
		})
	}
}
