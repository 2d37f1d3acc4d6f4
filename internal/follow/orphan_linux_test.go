package follow

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bind mounts a file or directory on another one, until the end of the test.
func bind(t *testing.T, source, target string) {
	t.Helper()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("this test needs the right to mount (root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// unmount ends a mount.
func unmount(t *testing.T, target string) {
	t.Helper()
	must(t, unix.Unmount(target, unix.MNT_DETACH))
}

// mountedFile returns a file that is mounted on its own, as into a container.
func mountedFile(t *testing.T) (source, path string) {
	t.Helper()
	source, path = filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(source, []byte(fileA), 0o640))
	must(t, os.WriteFile(path, nil, 0o640))
	bind(t, source, path)
	return source, path
}

// TestOrphanedMount replaces or deletes a file outside the container into which it
// is mounted.
func TestOrphanedMount(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, source string){
		"replaced": func(t *testing.T, source string) { replace(t, source, fileB) },
		"deleted":  func(t *testing.T, source string) { must(t, os.Remove(source)) },
	} {
		t.Run(name, func(t *testing.T) {
			source, path := mountedFile(t)
			w := watch(t, path)
			before := w.current.Load()
			change(t, source)
			w.pass(testPoll)
			w.serves("found by the poll", "alice", "ann")
			if !strings.Contains(logText(w.logs), "mount the directory instead of the file") {
				t.Errorf("logged\n%s\nwithout what to do", logText(w.logs))
			}
			w.logged("found by the poll", msgFail)
			w.pass(20 * testPoll)
			w.logged("later")
			if status := w.Status(); status.Failure != errOrphaned.Error() || status.Failures != 1 {
				t.Errorf("shown: %+v, want one failure", status)
			}

			// A reload fails. A start accepts the file, or nobody could log in.
			if err := w.Reload(w.logger); err == nil || !strings.Contains(err.Error(), errOrphaned.Error()) {
				t.Errorf("reload: %v, want %v", err, errOrphaned)
			}
			w.logged("reload")
			w.failed(1)
			if w.current.Load() != before {
				t.Error("another version is active")
			}
			logger, logs := observed()
			fresh := newTestFollower(path)
			must(t, fresh.Reload(logger))
			if logs.FilterMessageSnippet("cannot load file").Len() != 1 || fresh.Status().Failure != errOrphaned.Error() {
				t.Errorf("at a start, logged\n%s", logText(logs))
			}
			must(t, fresh.Close())
			if _, _, err := ReadFile(path); err != nil {
				t.Errorf("ReadFile: %v, want the old version", err)
			}
			if _, isGone := MountOf(path); !isGone {
				t.Error("MountOf says that the file is not gone")
			}

			// The container is restarted: the new file is mounted.
			unmount(t, path)
			must(t, os.WriteFile(source, []byte(fileB), 0o640))
			must(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
			w.pass(testPoll)
			w.serves("mounted again", "alice", "bob")
			w.logged("mounted again", msgNew, msgGood)
			if _, isGone := MountOf(path); isGone {
				t.Error("MountOf says that the file is gone")
			}
		})
	}
}

// TestDeletedMount deletes a directory outside the container into which it is
// mounted.
func TestDeletedMount(t *testing.T) {
	source, dir := filepath.Join(t.TempDir(), "source"), t.TempDir()
	must(t, os.Mkdir(source, 0o755))
	must(t, os.WriteFile(source+"/f", []byte(fileA), 0o640))
	bind(t, source, dir)
	w := watch(t, dir+"/f").noticed()
	must(t, os.RemoveAll(source))
	w.pass(10 * testPoll)
	w.serves("deleted", "alice", "ann")
	w.logged("deleted", msgFail)
	must(t, os.Mkdir(source, 0o755)) // a new directory, which is not mounted
	must(t, os.WriteFile(source+"/f", []byte(fileB), 0o640))
	w.pass(10 * testPoll)
	w.serves("created again", "alice", "ann")
	w.logged("created again")
	unmount(t, dir)
	must(t, unix.Mount(source, dir, "", unix.MS_BIND, ""))
	w.pass(testPoll)
	w.serves("mounted again", "alice", "bob")
	w.logged("mounted again", msgNew, msgGood)
}

// TestUnmounted unmounts a file system: the file below the mount is loaded only if
// it is newer.
func TestUnmounted(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name  string
		under func(t *testing.T, path string) // the mount
		users []string                        // that are loaded when it is gone
		log   []string
	}{
		{"nothing", func(*testing.T, string) {}, []string{"alice", "ann"}, []string{msgFail}},
		{"an empty file", func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o640)) }, []string{"alice", "ann"}, []string{msgFail}},
		{"an older file", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("old:"+hash+"\n"), 0o640))
			must(t, os.Chtimes(path, old, old))
		}, []string{"alice", "ann"}, []string{msgFail}},
		{"a newer file", func(t *testing.T, path string) {
			must(t, os.WriteFile(path, []byte("new:"+hash+"\n"), 0o640))
			later := time.Now().Add(time.Minute)
			must(t, os.Chtimes(path, later, later))
		}, []string{"new"}, []string{msgNew}},
	} {
		t.Run(test.name, func(t *testing.T) {
			source, dir := t.TempDir(), t.TempDir()
			path := dir + "/f"
			must(t, os.WriteFile(source+"/f", []byte(fileA), 0o640))
			test.under(t, path)
			bind(t, source, dir)
			w := watch(t, path).noticed()
			unmount(t, dir)
			w.pass(20 * testPoll)
			w.serves("unmounted", test.users...)
			w.logged("unmounted", test.log...)
			loads := w.loads.Load()
			must(t, unix.Mount(source, dir, "", unix.MS_BIND, ""))
			replace(t, source+"/f", fileB)
			w.pass(20 * testPoll)
			w.serves("mounted again", "alice", "bob")
			if w.status.Failure != "" || w.loads.Load() != loads+1 {
				t.Errorf("failure %q, %d times parsed, want none and 1", w.status.Failure, w.loads.Load()-loads)
			}
		})
	}
	t.Run("an older file, and a reload", func(t *testing.T) {
		source, dir := t.TempDir(), t.TempDir()
		must(t, os.WriteFile(source+"/f", []byte(fileA), 0o640))
		must(t, os.WriteFile(dir+"/f", []byte(fileB), 0o640))
		must(t, os.Chtimes(dir+"/f", old, old))
		bind(t, source, dir)
		w := watch(t, dir+"/f")
		unmount(t, dir)
		w.pass(testPoll)
		w.logged("unmounted", msgFail)
		must(t, w.Reload(w.logger))
		w.serves("reloaded", "alice", "bob")
		w.logged("reloaded", msgNew, msgGood)
		w.pass(20 * testPoll)
		w.logged("later")
	})
	t.Run("an older file that is mounted on top", func(t *testing.T) {
		source, dir := t.TempDir(), t.TempDir()
		must(t, os.WriteFile(dir+"/f", []byte(fileA), 0o640))
		must(t, os.WriteFile(source+"/f", []byte(fileB), 0o640))
		must(t, os.Chtimes(source+"/f", old, old))
		w := watch(t, dir+"/f")
		bind(t, source, dir)
		w.pass(testPoll)
		w.serves("mounted on top", "alice", "bob")
		w.logged("mounted on top", msgNew)
	})
	t.Run("a symlink that leads to an older file of another mount", func(t *testing.T) {
		source, dir := t.TempDir(), t.TempDir()
		must(t, os.WriteFile(source+"/f", []byte(fileB), 0o640))
		must(t, os.Chtimes(source+"/f", old, old))
		must(t, os.Mkdir(dir+"/mount", 0o755))
		bind(t, source, dir+"/mount")
		must(t, os.WriteFile(dir+"/f", []byte(fileA), 0o640))
		must(t, os.Symlink("f", dir+"/link"))
		w := watch(t, dir+"/link")
		must(t, os.Symlink("mount/f", dir+"/link.new"))
		must(t, os.Rename(dir+"/link.new", dir+"/link"))
		w.pass(testPoll)
		w.serves("pointed elsewhere", "alice", "bob")
	})
}

// TestNoFalseOrphans are files with a link count of 0 that were not replaced.
func TestNoFalseOrphans(t *testing.T) {
	unlinked := func(path string) (signature, error) {
		sig, err := sign(path)
		sig.linked = false
		return sig, err
	}
	readUnlinked := func(path string) (string, signature, fs.FileMode, error) {
		text, sig, mode, err := readFile(path)
		sig.linked = false
		return text, sig, mode, err
	}
	t.Run("a file system that reports no links at all", func(t *testing.T) {
		w := watchText(t, fileA)
		w.isLinked = false
		w.stat = unlinked
		w.fetch = readUnlinked
		w.pass(testPoll)
		must(t, w.Reload(w.logger))
		replace(t, w.path, fileB)
		w.pass(testPoll)
		w.serves("replaced", "alice", "bob")
		w.logged("replaced", msgNew)
	})
	t.Run("a file that had links loses them: that is a true orphan, mount or not", func(t *testing.T) {
		w := watchText(t, fileA)
		w.stat, w.fetch = unlinked, readUnlinked
		w.pass(testPoll)
		if got := w.Status().Failure; got != errOrphaned.Error() {
			t.Errorf("failure is %q, want %q", got, errOrphaned)
		}
		w.logged("without links", msgFail)
		w.stat, w.fetch = sign, readFile
		w.pass(testPoll)
		w.logged("with links again", msgGood)
	})
	t.Run("replaced during the look", func(t *testing.T) {
		w := watchText(t, fileA)
		looks := 0
		w.stat = func(path string) (signature, error) {
			if looks++; looks == 1 {
				return unlinked(path)
			}
			return sign(path)
		}
		w.pass(testPoll)
		w.logged("once")
		w.stat = sign
		w.fetch = readUnlinked
		must(t, w.Reload(w.logger))
		w.logged("reload")
	})
	t.Run("an open file without a name", func(t *testing.T) {
		file, err := os.CreateTemp(t.TempDir(), "")
		must(t, err)
		defer file.Close()
		_, err = file.WriteString(fileA)
		must(t, err)
		must(t, os.Remove(file.Name()))
		path := filepath.Join("/proc/self/fd", itoa(file.Fd()))
		w := watch(t, path)
		w.pass(10 * testPoll)
		must(t, w.Reload(w.logger))
		w.logged("later")
		w.serves("later", "alice", "ann")
	})
}

func itoa(fd uintptr) string {
	text, _ := json.Marshal(fd)
	return string(text)
}

// TestLostFileSystem are the errors of a file system whose server is gone.
func TestLostFileSystem(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.ESTALE: "stale file handle: mount the file system again",
		syscall.EIO:    "input/output error",
	} {
		t.Run(errno.Error(), func(t *testing.T) {
			w := watchText(t, fileA)
			w.stat = func(path string) (signature, error) {
				return signature{}, &fs.PathError{Op: "stat", Path: path, Err: errno}
			}
			w.pass(10 * testPoll)
			w.serves("lost", "alice", "ann")
			if !strings.Contains(logText(w.logs), want) || w.status.Failures != 1 {
				t.Errorf("%d failures, logged\n%s\nwant 1 and %s", w.status.Failures, logText(w.logs), want)
			}
			w.logged("lost", msgFail)
			w.stat = sign
			replace(t, w.path, fileB)
			w.pass(testPoll)
			w.serves("back", "alice", "bob")
			w.logged("back", msgNew, msgGood)
		})
	}
}
