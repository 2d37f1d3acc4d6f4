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

// TestBrokenFiles are the ways in which a file can go bad and come back: the
// version before keeps serving, one line says so, one that it is over.
func TestBrokenFiles(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		reason string
	}{
		{"F7 larger than the limit", func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<30)) }, "larger than 256 MiB"},
		{"F7 by one byte", func(t *testing.T, path string) { must(t, os.Truncate(path, MaxFileSize+1)) }, "larger than 256 MiB"},
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
			before := w.current.Load()
			test.spoil(t, w.path)
			var start, end runtime.MemStats
			runtime.ReadMemStats(&start)
			w.pass(testPoll)
			w.serves("spoiled", "alice", "ann")
			runtime.ReadMemStats(&end)
			if took := end.TotalAlloc - start.TotalAlloc; took > 4<<20 {
				t.Errorf("took %d bytes", took)
			}
			w.pass(10 * testPoll)
			w.serves("later", "alice", "ann")
			if w.current.Load() != before || w.loads.Load() > 1 || w.status.Failures != 1 {
				t.Errorf("another table, or %d times parsed, or %d failures", w.loads.Load(), w.status.Failures)
			}
			if all := w.logs.All(); len(all) != 1 || !strings.Contains(logText(w.logs), test.reason) || all[0].ContextMap()["file"] != w.path {
				t.Errorf("logged\n%s", logText(w.logs))
			}
			w.logged("spoiled", msgFail)

			// A reload of the configuration is refused, and says why (X3); so is a start.
			var err error
			within(t, "reload", func() { err = w.Reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) || strings.Count(err.Error(), w.path) != 1 {
				t.Errorf("reload: %v", err)
			}
			fresh := newTestFollower(w.path)
			within(t, "start", func() { err = fresh.Reload(w.logger) })
			if err == nil || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("start: %v", err)
			}
			within(t, "Destruct", func() { must(t, fresh.Close()) })
			w.serves("after the reload", "alice", "ann")
			w.logged("the same failure once more")
			if w.status.Failures != 1 {
				t.Errorf("%d failures", w.status.Failures)
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
			if w.status.Failures != 2 {
				t.Errorf("%d failures", w.status.Failures)
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
			if !strings.Contains(logText(w.logs), test.reason) || w.loads.Load() != 0 || w.status.Failures != 1 {
				t.Errorf("%d times parsed, %d failures, logged\n%s", w.loads.Load(), w.status.Failures, logText(w.logs))
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
			if w.loads.Load() != 0 {
				t.Errorf("%d times parsed without a change", w.loads.Load())
			}
			w.serves("before", "alice", "ann")
			w.notice() // the next look is as far away as can be
			test.change(t, w.path)
			w.pass(testPoll) // F24: without any notice
			w.serves("after", "alice", "bob")
			w.logged("after", msgNew)
			w.pass(3 * testPoll)
			if w.loads.Load() != 1 {
				t.Errorf("%d times parsed", w.loads.Load())
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
	w.now = time.Unix(0, sig.ctime).Add(SettleTime - 1)
	w.first = w.now.Add(-MaxSettle) // it never stood still: read at last
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
	w.pass(2 * SettleTime)
	w.serves("F23 torn", "alice", "ann")
	w.fetch = readFile
	w.pass(2 * SettleTime)
	w.serves("F23 whole", "alice", "bob")

	torn(w)
	replace(t, w.path, fileA)
	w.notice()
	w.pass(MaxSettle + SettleTime)
	w.serves("F23 torn for too long", "alice")
	w.fetch = readFile
	w.pass(2 * SettleTime)
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
	must(t, w.Reload(w.logger))
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
	w.pass(SettleTime - time.Millisecond)
	w.logged("for a moment")
	must(t, os.WriteFile(w.path, []byte(fileB), 0o640))
	w.notice()
	w.pass(SettleTime)
	w.serves("there again", "alice", "bob")
	w.logged("there again", msgNew)
	if w.status.Failures != 0 {
		t.Errorf("%d failures, want none", w.status.Failures)
	}
	must(t, os.Remove(w.path))
	w.notice()
	w.pass(SettleTime)
	w.logged("for good", msgFail)
}

func TestHalfWritten(t *testing.T) {
	t.Run("F23 a pause shorter than the settling time", func(t *testing.T) {
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
		if w.loads.Load() != 1 {
			t.Errorf("%d times parsed", w.loads.Load())
		}
		w.logged("written", msgNew)
	})
	t.Run("F23 a pause longer than the settling time", func(t *testing.T) {
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
	t.Run("F23 notices without a change don't put it off", func(t *testing.T) {
		w := watchText(t, fileA)
		replace(t, w.path, fileB)
		for range 20 {
			w.notice()
			w.pass(SettleTime / 20)
		}
		w.serves("after the settling time", "alice", "bob")
	})
	t.Run("F23 a file that never stands still", func(t *testing.T) {
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
		w.serves("it stands still", "last3")
	})
	t.Run("F23 a broken half is not judged again and again", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "alice:{SH")
		w.pass(10 * testPoll)
		w.serves("half", "alice", "ann")
		if w.loads.Load() != 1 {
			t.Errorf("%d times parsed", w.loads.Load())
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
			w.pass(SettleTime)
			w.logged("emptied", msgEmpty)
			w.pass(EmptyGrace - time.Millisecond)
			w.serves("within the grace", "alice", "ann")
			w.logged("within the grace")
			w.pass(SettleTime + time.Millisecond)
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
		if w.loads.Load() != 0 {
			t.Errorf("%d times parsed", w.loads.Load())
		}
	})
	for name, mkdir := range map[string]bool{"F1 F17 deleted": false, "F1 F18 a folder": true} {
		t.Run(name+" within the grace, and much later empty again", func(t *testing.T) {
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
	t.Run("F1 F8 unusable within the grace, and much later empty again", func(t *testing.T) {
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
	t.Run("F1 a reload of the configuration within the grace", func(t *testing.T) {
		w := watchText(t, fileA)
		overwrite(t, w.path, "")
		must(t, w.Reload(w.logger))
		w.serves("emptied", "alice", "ann")
		w.pass(testPoll + EmptyGrace)
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
		must(t, w.Reload(w.logger))
		w.serves("reloaded", "alice", "bob")
		overwrite(t, w.path, "alice")
		if err := w.Reload(w.logger); err == nil || strings.Contains(err.Error(), "alice") || !strings.Contains(err.Error(), w.path+": ") {
			t.Error(err)
		}
		w.serves("broken", "alice", "bob")
		w.logged("broken", msgNew, msgFail)
		w.pass(10 * testPoll)
		w.logged("later: it is the same failure")
		if w.loads.Load() != 2 {
			t.Errorf("%d times parsed", w.loads.Load())
		}
		overwrite(t, w.path, fileB)
		must(t, w.Reload(w.logger))
		w.logged("mended", msgGood)
	})
	t.Run("X2 the same text is not parsed again", func(t *testing.T) {
		w := watchText(t, fileA)
		before := w.current.Load()
		replace(t, w.path, fileA)
		must(t, w.Reload(w.logger))
		w.pass(testPoll)
		if w.loads.Load() != 0 || w.current.Load() != before {
			t.Errorf("%d times parsed", w.loads.Load())
		}
	})
	t.Run("F17 deleted, and a reload that says so: one failure", func(t *testing.T) {
		w := watchText(t, fileA)
		must(t, os.Remove(w.path))
		if w.Reload(w.logger) == nil {
			t.Error("no error")
		}
		w.pass(testPoll)
		w.logged("deleted", msgFail)
		if w.status.Failures != 1 {
			t.Errorf("%d failures", w.status.Failures)
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
	f := newTestFollower(path)
	f.startOnce.Do(func() {})
	for range 3 {
		must(t, f.Reload(logger))
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
