//go:build unix

package caddyhtpasswd

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

const testPoll = 5 * time.Second

// Files of the same length.
const (
	fileA = "alice:" + shaSecret1 + "\nann:" + shaSecret1 + "\n"
	fileB = "alice:" + shaSecret1 + "\nbob:" + shaSecret1 + "\n"
	// fileHalf is what there is of fileA when half is written.
	fileHalf = "alice:" + shaSecret1 + "\n"
)

// watched is a file that is followed without a goroutine: the test says what
// time it is.
type watched struct {
	*followedFile
	t      *testing.T
	store  *userStore
	now    time.Time
	logger *zap.Logger
	logs   *observer.ObservedLogs
	loads  int // how often a version was parsed
	next   time.Duration
}

// watch begins to follow a file that is there.
func watch(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{t: t, store: newUserStore(path), now: time.Now()}
	w.logger, w.logs = observed()
	w.followedFile = newFollowedFile(path, func(text string, logger *zap.Logger) error {
		w.loads++
		return w.store.load(text, logger)
	})
	w.startOnce.Do(func() {}) // no goroutine
	if err := w.reload(w.logger); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	w.loads = 0
	w.logs.TakeAll()
	return w
}

// watchText is watch for a new file.
func watchText(t *testing.T, text string) *watched {
	t.Helper()
	return watch(t, writeFile(t, text))
}

// pass lets time pass without notices: the file is looked at when look asked
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

// serves fails if the users who could log in are others.
func (w *watched) serves(what string, users ...string) {
	w.t.Helper()
	var got []string
	for _, user := range w.store.current.Load().file.All {
		if user.State == htfile.StateUsable {
			got = append(got, user.Name)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(users) {
		w.t.Fatalf("%s: serves %v, want %v; logged:\n%s", what, got, users, logText(w.logs))
	}
}

// logged fails if the messages since the last call, above the level of
// debugging, are not these, each given by a part of it.
func (w *watched) logged(what string, messages ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.logs.TakeAll() {
		if e.Level > zapcore.DebugLevel && !strings.Contains(e.Message, "weak password hashes") {
			got = append(got, e.Level.String()+" "+e.Message+fmt.Sprint(e.ContextMap()))
		}
		if fields := fmt.Sprint(e.ContextMap()); strings.Contains(fields, shaSecret1) {
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
	msgFail  = "error file can't be used"
	msgGood  = "info file is good again"
	msgNew   = "info file changed"
	msgEmpty = "warn file is empty"
)

// overwrite writes a file in place, until its change shows: the clock of a
// file system can stand still for some milliseconds.
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

// TestBrokenFiles are the ways in which a file can go bad and come back: the
// version before keeps serving, one line says so, one that it is over.
func TestBrokenFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		reason string
	}{
		{"F7 larger than the limit", func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<30)) }, "larger than 256 MiB"},
		{"F7 by one byte", func(t *testing.T, path string) { must(t, os.Truncate(path, maxFileSize+1)) }, "larger than 256 MiB"},
		{"F8 an HTML page", func(t *testing.T, path string) { overwrite(t, path, "<html>\n<p>502") }, "none of its 2 lines"},
		{"F8 NULs", func(t *testing.T, path string) { overwrite(t, path, strings.Repeat("\x00", 1000)) }, "none of its 1 lines"},
		{"F17 deleted", func(t *testing.T, path string) { must(t, os.Remove(path)) }, "no such file"},
		{"F17 its folder deleted", func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, "no such file"},
		{"F18 a folder", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o755)) }, "is a folder"},
		{"F19 a FIFO", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, syscall.Mkfifo(path, 0o640)) }, "not a regular file"},
		{"F19 a device", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("/dev/zero", path)) }, "not a regular file"},
		{"F19 a terminal", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("/dev/ptmx", path)) }, "not a regular file"},
		{"F20 a symlink to nothing", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("gone", path)) }, "no such file"},
		{"F20 a symlink to itself", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink(path, path)) }, "too many levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watchText(t, fileA)
			before := w.store.current.Load()
			test.spoil(t, w.path)
			var start, end memStats
			start.read()
			w.pass(testPoll)
			w.serves("spoiled", "alice", "ann")
			end.read()
			if took := end.TotalAlloc - start.TotalAlloc; took > 4<<20 {
				t.Errorf("took %d bytes", took)
			}
			w.pass(10 * testPoll)
			w.serves("later", "alice", "ann")
			if w.store.current.Load() != before || w.loads > 1 || w.failures != 1 {
				t.Errorf("another table, or %d times parsed, or %d failures", w.loads, w.failures)
			}
			if all := w.logs.All(); len(all) != 1 || !strings.Contains(logText(w.logs), test.reason) || all[0].ContextMap()["file"] != w.path {
				t.Errorf("logged\n%s", logText(w.logs))
			}
			w.logged("spoiled", msgFail)

			// A reload of the configuration is refused, and says why (X3); so is a start.
			var err error
			within(t, "reload", func() { err = w.reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) || strings.Count(err.Error(), w.path) != 1 {
				t.Errorf("reload: %v", err)
			}
			fresh := newFollowedFile(w.path, newUserStore(w.path).load)
			within(t, "start", func() { err = fresh.reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("start: %v", err)
			}
			within(t, "Destruct", func() { must(t, fresh.Destruct()) })
			w.serves("after the reload", "alice", "ann")
			w.logged("the same failure once more")
			if w.failures != 1 {
				t.Errorf("%d failures", w.failures)
			}

			must(t, os.RemoveAll(w.path))
			must(t, os.MkdirAll(filepath.Dir(w.path), 0o755))
			replace(t, w.path, fileB)
			w.pass(testPoll) // F24
			w.serves("mended", "alice", "bob")
			w.logged("mended", msgNew, msgGood)

			test.spoil(t, w.path)
			w.pass(testPoll)
			w.logged("spoiled again", msgFail)
			w.serves("spoiled again", "alice", "bob")
			if w.failures != 2 {
				t.Errorf("%d failures", w.failures)
			}
			must(t, os.RemoveAll(w.path))
			must(t, os.MkdirAll(filepath.Dir(w.path), 0o755))
			replace(t, w.path, fileB) // as it was
			w.pass(testPoll)
			w.logged("mended again", msgGood)
			w.serves("mended again", "alice", "bob")
		})
	}
}

// TestReadErrors are failures to read a file that is itself good.
func TestReadErrors(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		during       func(t *testing.T, path string, f func())
	}{
		{"X7 no file descriptors left", "too many open files", func(t *testing.T, _ string, f func()) {
			var limit syscall.Rlimit
			must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
			none := limit
			none.Cur = 3
			must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
			defer func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
			f()
		}},
		{"F16 mode 000", "permission denied", func(t *testing.T, path string, f func()) {
			if os.Geteuid() == 0 { // who may read everything
				for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
					must(t, os.Chmod(dir, 0o755))
				}
				must(t, syscall.Seteuid(65534))
				defer func() { must(t, syscall.Seteuid(0)) }()
			}
			f()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watchText(t, fileA)
			replace(t, w.path, fileB)
			if strings.HasPrefix(test.name, "F16") {
				must(t, os.Chmod(w.path, 0))
			}
			test.during(t, w.path, func() { w.pass(10 * testPoll) })
			w.serves("unreadable", "alice", "ann")
			if !strings.Contains(logText(w.logs), test.reason) || w.loads != 0 || w.failures != 1 {
				t.Errorf("%d times parsed, %d failures, logged\n%s", w.loads, w.failures, logText(w.logs))
			}
			w.logged("unreadable", msgFail)
			must(t, os.Chmod(w.path, 0o640))
			w.pass(testPoll) // it is tried again
			w.serves("readable", "alice", "bob")
			w.logged("readable", msgNew, msgGood)
		})
	}
}

// TestChanges are the ways in which a file becomes another.
func TestChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		set    func(t *testing.T, dir string) string // writes fileA and returns its path
		change func(t *testing.T, path string)       // to fileB
	}{
		{"F22 renamed over", nil, func(t *testing.T, path string) { replace(t, path, fileB) }},
		{"F22 renamed over, same size and mtime", nil, func(t *testing.T, path string) {
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path+".new", []byte(fileB), 0o640))
			must(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
			must(t, os.Rename(path+".new", path))
		}},
		{"F22 written in place, same size, mtime set back", nil, func(t *testing.T, path string) {
			info, err := os.Stat(path)
			must(t, err)
			overwrite(t, path, fileB)
			must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
			if again, err := os.Stat(path); err != nil || again.Size() != info.Size() || !again.ModTime().Equal(info.ModTime()) {
				t.Fatal("size or mtime are others: the test shows nothing")
			}
		}},
		{"written in place", nil, func(t *testing.T, path string) { overwrite(t, path, fileB) }},
		{"F17 deleted and back before anyone looks", nil, func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}},
		{"F20 symlink pointed elsewhere", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/a", []byte(fileA), 0o640))
			must(t, os.WriteFile(dir+"/b", []byte(fileB), 0o640))
			must(t, os.Symlink("a", dir+"/link"))
			return dir + "/link"
		}, func(t *testing.T, path string) {
			must(t, os.Symlink("b", path+".new"))
			must(t, os.Rename(path+".new", path))
		}},
		{"F24 the target of a symlink, in another folder", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/else", 0o755))
			must(t, os.WriteFile(dir+"/else/a", []byte(fileA), 0o640))
			must(t, os.Symlink("else/a", dir+"/link"))
			return dir + "/link"
		}, func(t *testing.T, path string) { replace(t, filepath.Dir(path)+"/else/a", fileB) }},
		{"F21 Kubernetes", kubernetes, kubernetesSwap},
		{"F24 its folder made anew", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/d", 0o755))
			must(t, os.WriteFile(dir+"/d/f", []byte(fileA), 0o640))
			return dir + "/d/f"
		}, func(t *testing.T, path string) {
			must(t, os.RemoveAll(filepath.Dir(path)))
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var w *watched
			if test.set == nil {
				w = watchText(t, fileA)
			} else {
				w = watch(t, test.set(t, t.TempDir()))
			}
			w.pass(3 * testPoll)
			if w.loads != 0 {
				t.Errorf("%d times parsed without a change", w.loads)
			}
			w.serves("before", "alice", "ann")
			w.notice() // the next look is as far away as can be
			test.change(t, w.path)
			w.pass(testPoll) // F24: without any notice
			w.serves("after", "alice", "bob")
			w.logged("after", msgNew)
			w.pass(3 * testPoll)
			if w.loads != 1 {
				t.Errorf("%d times parsed", w.loads)
			}
			w.logged("later")
		})
	}
}

// kubernetes lays out a volume as the kubelet does: the file is a symlink
// that goes through another, which is swapped.
func kubernetes(t *testing.T, dir string) string {
	must(t, os.Mkdir(dir+"/..v1", 0o755))
	must(t, os.WriteFile(dir+"/..v1/htpasswd", []byte(fileA), 0o640))
	must(t, os.Symlink("..v1", dir+"/..data"))
	must(t, os.Symlink("..data/htpasswd", dir+"/htpasswd"))
	return dir + "/htpasswd"
}

func kubernetesSwap(t *testing.T, path string) {
	dir := filepath.Dir(path)
	must(t, os.Mkdir(dir+"/..v2", 0o755))
	must(t, os.WriteFile(dir+"/..v2/htpasswd", []byte(fileB), 0o640))
	must(t, os.Symlink("..v2", dir+"/..data_tmp"))
	must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
	must(t, os.RemoveAll(dir+"/..v1"))
}

// TestYoungFile changes a file so shortly after it was read that nothing
// about it but what it says is another (F22).
func TestYoungFile(t *testing.T) {
	w := watchText(t, fileA)
	overwrite(t, w.path, fileHalf)
	sig, err := sign(w.path)
	must(t, err)
	w.now = time.Unix(0, sig.ctime).Add(settleTime - 1)
	w.first = w.now.Add(-maxSettle) // it never stood still: read at last
	w.notice()
	w.serves("half", "alice")
	overwrite(t, w.path, fileA)
	w.loaded, err = sign(w.path) // as on a file system whose clock has stood still
	must(t, err)
	w.pass(testPoll)
	w.serves("F22 the same signature", "alice", "ann")
}

// TestTorn has a file change while it is read: what was read is not taken,
// unless that goes on and on.
func TestTorn(t *testing.T) {
	torn := func(w *watched) {
		w.fetch = func(path string) (string, signature, fs.FileMode, error) {
			text, _, mode, err := readFile(path)
			return text[:len(fileHalf)], signature{}, mode, err
		}
	}
	w := watchText(t, fileA)
	torn(w)
	replace(t, w.path, fileB)
	w.notice()
	w.pass(2 * settleTime)
	w.serves("F23 torn", "alice", "ann")
	w.fetch = readFile
	w.pass(2 * settleTime)
	w.serves("F23 whole", "alice", "bob")

	torn(w)
	replace(t, w.path, fileA)
	w.notice()
	w.pass(maxSettle + settleTime)
	w.serves("F23 torn for too long", "alice")
	w.fetch = readFile
	w.pass(2 * settleTime)
	w.serves("F23 whole at last", "alice", "ann")

	// A reload waits as long.
	var reads int
	w.fetch = func(path string) (string, signature, fs.FileMode, error) {
		text, sig, mode, err := readFile(path)
		if reads++; reads < 3 {
			sig = signature{}
		}
		return text, sig, mode, err
	}
	replace(t, w.path, fileB)
	must(t, w.reload(w.logger))
	w.serves("F23 reloaded", "alice", "bob")
}

// TestBackAndForth points a symlink at one file and another: what was said of
// the one is forgotten when the other is in force.
func TestBackAndForth(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"good": fileA, "bad": "<html>\n", "empty": ""} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	link := filepath.Join(dir, "link")
	point := func(name string) {
		must(t, os.Symlink(name, link+".new"))
		must(t, os.Rename(link+".new", link))
	}
	point("good")
	w := watch(t, link)
	for range 2 {
		point("bad")
		w.pass(testPoll)
		w.logged("F20 a bad one", "file can't be used")
		point("good")
		w.pass(testPoll)
		w.logged("F20 the good one", "file is good again")
	}
	for range 2 {
		point("empty")
		w.pass(testPoll)
		w.serves("F1 a grace each time", "alice", "ann")
		point("good")
		w.pass(testPoll)
		w.serves("F1 the good one again", "alice", "ann")
		w.pass(time.Hour)
	}
}

// TestGap is a tool that deletes the old file before it makes the new one.
func TestGap(t *testing.T) {
	w := watchText(t, fileA)
	must(t, os.Remove(w.path))
	w.notice()
	w.pass(settleTime - time.Millisecond)
	w.logged("for a moment")
	must(t, os.WriteFile(w.path, []byte(fileB), 0o640))
	w.notice()
	w.pass(settleTime)
	w.serves("there again", "alice", "bob")
	w.logged("there again", msgNew)
	if w.failures != 0 {
		t.Errorf("%d failures, want none", w.failures)
	}
	must(t, os.Remove(w.path))
	w.notice()
	w.pass(settleTime)
	w.logged("for good", msgFail)
}

func TestHalfWritten(t *testing.T) {
	t.Run("F23 a pause shorter than the settling time", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(settleTime - time.Millisecond)
		w.serves("emptied", "alice", "ann")
		overwrite(t, w.path, fileHalf)
		w.notice()
		w.pass(settleTime - time.Millisecond)
		w.serves("half written", "alice", "ann")
		overwrite(t, w.path, fileHalf+"bob:"+shaSecret1)
		w.notice()
		w.pass(settleTime - time.Millisecond)
		w.serves("just written", "alice", "ann")
		w.pass(time.Millisecond)
		w.serves("written", "alice", "bob")
		if w.loads != 1 {
			t.Errorf("%d times parsed", w.loads)
		}
		w.logged("written", msgNew)
	})
	t.Run("F23 a pause longer than the settling time", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, fileHalf)
		w.notice()
		w.pass(settleTime)
		w.serves("half written", "alice")
		overwrite(t, w.path, fileA)
		w.notice()
		w.pass(settleTime)
		w.serves("written", "alice", "ann")
		w.logged("written", msgNew, msgNew)
	})
	t.Run("F23 notices without a change don't put it off", func(t *testing.T) {
		w := watchText(t, fileA)
		replace(t, w.path, fileB)
		for range 20 {
			w.notice()
			w.pass(settleTime / 20)
		}
		w.serves("after the settling time", "alice", "bob")
	})
	t.Run("F23 a file that never stands still", func(t *testing.T) {
		w := watchText(t, fileA)
		start := w.now
		const pause = settleTime / 2
		for i := 0; w.now.Sub(start) < maxSettle-pause; i++ {
			overwrite(t, w.path, fmt.Sprintf("user%d:%s\n", i, shaSecret1))
			w.notice()
			w.pass(pause)
			w.serves("before the longest wait", "alice", "ann")
		}
		for i := range 4 {
			overwrite(t, w.path, fmt.Sprintf("last%d:%s\n", i, shaSecret1))
			w.notice()
			w.pass(pause)
		}
		if w.loads == 0 {
			t.Errorf("not read %s after the first change", w.now.Sub(start))
		}
		w.pass(settleTime)
		w.serves("it stands still", "last3")
	})
	t.Run("F23 a broken half is not judged again and again", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "alice:{SH")
		w.pass(10 * testPoll)
		w.serves("half", "alice", "ann")
		if w.loads != 1 {
			t.Errorf("%d times parsed", w.loads)
		}
		w.logged("half", msgFail)
	})
}

func TestEmptyGrace(t *testing.T) {
	for _, empty := range []string{"", "\n", "# rewritten\n"} {
		t.Run(fmt.Sprintf("F1 a full file cut to %q", empty), func(t *testing.T) {
			w := watchText(t, fileA)
			overwrite(t, w.path, empty)
			w.notice()
			w.pass(settleTime)
			w.logged("emptied", msgEmpty)
			w.pass(emptyGrace - time.Millisecond)
			w.serves("within the grace", "alice", "ann")
			w.logged("within the grace")
			w.pass(settleTime + time.Millisecond)
			w.serves("after the grace")
			w.logged("after the grace", "warn file names no user", msgNew)
			w.pass(10 * testPoll)
			w.logged("later")
			overwrite(t, w.path, fileB)
			w.pass(testPoll)
			w.serves("full again", "alice", "bob")
			w.logged("full again", msgNew)
		})
	}
	t.Run("F1 full again within the grace, which then begins anew", func(t *testing.T) {
		w := watchText(t, fileA)
		for range 3 {
			overwrite(t, w.path, "")
			w.notice()
			w.pass(settleTime + emptyGrace/2)
			w.serves("emptied", "alice", "ann")
			overwrite(t, w.path, fileA)
			w.notice()
			w.pass(settleTime)
			w.serves("full", "alice", "ann")
			w.logged("emptied and full", msgEmpty)
		}
		w.pass(10 * testPoll)
		w.serves("later", "alice", "ann")
		if w.loads != 0 {
			t.Errorf("%d times parsed", w.loads)
		}
	})
	for name, mkdir := range map[string]bool{"F1 F17 deleted": false, "F1 F18 a folder": true} {
		t.Run(name+" within the grace, and much later empty again", func(t *testing.T) {
			w := watchText(t, fileA)
			overwrite(t, w.path, "")
			w.notice()
			w.pass(settleTime + emptyGrace/2)
			must(t, os.Remove(w.path))
			if mkdir {
				must(t, os.Mkdir(w.path, 0o755))
			}
			w.pass(10 * testPoll)
			w.serves("gone", "alice", "ann")
			w.logged("gone", msgEmpty, msgFail)
			must(t, os.RemoveAll(w.path))
			must(t, os.WriteFile(w.path, nil, 0o640)) // someone begins to write it
			w.notice()
			w.pass(settleTime + emptyGrace/2)
			w.serves("there again, and empty: a grace of its own", "alice", "ann")
			must(t, os.WriteFile(w.path, []byte(fileB), 0o640))
			w.notice()
			w.pass(settleTime)
			w.serves("written", "alice", "bob")
		})
	}
	t.Run("F1 F8 unusable within the grace, and much later empty again", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(settleTime + emptyGrace/2)
		overwrite(t, w.path, "rubbish")
		w.pass(10 * testPoll)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(settleTime + emptyGrace/2)
		w.serves("empty once more", "alice", "ann")
	})
	t.Run("F1 a reload of the configuration within the grace", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		must(t, w.reload(w.logger))
		w.serves("emptied", "alice", "ann")
		w.pass(testPoll + emptyGrace)
		w.serves("after the grace")
	})
	t.Run("F1 empty from the start: no grace", func(t *testing.T) {
		w := watchText(t, "# nobody yet\n")
		w.serves("empty")
		overwrite(t, w.path, "")
		w.pass(testPoll)
		w.serves("emptier")
		w.logged("emptier", "warn file names no user", msgNew)
	})
}

func TestReload(t *testing.T) {
	t.Run("X3 reads what nobody has noticed yet", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, fileB)
		must(t, w.reload(w.logger))
		w.serves("reloaded", "alice", "bob")
		overwrite(t, w.path, "alice")
		if err := w.reload(w.logger); err == nil || strings.Contains(err.Error(), "alice") || !strings.Contains(err.Error(), w.path+": ") {
			t.Error(err)
		}
		w.serves("broken", "alice", "bob")
		w.logged("broken", msgNew, msgFail)
		w.pass(10 * testPoll)
		w.logged("later: it is the same failure")
		if w.loads != 2 {
			t.Errorf("%d times parsed", w.loads)
		}
		overwrite(t, w.path, fileB)
		must(t, w.reload(w.logger))
		w.logged("mended", msgGood)
	})
	t.Run("X2 the same text is not parsed again", func(t *testing.T) {
		w := watchText(t, fileA)
		before := w.store.current.Load()
		replace(t, w.path, fileA)
		must(t, w.reload(w.logger))
		w.pass(testPoll)
		if w.loads != 0 || w.store.current.Load() != before {
			t.Errorf("%d times parsed", w.loads)
		}
	})
	t.Run("F17 deleted, and a reload that says so: one failure", func(t *testing.T) {
		w := watchText(t, fileA)
		must(t, os.Remove(w.path))
		if w.reload(w.logger) == nil {
			t.Error("no error")
		}
		w.pass(testPoll)
		w.logged("deleted", msgFail)
		if w.failures != 1 {
			t.Errorf("%d failures", w.failures)
		}
	})
}

func TestModeWarning(t *testing.T) {
	const msg = "warn file can be read by every user"
	path := writeFile(t, fileA)
	must(t, os.Chmod(path, 0o644))
	testkit.OpenDirectories(t, path)
	w := watch(t, path)
	w.pass(3 * testPoll)
	w.logged("what watch has not taken away")
	overwrite(t, path, fileB)
	w.pass(testPoll)
	w.serves("F15 it works", "alice", "bob")
	w.logged("F15 still open, and said already", msgNew)
	must(t, os.Chmod(path, 0o640))
	w.pass(testPoll)
	w.logged("F15 mended")
	must(t, os.Chmod(path, 0o604))
	w.pass(10 * testPoll)
	w.logged("F15 open again", msg)

	logger, logs := observed()
	f := newFollowedFile(path, newUserStore(path).load)
	f.startOnce.Do(func() {})
	for range 3 {
		must(t, f.reload(logger))
	}
	if n := logs.FilterMessageSnippet("every user of this machine").Len(); n != 1 {
		t.Errorf("F15 at the start: %d warnings", n)
	}
}

func TestReadFileNeverBlocks(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(dir+"/fifo", 0o640))
	for _, path := range []string{dir + "/fifo", dir, "/dev/zero", "/dev/null", dir + "/none", ""} {
		within(t, "F19 "+path, func() {
			if text, _, _, err := readFile(path); err == nil || text != "" {
				t.Errorf("F19 %s: %q", path, text)
			}
		})
	}
	must(t, os.WriteFile(dir+"/f", []byte("x"), 0o640))
	if text, sig, mode, err := readFile(dir + "/f"); err != nil || text != "x" || sig == (signature{}) || mode.Perm() != 0o640 {
		t.Errorf("%q %v %v %v", text, sig, mode, err)
	}
}

// put puts settings in force for a test.
func put(t *testing.T, poll time.Duration) (*App, *observer.ObservedLogs) {
	t.Helper()
	logger, logs := observed()
	app := &App{Poll: caddy.Duration(poll), logger: logger}
	running.start(app)
	t.Cleanup(func() { running.stop(app) })
	return app, logs
}

// followers returns how many goroutines follow files.
func followers() int {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 2) //nolint:errcheck // to memory
	return strings.Count(stacks.String(), "(*followedFile).follow(") + strings.Count(stacks.String(), "(*inotify).await(") + strings.Count(stacks.String(), "(*notifier).forward(")
}

// nobodyFollows waits until no goroutine follows a file: one that has said that
// it is done may still be on its way out.
func nobodyFollows(t *testing.T) {
	t.Helper()
	eventually(t, "no goroutine follows a file", func() bool { return followers() == 0 })
}

// knows waits until a handler knows a user, or doesn't any more.
func knows(t *testing.T, h *Handler, user string, want outcome) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %s", user, want), func() bool {
		f := h.users.find([]byte(user)) // a login would have the file looked at
		if f.isUsable() {
			return want == goodPassword && f.class().Verify(f.Hash, []byte("secret1"))
		}
		return f.failure() == want
	})
}

// folderWithFile makes a folder that can be put away, with a file in it.
func folderWithFile(t *testing.T) (dir, path string) {
	t.Helper()
	dir = t.TempDir() + "/d"
	path = dir + "/f"
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(path, []byte(fileA), 0o640))
	return dir, path
}

// quiet waits until the file of a handler is not looked at any more before
// the next notice or poll.
func quiet(t *testing.T, path string) {
	t.Helper()
	eventually(t, "the file is read and stands still", func() (ok bool) {
		files.Range(func(_, value any) bool {
			if file, is := value.(*pooledFile[*userStore]); is && file.path == path {
				file.mu.Lock()
				defer file.mu.Unlock()
				ok = !file.young && file.first.IsZero()
			}
			return true
		})
		return ok
	})
}

// heard waits until the one file that is followed has been looked at with the
// settings that were put in force last, and waits for the next.
func heard(t *testing.T) {
	t.Helper()
	eventually(t, "the settings are known", func() bool {
		running.mu.Lock()
		defer running.mu.Unlock()
		return running.changed != nil
	})
}

// TestFollow is the goroutine, with real time: a change found by a notice, and
// one where there is none.
func TestFollow(t *testing.T) {
	const never = time.Hour
	t.Run("F22 renamed over, by notice", func(t *testing.T) {
		put(t, never)
		path := writeFile(t, fileA)
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		replace(t, path, fileB)
		knows(t, h, "bob", goodPassword)
		knows(t, h, "ann", unknownUser)
	})
	t.Run("F17 deleted and back, by notice", func(t *testing.T) {
		_, logs := put(t, never)
		path := writeFile(t, fileA)
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		must(t, os.Remove(path))
		eventually(t, "it is logged", func() bool { return logs.FilterMessageSnippet("can't be used").Len() == 1 })
		knows(t, h, "ann", goodPassword)
		must(t, os.WriteFile(path, []byte(fileB), 0o640))
		knows(t, h, "bob", goodPassword)
		eventually(t, "it is logged", func() bool { return logs.FilterMessageSnippet("good again").Len() == 1 })
	})
	t.Run("F21 Kubernetes, by notice", func(t *testing.T) {
		put(t, never)
		path := kubernetes(t, t.TempDir())
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		kubernetesSwap(t, path)
		knows(t, h, "bob", goodPassword)
	})
	t.Run("F24 the target of a symlink in another folder, by the poll", func(t *testing.T) {
		put(t, 20*time.Millisecond)
		target, path := writeFile(t, fileA), t.TempDir()+"/link"
		must(t, os.Symlink(target, path))
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		replace(t, target, fileB)
		knows(t, h, "bob", goodPassword)
	})
	t.Run("F24 the folder made anew, by the poll, and then by notice", func(t *testing.T) {
		put(t, 20*time.Millisecond)
		dir, path := folderWithFile(t)
		h := provision(t, &Handler{Files: []string{path}})
		must(t, os.RemoveAll(dir))
		must(t, os.Mkdir(dir, 0o755))
		must(t, os.WriteFile(path, []byte(fileB), 0o640))
		knows(t, h, "bob", goodPassword)
		quiet(t, path)
		put(t, never)
		heard(t)
		replace(t, path, fileA)
		knows(t, h, "ann", goodPassword)
	})
	t.Run("F24 the folder renamed and another in its place", func(t *testing.T) {
		put(t, 20*time.Millisecond)
		dir, path := folderWithFile(t)
		h := provision(t, &Handler{Files: []string{path}})
		must(t, os.Mkdir(dir+".new", 0o755))
		must(t, os.WriteFile(dir+".new/f", []byte(fileB), 0o640))
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.Rename(dir+".new", dir))
		knows(t, h, "bob", goodPassword)
		quiet(t, path)
		put(t, never)
		heard(t)
		replace(t, path, fileA)
		knows(t, h, "ann", goodPassword)
	})
	t.Run("F24 a symlink on the way pointed to another folder, by the poll, and then by notice", func(t *testing.T) {
		put(t, 20*time.Millisecond)
		dir := t.TempDir()
		for name, text := range map[string]string{"a": fileA, "b": fileB} {
			must(t, os.Mkdir(dir+"/"+name, 0o755))
			must(t, os.WriteFile(dir+"/"+name+"/f", []byte(text), 0o640))
		}
		must(t, os.Symlink("a", dir+"/current"))
		path := dir + "/current/f"
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		must(t, os.Symlink("b", dir+"/next"))
		must(t, os.Rename(dir+"/next", dir+"/current"))
		knows(t, h, "bob", goodPassword)
		quiet(t, path)
		put(t, never)
		heard(t)
		replace(t, path, fileA)
		knows(t, h, "ann", goodPassword)
	})
	t.Run("the poll of new settings holds at once", func(t *testing.T) {
		put(t, never)
		target, path := writeFile(t, fileA), t.TempDir()+"/link"
		must(t, os.Symlink(target, path))
		h := provision(t, &Handler{Files: []string{path}})
		quiet(t, path)
		put(t, 20*time.Millisecond)
		heard(t)
		replace(t, target, fileB)
		knows(t, h, "bob", goodPassword)
	})
}

// TestFilesAreShared is what handlers of one path have in common, and that
// nothing is left when the last one is gone.
func TestFilesAreShared(t *testing.T) {
	put(t, time.Hour)
	nobodyFollows(t) // anything for another test
	path := writeFile(t, fileA)
	groups := writeFile(t, "admins: alice\n")
	one, two := &Handler{Files: []string{path, path}, GroupFiles: []string{groups}}, &Handler{Files: []string{path}}
	must(t, one.Provision(configContext(t)))
	must(t, two.Provision(configContext(t)))
	if one.users[0] != two.users[0] || one.users[0] != one.users[1] {
		t.Error("X2 the same file is two tables")
	}
	eventually(t, "two files are followed", func() bool { return followers() == 4 }) // each with its notices

	replace(t, path, "rubbish")
	three := &Handler{Files: []string{path}} // X3: broken, though already in use
	if err := three.Provision(configContext(t)); err == nil || !strings.Contains(err.Error(), path) {
		t.Error("X3", err)
	}
	must(t, three.Cleanup())
	if got, _ := checkIn(t, one.users, "ann", "secret1", &memory{now: clock}); got != goodPassword {
		t.Error("X3", got)
	}

	// A path read as users and as groups is two.
	mixed := &Handler{Files: []string{path}, GroupFiles: []string{path}}
	replace(t, path, fileA)
	must(t, mixed.Provision(configContext(t)))
	eventually(t, "three files are followed", func() bool { return followers() == 6 })
	must(t, mixed.Cleanup())

	must(t, one.Cleanup())
	must(t, one.Cleanup()) // once more takes nothing from others
	replace(t, path, fileB)
	knows(t, two, "bob", goodPassword)
	must(t, two.Cleanup())
	nobodyFollows(t)

	// One that can't be read leaves nothing either.
	four := &Handler{Files: []string{path, path + ".none"}}
	if err := four.Provision(configContext(t)); err == nil {
		t.Error("provisioned")
	}
	must(t, four.Cleanup())
	nobodyFollows(t)
}

// stackHas reports whether some goroutine is in a function.
func stackHas(function string) bool {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 2) //nolint:errcheck // to memory
	return strings.Contains(stacks.String(), function)
}

// TestDestructNeverHangs stops to follow a file whose folder was moved and
// deleted while the file was looked at: fsnotify, where that is used, then sends
// an error with a lock in its hands that its Close needs, too.
func TestDestructNeverHangs(t *testing.T) {
	put(t, time.Hour)
	for i := range 25 { // which of two channels is taken is by chance
		dir, path := folderWithFile(t)
		f := newFollowedFile(path, newUserStore(path).load)
		must(t, f.reload(zap.NewNop()))
		eventually(t, "the folder is watched, the file looked at", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return !f.since.IsZero()
		})
		f.mu.Lock()
		must(t, os.Chmod(path, 0o600)) // one notice, which leads into look
		eventually(t, "the goroutine waits in look", func() bool { return stackHas("(*followedFile).look(") })
		must(t, os.Chmod(path, 0o640)) // one more, which fsnotify holds out meanwhile
		must(t, os.Rename(dir, dir+".old"))
		must(t, os.RemoveAll(dir+".old"))

		// The goroutine takes that one, and waits in look again; fsnotify sees that the folder is gone.
		again, release := make(chan struct{}), make(chan struct{})
		go func() {
			f.mu.Lock()
			close(again)
			<-release
			f.mu.Unlock()
		}()
		eventually(t, "who comes next to the lock", func() bool { return stackHas("TestDestructNeverHangs.func") })
		f.mu.Unlock()
		<-again
		for range 20 { // in vain, if all is well
			if stackHas("fsnotify.(*shared).sendError(") {
				break
			}
			time.Sleep(time.Millisecond)
		}
		done := make(chan error, 1)
		go func() { done <- f.Destruct() }()
		<-f.stop
		close(release)
		within(t, fmt.Sprintf("Destruct, try %d", i), func() { must(t, <-done) })
	}
}
