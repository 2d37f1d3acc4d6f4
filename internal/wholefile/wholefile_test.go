//go:build unix

package wholefile

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

// reachable returns a new folder in which every user may make files.
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
	f, err := Open(t.Context(), path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Replace(text, KeepGroup)
}

// unchanged fails unless a folder has just this one file.
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

// TestReplaceGroup gives a new file a group; one that is there keeps its own.
func TestReplaceGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "f")
	for i, text := range []string{"one", "two"} {
		f, err := Open(t.Context(), path)
		must(t, err)
		must(t, f.Replace(text, 4711+i))
		must(t, f.Close())
		info, err := os.Stat(path)
		must(t, err)
		if gid := stat(info).Gid; gid != 4711 || info.Mode() != newMode {
			t.Errorf("group %d, mode %s", gid, info.Mode())
		}
	}
}

func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	victim := filepath.Join(t.TempDir(), "victim")
	write(t, victim, "victim", 0o600)
	for _, leave := range []func(temporary string) error{
		func(temporary string) error { return os.WriteFile(temporary, []byte("half"), 0o400) },
		func(temporary string) error { return os.Symlink(victim, temporary) },
	} {
		must(t, leave(filepath.Join(dir, ".f.new")))
		must(t, replace(t, path, "whole"))
		unchanged(t, path, "whole")
	}
	if got := read(t, victim); got != "victim" {
		t.Errorf("behind the symlink is now %q", got)
	}
}

func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	must(t, os.Symlink("a/b", filepath.Join(dir, "folder")))
	must(t, os.Symlink("folder/../two", filepath.Join(dir, "one"))) // .. of a/b, not of folder
	must(t, os.Symlink(filepath.Join(dir, "a", "real"), filepath.Join(dir, "a", "two")))
	must(t, replace(t, filepath.Join(dir, "one"), "text"))
	if got := read(t, filepath.Join(dir, "a", "real")); got != "text" {
		t.Errorf("%q", got)
	}
	for _, link := range []string{"one", "a/two"} {
		if info, err := os.Lstat(filepath.Join(dir, link)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no symlink any more: %v", link, err)
		}
	}
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	if err := replace(t, filepath.Join(dir, "loop"), "text"); err == nil || !strings.Contains(err.Error(), "too many symlinks") {
		t.Error(err)
	}
}

// TestRefused: where something can't be kept, nothing changes.
func TestRefused(t *testing.T) {
	as := func(uid int, f func()) {
		must(t, syscall.Seteuid(uid))
		defer func() { must(t, syscall.Seteuid(0)) }()
		f()
	}
	t.Run("two names", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, "old", 0o600)
		must(t, os.Link(path, filepath.Join(t.TempDir(), "other")))
		if err := replace(t, path, "new"); err == nil || !strings.Contains(err.Error(), "has 2 names") {
			t.Error(err)
		}
		unchanged(t, path, "old")
	})
	t.Run("no folder", func(t *testing.T) {
		if err := replace(t, filepath.Join(t.TempDir(), "none", "f"), "new"); err == nil || !strings.Contains(err.Error(), "folder is not there") {
			t.Error(err)
		}
	})
	if os.Geteuid() != 0 {
		t.Skip("not root: no other users to try")
	}
	t.Run("somebody else's", func(t *testing.T) {
		path := filepath.Join(reachable(t), "f")
		write(t, path, "old", 0o644)
		must(t, os.Chown(path, 4711, 4712))
		as(65534, func() {
			if err := replace(t, path, "new"); err == nil || !strings.Contains(err.Error(), "belongs to user 4711 and group 4712") {
				t.Error(err)
			}
		})
		unchanged(t, path, "old")
	})
	t.Run("a folder that can't be written", func(t *testing.T) {
		dir := reachable(t)
		path := filepath.Join(dir, "f")
		write(t, path, "old", 0o666)
		must(t, os.Chmod(dir, 0o755))
		as(65534, func() {
			if err := replace(t, path, "new"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "making a file beside it") {
				t.Error(err)
			}
		})
		unchanged(t, path, "old")
	})
	t.Run("a folder that can't be read", func(t *testing.T) {
		dir := reachable(t)
		path := filepath.Join(dir, "f")
		write(t, path, "old", 0o666)
		must(t, os.Chmod(dir, 0o733))
		as(65534, func() {
			if err := replace(t, path, "new"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "can't be locked") {
				t.Error(err)
			}
		})
		unchanged(t, path, "old")
	})
}

// TestTurns: one waits for the other, but not once it is called off.
func TestTurns(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(t.Context(), filepath.Join(dir, "f"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() {
		_, err := Open(ctx, filepath.Join(dir, "f"))
		waited <- err
	}()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go func() {
		second, err := Open(t.Context(), filepath.Join(dir, "f"))
		if err == nil {
			err = second.Close()
		}
		waited <- err
	}()
	select {
	case err := <-waited:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * lockRetry): // that nothing happens can only be waited for
	}
	must(t, first.Close())
	must(t, <-waited)
}
