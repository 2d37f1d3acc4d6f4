package follow

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// noticed makes a watched file use the notifications of the operating system, too.
func (w *watched) noticed() *watched {
	w.t.Helper()
	w.notices = newDirectoryNotices(w.path)
	must(w.t, w.notices.tryRenew())
	w.t.Cleanup(w.notices.close)
	w.notice()
	return w
}

// TestMoved replaces a file in many ways. A file that was renamed to the path is
// read at once, all others after SettleTime.
func TestMoved(t *testing.T) {
	t.Parallel()
	const (
		atOnce  = true
		settled = false
	)
	for _, test := range []struct {
		name   string
		change func(t *testing.T, path string) // to fileB
		want   bool
	}{
		{"renamed over it", func(t *testing.T, path string) { replace(t, path, fileB) }, atOnce},
		{"renamed over it twice", func(t *testing.T, path string) { replace(t, path, fileHalf); replace(t, path, fileB) }, atOnce},
		{"renamed over it from another directory", func(t *testing.T, path string) {
			dir, err := os.MkdirTemp(filepath.Dir(path), "")
			must(t, err)
			must(t, os.WriteFile(dir+"/f", []byte(fileB), 0o640))
			must(t, os.Rename(dir+"/f", path))
		}, atOnce},
		{"renamed over it, and then its mode is changed", func(t *testing.T, path string) {
			replace(t, path, fileB)
			must(t, os.Chmod(path, 0o600))
		}, atOnce},
		{"removed, and then renamed to its name", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			replace(t, path, fileB)
		}, atOnce},
		{"written in place", func(t *testing.T, path string) { overwrite(t, path, fileB) }, settled},
		{"removed and created again", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}, settled},
		{"moved away, and then created again", func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"~"))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}, settled},
		{"renamed over it, and then written in place", func(t *testing.T, path string) {
			replace(t, path, fileHalf)
			overwrite(t, path, fileB)
		}, settled},
		{"renamed over it, and then removed and created again", func(t *testing.T, path string) {
			replace(t, path, fileHalf)
			must(t, os.Remove(path))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
		}, settled},
		{"linked in its place", func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".new", []byte(fileB), 0o640))
			must(t, os.Remove(path))
			must(t, os.Link(path+".new", path))
		}, settled},
		{"a symlink renamed over it", func(t *testing.T, path string) {
			must(t, os.WriteFile(path+".target", []byte(fileB), 0o640))
			must(t, os.Symlink(path+".target", path+".new"))
			must(t, os.Rename(path+".new", path))
		}, settled},
		{"its directory renamed and replaced, and a file moved within the old one", func(t *testing.T, path string) {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.Mkdir(dir, 0o755))
			must(t, os.WriteFile(path, []byte(fileB), 0o640))
			replace(t, filepath.Join(dir+".old", filepath.Base(path)), fileHalf)
		}, settled},
		{"written by another name that it has, after it was moved there and read", func(t *testing.T, path string) {
			overwrite(t, path+".link", fileB) // the notification is of the directory of that name
		}, settled},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, path := directoryWithFile(t)
			w := watch(t, path).noticed()
			if test.name[:len("written by")] == "written by" {
				other := dir + ".other"
				must(t, os.Mkdir(other, 0o755))
				must(t, os.WriteFile(other+"/f", []byte(fileHalf), 0o640))
				must(t, os.Link(other+"/f", path+".new"))
				must(t, os.Rename(path+".new", path))
				w.notice()
				w.serves("moved", "alice")
				w.pass(time.Second)
				w.logs.TakeAll()
				must(t, os.Symlink(other+"/f", path+".link"))
			}
			before := w.text
			test.change(t, path)
			w.notice()
			if isRead := w.text != before; isRead != test.want {
				t.Fatalf("read at once: %v, want %v", isRead, test.want)
			}
			w.pass(SettleTime)
			w.serves("after the settling time", "alice", "bob")
			w.logged("after the settling time", msgNew)
		})
	}
}

// TestMoveCountsOnce renames a file to the path that has a second name in another
// directory, and then writes to it by that name, which gives no notification. The
// written version is read only after SettleTime.
func TestMoveCountsOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		text string           // of the renamed file
		read func(w *watched) // reads it
	}{
		{"it is loaded", fileHalf, (*watched).notice},
		{"it is invalid", "<html>", (*watched).notice},
		{"it is too large to be read", "", (*watched).notice},
		{"it is reloaded", fileHalf, func(w *watched) { must(w.t, w.Reload(w.logger)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := watchText(t, fileA).noticed()
			other := filepath.Join(t.TempDir(), "f")
			must(t, os.WriteFile(other, []byte(test.text), 0o640))
			if test.text == "" {
				must(t, os.Truncate(other, MaxFileSize+1))
			}
			must(t, os.Link(other, w.path+".new"))
			must(t, os.Rename(w.path+".new", w.path))
			test.read(w)
			before := w.text
			overwrite(t, other, fileB)
			w.notice()
			if w.text != before {
				t.Errorf("read at once:\n%s", w.text)
			}
			w.pass(2 * SettleTime)
			w.serves("after the settling time", "alice", "bob")
		})
	}
}

// TestMovedWhileRead writes to a file that was renamed to the path while it is
// read: that text is not loaded.
func TestMovedWhileRead(t *testing.T) {
	t.Parallel()
	w := watchText(t, fileA).noticed()
	w.fetch = func(path string) (string, signature, fs.FileMode, error) {
		text, sig, mode, err := readFile(path)
		overwrite(t, path, fileB)
		return text, sig, mode, err
	}
	replace(t, w.path, fileHalf)
	w.notice()
	w.serves("while it is written", "alice", "ann")
	w.fetch = readFile
	w.notice()
	w.serves("just written", "alice", "ann")
	w.pass(SettleTime)
	w.serves("written", "alice", "bob")
}

// TestMovedBroken renames an invalid file to the path: it is rejected at once, and
// only once.
func TestMovedBroken(t *testing.T) {
	t.Parallel()
	w := watchText(t, fileA).noticed()
	replace(t, w.path, "<html>")
	w.notice()
	w.logged("broken", msgFail)
	w.pass(10 * testPoll)
	w.serves("broken", "alice", "ann")
	if w.loads.Load() > 2 { // twice while it is racy
		t.Errorf("parsed %d times, want at most 2", w.loads.Load())
	}
	replace(t, w.path, fileB)
	w.notice()
	w.serves("fixed", "alice", "bob")
	w.logged("fixed", msgNew, msgGood)
}

// TestWholeVersionsOnly makes changes of all kinds in random order: only completely
// written versions become active, and renamed files become active at once.
func TestWholeVersionsOnly(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			w := watchText(t, fileA).noticed()
			whole := map[string]bool{fileA: true}
			look := func(what string) {
				t.Helper()
				w.pass(time.Duration(random.Int64N(int64(SettleTime) * 9 / 10)))
				if random.IntN(2) == 0 {
					w.notice()
				}
				if !whole[w.text] {
					t.Fatalf("%s: a version is active that was never complete:\n%s", what, w.text)
				}
			}
			half := func(flags int, text string) {
				file, err := os.OpenFile(w.path, os.O_WRONLY|flags, 0o640) //nolint:gosec // a test's own
				must(t, err)
				for len(text) > 0 {
					n := min(len(fileHalf), len(text))
					_, err = file.WriteString(text[:n])
					must(t, err)
					if text = text[n:]; text != "" {
						look("while it is written")
					}
				}
				must(t, file.Close())
			}
			for i := range 40 {
				// Both halves are valid files of the same length, so that the size does not tell.
				text := fmt.Sprintf("u%04d:%s\nv%04d:%s\n", i, hash, i, hash)
				switch random.IntN(6) {
				case 0, 1:
					whole[text] = true
					replace(t, w.path, text)
					w.notice()
					if w.text != text {
						t.Fatalf("moved, and not active:\n%s", w.text)
					}
				case 2:
					half(os.O_TRUNC, text)
				case 3:
					must(t, os.Remove(w.path))
					half(os.O_CREATE|os.O_EXCL, text)
				case 4: // moved there, and written to at once
					whole[text] = true
					replace(t, w.path, text)
					text = text[:len(fileHalf)] + "w" + text[len(fileHalf)+1:]
					half(os.O_TRUNC, text)
				case 5:
					must(t, os.Rename(w.path, w.path+"~"))
					half(os.O_CREATE|os.O_EXCL, text)
				}
				whole[text] = true
				if random.IntN(3) == 0 {
					must(t, os.Chmod(w.path, []fs.FileMode{0o600, 0o640}[random.IntN(2)]))
				}
				look("after it was written")
				if random.IntN(4) == 0 {
					w.pass(testPoll + MaxSettle)
					if w.text != text {
						t.Fatalf("it is unchanged for long enough, and this is active:\n%s", w.text)
					}
				}
			}
		})
	}
}

// TestWatchIsShared follows 300 files of one directory, which is more than the usual
// number of inotify instances of a user.
func TestWatchIsShared(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	followers := make([]*followed, 300)
	for i := range followers {
		path := fmt.Sprintf("%s/%d", dir, i)
		must(t, os.WriteFile(path, []byte(fileA), 0o600))
		followers[i] = begin(t, path, time.Hour)
	}
	eventually(t, "all files use one watch", func() bool {
		watchesMu.Lock()
		defer watchesMu.Unlock()
		return watches[dir] != nil && watches[dir].users == len(followers)
	})
	for i, f := range followers {
		switch i % 50 {
		case 0:
			replace(t, fmt.Sprintf("%s/%d", dir, i), fileB)
			f.knows("bob")
		case 1:
			f.knows("ann")
		}
	}
	// The directory is replaced, which all files have to notice.
	must(t, os.Rename(dir, dir+".old"))
	must(t, os.Mkdir(dir, 0o755))
	for i := range followers {
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", dir, i), []byte(fileB), 0o600))
	}
	for i, f := range followers {
		if i%50 == 1 {
			f.Await(t.Context())
			f.knows("bob")
		}
	}
}
