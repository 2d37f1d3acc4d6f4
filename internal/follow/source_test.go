package follow_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

const poll = 5 * time.Second

// memory is a source without a file: a text in memory. It implements none of the
// optional interfaces.
type memory struct {
	changed chan struct{}

	mu       sync.Mutex
	text     string
	revision revision
	err      error         // of Version and Fetch
	hang     chan struct{} // Version returns when this is closed; nil: at once
	isTorn   bool          // the text changes whenever it is read
	fetches  int
}

// revision is the version of a memory: a number, and until when the text can
// change while the number stays the same.
type revision struct {
	number    int
	racyUntil time.Time
}

func (r revision) IsRacy(now time.Time) bool { return now.Before(r.racyUntil) }

func (*memory) Name() string               { return "memory" }
func (m *memory) Changed() <-chan struct{} { return m.changed }

func (m *memory) Version() (follow.Version, error) {
	m.mu.Lock()
	hang := m.hang
	m.mu.Unlock()
	if hang != nil {
		<-hang
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	return m.revision, nil
}

func (m *memory) Fetch() (string, follow.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetches++
	switch {
	case m.err != nil:
		return "", nil, m.err
	case m.isTorn:
		return m.text, nil, nil
	}
	return m.text, m.revision, nil
}

// with changes the source without a notification.
func (m *memory) with(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// write gives the source another text without a notification.
func (m *memory) write(text string) {
	m.with(func() {
		m.text = text
		m.revision.number++
	})
}

// notify signals a change.
func (m *memory) notify() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// database is a memory all versions of which are complete.
type database struct{ *memory }

func (database) IsComplete(follow.Version) bool { return true }

// scene is a source that is followed in the time of synctest.
type scene struct {
	*memory
	*follow.Follower
	t    *testing.T
	logs *observer.ObservedLogs

	loadedMu sync.Mutex
	loaded   []string // all texts that were loaded
}

// active returns what was loaded last.
func (s *scene) active() string {
	synctest.Wait()
	s.loadedMu.Lock()
	defer s.loadedMu.Unlock()
	return s.loaded[len(s.loaded)-1]
}

// inBubble runs a test with a source whose text is "old", which has been followed for a second.
func inBubble(t *testing.T, isDatabase bool, run func(t *testing.T, s *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		s := &scene{memory: &memory{text: "old", changed: make(chan struct{}, 1)}, t: t, logs: logs}
		var source follow.Source = s.memory
		if isDatabase {
			source = database{s.memory}
		}
		s.Follower = follow.New(source, follow.Options{
			Load: func(text string, _ *zap.Logger) error {
				if strings.HasPrefix(text, "bad") {
					return fmt.Errorf("text is %s", text)
				}
				s.loadedMu.Lock()
				defer s.loadedMu.Unlock()
				s.loaded = append(s.loaded, text)
				return nil
			},
			Settings: func() (follow.Settings, <-chan struct{}) {
				return follow.Settings{Poll: poll, Logger: zap.New(core)}, nil
			},
		})
		if err := s.Reload(zap.NewNop()); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.Sleep(time.Second)
		s.is("old", "at the start")
		run(t, s)
	})
}

// is fails if another text is active now.
func (s *scene) is(text, when string) {
	s.t.Helper()
	if got := s.active(); got != text {
		s.t.Fatalf("%s: text is %q, want %q", when, got, text)
	}
}

// has fails if the failure, or the number of logged failures, differs.
func (s *scene) has(failure string, failures int, when string) {
	s.t.Helper()
	synctest.Wait()
	status, logged := s.Status(), s.logs.FilterMessageSnippet("cannot load file").Len()
	if status.Failure != failure || status.Failures != failures || logged != failures {
		s.t.Fatalf("%s: status is %+v, logged %d times, want %q and %d failures", when, status, logged, failure, failures)
	}
}

// wasRead fails if the number of reads differs.
func (s *scene) wasRead(times int) {
	s.t.Helper()
	synctest.Wait()
	s.with(func() {
		if s.fetches != times {
			s.t.Errorf("read %d times, want %d", s.fetches, times)
		}
	})
}

// warner is a source whose warnings hang until hang is closed.
type warner struct {
	*memory
	hang chan struct{}
}

func (w warner) Warn(*zap.Logger) { <-w.hang }

// TestWarningDelaysNoVersion has a warning that hangs, such as one that asks a directory
// service for a name. The new version is active.
func TestWarningDelaysNoVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source, loaded := warner{&memory{text: "new"}, make(chan struct{})}, ""
		f := follow.New(source, follow.Options{
			Load: func(text string, _ *zap.Logger) error {
				loaded = text
				return nil
			},
			Settings: func() (follow.Settings, <-chan struct{}) {
				return follow.Settings{Poll: poll, Logger: zap.NewNop()}, nil
			},
		})
		reloaded := make(chan error, 1)
		go func() { reloaded <- f.Reload(zap.NewNop()) }()
		synctest.Wait()
		if loaded != "new" {
			t.Errorf("while a warning hangs: got the text %q, want new", loaded)
		}
		close(source.hang)
		if err := <-reloaded; err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnySource follows a source that is not a file.
func TestAnySource(t *testing.T) {
	t.Parallel()
	const instant = time.Millisecond // time of synctest
	for _, test := range []struct {
		name       string
		isDatabase bool
		run        func(t *testing.T, s *scene)
	}{
		{"a change is read after the settling time", false, func(_ *testing.T, s *scene) {
			s.write("new")
			s.notify()
			time.Sleep(follow.SettleTime - instant)
			s.is("old", "before the settling time")
			time.Sleep(2 * instant)
			s.is("new", "after it")
			s.has("", 0, "in the end")
		}},
		{"a change that goes on is not read before it is complete", false, func(_ *testing.T, s *scene) {
			for i := range 5 {
				s.write(fmt.Sprint("half", i))
				s.notify()
				time.Sleep(follow.SettleTime - instant)
				s.is("old", "while it goes on")
			}
			time.Sleep(2 * instant)
			s.is("half4", "when it has ended")
		}},
		{"a change that never ends is read after the longest wait", false, func(t *testing.T, s *scene) {
			start := time.Now()
			for i := 0; s.active() == "old"; i++ {
				s.write(fmt.Sprint("new", i))
				s.notify()
				time.Sleep(follow.SettleTime / 2)
				if time.Since(start) > 2*follow.MaxSettle {
					t.Fatal("not read after twice the longest wait")
				}
			}
			if took := time.Since(start); took < follow.MaxSettle {
				t.Errorf("read after %s, want at least %s", took, follow.MaxSettle)
			}
		}},
		{"a version that is known to be complete is read at once", true, func(_ *testing.T, s *scene) {
			s.write("new")
			s.notify()
			s.is("new", "at once")
		}},
		{"without a notification the poll finds the change", false, func(_ *testing.T, s *scene) {
			s.write("new")
			time.Sleep(poll)
			s.is("new", "after a poll")
		}},
		{"text that changes while it is read is not loaded", false, func(_ *testing.T, s *scene) {
			s.with(func() { s.isTorn = true })
			s.write("new")
			s.notify()
			time.Sleep(follow.MaxSettle - follow.SettleTime)
			s.is("old", "while it changes")
			s.with(func() { s.isTorn = false })
			time.Sleep(2 * follow.SettleTime)
			s.is("new", "when the change has ended")
		}},
		{"a rejected text changes nothing", false, func(_ *testing.T, s *scene) {
			s.write("bad")
			s.notify()
			time.Sleep(10 * poll)
			s.is("old", "rejected")
			s.has("text is bad", 1, "rejected")
			s.wasRead(2) // the old text and the bad one
			s.write("worse")
			s.write("bad again")
			s.notify()
			time.Sleep(poll)
			s.has("text is bad again", 2, "rejected for another reason")
			s.write("new")
			s.notify()
			time.Sleep(poll)
			s.is("new", "good again")
			s.has("", 2, "good again")
		}},
		{"a source that is missing for a moment is no failure", false, func(_ *testing.T, s *scene) {
			s.with(func() { s.err = fmt.Errorf("no key: %w", fs.ErrNotExist) })
			s.notify()
			time.Sleep(follow.SettleTime - instant)
			s.with(func() { s.err = nil })
			s.write("new")
			s.notify()
			time.Sleep(poll)
			s.is("new", "there again")
			s.has("", 0, "there again")
		}},
		{"a source that stays missing is one failure", false, func(_ *testing.T, s *scene) {
			s.with(func() { s.err = fs.ErrNotExist })
			s.notify()
			time.Sleep(10 * poll)
			s.is("old", "gone")
			s.has("file does not exist", 1, "gone")
		}},
		{"a source that cannot be reached is tried at each poll", false, func(_ *testing.T, s *scene) {
			s.with(func() { s.err = errors.New("no route to host") })
			s.notify()
			time.Sleep(10 * poll)
			s.is("old", "out of reach")
			s.has("no route to host", 1, "out of reach")
			s.with(func() { s.err = nil })
			time.Sleep(poll)
			s.is("old", "back")
			s.has("", 1, "back")
		}},
		{"an empty text gets a grace period", false, func(_ *testing.T, s *scene) {
			s.write("")
			s.notify()
			time.Sleep(follow.EmptyGrace)
			s.is("old", "within the grace period")
			if !s.IsInGrace() {
				s.t.Error("IsInGrace is false within the grace period")
			}
			time.Sleep(2 * follow.SettleTime)
			s.is("", "after it")
		}},
		{"a version that has not changed is not read again", false, func(_ *testing.T, s *scene) {
			for range 100 {
				s.notify()
				time.Sleep(poll)
			}
			s.wasRead(1)
		}},
		{"a racy version is read again until it is not", true, func(_ *testing.T, s *scene) {
			s.with(func() { s.revision.racyUntil = time.Now().Add(2 * follow.SettleTime) })
			s.write("new")
			s.notify()
			s.is("new", "at once")
			s.with(func() { s.text = "newer" }) // the version stays the same
			time.Sleep(3 * follow.SettleTime)
			s.is("newer", "when it is not racy any more")
		}},
		{"a wait ends when the new version is loaded", false, func(t *testing.T, s *scene) {
			s.write("new")
			start := time.Now()
			s.Await(t.Context())
			s.is("new", "after the wait")
			if took := time.Since(start); took != follow.SettleTime {
				t.Errorf("waited for %s, want %s", took, follow.SettleTime)
			}
			s.Await(t.Context())
			if took := time.Since(start); took != follow.SettleTime {
				t.Errorf("waited for %s more, though nothing has changed", took-follow.SettleTime)
			}
		}},
		{"a wait for a source that hangs is bounded", false, func(t *testing.T, s *scene) {
			end := make(chan struct{})
			s.with(func() { s.hang = end })
			for i, want := range []time.Duration{follow.LookTime, 0, 0} {
				start := time.Now()
				s.Await(t.Context())
				if took := time.Since(start); took != want {
					t.Errorf("wait %d took %s, want %s", i+1, took, want)
				}
			}
			close(end)
		}},
		{"a wait ends with its context", false, func(t *testing.T, s *scene) {
			end := make(chan struct{})
			s.with(func() { s.hang = end })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			s.Await(ctx)
			if took := time.Since(start); took != time.Second {
				t.Errorf("waited for %s, want %s", took, time.Second)
			}
			close(end)
		}},
		{"a reload reads at once, and its error names the source", false, func(t *testing.T, s *scene) {
			s.write("new")
			if err := s.Reload(zap.NewNop()); err != nil {
				t.Fatal(err)
			}
			s.is("new", "reloaded")
			s.write("bad")
			if err := s.Reload(zap.NewNop()); err == nil || err.Error() != "memory: text is bad" {
				t.Errorf("got %v, want: memory: text is bad", err)
			}
			s.is("new", "rejected")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, test.isDatabase, test.run)
		})
	}
}

// TestAnySourceByChance makes random changes: only completely written texts become
// active, and finally the last one.
func TestAnySourceByChance(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			inBubble(t, false, func(t *testing.T, s *scene) {
				random := rand.New(rand.NewPCG(seed, 2))
				whole := []string{"old"}
				for i := range 40 {
					last := ""
					for half := range random.IntN(4) {
						last = fmt.Sprint("half", i, half)
						s.write(last)
						if random.IntN(2) == 0 {
							s.notify()
						}
						if random.IntN(8) == 0 {
							s.with(func() { s.err = fs.ErrNotExist })
						}
						time.Sleep(time.Duration(random.Int64N(int64(follow.SettleTime) * 9 / 10)))
						s.with(func() { s.err = nil })
					}
					last = fmt.Sprint("whole", i)
					whole = append(whole, last)
					s.write(last)
					time.Sleep(poll + follow.MaxSettle)
					s.is(last, "unchanged for long enough")
				}
				s.loadedMu.Lock()
				defer s.loadedMu.Unlock()
				for _, text := range s.loaded {
					if !slices.Contains(whole, text) {
						t.Errorf("%q was active, which is not complete", text)
					}
				}
			})
		})
	}
}
