//go:build unix

package follow

import (
	"bytes"
	"fmt"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// running are settings that change while files are followed.
type running struct {
	mu       sync.Mutex
	settings Settings
	changed  chan struct{} // nil: nobody has asked since the last change
}

func (r *running) active() (Settings, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.settings, r.changed
}

// put activates other settings.
func (r *running) put(poll time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settings.Poll = poll
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// followed is a file that is followed by a goroutine, in real time.
type followed struct {
	*Follower
	*store
	*running
	t    *testing.T
	logs *observer.ObservedLogs
}

// begin begins to follow a file until the end of the test.
func begin(t *testing.T, path string, poll time.Duration) *followed {
	t.Helper()
	logger, logs := observed()
	f := &followed{store: new(store), running: &running{settings: Settings{Poll: poll, Logger: logger}}, t: t, logs: logs}
	options := f.store.options(0, nil)
	options.Settings = f.active
	f.Follower = New(NewFile(path), options)
	must(t, f.Reload(logger))
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// knows waits until a user is loaded.
func (f *followed) knows(user string) {
	f.t.Helper()
	eventually(f.t, user+" is loaded", func() bool { return slices.Contains(*f.current.Load(), user) })
}

// knowsNot waits until a user is not loaded any more.
func (f *followed) knowsNot(user string) {
	f.t.Helper()
	eventually(f.t, user+" is not loaded", func() bool { return !slices.Contains(*f.current.Load(), user) })
}

// quiet waits until no look is due before the next notification or poll.
func (f *followed) quiet() {
	f.t.Helper()
	eventually(f.t, "the file is read and not racy", func() bool {
		f.Follower.mu.Lock()
		defer f.Follower.mu.Unlock()
		return !f.isRacy && f.first.IsZero()
	})
}

// heard waits until the goroutine uses the settings that were put last.
func (f *followed) heard() {
	f.t.Helper()
	eventually(f.t, "the settings are known", func() bool {
		f.running.mu.Lock()
		defer f.running.mu.Unlock()
		return f.changed != nil
	})
}

// TestFollow runs the goroutine in real time: changes are found by notifications,
// and by the poll where there are none.
func TestFollow(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	t.Run("another file is renamed over it: found by a notice", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, fileA)
		f := begin(t, path, never)
		f.quiet()
		replace(t, path, fileB)
		f.knows("bob")
		f.knowsNot("ann")
	})
	t.Run("it is deleted and created again: found by notices", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, fileA)
		f := begin(t, path, never)
		f.quiet()
		must(t, os.Remove(path))
		eventually(t, "it is logged", func() bool { return f.logs.FilterMessageSnippet("cannot load file").Len() == 1 })
		f.knows("ann")
		must(t, os.WriteFile(path, []byte(fileB), 0o640))
		f.knows("bob")
		eventually(t, "it is logged", func() bool { return f.logs.FilterMessageSnippet("loaded again").Len() == 1 })
	})
	t.Run("Kubernetes swaps the directory of a volume: found by a notice", func(t *testing.T) {
		t.Parallel()
		path := kubernetes(t, t.TempDir())
		f := begin(t, path, never)
		f.quiet()
		kubernetesSwap(t, path)
		f.knows("bob")
	})
	t.Run("the target of a symlink is replaced in another directory: found by the poll", func(t *testing.T) {
		t.Parallel()
		target, path := writeFile(t, fileA), t.TempDir()+"/link"
		must(t, os.Symlink(target, path))
		f := begin(t, path, 20*time.Millisecond)
		f.quiet()
		replace(t, target, fileB)
		f.knows("bob")
	})
	t.Run("its directory is deleted and created again: found by the poll, and the next change by a notice", func(t *testing.T) {
		t.Parallel()
		dir, path := directoryWithFile(t)
		f := begin(t, path, 20*time.Millisecond)
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(path, []byte(fileB), 0o640))
		f.knows("bob")
		f.quiet()
		f.put(never)
		f.heard()
		replace(t, path, fileA)
		f.knows("ann")
	})
	t.Run("its directory is renamed, and another one takes its place", func(t *testing.T) {
		t.Parallel()
		dir, path := directoryWithFile(t)
		f := begin(t, path, 20*time.Millisecond)
		must(t, os.Mkdir(dir+".new", 0o755))
		must(t, os.WriteFile(dir+".new/f", []byte(fileB), 0o640))
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Rename(dir+".new", dir))
		f.knows("bob")
		f.quiet()
		f.put(never)
		f.heard()
		replace(t, path, fileA)
		f.knows("ann")
	})
	t.Run("a symlink on the way is pointed to another directory: found by the poll, and the next change by a notice", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for name, text := range map[string]string{"a": fileA, "b": fileB} {
			must(t, os.Mkdir(dir+"/"+name, 0o755))
			must(t, os.WriteFile(dir+"/"+name+"/f", []byte(text), 0o640))
		}
		must(t, os.Symlink("a", dir+"/current"))
		path := dir + "/current/f"
		f := begin(t, path, 20*time.Millisecond)
		f.quiet()
		must(t, os.Symlink("b", dir+"/next"))
		must(t, os.Rename(dir+"/next", dir+"/current"))
		f.knows("bob")
		f.quiet()
		f.put(never)
		f.heard()
		replace(t, path, fileA)
		f.knows("ann")
	})
	t.Run("another poll interval is used at once", func(t *testing.T) {
		t.Parallel()
		target, path := writeFile(t, fileA), t.TempDir()+"/link"
		must(t, os.Symlink(target, path))
		f := begin(t, path, never)
		f.quiet()
		f.put(20 * time.Millisecond)
		f.heard()
		replace(t, target, fileB)
		f.knows("bob")
	})
}

// stackHas reports whether some goroutine is in a function.
func stackHas(function string) bool {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 2) //nolint:errcheck // to memory
	return strings.Contains(stacks.String(), function)
}

// TestCloseNeverHangs closes a Follower whose directory was renamed and deleted
// during a look: fsnotify, where it is used, then sends an error while it holds a
// lock that its Close needs, too.
func TestCloseNeverHangs(t *testing.T) {
	for i := range 25 { // select chooses one of two channels at random
		dir, path := directoryWithFile(t)
		f := newTestFollower(path)
		must(t, f.Reload(zap.NewNop()))
		eventually(t, "the directory is watched, the file looked at", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return !f.since.IsZero()
		})
		f.mu.Lock()
		must(t, os.Chmod(path, 0o600)) // one event, which leads into look
		eventually(t, "the goroutine waits in look", func() bool { return stackHas("follow.(*Follower).look(") })
		must(t, os.Chmod(path, 0o640)) // one more, which fsnotify is sending meanwhile
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.RemoveAll(dir+".old"))

		// The goroutine receives it, and waits in look again; fsnotify sees that the directory is gone.
		again, release := make(chan struct{}), make(chan struct{})
		go func() {
			f.mu.Lock()
			close(again)
			<-release
			f.mu.Unlock()
		}()
		eventually(t, "the next goroutine waits for the lock", func() bool { return stackHas("TestCloseNeverHangs.func") })
		f.mu.Unlock()
		<-again
		for range 20 { // never, without the fault
			if stackHas("fsnotify.(*shared).sendError(") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		done := make(chan error, 1)
		go func() { done <- f.Close() }()
		<-f.stop
		close(release)
		within(t, fmt.Sprintf("Close, try %d", i), func() { must(t, <-done) })
	}
}
