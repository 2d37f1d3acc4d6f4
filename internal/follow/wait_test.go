//go:build unix

package follow

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// moves is a watch that reports renames as the test sets them.
type moves struct{ last uint64 }

func (*moves) add(string) error   { return nil }
func (*moves) isActive() bool     { return true }
func (m *moves) lastMove() uint64 { return m.last }
func (*moves) close()             {}

// bubbled is a file that is followed in the time of synctest.
type bubbled struct {
	*Follower
	*File
	*store
	t     *testing.T
	moves *moves
	logs  *observer.ObservedLogs
}

// followInBubble follows a file with a poll of 5 s, which has just passed.
func followInBubble(t *testing.T, path string) *bubbled {
	t.Helper()
	logger, logs := observed()
	f := &bubbled{File: NewFile(path), store: new(store), t: t, moves: new(moves), logs: logs}
	f.notices.watch = f.moves
	f.Follower = New(f.File, f.store.options(testPoll, logger))
	must(t, f.Reload(zap.NewNop()))
	t.Cleanup(func() { must(t, f.Follower.Close()) })
	time.Sleep(time.Second)
	return f
}

// change gives the file another text, by a rename or in place.
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

// with calls a function while no look is running.
func (f *bubbled) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// TestAwaitCurrent checks how long a failed login waits for the file.
func TestAwaitCurrent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// set makes a change or an error; the function that it returns ends the error.
		set    func(t *testing.T, f *bubbled) (over func())
		waits  []time.Duration // of three logins, one after the other
		serves string          // the first user after the first wait
	}{
		{"nothing has changed", func(*testing.T, *bubbled) func() { return nil }, []time.Duration{0, 0, 0}, "alice"},
		{"a file was moved to the name", func(t *testing.T, f *bubbled) func() {
			f.change(true, "bob:"+hash)
			return nil
		}, []time.Duration{0, 0, 0}, "bob"},
		{"the file was written in place", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+hash)
			return nil
		}, []time.Duration{SettleTime, 0, 0}, "bob"},
		{"the file was written in place, and is invalid", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "<html>")
			return nil
		}, []time.Duration{SettleTime, 0, 0}, "alice"},
		{"the file is deleted", func(t *testing.T, f *bubbled) func() {
			must(t, os.Remove(f.path))
			return nil
		}, []time.Duration{SettleTime, 0, 0}, "alice"},
		{"the file is deleted, and there again after a moment", func(t *testing.T, f *bubbled) func() {
			must(t, os.Remove(f.path))
			time.AfterFunc(SettleTime/2, func() { replace(t, f.path, "bob:"+hash) })
			return nil
		}, []time.Duration{2 * SettleTime, 0, 0}, "bob"},
		{"the file is empty, and most likely is being written", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "")
			return nil
		}, []time.Duration{SettleTime, 0, 0}, "alice"},
		{"the file keeps changing", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+hash)
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
		}, []time.Duration{MaxSettle, MaxSettle, MaxSettle}, "bob"},
		{"a look never ends", func(_ *testing.T, f *bubbled) func() {
			end := make(chan struct{})
			f.mu.Lock()
			defer f.mu.Unlock()
			f.stat = func(path string) (signature, error) {
				<-end
				return sign(path)
			}
			return func() { close(end) }
		}, []time.Duration{LookTime, 0, 0}, "alice"},
		{"a new version is never read to its end", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+hash)
			end := make(chan struct{})
			f.mu.Lock()
			defer f.mu.Unlock()
			f.fetch = func(path string) (string, signature, fs.FileMode, error) {
				<-end
				return readFile(path)
			}
			return func() { close(end) }
		}, []time.Duration{LookTime + MaxSettle, 0, 0}, "alice"},
		{"a new version takes a second to read", func(t *testing.T, f *bubbled) func() {
			overwrite(t, f.path, "bob:"+hash)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.fetch = func(path string) (string, signature, fs.FileMode, error) {
				time.Sleep(time.Second)
				return readFile(path)
			}
			return nil
		}, []time.Duration{SettleTime + time.Second, 0, 0}, "bob"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, "alice:"+hash)
			synctest.Test(t, func(t *testing.T) {
				f := followInBubble(t, path)
				over := test.set(t, f)
				for i, want := range test.waits {
					start := time.Now()
					f.Await(t.Context())
					if took := time.Since(start); took != want {
						t.Errorf("login %d waits for %s, want %s", i+1, took, want)
					}
					if got := f.firstUser(); i == 0 && got != test.serves {
						t.Errorf("the first user is %s, want %s", got, test.serves)
					}
				}
				if over == nil {
					return
				}
				over() // from then on logins wait again
				time.Sleep(testPoll)
				replace(t, f.path, "carol:"+hash)
				f.Await(t.Context())
				if got := f.firstUser(); got != "carol" {
					t.Errorf("when it is over, the first user is %s, want carol", got)
				}
			})
		})
	}
}

// TestReloadIsPending checks that failed logins wait for a reload that waits until
// the file is unchanged.
func TestReloadIsPending(t *testing.T) {
	t.Parallel()
	w := watchText(t, fileA)
	overwrite(t, w.path, fileB)
	var pending []bool
	w.stat = func(path string) (signature, error) {
		pending = append(pending, w.pending.Load())
		sig, err := sign(path)
		sig.ctime = time.Now().UnixNano() // just changed
		if len(pending) > 1 {
			sig.ctime = w.loaded.(signature).ctime + 1
		}
		return sig, err
	}
	must(t, w.Reload(w.logger))
	w.serves("reloaded", "alice", "bob")
	if len(pending) < 2 || pending[0] || !pending[1] || w.pending.Load() {
		t.Errorf("pending at each look %v, in the end %v, want only while it waits", pending, w.pending.Load())
	}
}

// TestNoLostWake checks that a wait for a pending change ends with the look that
// reads the change, even if that look has begun before.
func TestNoLostWake(t *testing.T) {
	t.Parallel()
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

// TestSettledAtTheLastMoment reads a change at the moment at which a wait for it
// ends: that wait has not timed out, and the next one waits again.
func TestSettledAtTheLastMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newTestFollower("/none") // without the goroutine that looks
		f.pending.Store(true)
		waits := make(chan struct{})
		go func() {
			defer close(waits)
			f.Await(t.Context())
		}()
		synctest.Wait()
		f.end(f.begin()) // a look that finds the change
		time.Sleep(LookTime - time.Millisecond)
		f.pending.Store(false) // it has been read, and the look is almost over
		time.Sleep(time.Millisecond)
		<-waits
		if f.timedOut.Load() {
			t.Error("the wait has timed out")
		}
		f.end(f.begin())
	})
}

// TestManyAwait makes a thousand logins fail at once while a look hangs: they share
// the looks, and each ends after its time, or with its client.
func TestManyAwait(t *testing.T) {
	t.Parallel()
	path := writeFile(t, fileA)
	synctest.Test(t, func(t *testing.T) {
		f := followInBubble(t, path)
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
				f.Await(ctx)
				if time.Since(start) == 0 {
					canceled.Add(1)
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		if took := time.Since(start); took != LookTime || canceled.Load() != 500 {
			t.Errorf("%d are gone at once, the others after %s, want 500 and %s", canceled.Load(), took, LookTime)
		}
		close(end)
		synctest.Wait()
		if n := looks.Load(); n > 3 {
			t.Errorf("%d looks for 1000 logins at once, want at most 3", n)
		}
	})
}

// TestReadsAreFew makes logins fail all the time: an empty, broken or racy file is
// not read again for each of them.
func TestReadsAreFew(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "broken": "<html>", "good": fileB} {
		for _, isFresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, fresh: %v", name, isFresh), func(t *testing.T) {
				path := writeFile(t, fileA)
				synctest.Test(t, func(t *testing.T) {
					f := followInBubble(t, path)
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
						f.Await(t.Context())
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
