//go:build unix

package caddyhtpasswd

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// moves is a watch that says that files are moved to their names, or not.
type moves struct{ last uint64 }

func (*moves) add(string) error   { return nil }
func (*moves) isActive() bool     { return true }
func (m *moves) lastMove() uint64 { return m.last }
func (*moves) close()             {}

// bubbled is a file that is followed in the time of synctest.
type bubbled struct {
	*followedFile
	t     *testing.T
	moves *moves
	logs  *observer.ObservedLogs
}

// followInBubble follows a file with a poll of 5 s, which has just passed.
func followInBubble(t *testing.T, path string, s interface {
	load(string, *zap.Logger) error
	follow(*followedFile)
}) *bubbled {
	t.Helper()
	_, logs := put(t, testPoll)
	f := &bubbled{newFollowedFile(path, s.load), t, new(moves), logs}
	s.follow(f.followedFile)
	notices := newDirectoryNotices(path)
	notices.watch = f.moves
	f.notices = notices
	f.startOnce.Do(func() {
		go func() {
			defer close(f.done)
			f.followWith(notices)
		}()
	})
	must(t, f.reload(zap.NewNop()))
	t.Cleanup(func() { must(t, f.Destruct()) })
	time.Sleep(time.Second)
	return f
}

// change gives the file another text, by a move or in place.
func (f *bubbled) change(isMoved bool, text string) {
	f.t.Helper()
	if !isMoved {
		overwrite(f.t, f.path, text)
		return
	}
	f.with(func() {
		replace(f.t, f.path, text)
		f.moves.last++
	})
}

// with calls a function while no look is under way.
func (f *bubbled) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// TestAwaitCurrent is how long a login that fails waits for the file.
func TestAwaitCurrent(t *testing.T) {
	for _, test := range []struct {
		name string
		// set makes a change, or has something go wrong; what it returns is called in the end.
		set    func(t *testing.T, f *bubbled) (over func())
		waits  []time.Duration // of three logins, one after the other
		serves string          // the first user, when the first one has waited
	}{
		{"nothing has changed", func(*testing.T, *bubbled) func() { return nil }, []time.Duration{0, 0, 0}, "alice"},
		{"a file was moved to the name", func(t *testing.T, f *bubbled) func() {
			f.change(true, "bob:"+shaSecret1)
			return nil
		}, []time.Duration{0, 0, 0}, "bob"},
		{"the file was written in place", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+shaSecret1)
			return nil
		}, []time.Duration{settleTime, 0, 0}, "bob"},
		{"the file was written in place, and then is broken", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "<html>")
			return nil
		}, []time.Duration{settleTime, 0, 0}, "alice"},
		{"the file is deleted", func(t *testing.T, f *bubbled) func() {
			must(t, os.Remove(f.path))
			return nil
		}, []time.Duration{settleTime, 0, 0}, "alice"},
		{"the file is deleted, and there again after a moment", func(t *testing.T, f *bubbled) func() {
			must(t, os.Remove(f.path))
			time.AfterFunc(settleTime/2, func() { replace(t, f.path, "bob:"+shaSecret1) })
			return nil
		}, []time.Duration{2 * settleTime, 0, 0}, "bob"},
		{"the file is empty, and most likely is being written", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "")
			return nil
		}, []time.Duration{settleTime, 0, 0}, "alice"},
		{"the file never stands still", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+shaSecret1)
			f.mu.Lock()
			defer f.mu.Unlock()
			var looks int64
			f.stat = func(path string) (signature, error) {
				sig, err := sign(path)
				looks++
				sig.ctime += looks
				return sig, err
			}
			return nil
		}, []time.Duration{maxSettle, maxSettle, maxSettle}, "bob"},
		{"a look never ends", func(_ *testing.T, f *bubbled) func() {
			end := make(chan struct{})
			f.mu.Lock()
			defer f.mu.Unlock()
			f.stat = func(path string) (signature, error) {
				<-end
				return sign(path)
			}
			return func() { close(end) }
		}, []time.Duration{lookTime, 0, 0}, "alice"},
		{"a new version is never read to its end", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+shaSecret1)
			end := make(chan struct{})
			f.mu.Lock()
			defer f.mu.Unlock()
			f.fetch = func(path string) (string, signature, fs.FileMode, error) {
				<-end
				return readFile(path)
			}
			return func() { close(end) }
		}, []time.Duration{lookTime + maxSettle, 0, 0}, "alice"},
		{"a new version takes a second to read", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+shaSecret1)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.fetch = func(path string) (string, signature, fs.FileMode, error) {
				time.Sleep(time.Second)
				return readFile(path)
			}
			return nil
		}, []time.Duration{settleTime + time.Second, 0, 0}, "bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, "alice:"+shaSecret1)
			synctest.Test(t, func(t *testing.T) {
				store := newUserStore(path)
				f := followInBubble(t, path, store)
				over := test.set(t, f)
				for i, want := range test.waits {
					start := time.Now()
					store.awaitCurrent(t.Context())
					if took := time.Since(start); took != want {
						t.Errorf("login %d waits for %s, want %s", i+1, took, want)
					}
					if got := store.current.Load().file.All[0].Name; i == 0 && got != test.serves {
						t.Errorf("the first user is %s, want %s", got, test.serves)
					}
				}
				if over == nil {
					return
				}
				over() // from then on logins wait again
				time.Sleep(testPoll)
				replace(t, f.path, "carol:"+shaSecret1)
				store.awaitCurrent(t.Context())
				if got := store.current.Load().file.All[0].Name; got != "carol" {
					t.Errorf("when it is over, the first user is %s, want carol", got)
				}
			})
		})
	}
}

// TestReloadIsPending is a reload of the configuration that waits for the file to
// stand still, and has the file for itself: logins that fail wait for it.
func TestReloadIsPending(t *testing.T) {
	w := watchText(t, fileA)
	overwrite(t, w.path, fileB)
	var pending []bool
	w.stat = func(path string) (signature, error) {
		pending = append(pending, w.pending.Load())
		sig, err := sign(path)
		sig.ctime = time.Now().UnixNano() // just changed
		if len(pending) > 1 {
			sig.ctime = w.loaded.ctime + 1
		}
		return sig, err
	}
	must(t, w.reload(w.logger))
	w.serves("reloaded", "alice", "bob")
	if len(pending) < 2 || pending[0] || !pending[1] || w.pending.Load() {
		t.Errorf("pending at each look %v, in the end %v, want only while it waits", pending, w.pending.Load())
	}
}

// TestNoLostWake is a login that learns that a change is pending while the look is
// under way that reads it: that one ends its wait.
func TestNoLostWake(t *testing.T) {
	c := new(catchUp)
	c.pending.Store(true)
	asked := c.begin()
	settled := c.untilSettled()
	c.pending.Store(false)
	c.end(asked)
	select {
	case <-settled:
	default:
		t.Error("the login waits on")
	}
	if c.untilSettled() != nil {
		t.Error("there is something to wait for when nothing is pending")
	}
	c.pending.Store(true)
	settled = c.untilSettled()
	c.end(c.begin())
	select {
	case <-settled:
		t.Error("the wait ends while the change is pending")
	default:
	}
}

// TestManyAwait has a thousand logins fail at once, while a look hangs: they
// share the looks, and each is gone when its time is over, or its client.
func TestManyAwait(t *testing.T) {
	path := writeFile(t, fileA)
	synctest.Test(t, func(t *testing.T) {
		store := newUserStore(path)
		f := followInBubble(t, path, store)
		var looks atomic.Int64
		end := make(chan struct{})
		f.mu.Lock()
		f.stat = func(path string) (signature, error) {
			looks.Add(1)
			<-end
			return sign(path)
		}
		f.mu.Unlock()
		gone, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		start := time.Now()
		var canceled atomic.Int64
		for i := range 1000 {
			ctx := t.Context()
			if i%2 == 0 {
				ctx = gone
			}
			group.Go(func() {
				store.awaitCurrent(ctx)
				if time.Since(start) == 0 {
					canceled.Add(1)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		if took := time.Since(start); took != lookTime || canceled.Load() != 500 {
			t.Errorf("%d are gone at once, the others after %s, want 500 and %s", canceled.Load(), took, lookTime)
		}
		close(end)
		synctest.Wait()
		if n := looks.Load(); n > 3 {
			t.Errorf("%d looks for 1000 logins at once, want at most 3", n)
		}
	})
}

// TestReadsAreFew has logins fail all the time: they don't have a file read
// again and again that is empty, broken, or fresh.
func TestReadsAreFew(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "broken": "<html>", "good": fileB} {
		for _, isFresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fresh: %v", name, isFresh), func(t *testing.T) {
				path := writeFile(t, fileA)
				synctest.Test(t, func(t *testing.T) {
					store := newUserStore(path)
					f := followInBubble(t, path, store)
					reads, start := 0, time.Now().UnixNano()
					f.with(func() {
						at := func(sig signature) signature {
							if isFresh {
								sig.ctime = start
							}
							return sig
						}
						f.fetch = func(path string) (string, signature, fs.FileMode, error) {
							reads++
							text, sig, mode, err := readFile(path)
							return text, at(sig), mode, err
						}
						f.stat = func(path string) (signature, error) {
							sig, err := sign(path)
							return at(sig), err
						}
					})
					f.change(true, text)
					for range 1000 {
						store.awaitCurrent(t.Context())
						time.Sleep(time.Millisecond)
					}
					f.mu.Lock()
					defer f.mu.Unlock()
					if reads < 1 || reads > 8 {
						t.Errorf("%d reads in a second, want at most 8", reads)
					}
				})
			})
		}
	}
}

// TestJudgedByThePendingVersion changes the file on disk, and has somebody log
// in before anything has noticed: what is on disk decides, however the old
// version would have refused it, and nothing is counted or logged on the way.
func TestJudgedByThePendingVersion(t *testing.T) {
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
		{"a user is added", "carol:" + shaSecret1, nil, "alice:" + shaSecret1, "alice", "secret1", good, 0, 0},
		{"a user is added to a file without users", "# none\n", nil, "alice:" + shaSecret1, "alice", "secret1", good, 0, 0},
		{"another user is added", "carol:" + shaSecret1, nil, "alice:" + shaSecret1, "bob", "secret1", nobody, 1, 1},
		{"a password is reset", "alice:" + apr1Secret2, nil, "alice:" + shaSecret1, "alice", "secret1", good, 0, 0},
		{"a password is reset, and the old one is sent by somebody who is not recognized", "alice:" + shaSecret1, nil, "alice:" + apr1Secret2, "alice", "secret1", wrong, 1, 1},
		{"a password is reset, and the new one sent by a recognized client", "alice:" + apr1Secret2,
			func(h *flooded) { h.expect(home, "alice", "secret2", good) }, "alice:" + shaSecret1, "alice", "secret1", good, 0, 0},
		{"the password that was wrong is right", "alice:" + apr1Secret2,
			func(h *flooded) { h.expect(home, "alice", "secret1", wrong) }, "alice:" + shaSecret1, "alice", "secret1", good, 1, 1},
		{"a locked user is unlocked", "alice:!\n", nil, "alice:" + shaSecret1, "alice", "secret1", good, 0, 0},
		{"a password is reset when the limits are exceeded", "alice:" + apr1Secret2, func(h *flooded) {
			for i := range 12 {
				h.login(home, "alice", fmt.Sprint("guess", i))
			}
			h.expect(home, "alice", "secret2", overBudget)
		}, "alice:" + shaSecret1, "alice", "secret1", good, 10, 11},
		{"the limits are exceeded, and another user is added", "alice:" + apr1Secret2, func(h *flooded) {
			for i := range 12 {
				h.login(home, "alice", fmt.Sprint("guess", i))
			}
		}, "alice:" + apr1Secret2 + "\nbob:!", "alice", "secret2", overBudget, 10, 11},
	} {
		for _, isMoved := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, moved: %v", test.name, isMoved), func(t *testing.T) {
				path := writeFile(t, test.before)
				underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
					store := newUserStore(path)
					f := followInBubble(t, path, store)
					h.users, h.store = userStores{store}, store
					logger, logs := observed()
					h.logger = logger
					if test.set != nil {
						test.set(h)
						time.Sleep(time.Second)
					}
					f.change(isMoved, test.after)
					start := time.Now()
					before := h.spent().hashes
					h.expect(home, test.user, test.password, test.want)
					most := time.Duration(h.spent().hashes-before) * hashTime
					if !isMoved {
						most += settleTime
					}
					if took := time.Since(start); took != most {
						t.Errorf("after %s, want %s", took, most)
					}
					if n := h.spent().hashes - before; n > 1 {
						t.Errorf("%d hashes, want at most 1", n)
					}
					if got := h.guard.failures()[clientScope]; got != test.failures || logs.Len() != test.lines {
						t.Errorf("%d failures spent, %d lines, want %d and %d:\n%s", got, logs.Len(), test.failures, test.lines, logText(logs))
					}
					if n := h.openGuesses(); n != 0 {
						t.Errorf("%d guesses are open, want none", n)
					}
				})
			})
		}
	}
}

// TestPendingHoldsNoSlot has logins wait for a change while others need the
// only worker slot.
func TestPendingHoldsNoSlot(t *testing.T) {
	path, other := writeFile(t, "alice:"+shaSecret1), storeOf(t, "bob:"+shaSecret1)
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		store := newUserStore(path)
		followInBubble(t, path, store)
		h.users, h.store = userStores{store}, store
		site := &flooded{handlerOf(userStores{other}, &memory{now: time.Now}), t, other}
		site.guard = h.guard
		overwrite(t, path, "alice:"+apr1Secret2)
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() { h.login(fmt.Sprint("10.0.0.", i), "alice", "wrong") })
		}
		synctest.Wait()
		if busy, waiting := h.guard.slots.state(); busy != 0 || waiting != 0 {
			t.Errorf("%d slots taken, %d waiting, want none", busy, waiting)
		}
		start := time.Now()
		site.expect("192.0.2.1", "bob", "secret1", good)
		if took := time.Since(start); took != hashTime {
			t.Errorf("another site's login took %s, want %s", took, hashTime)
		}
		group.Wait()
	})
}

// TestOneWait rewrites the line of a user without end: a login waits for the
// file once, however often the line is another one by then.
func TestOneWait(t *testing.T) {
	path := writeFile(t, "alice:"+shaSecret1)
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		store := newUserStore(path)
		f := followInBubble(t, path, store)
		h.users, h.store = userStores{store}, store
		f.with(func() {
			changes := int64(0)
			f.stat = func(path string) (signature, error) {
				sig, err := sign(path)
				changes++
				sig.ctime += changes
				return sig, err
			}
			f.fetch = func(path string) (string, signature, fs.FileMode, error) {
				_, sig, mode, err := readFile(path)
				return "alice:" + []string{shaSecret1, apr1Secret1}[changes%2], sig, mode, err
			}
		})
		for range 5 {
			start := time.Now()
			got := h.login("192.0.2.1", "alice", "wrong")
			if took := time.Since(start); got != wrong || took > maxSettle+lookTime+2*hashTime {
				t.Errorf("%s after %s, want %s after at most %s and two hashes", got, took, wrong, maxSettle+lookTime)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// TestNoLookForWhoIsIn counts what a request with a cached password does to
// the file: nothing.
func TestNoLookForWhoIsIn(t *testing.T) {
	path := writeFile(t, "alice:"+shaSecret1)
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		store := newUserStore(path)
		f := followInBubble(t, path, store)
		h.users, h.store = userStores{store}, store
		h.expect("192.0.2.1", "alice", "secret1", good)
		synctest.Wait()
		looks := 0
		f.mu.Lock()
		f.stat = func(path string) (signature, error) { looks++; return sign(path) }
		f.mu.Unlock()
		for range 100 {
			h.expect("192.0.2.1", "alice", "secret1", good)
		}
		synctest.Wait()
		if looks != 0 {
			t.Errorf("%d looks at the file, want none", looks)
		}
	})
}

// neverHashed is for tests in which no hash may be computed.
func neverHashed(t *testing.T) func(crypt.Class, string, []byte) bool {
	return func(crypt.Class, string, []byte) bool {
		t.Error("a hash is computed")
		return false
	}
}

// TestFailsWhileTheFileHangs is a login while the file's server is gone: it is
// judged by the version that is loaded, after a bounded wait.
func TestFailsWhileTheFileHangs(t *testing.T) {
	path := writeFile(t, "alice:!\n")
	underFlood(t, &App{}, "", func(t *testing.T, h *flooded) {
		h.guard.verify = neverHashed(t)
		store := newUserStore(path)
		f := followInBubble(t, path, store)
		h.users, h.store = userStores{store}, store
		end := make(chan struct{})
		defer close(end)
		f.mu.Lock()
		f.stat = func(string) (signature, error) { <-end; return signature{}, os.ErrDeadlineExceeded }
		f.mu.Unlock()
		for i, want := range []time.Duration{lookTime, 0, 0} {
			start := time.Now()
			if got := h.login("192.0.2.1", "alice", "x"); !strings.Contains(got, "locked") || time.Since(start) != want {
				t.Errorf("login %d: %s after %s, want it refused after %s", i+1, got, time.Since(start), want)
			}
		}
		if f.logs.FilterMessageSnippet("can't be used").Len() != 0 {
			t.Error("a failure is logged that is not known yet")
		}
	})
}
