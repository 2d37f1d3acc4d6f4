//go:build unix

package follow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

var (
	must       = testkit.Must
	eventually = testkit.Eventually
)

const testPoll = 5 * time.Second

// hash stands for all hashes of passwords.
const hash = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="

// Files of the same length.
const (
	fileA = "alice:" + hash + "\nann:" + hash + "\n"
	fileB = "alice:" + hash + "\nbob:" + hash + "\n"
	// fileHalf is fileA when half of it is written.
	fileHalf = "alice:" + hash + "\n"
)

// store parses texts in these tests: they list users.
type store struct {
	current atomic.Pointer[[]string]
	loads   atomic.Int64 // number of texts that were parsed
}

// load rejects a text that has lines, but no valid one.
func (s *store) load(text string, logger *zap.Logger) error {
	s.loads.Add(1)
	users, invalid := []string{}, 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if user, ok := strings.CutSuffix(line, ":"+hash); ok {
			users = append(users, user)
		} else if line != "" && line[0] != '#' {
			invalid++
		}
	}
	if invalid > 0 && len(users) == 0 {
		return fmt.Errorf("none of its %d lines is valid", invalid)
	}
	s.current.Store(&users)
	logger.Debug("parsed")
	if len(users) == 0 {
		logger.Warn("file contains no users")
	}
	return nil
}

// firstUser returns the first user.
func (s *store) firstUser() string {
	if users := *s.current.Load(); len(users) > 0 {
		return users[0]
	}
	return ""
}

// isEmpty reports whether a text has comments and empty lines only.
func isEmpty(text string) bool {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return false
		}
	}
	return true
}

// options are those of a Follower that loads into s and has settings that never change.
func (s *store) options(poll time.Duration, logger *zap.Logger) Options {
	return Options{Load: s.load, IsEmpty: isEmpty, Settings: func() (Settings, <-chan struct{}) {
		return Settings{Poll: poll, Logger: logger}, nil
	}}
}

// newTestFollower follows a file with a poll of an hour and without a log.
func newTestFollower(path string) *Follower {
	return New(NewFile(path), new(store).options(time.Hour, zap.NewNop()))
}

// watched is a file that is followed without a goroutine: the test sets the time.
type watched struct {
	*Follower
	*File
	*store
	t      *testing.T
	now    time.Time
	logger *zap.Logger
	logs   *observer.ObservedLogs
	next   time.Duration
}

// watch begins to follow an existing file.
func watch(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{t: t, File: NewFile(path), store: new(store), now: time.Now()}
	w.logger, w.logs = observed()
	w.Follower = New(w.File, w.store.options(testPoll, nil))
	w.startOnce.Do(func() {}) // no goroutine
	if err := w.Reload(w.logger); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.loads.Store(0)
	w.logs.TakeAll()
	return w
}

// watchText is watch for a new file.
func watchText(t *testing.T, text string) *watched {
	t.Helper()
	return watch(t, writeFile(t, text))
}

// pass lets time pass without notifications: the file is looked at when look asked
// for it.
func (w *watched) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for !w.now.Add(w.next).After(end) {
		w.now = w.now.Add(w.next)
		w.notice()
	}
	w.next -= end.Sub(w.now)
	w.now = end
}

// notice looks at the file at this moment.
func (w *watched) notice() {
	w.t.Helper()
	within(w.t, "look", func() { w.next = w.look(w.now, testPoll, w.logger) })
	if w.next <= 0 || w.next > testPoll {
		w.t.Fatalf("looks again after %s", w.next)
	}
}

// serves fails if the loaded users differ.
func (w *watched) serves(what string, users ...string) {
	w.t.Helper()
	got := *w.current.Load()
	if fmt.Sprint(got) != fmt.Sprint(users) {
		w.t.Fatalf("%s: serves %v, want %v; logged:\n%s", what, got, users, logText(w.logs))
	}
}

// parsed fails if the number of parsed versions differs.
func (w *watched) parsed(times int64) {
	w.t.Helper()
	if got := w.loads.Load(); got != times {
		w.t.Errorf("parsed %d times, want %d", got, times)
	}
}

// failed fails if the number of failures differs.
func (w *watched) failed(times int) {
	w.t.Helper()
	if got := w.Status().Failures; got != times {
		w.t.Errorf("%d failures, want %d", got, times)
	}
}

// logged fails if the messages since the last call, above level DEBUG, are not
// these. Each is given by a part of it.
func (w *watched) logged(what string, messages ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.logs.TakeAll() {
		if e.Level > zapcore.DebugLevel {
			got = append(got, e.Level.String()+" "+e.Message+fmt.Sprint(e.ContextMap()))
		}
		if fields := fmt.Sprint(e.ContextMap()); strings.Contains(fields, hash) {
			w.t.Errorf("%s: a hash is logged: %s", what, fields)
		}
	}
	ok := len(got) == len(messages)
	for i := range messages {
		ok = ok && strings.Contains(got[i], messages[i])
	}
	if !ok {
		w.t.Errorf("%s: logged\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(messages, "\n\t"))
	}
}

const (
	msgFail  = "error cannot load file; keeping the previous version"
	msgGood  = "info file loaded again after earlier errors"
	msgNew   = "info file reloaded"
	msgEmpty = "warn file is empty; keeping the previous version for a grace period"
)

// overwrite writes a file in place, until its signature changes: the clock of a
// file system has a resolution of some milliseconds.
func overwrite(t testing.TB, path, text string) {
	t.Helper()
	before, err := sign(path)
	must(t, err)
	for after := before; after == before; {
		must(t, os.WriteFile(path, []byte(text), 0o640))
		after, err = sign(path)
		must(t, err)
	}
}

// observed returns a logger for every level, and what is logged to it.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

// logText returns everything in the logs, fields included.
func logText(logs *observer.ObservedLogs) string {
	var text strings.Builder
	for _, e := range logs.All() {
		fmt.Fprintln(&text, e.Level, e.Message, e.ContextMap())
	}
	return text.String()
}

// within fails if f does not return.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not after 20 s", what)
	}
}

// writeFile writes a new file and returns its path.
func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".htpasswd")
	must(t, os.WriteFile(path, []byte(text), 0o640))
	return path
}

// replace renames a new file over another, as editors do.
func replace(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o640))
	must(t, os.Rename(path+".new", path))
}

// directoryWithFile creates a directory that can be renamed, with a file in it.
func directoryWithFile(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir() + "/d"
	path = dir + "/f"
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(path, []byte(fileA), 0o640))
	return dir, path
}
