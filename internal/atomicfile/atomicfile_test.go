//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reachable returns a new directory in which every user can create files.
func reachable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for parent := filepath.Dir(dir); parent != filepath.Clean(os.TempDir()) && parent != "/"; parent = filepath.Dir(parent) {
		must(t, os.Chmod(parent, 0o755))
	}
	must(t, os.Chmod(dir, 0o777))
	return dir
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), mode))
	must(t, os.Chmod(path, mode))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// replace opens and replaces a file.
func replace(t *testing.T, path, text string) error {
	t.Helper()
	f, err := Open(t.Context(), path, func() {})
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Replace(text, KeepGroup)
}

// check returns the error that replace would return.
func check(path string) error {
	f, err := Look(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Check()
}

// unchanged fails unless the directory contains only this file, with this text.
func unchanged(t *testing.T, path, text string) {
	t.Helper()
	if got := read(t, path); got != text {
		t.Errorf("the file is now %q", got)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestReplace(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "f")
	must(t, check(path))
	must(t, replace(t, path, "one"))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != newMode {
		t.Errorf("a new file has mode %s", info.Mode())
	}
	for _, mode := range []fs.FileMode{0o600, 0o644, 0o666, 0o400} {
		must(t, os.Chmod(path, mode))
		must(t, replace(t, path, mode.String()))
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != mode {
			t.Errorf("mode %s, before %s", info.Mode(), mode)
		}
		unchanged(t, path, mode.String())
	}
}

// TestReplaceGroup sets the group of a new file. An existing file keeps its group.
func TestReplaceGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to change groups")
	}
	path := filepath.Join(t.TempDir(), "f")
	for i, text := range []string{"one", "two"} {
		f, err := Open(t.Context(), path, func() {})
		must(t, err)
		must(t, f.Replace(text, 4711+i))
		must(t, f.Close())
		info, err := os.Stat(path)
		must(t, err)
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 4711 || info.Mode() != newMode {
			t.Errorf("group %d, mode %s", gid, info.Mode())
		}
	}
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	victim := filepath.Join(t.TempDir(), "victim")
	write(t, victim, "victim", 0o600)
	for _, name := range []string{".f.caddy-htpasswd-new", ".f.caddy-htpasswd-new-ABCDEFGHIJKLM"} {
		for _, leave := range []func(temporary string) error{
			func(temporary string) error { return os.WriteFile(temporary, []byte("half"), 0o400) },
			func(temporary string) error { return os.Symlink(victim, temporary) },
		} {
			must(t, leave(filepath.Join(dir, name)))
			must(t, replace(t, path, "whole"))
			unchanged(t, path, "whole")
		}
	}
	for _, other := range []string{".f.caddy-htpasswd-newer", ".f.caddy-htpasswd-new-ABC", ".g.caddy-htpasswd-new-ABCDEFGHIJKLM"} {
		write(t, filepath.Join(dir, other), "of another user", 0o600)
		must(t, replace(t, path, "whole"))
		if got := read(t, filepath.Join(dir, other)); got != "of another user" {
			t.Errorf("%s is now %q", other, got)
		}
	}
	if got := read(t, victim); got != "victim" {
		t.Errorf("the target of the symlink is now %q", got)
	}
}

func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	must(t, os.Symlink("a/b", filepath.Join(dir, "directory")))
	must(t, os.Symlink("directory/../two", filepath.Join(dir, "one"))) // ".." of a/b, not of directory
	must(t, os.Symlink(filepath.Join(dir, "a", "real"), filepath.Join(dir, "a", "two")))
	must(t, replace(t, filepath.Join(dir, "one"), "text"))
	if got := read(t, filepath.Join(dir, "a", "real")); got != "text" {
		t.Errorf("%q", got)
	}
	for _, link := range []string{"one", "a/two"} {
		if info, err := os.Lstat(filepath.Join(dir, link)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is not a symlink any more: %v", link, err)
		}
	}
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if err := replace(t, filepath.Join(dir, "loop"), "text"); err == nil || !strings.Contains(err.Error(), "too many symlinks") {
		t.Error(err)
	}
}

// TestRefused checks that nothing changes if something cannot be kept.
func TestRefused(t *testing.T) {
	as := func(uid int, f func()) {
		must(t, syscall.Seteuid(uid))
		defer func() { must(t, syscall.Seteuid(0)) }()
		f()
	}
	t.Run("two hard links", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, "old", 0o600)
		must(t, os.Link(path, filepath.Join(t.TempDir(), "other")))
		for _, err := range []error{check(path), replace(t, path, "new")} {
			if err == nil || !strings.Contains(err.Error(), "has 2 hard links; replacing it would break them") {
				t.Error(err)
			}
		}
		unchanged(t, path, "old")
	})
	t.Run("no directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "none", "f")
		for _, err := range []error{check(path), replace(t, path, "new")} {
			if err == nil || !strings.Contains(err.Error(), "its directory does not exist") {
				t.Error(err)
			}
		}
	})
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as other users")
	}
	t.Run("a file of another user", func(t *testing.T) {
		path := filepath.Join(reachable(t), "f")
		write(t, path, "old", 0o644)
		must(t, os.Chown(path, 4711, 4712))
		as(65534, func() {
			for _, err := range []error{check(path), replace(t, path, "new")} {
				if err == nil || !strings.Contains(err.Error(), "replacing it would change its owner (4711:4712)") {
					t.Error(err)
				}
			}
		})
		unchanged(t, path, "old")
	})
	t.Run("a directory that cannot be written", func(t *testing.T) {
		dir := reachable(t)
		path := filepath.Join(dir, "f")
		write(t, path, "old", 0o666)
		must(t, os.Chmod(dir, 0o755))
		as(65534, func() {
			for _, err := range []error{check(path), replace(t, path, "new")} {
				if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "cannot create a file in its directory") {
					t.Error(err)
				}
			}
		})
		unchanged(t, path, "old")
	})
	t.Run("a directory that cannot be read", func(t *testing.T) {
		dir := reachable(t)
		path := filepath.Join(dir, "f")
		write(t, path, "old", 0o666)
		must(t, os.Chmod(dir, 0o733))
		as(65534, func() {
			if err := replace(t, path, "new"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "cannot lock its directory") {
				t.Error(err)
			}
		})
		unchanged(t, path, "old")
	})
}

// TestSameFileByTwoNames checks that different paths to a file use the same lock,
// also with ".." after a symlink.
func TestSameFileByTwoNames(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	must(t, os.Symlink("a/b", filepath.Join(dir, "link")))
	first, err := Open(t.Context(), filepath.Join(dir, "a", "f"), func() {})
	must(t, err)
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*lockRetry)
	defer cancel()
	if second, err := Open(ctx, dir+"/link/../f", func() {}); err == nil {
		t.Errorf("both have %s and %s", first.path, second.path)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestMovedWhileWaiting changes a symlink while a writer waits for the lock of its
// old target.
func TestMovedWhileWaiting(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(filepath.Join(dir, "f"), link))
	first, err := Open(t.Context(), link, func() {})
	must(t, err)
	waits, got := make(chan struct{}), make(chan string)
	go func() {
		second, err := Open(t.Context(), link, func() { close(waits) })
		if err != nil {
			got <- err.Error()
			return
		}
		defer second.Close()
		got <- second.path
	}()
	<-waits
	must(t, os.Remove(link))
	must(t, os.Symlink(filepath.Join(other, "f"), link))
	must(t, first.Close())
	if path := <-got; path != filepath.Join(other, "f") {
		t.Error(path)
	}
}

// TestChangedMeanwhile checks that a change without the lock is not overwritten.
func TestChangedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, change := range []func() error{
		func() error { return os.WriteFile(path, []byte("created by another process"), 0o600) },
		func() error { return os.WriteFile(path, []byte("changed by another process"), 0o600) },
		func() error { return os.Remove(path) },
	} {
		f, err := Open(t.Context(), path, func() {})
		must(t, err)
		must(t, change())
		want, _ := os.ReadFile(path)
		if err := f.Replace("new", KeepGroup); err == nil || !strings.Contains(err.Error(), "at the same time") {
			t.Error(err)
		}
		must(t, f.Close())
		if got, _ := os.ReadFile(path); string(got) != string(want) {
			t.Errorf("%q was %q", got, want)
		}
	}
}

// TestInTheWay checks that directories with the names of temporary files do no harm
// and are kept, and that a name can have the maximum length.
func TestInTheWay(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".f.caddy-htpasswd-new", ".f.caddy-htpasswd-new-ABCDEFGHIJKLM"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	must(t, replace(t, filepath.Join(dir, "f"), "new"))
	if names, err := os.ReadDir(dir); err != nil || len(names) != 3 {
		t.Errorf("%v, %v", names, err)
	}
	long := strings.Repeat("n", 255)
	must(t, replace(t, filepath.Join(dir, long), "new"))
	if got := read(t, filepath.Join(dir, long)); got != "new" {
		t.Errorf("%q", got)
	}
}

// TestTurns checks that writers wait for each other, and that a wait can be canceled.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(t.Context(), filepath.Join(dir, "f"), func() {})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() {
		_, err := Open(ctx, filepath.Join(dir, "f"), func() {})
		waited <- err
	}()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		second, err := Open(t.Context(), filepath.Join(dir, "f"), func() {})
		if err == nil {
			err = second.Close()
		}
		waited <- err
	}()
	select {
	case err := <-waited:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * lockRetry):
	}
	must(t, first.Close())
	must(t, <-waited)
}

// TestText checks that Text returns the text of the file that was opened, even if it
// was replaced, and an error if it was written to.
func TestText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := Look(path)
	must(t, err)
	if text, err := f.Text(10); text != "" || err != nil || f.Exists() {
		t.Errorf("no file: got %q, %v", text, err)
	}
	must(t, f.Close())
	write(t, path, "old", 0o600)
	f, err = Look(path)
	must(t, err)
	defer f.Close()
	must(t, replace(t, path, "new"))
	if text, err := f.Text(3); text != "old" || err != nil || !f.Exists() {
		t.Errorf("replaced: got %q, %v", text, err)
	}
	if text, err := f.Text(2); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("over the limit: got %q, %v", text, err)
	}
	for _, other := range []string{"other", "neu", ""} {
		f, err := Look(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(other), 0o600))
		must(t, os.Chtimes(path, time.Time{}, time.Unix(int64(len(other)), 0)))
		if text, err := f.Text(10); err == nil || !strings.Contains(err.Error(), "at the same time") {
			t.Errorf("written: got %q, %v", text, err)
		}
		must(t, f.Close())
		must(t, replace(t, path, "new"))
	}
}
