//go:build unix

package follow

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestBrokenFiles breaks a file in many ways and restores it: the previous version
// keeps serving, one log entry reports the error, and one its end.
func TestBrokenFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		reason string
	}{
		{"the file is larger than the limit", func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<30)) }, "larger than 256 MiB"},
		{"the file is larger than the limit by one byte", func(t *testing.T, path string) { must(t, os.Truncate(path, MaxFileSize+1)) }, "larger than 256 MiB"},
		{"the file becomes an HTML page", func(t *testing.T, path string) { overwrite(t, path, "<html>\n<p>502") }, "none of its 2 lines"},
		{"the file becomes NUL bytes", func(t *testing.T, path string) { overwrite(t, path, strings.Repeat("\x00", 1000)) }, "none of its 1 lines"},
		{"the file is deleted", func(t *testing.T, path string) { must(t, os.Remove(path)) }, "no such file"},
		{"its directory is deleted", func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, "no such file"},
		{"a directory takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Mkdir(path, 0o755)) }, "is a directory, not a file"},
		{"a FIFO takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, syscall.Mkfifo(path, 0o640)) }, "not a regular file"},
		{"a device takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("/dev/zero", path)) }, "not a regular file"},
		{"a terminal takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("/dev/ptmx", path)) }, "not a regular file"},
		{"a symlink to nothing takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink("gone", path)) }, "no such file"},
		{"a symlink to itself takes its place", func(t *testing.T, path string) { must(t, os.Remove(path)); must(t, os.Symlink(path, path)) }, "too many levels"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := watchText(t, fileA)
			before := w.current.Load()
			test.spoil(t, w.path)
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			w.pass(testPoll)
			w.serves("spoiled", "alice", "ann")
			runtime.ReadMemStats(&end)
			if took := end.TotalAlloc - start.TotalAlloc; took > 4<<20 {
				t.Errorf("took %d bytes, want at most %d", took, 4<<20)
			}
			w.pass(10 * testPoll)
			w.serves("later", "alice", "ann")
			if w.current.Load() != before {
				t.Error("another version is active")
			}
			if n := w.loads.Load(); n > 1 {
				t.Errorf("parsed %d times, want at most 1", n)
			}
			w.failed(1)
			if all := w.logs.All(); len(all) != 1 || !strings.Contains(logText(w.logs), test.reason) || all[0].ContextMap()["file"] != w.path {
				t.Errorf("logged\n%swant %s, with the path", logText(w.logs), test.reason)
			}
			w.logged("spoiled", msgFail)

			// A reload fails with the reason. So does a start.
			var err error
			within(t, "reload", func() { err = w.Reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) || strings.Count(err.Error(), w.path) != 1 {
				t.Errorf("reload: got %v, want %s, and the path once", err, test.reason)
			}
			fresh := newTestFollower(w.path)
			within(t, "start", func() { err = fresh.Reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("start: got %v, want %s", err, test.reason)
			}
			within(t, "Destruct", func() { must(t, fresh.Close()) })
			w.serves("after the reload", "alice", "ann")
			w.logged("the same failure once more")
			w.failed(1)

			must(t, os.RemoveAll(w.path))
			must(t, os.MkdirAll(filepath.Dir(w.path), 0o755))
			replace(t, w.path, fileB)
			w.pass(testPoll) // without a notification
			w.serves("fixed", "alice", "bob")
			w.logged("fixed", msgNew, msgGood)

			test.spoil(t, w.path)
			w.pass(testPoll)
			w.logged("spoiled again", msgFail)
			w.serves("spoiled again", "alice", "bob")
			w.failed(2)
			must(t, os.RemoveAll(w.path))
			must(t, os.MkdirAll(filepath.Dir(w.path), 0o755))
			replace(t, w.path, fileB) // as it was
			w.pass(testPoll)
			w.logged("fixed again", msgGood)
			w.serves("fixed again", "alice", "bob")
		})
	}
}

// TestReadErrors are errors when a valid file is read.
func TestReadErrors(t *testing.T) {
	for _, test := range []struct {
		name, reason string
		during       func(t *testing.T, path string, f func())
	}{
		{"no file descriptors are left", "too many open files", func(t *testing.T, _ string, f func()) {
			var limit syscall.Rlimit
			must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
			none := limit
			none.Cur = 3
			must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
			defer func() { must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }()
			f()
		}},
		{"the mode of the file is 000", "permission denied", func(t *testing.T, path string, f func()) {
			if os.Geteuid() == 0 { // root can read every file
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
			if test.name == "the mode of the file is 000" {
				must(t, os.Chmod(w.path, 0))
			}
			test.during(t, w.path, func() { w.pass(10 * testPoll) })
			w.serves("unreadable", "alice", "ann")
			if !strings.Contains(logText(w.logs), test.reason) {
				t.Errorf("logged\n%swant %s", logText(w.logs), test.reason)
			}
			w.parsed(0)
			w.failed(1)
			w.logged("unreadable", msgFail)
			must(t, os.Chmod(w.path, 0o640))
			w.pass(testPoll) // it is tried again
			w.serves("readable", "alice", "bob")
			w.logged("readable", msgNew, msgGood)
		})
	}
}

// TestChanges checks that every kind of change of a file is found by the poll.
func TestChanges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		set    func(t *testing.T, dir string) string // writes fileA and returns its path
		change func(t *testing.T, path string)       // to fileB
	}{
		{"another file is renamed over it", nil, func(t *testing.T, path string) { replace(t, path, fileB) }},
		{"another file of the same size and mtime is renamed over it", nil, func(t *testing.T, path string) {
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path+".new", []byte(fileB), 0o640))
			must(t, os.Chtimes(path+".new", info.ModTime(), info.ModTime()))
			must(t, os.Rename(path+".new", path))
		}},
		{"it is written in place with the same size, and its mtime is set back", nil, func(t *testing.T, path string) {
			info, err := os.Stat(path)
			must(t, err)
			overwrite(t, path, fileB)
			must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
			if again, err := os.Stat(path); err != nil || again.Size() != info.Size() || !again.ModTime().Equal(info.ModTime()) {
				t.Fatal("size or mtime differ: the test shows nothing")
			}
		}},
		{"it is written in place", nil, func(t *testing.T, path string) { overwrite(t, path, fileB) }},
		{"it is deleted and created again before anyone looks", nil, func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}},
		{"a symlink is pointed to another file", func(t *testing.T, dir string) string {
			must(t, os.WriteFile(dir+"/a", []byte(fileA), 0o640))
			must(t, os.WriteFile(dir+"/b", []byte(fileB), 0o640))
			must(t, os.Symlink("a", dir+"/link"))
			return dir + "/link"
		}, func(t *testing.T, path string) {
			must(t, os.Symlink("b", path+".new"))
			must(t, os.Rename(path+".new", path))
		}},
		{"the target of a symlink is replaced in another directory", func(t *testing.T, dir string) string {
			must(t, os.Mkdir(dir+"/else", 0o755))
			must(t, os.WriteFile(dir+"/else/a", []byte(fileA), 0o640))
			must(t, os.Symlink("else/a", dir+"/link"))
			return dir + "/link"
		}, func(t *testing.T, path string) { replace(t, filepath.Dir(path)+"/else/a", fileB) }},
		{"Kubernetes swaps the directory of a volume", kubernetes, kubernetesSwap},
		{"its directory is deleted and created again", func(t *testing.T, dir string) string {
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
			w.parsed(0)
			w.serves("before", "alice", "ann")
			w.notice() // so that the next look is as late as possible
			test.change(t, w.path)
			w.pass(testPoll) // without any notification
			w.serves("after", "alice", "bob")
			w.logged("after", msgNew)
			w.pass(3 * testPoll)
			w.parsed(1)
			w.logged("later")
		})
	}
}

// kubernetes lays out a volume as the kubelet does: the path leads through a
// second symlink, which is replaced for each change.
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

// TestRacyFile changes a file so shortly after it was read that only its text
// differs, not its signature.
func TestRacyFile(t *testing.T) {
	t.Parallel()
	w := watchText(t, fileA)
	overwrite(t, w.path, fileHalf)
	sig, err := sign(w.path)
	must(t, err)
	w.now = time.Unix(0, sig.ctime).Add(SettleTime - 1)
	w.first = w.now.Add(-MaxSettle) // it kept changing, so it is read now
	w.notice()
	w.serves("half", "alice")
	overwrite(t, w.path, fileA)
	w.loaded, err = sign(w.path) // as on a file system whose clock has not advanced
	must(t, err)
	w.pass(testPoll)
	w.serves("the same signature", "alice", "ann")
}

// TestTorn changes a file while it is read: the text is not loaded, unless the
// file keeps changing.
func TestTorn(t *testing.T) {
	t.Parallel()
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
	w.pass(2 * SettleTime)
	w.serves("torn", "alice", "ann")
	w.fetch = readFile
	w.pass(2 * SettleTime)
	w.serves("whole", "alice", "bob")

	torn(w)
	replace(t, w.path, fileA)
	w.notice()
	w.pass(MaxSettle + SettleTime)
	w.serves("torn for too long", "alice")
	w.fetch = readFile
	w.pass(2 * SettleTime)
	w.serves("whole at last", "alice", "ann")

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
	must(t, w.Reload(w.logger))
	w.serves("reloaded", "alice", "bob")
}

// TestBackAndForth points a symlink at two files, alternating: the state of one
// file does not affect the other.
func TestBackAndForth(t *testing.T) {
	t.Parallel()
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
		w.logged("a broken one", msgFail)
		point("good")
		w.pass(testPoll)
		w.logged("the valid one", msgGood)
	}
	for range 2 {
		point("empty")
		w.pass(testPoll)
		w.serves("a grace each time", "alice", "ann")
		point("good")
		w.pass(testPoll)
		w.serves("the good one again", "alice", "ann")
		w.pass(time.Hour)
	}
}

// TestGap checks that a tool may delete the old file before it creates the new one.
func TestGap(t *testing.T) {
	t.Parallel()
	w := watchText(t, fileA)
	must(t, os.Remove(w.path))
	w.notice()
	w.pass(SettleTime - time.Millisecond)
	w.logged("for a moment")
	must(t, os.WriteFile(w.path, []byte(fileB), 0o640))
	w.notice()
	w.pass(SettleTime)
	w.serves("there again", "alice", "bob")
	w.logged("there again", msgNew)
	w.failed(0)
	must(t, os.Remove(w.path))
	w.notice()
	w.pass(SettleTime)
	w.logged("for good", msgFail)
}

func TestHalfWritten(t *testing.T) {
	t.Parallel()
	t.Run("a pause is shorter than the settling time", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(SettleTime - time.Millisecond)
		w.serves("emptied", "alice", "ann")
		overwrite(t, w.path, fileHalf)
		w.notice()
		w.pass(SettleTime - time.Millisecond)
		w.serves("half written", "alice", "ann")
		overwrite(t, w.path, fileHalf+"bob:"+hash)
		w.notice()
		w.pass(SettleTime - time.Millisecond)
		w.serves("just written", "alice", "ann")
		w.pass(time.Millisecond)
		w.serves("written", "alice", "bob")
		w.parsed(1)
		w.logged("written", msgNew)
	})
	t.Run("a pause is longer than the settling time", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, fileHalf)
		w.notice()
		w.pass(SettleTime)
		w.serves("half written", "alice")
		overwrite(t, w.path, fileA)
		w.notice()
		w.pass(SettleTime)
		w.serves("written", "alice", "ann")
		w.logged("written", msgNew, msgNew)
	})
	t.Run("notifications without a change do not delay it", func(t *testing.T) {
		w := watchText(t, fileA)
		replace(t, w.path, fileB)
		for range 20 {
			w.notice()
			w.pass(SettleTime / 20)
		}
		w.serves("after the settling time", "alice", "bob")
	})
	t.Run("a file keeps changing", func(t *testing.T) {
		w := watchText(t, fileA)
		start := w.now
		const pause = SettleTime / 2
		for i := 0; w.now.Sub(start) < MaxSettle-pause; i++ {
			overwrite(t, w.path, fmt.Sprintf("user%d:%s\n", i, hash))
			w.notice()
			w.pass(pause)
			w.serves("before the longest wait", "alice", "ann")
		}
		for i := range 4 {
			overwrite(t, w.path, fmt.Sprintf("last%d:%s\n", i, hash))
			w.notice()
			w.pass(pause)
		}
		if w.loads.Load() == 0 {
			t.Errorf("not read %s after the first change", w.now.Sub(start))
		}
		w.pass(SettleTime)
		w.serves("unchanged at last", "last3")
	})
	t.Run("a broken half is not parsed again and again", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "alice:{SH")
		w.pass(10 * testPoll)
		w.serves("half", "alice", "ann")
		w.parsed(1)
		w.logged("half", msgFail)
	})
}

func TestEmptyGrace(t *testing.T) {
	t.Parallel()
	for _, empty := range []string{"", "\n", "# rewritten\n"} {
		t.Run(fmt.Sprintf("a full file is cut to %q", empty), func(t *testing.T) {
			w := watchText(t, fileA)
			overwrite(t, w.path, empty)
			w.notice()
			w.pass(SettleTime)
			w.logged("emptied", msgEmpty)
			w.pass(EmptyGrace - time.Millisecond)
			w.serves("within the grace", "alice", "ann")
			w.logged("within the grace")
			w.pass(SettleTime + time.Millisecond)
			w.serves("after the grace")
			w.logged("after the grace", "warn file contains no users", msgNew)
			w.pass(10 * testPoll)
			w.logged("later")
			overwrite(t, w.path, fileB)
			w.pass(testPoll)
			w.serves("full again", "alice", "bob")
			w.logged("full again", msgNew)
		})
	}
	t.Run("it is full again within the grace period, which then starts again", func(t *testing.T) {
		w := watchText(t, fileA)
		for range 3 {
			overwrite(t, w.path, "")
			w.notice()
			w.pass(SettleTime + EmptyGrace/2)
			w.serves("emptied", "alice", "ann")
			overwrite(t, w.path, fileA)
			w.notice()
			w.pass(SettleTime)
			w.serves("full", "alice", "ann")
			w.logged("emptied and full", msgEmpty)
		}
		w.pass(10 * testPoll)
		w.serves("later", "alice", "ann")
		w.parsed(0)
	})
	for name, mkdir := range map[string]bool{"it is deleted": false, "a directory takes its place": true} {
		t.Run(name+" within the grace period, and much later it is empty again", func(t *testing.T) {
			w := watchText(t, fileA)
			overwrite(t, w.path, "")
			w.notice()
			w.pass(SettleTime + EmptyGrace/2)
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
			w.pass(SettleTime + EmptyGrace/2)
			w.serves("there again, and empty: a grace of its own", "alice", "ann")
			must(t, os.WriteFile(w.path, []byte(fileB), 0o640))
			w.notice()
			w.pass(SettleTime)
			w.serves("written", "alice", "bob")
		})
	}
	t.Run("it is invalid within the grace period, and much later empty again", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(SettleTime + EmptyGrace/2)
		overwrite(t, w.path, "rubbish")
		w.pass(10 * testPoll)
		overwrite(t, w.path, "")
		w.notice()
		w.pass(SettleTime + EmptyGrace/2)
		w.serves("empty once more", "alice", "ann")
	})
	t.Run("it is reloaded within the grace period", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		must(t, w.Reload(w.logger))
		w.serves("emptied", "alice", "ann")
		w.pass(testPoll + EmptyGrace)
		w.serves("after the grace")
	})
	t.Run("it is empty from the start: there is no grace period", func(t *testing.T) {
		w := watchText(t, "# nobody yet\n")
		w.serves("empty")
		overwrite(t, w.path, "")
		w.pass(testPoll)
		w.serves("emptier")
		w.logged("emptier", "warn file contains no users", msgNew)
	})
}

func TestReload(t *testing.T) {
	t.Parallel()
	t.Run("it reads a change that was not found yet", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, fileB)
		must(t, w.Reload(w.logger))
		w.serves("reloaded", "alice", "bob")
		overwrite(t, w.path, "alice")
		if err := w.Reload(w.logger); err == nil || strings.Contains(err.Error(), "alice") || !strings.Contains(err.Error(), w.path+": ") {
			t.Errorf("got %v, want an error with the path and without the text", err)
		}
		w.serves("broken", "alice", "bob")
		w.logged("broken", msgNew, msgFail)
		w.pass(10 * testPoll)
		w.logged("later: it is the same failure")
		w.parsed(2)
		overwrite(t, w.path, fileB)
		must(t, w.Reload(w.logger))
		w.logged("fixed", msgGood)
	})
	t.Run("the same text is not parsed again", func(t *testing.T) {
		w := watchText(t, fileA)
		before := w.current.Load()
		replace(t, w.path, fileA)
		must(t, w.Reload(w.logger))
		w.pass(testPoll)
		w.parsed(0)
		if w.current.Load() != before {
			t.Error("another version is active")
		}
	})
	t.Run("the file is deleted, and a reload says so: one failure", func(t *testing.T) {
		w := watchText(t, fileA)
		must(t, os.Remove(w.path))
		if w.Reload(w.logger) == nil {
			t.Error("no error, want one")
		}
		w.pass(testPoll)
		w.logged("deleted", msgFail)
		w.failed(1)
	})
}

func TestModeWarning(t *testing.T) {
	t.Parallel()
	const msg = "warn file is world-readable"
	path := writeFile(t, fileA)
	must(t, os.Chmod(path, 0o644))
	testkit.OpenDirectories(t, path)
	w := watch(t, path)
	w.pass(3 * testPoll)
	w.logged("nothing after the warning at the start")
	overwrite(t, path, fileB)
	w.pass(testPoll)
	w.serves("it works", "alice", "bob")
	w.logged("still readable, and warned of already", msgNew)
	must(t, os.Chmod(path, 0o640))
	w.pass(testPoll)
	w.logged("fixed")
	must(t, os.Chmod(path, 0o604))
	w.pass(10 * testPoll)
	w.logged("readable again", msg)

	logger, logs := observed()
	f := newTestFollower(path)
	f.startOnce.Do(func() {})
	for range 3 {
		must(t, f.Reload(logger))
	}
	warnings := logs.FilterMessageSnippet("world-readable").All()
	if len(warnings) != 1 {
		t.Fatalf("at the start: %d warnings, want 1", len(warnings))
	}
	if _, group := OwnerOf(path); group == "" || warnings[0].ContextMap()["group"] != group || warnings[0].ContextMap()["mode"] != "-rw----r--" {
		t.Errorf("got the fields %v, want group %q and mode -rw----r--", warnings[0].ContextMap(), group)
	}
}

// TestIsRacy checks how recent a change has to be for the next one to have the
// same timestamp.
func TestIsRacy(t *testing.T) {
	t.Parallel()
	whole := time.Unix(1_700_000_000, 0)
	fraction := whole.Add(123 * time.Millisecond)
	for _, test := range []struct {
		name    string
		changed time.Time
		age     time.Duration
		want    bool
	}{
		{"it has just changed", fraction, 0, true},
		{"it changed a settling time ago", fraction, SettleTime, false},
		{"it changed a moment less ago", fraction, SettleTime - 1, true},
		{"a clock is ahead a little", fraction, -SettleTime + 1, true},
		{"a clock is far ahead", fraction, -time.Hour, false},
		{"its file system stores whole seconds only", whole, 2 * time.Second, true},
		{"its file system stores whole seconds only, and it is old enough", whole, 2*time.Second + SettleTime, false},
	} {
		if got := isRacy(test.changed.UnixNano(), test.changed.Add(test.age)); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
