//go:build unix

package caddyhtpasswd

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// testSource is a source whose text a test changes, without a notification.
type testSource struct {
	onLook func(s *testSource) (err error) // called by Version, unless nil

	mu         sync.Mutex
	text       string
	revision   revision
	isComplete bool // the text is completely written
	looks      int
}

// revision counts the texts of a testSource.
type revision int

func (revision) IsRacy(time.Time) bool { return false }

func (*testSource) Name() string             { return "test" }
func (*testSource) Changed() <-chan struct{} { return nil }

func (s *testSource) Version() (follow.Version, error) {
	s.mu.Lock()
	s.looks++
	onLook := s.onLook
	s.mu.Unlock()
	if onLook != nil {
		if err := onLook(s); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision, nil
}

func (s *testSource) Fetch() (string, follow.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text, s.revision, nil
}

// IsComplete implements follow.Completer.
func (s *testSource) IsComplete(follow.Version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isComplete
}

// change changes the text of the source. The text is complete, or only its first half.
func (s *testSource) change(text string, isComplete bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.isComplete = text, isComplete
	s.revision++
}

// atLook makes Version call a function.
func (s *testSource) atLook(do func(s *testSource) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onLook, s.looks = do, 0
}

// followTestSource makes a handler follow a source with a text. It polls every 5 s of
// synctest's time, and has just polled.
func (h *flooded) followTestSource(text string) (*testSource, *observer.ObservedLogs) {
	h.t.Helper()
	const poll = 5 * time.Second
	logger, logs := observed()
	source, store := &testSource{text: text}, newUserStore("test")
	options := process.sources.followOptions(store.load)
	options.Settings = func() (follow.Settings, <-chan struct{}) { return follow.Settings{Poll: poll, Logger: logger}, nil }
	f := follow.New(source, options)
	store.follow(f)
	must(h.t, f.Reload(zap.NewNop()))
	h.t.Cleanup(func() { must(h.t, f.Close()) })
	time.Sleep(time.Second)
	h.users.fixed, h.store = userStores{store}, store
	return source, logs
}

// TestJudgedByThePendingVersion changes the source, and a user logs in before the change
// is noticed. The new version decides, even if the previous version would have refused the
// login, and nothing is counted or logged before.
func TestJudgedByThePendingVersion(t *testing.T) {
	t.Parallel()
	const home = "192.0.2.1"
	for _, test := range []struct {
		name            string
		before          string
		set             func(h *flooded) // before the change
		after           string
		user, password  string
		want            string
		failures, lines int
	}{
		{"a user is added", "carol:" + shaSecret1, nil, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 0, 0},
		{"a user is added to a file without users", "# none\n", nil, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 0, 0},
		{"another user is added", "carol:" + shaSecret1, nil, "alice:" + shaSecret1, "bob", "secret1", loginUnknown, 1, 1},
		{"a password is reset", "alice:" + apr1Secret2, nil, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 0, 0},
		{"a password is reset, and a client that is not recognized sends the old one", "alice:" + shaSecret1, nil, "alice:" + apr1Secret2, "alice", "secret1", loginWrong, 1, 1},
		{"a password is reset, and the new one sent by a recognized client", "alice:" + apr1Secret2,
			func(h *flooded) { h.expect(home, "alice", "secret2", loginPassed) }, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 0, 0},
		{"the password that was wrong is right", "alice:" + apr1Secret2,
			func(h *flooded) { h.expect(home, "alice", "secret1", loginWrong) }, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 1, 1},
		{"a locked user is unlocked", "alice:!\n", nil, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 0, 0},
		{"a password is reset when the limits are exceeded", "alice:" + apr1Secret2, func(h *flooded) {
			for i := range 12 {
				h.login(home, "alice", fmt.Sprint("guess", i))
			}
			h.expect(home, "alice", "secret2", loginThrottled)
		}, "alice:" + shaSecret1, "alice", "secret1", loginPassed, 10, 11},
		{"the limits are exceeded, and another user is added", "alice:" + apr1Secret2, func(h *flooded) {
			for i := range 12 {
				h.login(home, "alice", fmt.Sprint("guess", i))
			}
		}, "alice:" + apr1Secret2 + "\nbob:!", "alice", "secret2", loginThrottled, 10, 11},
	} {
		for _, isComplete := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, complete at once: %v", test.name, isComplete), func(t *testing.T) {
				underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
					source, _ := h.followTestSource(test.before)
					logger, logs := observed()
					h.logger = logger
					if test.set != nil {
						test.set(h)
						time.Sleep(time.Second)
					}
					source.change(test.after, isComplete)
					start := time.Now()
					before := h.cost().hashes
					h.expect(home, test.user, test.password, test.want)
					most := time.Duration(h.cost().hashes-before) * hashTime
					if !isComplete {
						most += follow.SettleTime
					}
					if took := time.Since(start); took != most {
						t.Errorf("after %s, want %s", took, most)
					}
					if n := h.cost().hashes - before; n > 1 {
						t.Errorf("%d hashes, want at most 1", n)
					}
					if got := h.guard.counts()[scopeClient]; got != test.failures || logs.Len() != test.lines {
						t.Errorf("got %d failed logins counted and %d lines, want %d and %d:\n%s", got, logs.Len(), test.failures, test.lines, logText(logs))
					}
					if n := h.openGuesses(); n != 0 {
						t.Errorf("%d guesses are open, want none", n)
					}
				})
			})
		}
	}
}

// TestPendingHoldsNoSlot has logins wait for a change while others need the only worker
// slot.
func TestPendingHoldsNoSlot(t *testing.T) {
	t.Parallel()
	other := storeOf(t, "bob:"+shaSecret1)
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("alice:" + shaSecret1)
		site := &flooded{handlerOf(userStores{other}, &cachePolicy{now: time.Now}), t, other}
		site.guard = h.guard
		source.change("alice:"+apr1Secret2, false)
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() { h.login(fmt.Sprint("10.0.0.", i), "alice", "wrong") })
		}
		synctest.Wait()
		if busy, waiting := h.guard.queue.State(); busy != 0 || waiting != 0 {
			t.Errorf("%d slots taken, %d waiting, want none", busy, waiting)
		}
		start := time.Now()
		site.expect("192.0.2.1", "bob", "secret1", loginPassed)
		if took := time.Since(start); took != hashTime {
			t.Errorf("another site's login took %s, want %s", took, hashTime)
		}
		group.Wait()
	})
}

// TestOneWait changes the line of a user all the time. A login waits for the source once,
// however often the line changes.
func TestOneWait(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("alice:" + shaSecret1)
		source.atLook(func(s *testSource) error {
			s.change("alice:"+[]string{shaSecret1, apr1Secret1}[s.revision%2], false)
			return nil
		})
		for range 5 {
			start := time.Now()
			got := h.login("192.0.2.1", "alice", "wrong")
			if took := time.Since(start); got != loginWrong || took > follow.MaxSettle+follow.LookTime+2*hashTime {
				t.Errorf("%s after %s, want %s after at most %s and two hashes", got, took, loginWrong, follow.MaxSettle+follow.LookTime)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestNoReadForLoggedInUsers checks that a request with a cached password does not use the
// source.
func TestNoReadForLoggedInUsers(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		source, _ := h.followTestSource("alice:" + shaSecret1)
		h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		synctest.Wait()
		source.atLook(nil)
		for range 100 {
			h.expect("192.0.2.1", "alice", "secret1", loginPassed)
		}
		synctest.Wait()
		if source.looks != 0 {
			t.Errorf("%d looks at the source, want none", source.looks)
		}
	})
}

// neverHashed is for tests in which no hash may be computed.
func neverHashed(t *testing.T) func(crypt.Class, string, []byte) bool {
	return func(crypt.Class, string, []byte) bool {
		t.Error("got a hash computed, want none")
		return false
	}
}

// TestFailsWhileTheSourceHangs logs in while the source does not respond. After a bounded
// wait, the loaded version decides.
func TestFailsWhileTheSourceHangs(t *testing.T) {
	t.Parallel()
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		h.guard.verify = neverHashed(t)
		source, logs := h.followTestSource("alice:!\n")
		end := make(chan struct{})
		defer close(end)
		source.atLook(func(*testSource) error { <-end; return os.ErrDeadlineExceeded })
		for i, want := range []time.Duration{follow.LookTime, 0, 0} {
			start := time.Now()
			if got := h.login("192.0.2.1", "alice", "x"); !strings.Contains(got, "locked") || time.Since(start) != want {
				t.Errorf("login %d: %s after %s, want it refused after %s", i+1, got, time.Since(start), want)
			}
		}
		if logs.FilterMessageSnippet("cannot load file").Len() != 0 {
			t.Error("got a failed load in the log, want none: it is not known yet")
		}
	})
}
