package caddyhtpasswd

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// counts returns how many failed logins are counted, by scope.
func (g *guard) counts() (counts [scopeCount]int) {
	settings := g.settings()
	for s := range scopeCount {
		for key := range g.failures[s].Keys {
			n, _ := g.failures[s].Count(key, g.now(), settings.limits[s].Window)
			counts[s] += n
		}
	}
	return counts
}

// swapWhileHashing loads the next version of the file during each of the following hashes.
func (h *flooded) swapWhileHashing(versions ...string) {
	before := h.guard.verify
	h.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
		if len(versions) > 0 {
			reloadStore(h.t, h.store, versions[0])
			versions = versions[1:]
		}
		return before(class, hash, password)
	}
}

// TestNothingBeforeTheDecision swaps the file while a login computes its hash. Only the
// final answer is counted and logged: nothing for a login that passes, and one failed
// login otherwise.
func TestNothingBeforeTheDecision(t *testing.T) {
	t.Parallel()
	const (
		home  = "192.0.2.1"
		other = "carol:" + shaSecret1 + "\n"
	)
	for _, test := range []struct {
		name           string
		before         string
		isRecognized   bool // alice has logged in from there with "secret1"
		versions       []string
		user, password string
		want           string
		hashes         int64
		logged         []string // reasons
	}{
		{"an unknown user is added", other, false, []string{other + "alice:" + shaSecret1}, "alice", "secret1", loginPassed, 2, nil},
		{"an unknown user is added to an empty file", "dave:!\n" + other, false, []string{"alice:" + shaSecret1}, "alice", "secret1", loginPassed, 2, nil},
		{"an unknown user is added with another password", other, false, []string{other + "alice:" + apr1Secret2}, "alice", "secret1", loginWrong, 2, []string{resultReasons[resultWrongPassword]}},
		{"a password is reset to the one that is sent", "alice:" + apr1Secret2, false, []string{"alice:" + shaSecret1}, "alice", "secret1", loginPassed, 2, nil},
		{"a password is reset to another one", "alice:" + apr1Secret2, false, []string{"alice:" + bcrypt4Secret2}, "alice", "secret1", loginWrong, 2, []string{resultReasons[resultWrongPassword]}},
		{"a locked user is unlocked", "alice:!\n" + other, false, []string{"alice:" + shaSecret1}, "alice", "secret1", loginPassed, 2, nil},
		{"an invalid line is fixed", "alice:rubbish\n" + other, false, []string{"alice:" + shaSecret1}, "alice", "secret1", loginPassed, 2, nil},
		{"a user is removed", "alice:" + shaSecret1 + "\n" + other, false, []string{other}, "alice", "secret1", loginUnknown, 2, []string{resultReasons[resultUnknownUser]}},
		{"the last user is removed", "alice:" + shaSecret1, false, []string{""}, "alice", "secret1", loginUnknown, 1, []string{resultReasons[resultUnknownUser]}},
		{"the file changes twice", other, false, []string{"alice:" + apr1Secret2, "alice:" + shaSecret1}, "alice", "secret1", loginPassed, 3, nil},
		{"the file changes and changes back", "alice:" + apr1Secret2, false, []string{"alice:" + shaSecret1, "alice:" + apr1Secret2}, "alice", "secret1", loginWrong, 3, []string{resultReasons[resultWrongPassword]}},
		{"the line of another user changes", "alice:" + shaSecret1, false, []string{"alice:" + shaSecret1 + "\n" + other}, "alice", "secret2", loginWrong, 1, []string{resultReasons[resultWrongPassword]}},
		{"a recognized client sends the new password", "alice:" + shaSecret1, true, []string{"alice:" + apr1Secret2}, "alice", "secret2", loginPassed, 2, nil},
		{"a recognized client sends a wrong password", "alice:" + shaSecret1, true, []string{"alice:" + apr1Secret2}, "alice", "secret3", loginWrong, 2, []string{resultReasons[resultWrongPassword]}},
	} {
		t.Run(test.name, func(t *testing.T) {
			underFlood(t, &App{}, test.before, func(t *testing.T, h *flooded) {
				if test.isRecognized {
					h.expect(home, "alice", "secret1", loginPassed)
				}
				logger, logs := observed()
				h.logger = logger
				before := h.cost().hashes
				h.swapWhileHashing(test.versions...)
				h.expect(home, test.user, test.password, test.want)
				if got := h.cost().hashes - before; got != test.hashes {
					t.Errorf("got %d hashes, want %d", got, test.hashes)
				}
				var reasons []string
				for _, entry := range logs.FilterMessageSnippet("login failed").All() {
					reasons = append(reasons, entry.ContextMap()["reason"].(string))
				}
				if fmt.Sprint(reasons) != fmt.Sprint(test.logged) {
					t.Errorf("got %v in the log, want %v", reasons, test.logged)
				}
				n := len(test.logged)
				if got, want := h.guard.counts(), [scopeCount]int{n, n, n}; got != want {
					t.Errorf("got failed logins counted %v, want %v", got, want)
				}
				if n := h.openGuesses(); n != 0 {
					t.Errorf("got %d open guesses, want none", n)
				}
				// A password that was refused once passes when it is right.
				reloadStore(t, h.store, "alice:"+apr1Secret1+"\nbob:!")
				h.expect(home, "alice", "secret1", loginPassed)
			})
		})
	}
}

// TestSharedBeforeTheDecision has several logins wait for one hash while the user is
// added. Each passes, and nothing is counted for any of them.
func TestSharedBeforeTheDecision(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{Throttle: &Throttle{Login: &Limit{Failures: 1}}}, "carol:"+shaSecret1, func(t *testing.T, h *flooded) {
		logger, logs := observed()
		h.logger = logger
		h.swapWhileHashing("alice:" + shaSecret1)
		const n = 10
		answers := make(chan string, n)
		for i := range n {
			go func() { answers <- h.login(fmt.Sprint("192.0.2.", i), "alice", "secret1") }()
		}
		for range n {
			if got := <-answers; got != loginPassed {
				t.Errorf("got %s, want %s", got, loginPassed)
			}
		}
		if got := h.cost().hashes; got != 2 {
			t.Errorf("got %d hashes, want 2", got)
		}
		if got := h.guard.counts(); got != [scopeCount]int{} || logs.Len() != 0 {
			t.Errorf("got failed logins counted %v and logged\n%s\nwant none", got, logText(logs))
		}
	})
}

// TestGoneBeforeTheDecision has a recognized client go away after its guess was compared
// with a line that has then changed.
func TestGoneBeforeTheDecision(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][scopeCount]int{"alice:" + apr1Secret2: {}, "alice:" + shaSecret1 + "\nbob:!": {1, 1, 1}} {
		underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
			h.expect("192.0.2.1", "alice", "secret1", loginPassed)
			synctest.Wait()                                                                                                        // the slot is free again
			h.guard.settings = func() *settings { return &settings{limits: defaultLimits, keys: keyring.NewRing(&unlimitedKeys)} } // without workers no hash ever starts
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				c := credentialsOf("alice", "secret2")
				defer c.release()
				if _, err := h.check(ctx, origin{ip: "192.0.2.1"}, c); err == nil {
					t.Error("got no error, want one: there was no worker slot")
				}
			}()
			synctest.Wait()
			reloadStore(t, h.store, name)
			cancel()
			synctest.Wait()
			if got := h.guard.counts(); got != want {
				t.Errorf("%q: got failed logins counted %v, want %v", name, got, want)
			}
			if n := h.openGuesses(); n != 0 {
				t.Errorf("%q: got %d open guesses, want none", name, n)
			}
		})
	}
}

// TestFileThatNeverRests changes a user's line during every hash. The login ends without
// an answer about the password, and nothing is counted.
func TestFileThatNeverRests(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"secret1", "wrong"} {
		underFlood(t, &App{}, "alice:"+shaSecret1, func(t *testing.T, h *flooded) {
			logger, logs := observed()
			h.logger = logger
			versions := make([]string, 1000)
			for i := range versions {
				versions[i] = "alice:" + []string{apr1Secret1, shaSecret1}[i%2]
			}
			h.swapWhileHashing(versions...)
			start := time.Now()
			h.expect("192.0.2.1", "alice", password, errOverloaded.Error())
			if got := h.cost().hashes; got != maxRounds || time.Since(start) != maxRounds*hashTime {
				t.Errorf("got %d hashes in %s, want %d", got, time.Since(start), maxRounds)
			}
			if got := h.guard.counts(); got != [scopeCount]int{} || logs.Len() != 0 {
				t.Errorf("got failed logins counted %v and logged\n%s\nwant none", got, logText(logs))
			}
		})
	}
}
