package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// TestArrival checks how a new version gets from one server to another.
func TestArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(store)
		a, b := newServer(t, shared).begin(), newServer(t, shared).begin()
		defer a.end()
		defer b.end()
		pass(0)
		a.serves("nobody has written it", "")
		must(t, a.Edit(t.Context(), add("ann")))
		a.serves("edited here", "ann\n")
		b.serves("edited there, a moment later", "")
		pass(testPoll)
		b.serves("edited there, after the poll", "ann\n")
		must(t, b.Edit(t.Context(), add("bob")))
		a.Wake()
		pass(0)
		a.serves("woken", "ann\nbob\n")
		if got := a.Status(); got.Version != 2 || got.LastError != "" || got.CheckedAt.IsZero() {
			t.Errorf("got the status %+v, want version 2", got)
		}
		before := shared.loads.Load()
		pass(20 * testPoll)
		if shared.loads.Load() != before {
			t.Errorf("an unchanged text was loaded %d times", shared.loads.Load()-before)
		}
		a.logged("nothing is wrong")
	})
}

// TestStart checks with which copy a mirror begins, and what it writes.
func TestStart(t *testing.T) {
	for _, test := range []struct {
		name     string
		prepare  func(t *testing.T, v *server) // after a first life with version 1, "old"
		want     string
		wantErr  string
		wantText string // in the store, after the start
	}{
		{"the store works", func(*testing.T, *server) {}, "old", "", "old"},
		{"the store has a newer version", func(t *testing.T, v *server) {
			c := newCopy(2, "new")
			v.remote.set(&c)
		}, "new", "", "new"},
		{"the store is down", func(t *testing.T, v *server) { v.remote.become(refuses) }, "old", "", "old"},
		{"the store hangs", func(t *testing.T, v *server) { v.remote.become(hangs) }, "old", "", "old"},
		{"the store hangs, and ignores the context", func(t *testing.T, v *server) { v.remote.become(deaf) }, "old", "", "old"},
		{"the store is empty: the version is written back", func(t *testing.T, v *server) { v.remote.set(nil) }, "old", "", "old"},
		{"the store has an older version: the newest is written back", func(t *testing.T, v *server) {
			c := newCopy(0, "older")
			v.remote.set(&c)
		}, "old", "", "old"},
		{"the store is down, and there is no copy", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			must(t, os.Remove(v.c.Path))
		}, "", "cannot reach the store: connection refused (a test); and there is no local copy of an earlier version", "old"},
		{"the store is down, and the copy was edited", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			edit(t, v.c.Path, func(text string) string { return text + "mallory" })
		}, "", "was ignored: it was changed, damaged", "old"},
		{"the copy was edited, and the store works", func(t *testing.T, v *server) {
			edit(t, v.c.Path, func(text string) string { return text + "mallory" })
		}, "old", "", "old"},
		{"the copy is that of another file", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			edit(t, v.c.Path, func(text string) string { return strings.Replace(text, "fleet://staff", "fleet://admin", 1) })
		}, "", "it is not a copy that this program has written", "old"},
		{"the copy was written with another secret", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			v.c.Authenticator = keys{"another"}
		}, "", "another secret", "old"},
		{"the copy was written with the old secret", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			v.c.Authenticator = keys{"another", "key"}
		}, "old", "", "old"},
		{"the store is down, and the copy is too old", func(t *testing.T, v *server) {
			v.remote.become(refuses)
			v.c.MaxStale = time.Hour
			time.Sleep(time.Hour + time.Second)
		}, "", "max_stale allows no version older than 1h0m0s", "old"},
		{"the store and the copy have the same old version", func(_ *testing.T, v *server) {
			v.c.MaxStale = time.Hour
			time.Sleep(time.Hour + time.Second)
		}, "old", "", "old"},
		{"the store has gone back to a version that is too old, and there is no copy", func(t *testing.T, v *server) {
			must(t, os.Remove(v.c.Path))
			v.c.MaxStale = time.Hour
			time.Sleep(time.Hour + time.Second)
		}, "", "max_stale allows no version older than 1h0m0s", "old"},
		{"the store has another version that is too old", func(_ *testing.T, v *server) {
			v.c.MaxStale = time.Hour
			c := newCopy(2, "new")
			v.remote.set(&c)
			time.Sleep(time.Hour + time.Second)
		}, "", "max_stale allows no version older than 1h0m0s", "new"},
		{"the text in the store is forged", func(t *testing.T, v *server) {
			c := newCopy(2, "forged")
			v.remote.set(&c)
		}, "old", "", "forged"},
		{"the text in the store is forged, and there is no copy", func(t *testing.T, v *server) {
			c := newCopy(2, "forged")
			v.remote.set(&c)
			must(t, os.Remove(v.c.Path))
		}, "", "cannot use the version in the store", "forged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t, new(store)).begin()
				must(t, v.Edit(t.Context(), func(string) (string, error) { return "old", nil }))
				pass(0)
				v.end()
				test.prepare(t, v)
				stored := v.remote.get()
				v.make()
				defer v.end()
				defer v.remote.become(works) // ends a call that ignores its context
				pass(0)
				text, _, err := v.Fetch()
				if (err == nil) != (test.wantErr == "") || err != nil && !strings.Contains(err.Error(), test.wantErr) || text != test.want {
					t.Errorf("got %q, error %v, want %q, error with %q", text, err, test.want, test.wantErr)
				}
				if errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%v is taken for a file that does not exist", err)
				}
				if v.remote.get() != stored {
					t.Error("the store was written before the start")
				}
				if v.c.MaxStale == 0 {
					v.Start()
				}
				pass(2 * testTimeout)
				if got := v.remote.get(); got.Text != test.wantText {
					t.Errorf("the store has %q, want %q", got.Text, test.wantText)
				}
			})
		})
	}
}

// edit edits a file.
func edit(t testing.TB, path string, edit func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(edit(string(text))), 0o600))
}

// TestValidateWritesNothing checks that a mirror that is not started writes neither a copy
// nor the store.
func TestValidateWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store))
		c := newCopy(1, "old")
		c.IsDue = true
		v.remote.set(&c)
		v.make()
		pass(10 * testPoll)
		v.serves("not started", "old")
		v.end()
		if _, err := os.Stat(filepath.Dir(v.c.Path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory of the copy was created: %v", err)
		}
		if v.remote.get() != &c {
			t.Error("the store was written")
		}
	})
}

// TestOutage checks what the Follower makes of a store that is down for a while.
func TestOutage(t *testing.T) {
	for _, broken := range []fault{refuses, hangs, deaf} {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newServer(t, new(store)).begin()
				defer v.end()
				must(t, v.Edit(t.Context(), add("ann")))
				loaded := ""
				f := follow.New(v, follow.Options{
					Load: func(text string, _ *zap.Logger) error { loaded = text; return nil },
					Settings: func() (follow.Settings, <-chan struct{}) {
						return follow.Settings{Poll: testPoll, Logger: v.logger}, nil
					},
				})
				defer f.Close()
				must(t, f.Reload(v.logger))
				pass(testPoll)
				v.logged("it works")
				v.remote.become(broken)
				pass(10 * testPoll)
				v.logged("the store is down: one line", "error cannot load file; keeping the previous version")
				if got := f.Status().Failure; !strings.Contains(got, "cannot reach the store: ") {
					t.Errorf("got the failure %q", got)
				}
				start := time.Now()
				must(t, f.Reload(v.logger))
				if waited := time.Since(start); waited != 0 {
					t.Errorf("a reload took %s, want no wait", waited)
				}
				pass(3 * testPoll)
				v.logged("reloaded meanwhile: a warning with the age", "warn shared file may be outdated; using the last known version")
				if f.Status().Failure == "" || f.Status().Failures != 1 {
					t.Errorf("got the status %+v, want one failure", f.Status())
				}
				f.Await(t.Context())
				if err := v.Check(); !errors.Is(err, ErrUnavailable) {
					t.Errorf("Check: got %v, want %v", err, ErrUnavailable)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := v.Edit(ctx, add("bob")); !errors.Is(err, ErrUnavailable) || !strings.HasPrefix(err.Error(), "fleet://staff: cannot reach the store: ") {
					t.Errorf("Edit: got %v, want %v", err, ErrUnavailable)
				}
				v.remote.become(works)
				pass(3 * testPoll)
				v.logged("the store works again", "info file loaded again after earlier errors")
				must(t, v.Check())
				if loaded != "ann\n" {
					t.Errorf("loaded %q, want ann", loaded)
				}
				must(t, v.Edit(t.Context(), add("bob")))
				pass(testPoll)
				v.logged("edited", "info file reloaded")
				if loaded != "ann\nbob\n" {
					t.Errorf("loaded %q, want ann and bob", loaded)
				}
			})
		})
	}
}

// TestOneLineForVariousErrors checks that errors that differ in details, such as in a
// port, are logged once, and that the status has the last one.
func TestOneLineForVariousErrors(t *testing.T) {
	v := newServer(t, new(store))
	v.remote.become(refuses)
	v.make()
	for _, text := range []string{"port 1", "port 2"} {
		v.mu.Lock()
		v.keep(t.Context(), &problem{problemDown, errors.New(text)})
		v.mu.Unlock()
	}
	if _, err := v.Version(); err.Error() != "cannot reach the store: connection refused (a test)" {
		t.Errorf("got %v, want the first error", err)
	}
	if got := v.Status().LastError; got != "cannot reach the store: port 2" {
		t.Errorf("got the last error %q, want that of port 2", got)
	}
	v.end()
}

// TestNeverWritten checks a text that nobody has written yet.
func TestNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store)).begin()
		defer v.end()
		pass(0)
		v.serves("never written", "")
		v.Warn(v.logger)
		v.logged("never written", "warn shared file was never written; nobody in it can log in")
		pass(10 * testPoll)
		if _, err := os.Stat(v.c.Path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a copy: %v", err)
		}
		must(t, v.Edit(t.Context(), func(string) (string, error) { return "", nil }))
		if got := v.Status().Version; got != 1 {
			t.Errorf("an empty text has version %d, want 1", got)
		}
		pass(0)
		v.Warn(v.logger)
		v.logged("written, and empty")
		v.serves("empty", "")
		v.remote.become(refuses)
		v.again()
		v.serves("empty, after a restart without the store", "")
	})
}

// TestDeleted checks a text that is deleted in a store whose versions cannot be written
// back.
func TestDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store))
		v.remote.isOrdered, v.c.IsOrdered = false, false
		v.begin()
		defer func() { v.end() }()
		must(t, v.Edit(t.Context(), add("ann")))
		pass(0)
		v.remote.set(nil)
		pass(testPoll)
		for _, what := range []string{"deleted", "deleted, and restarted"} {
			v.serves(what, "ann\n")
			if _, err := v.Version(); err == nil || !strings.Contains(err.Error(), "it was deleted; put it back") || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v, want an error that says so", what, err)
			}
			if err := v.Edit(t.Context(), add("bob")); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: got the error %v of an edit, want %v", what, err, ErrUnavailable)
			}
			v.again()
			pass(0)
		}
		c := newCopy(0, "older")
		v.remote.set(&c)
		pass(testPoll)
		v.serves("an older version: this store has no order", "older")
	})
}

// TestLocalCopy checks the file of the local copy.
func TestLocalCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store))
		must(t, os.MkdirAll(filepath.Dir(v.c.Path), 0o700))
		stale := filepath.Join(filepath.Dir(v.c.Path), ".staff.caddy-htpasswd-new-1")
		must(t, os.WriteFile(stale, nil, 0o600))
		long := time.Now().AddDate(-100, 0, 0) // the clock of a test begins in 2000
		must(t, os.Chtimes(stale, long, long))
		v.begin()
		defer func() { v.end() }()
		must(t, v.Edit(t.Context(), add("ann")))
		pass(0)
		info, err := os.Stat(v.c.Path)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %v, want 0600", info.Mode())
		}
		if _, err := os.Stat(stale); err == nil {
			t.Error("a temporary file of a writer that was killed is still there")
		}
		text, err := os.ReadFile(v.c.Path)
		must(t, err)
		if !strings.HasPrefix(string(text), "# Copy of fleet://staff. Edits are ignored. revision=") || !strings.HasSuffix(string(text), "\nann\n") {
			t.Errorf("got the copy %q", text)
		}
		must(t, v.Edit(t.Context(), func(string) (string, error) { return "broken", nil }))
		pass(0)
		v.serves("broken: the Follower rejects it", "broken")
		if again, err := os.ReadFile(v.c.Path); err != nil || string(again) != string(text) {
			t.Errorf("a text that is not valid has become the copy: %q, %v", again, err)
		}
		edit(t, v.c.Path, func(text string) string { return text + "mallory" })
		v.again()
		v.Warn(v.logger)
		v.Warn(v.logger)
		v.logged("edited: one warning", "warn local copy of shared file ignored")
	})
	t.Run("its directory cannot be written", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := newServer(t, new(store))
			must(t, os.WriteFile(filepath.Dir(filepath.Dir(v.c.Path)), nil, 0o600)) // a file in its place
			v.begin()
			defer v.end()
			for _, line := range []string{"ann", "bob", "carl"} {
				must(t, v.Edit(t.Context(), add(line)))
				pass(testPoll)
			}
			v.serves("without a copy", "ann\nbob\ncarl\n")
			v.logged("without a copy: one warning", "warn cannot write local copy of shared file; this server cannot start while the store is down")
		})
	})
}

// TestRestore checks that a lost version is written back once.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(store)
		servers := []*server{newServer(t, shared).begin(), newServer(t, shared).begin(), newServer(t, shared).begin()}
		for i := range 3 {
			must(t, servers[i].Edit(t.Context(), add(fmt.Sprint("user", i))))
			pass(testPoll)
		}
		older := shared.history[1]
		for _, lost := range []*Copy{nil, &older} {
			shared.set(lost)
			pass(2 * testPoll)
			restores := 0
			for _, s := range servers {
				s.serves("lost and restored", "user0\nuser1\nuser2\n")
				if _, err := s.Version(); err != nil {
					t.Error(err)
				}
				restores += s.logs.FilterMessage("store has lost the newest version of a shared file; it was written back").Len()
				s.logs.TakeAll()
			}
			if got := shared.get(); got == nil || got.Version != 3 || restores != 1 {
				t.Errorf("the store has %+v after %d restores, want version 3 after 1", got, restores)
			}
		}
		for _, s := range servers {
			s.end()
		}
	})
}

// TestInvalid checks that a text that cannot be used is loaded once, and reported.
func TestInvalid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store)).begin()
		defer v.end()
		must(t, v.Edit(t.Context(), add("ann")))
		forged := newCopy(9, "forged")
		v.remote.set(&forged)
		before := v.remote.loads.Load()
		pass(10 * testPoll)
		v.serves("forged", "ann\n")
		if _, err := v.Version(); err == nil || !strings.Contains(err.Error(), "cannot use the version in the store") {
			t.Errorf("got %v, want an error", err)
		}
		if got := v.remote.loads.Load() - before; got != 1 {
			t.Errorf("loaded %d times, want once", got)
		}
		if err := v.Edit(t.Context(), add("bob")); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Edit: got %v, want %v", err, ErrUnavailable)
		}
		v.remote.set(nil) // the administrator deletes it
		pass(2 * testPoll)
		v.serves("deleted", "ann\n")
		if got := v.remote.get(); got == nil || got.Text != "ann\n" {
			t.Errorf("the store has %+v, want ann", got)
		}
	})
}

// TestMaxStale checks that servers write a text again before it is too old, once.
func TestMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(store)
		a, b := newServer(t, shared), newServer(t, shared)
		a.c.MaxStale, b.c.MaxStale = time.Hour, time.Hour
		a.begin()
		b.begin()
		defer a.end()
		defer b.end()
		must(t, a.Edit(t.Context(), add("ann")))
		pass(5*time.Hour + time.Minute)
		if got := shared.get().Version; got < 10 || got > 12 {
			t.Errorf("got version %d after five hours, want about two an hour", got)
		}
		a.serves("sealed anew", "ann\n")
		b.serves("sealed anew", "ann\n")
		a.remote.become(refuses)
		pass(time.Hour)
		if _, _, err := a.Fetch(); err == nil {
			t.Error("a version that is too old can be loaded")
		}
		before := shared.get().Version
		b.c.MaxStale, b.c.Authenticator = 0, keys{"new", "key"} // another secret
		b.again()
		pass(2 * testPoll)
		if got := shared.get(); got.Version != before+1 || got.IsDue {
			t.Errorf("got version %d, want %d: written again", got.Version, before+1)
		}
		due := newCopy(before+2, "due")
		due.IsDue = true
		shared.set(&due)
		pass(2 * testPoll)
		if got := shared.get(); got.Version != before+3 || got.IsDue {
			t.Errorf("got version %d, want %d: written again", got.Version, before+3)
		}
	})
}

// TestEditsAtOnce checks that no edit of several servers at the same time is lost, and that
// none is made twice.
func TestEditsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := new(store)
		var servers []*server
		for range 5 {
			servers = append(servers, newServer(t, shared).begin())
		}
		var edits sync.WaitGroup
		for i := range 50 {
			edits.Go(func() {
				if err := servers[i%len(servers)].Edit(t.Context(), add(fmt.Sprintf("user%d.", i))); err != nil {
					t.Error(err)
				}
			})
		}
		edits.Wait()
		pass(testPoll)
		text := shared.get().Text
		for i := range 50 {
			if n := strings.Count(text, fmt.Sprintf("user%d.\n", i)); n != 1 {
				t.Errorf("user %d is there %d times, want once", i, n)
			}
		}
		for _, s := range servers {
			s.serves("at the end", text)
			s.end()
		}
	})
}

// TestEditErrors checks edits that fail or change nothing.
func TestEditErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store)).begin()
		must(t, v.Edit(t.Context(), add("ann")))
		errOwn := errors.New("own")
		if err := v.Edit(t.Context(), func(string) (string, error) { return "x", errOwn }); err != errOwn { //nolint:errorlint // as it is
			t.Errorf("got %v, want the error of the edit as it is", err)
		}
		must(t, v.Edit(t.Context(), func(text string) (string, error) { return text, nil }))
		if got := v.remote.get(); got.Version != 1 || got.Text != "ann\n" {
			t.Errorf("the store has %+v, want version 1", got)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := v.Edit(canceled, add("bob")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		must(t, v.Check())
		v.end()
		if err := v.Edit(t.Context(), add("bob")); !errors.Is(err, context.Canceled) {
			t.Errorf("closed: got %v, want %v", err, context.Canceled)
		}
	})
}

// TestLostAnswer checks an edit that is made, but whose answer is lost.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store)).begin()
		defer v.end()
		must(t, v.Edit(t.Context(), func(string) (string, error) {
			v.remote.become(lostOnce)
			return "ann", nil
		}))
	})
}

// TestSave checks that the local copy has an edit once Save has returned.
func TestSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newServer(t, new(store))
		waiting := New(v.c)
		waiting.Save(t.Context()) // before Start, it does not wait
		must(t, waiting.Close())
		v.begin()
		pass(0)
		for i := range 20 {
			name := fmt.Sprint("user", i)
			must(t, v.Edit(t.Context(), add(name)))
			v.Save(t.Context())
			text, err := os.ReadFile(v.c.Path)
			must(t, err)
			if !strings.HasSuffix(string(text), "\n"+name+"\n") {
				t.Errorf("got the copy %q, want it to end with %s", text, name)
			}
		}
		ended := v.Mirror
		v.end()
		ended.Save(t.Context()) // nor after Close
	})
}

// contradictory is a remote that has another revision than Restore and Replace find.
type contradictory struct {
	*remote
	calls atomic.Int64
}

func (c *contradictory) Revision(ctx context.Context) (Revision, error) {
	c.calls.Add(1)
	return c.remote.Revision(ctx)
}

func (c *contradictory) Restore(context.Context, Revision, Copy) (Copy, error) {
	return Copy{}, ErrConflict
}

func (c *contradictory) Replace(context.Context, *Copy, string) (Copy, error) {
	return Copy{}, ErrConflict
}

// TestConflictsWithoutEnd tests that a store which reports a conflict each time is not called
// without a pause.
func TestConflictsWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, present := range map[string]*Copy{"lost": nil, "due": {Text: "new", Revision: "00000009", Version: 9, IsDue: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := new(store)
				first := newCopy(1, "old")
				s.set(&first)
				v := newServer(t, s)
				remote := &contradictory{remote: v.remote}
				v.c.Remote = remote
				v.make()
				v.begin()
				pass(time.Second)
				s.set(present)
				remote.calls.Store(0)
				pass(30 * time.Second)
				if n := remote.calls.Load(); n < 5 || n > 60 {
					t.Errorf("%d calls within 30 seconds, want about one per second", n)
				}
				v.end()
			})
		})
	}
}
