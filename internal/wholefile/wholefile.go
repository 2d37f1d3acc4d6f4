//go:build unix

// Package wholefile changes files that others read at any moment: a reader
// sees the whole old version or the whole new one, also if the writer is
// killed or the disk is full, and of several writers none undoes what another
// one did.
package wholefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

const (
	// lockTime is how long to wait for others that write in the same folder.
	// Each takes milliseconds.
	lockTime = time.Minute

	lockRetry = 5 * time.Millisecond

	// sayAfter is how long who asks is left without a word about that.
	sayAfter = time.Second

	// newMode is what a new file gets, whatever the umask: its group may read.
	newMode = 0o640

	maxLinks = 40 // followed, as by Linux
)

// KeepGroup is the group of a new file that gets the one of whoever makes it.
const KeepGroup = -1

// File is a file that nobody else changes by this package at the same time.
type File struct {
	path string // with symlinks followed, in its own name and in those of its folders
	lock *flock.Flock
	seen fs.FileInfo // when the lock was got; nil if there was no file
}

// Open follows symlinks, and waits for its turn to change the file, which
// need not be there. If that takes long, it calls waiting. The lock is one of
// the folder: the file itself is replaced, and so can't hold it. Errors name
// the path.
func Open(ctx context.Context, path string, waiting func()) (*File, error) {
	for {
		target, err := follow(path)
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(ctx, target, waiting)
		if err != nil {
			return nil, err
		}
		f := &File{path: target, lock: lock}
		if now, err := follow(path); err == nil && now == target {
			f.seen, err = f.look()
			if err == nil {
				return f, nil
			}
			_ = f.Close()
			return nil, err
		}
		_ = f.Close() // a symlink has changed in the meantime
	}
}

func lockFolder(ctx context.Context, path string, waiting func()) (*flock.Flock, error) {
	timer := time.AfterFunc(sayAfter, waiting)
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	lock := flock.New(filepath.Dir(path), flock.SetFlag(os.O_RDONLY))
	_, err := lock.TryLockContext(ctx, lockRetry)
	switch {
	case err == nil:
		return lock, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: for %s others have held a lock on its folder", path, lockTime)
	case errors.Is(err, context.Canceled):
		return nil, err
	default:
		return nil, fmt.Errorf("%s: its folder can't be locked: %w", path, cause(err))
	}
}

// follow returns where symlinks lead from path, also if no file is there.
func follow(path string) (string, error) {
	for range maxLinks {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return inRealFolder(path)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Dir(path) + string(filepath.Separator) + target // not cleaned: the folder can be a symlink
		}
		path = target
	}
	return "", fmt.Errorf("%s: too many symlinks", path)
}

// inRealFolder returns path with the name of its folder that no symlink is part
// of: only that can be taken apart and put together.
func inRealFolder(path string) (string, error) {
	folder, name := filepath.Split(path)
	if folder == "" {
		folder = "."
	}
	folder, err := filepath.EvalSymlinks(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: its folder is not there", path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: its folder: %w", path, cause(err))
	}
	return filepath.Join(folder, name), nil
}

// Check returns the error that Replace would, as far as that can be told
// without doing it.
func Check(path string) error {
	path, err := follow(path)
	if err != nil {
		return err
	}
	f := &File{path: path}
	old, err := f.look()
	if err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return f.failed("making a file beside it", err)
	}
	if uid := os.Geteuid(); old != nil && uid != 0 && int(stat(old).Uid) != uid {
		return f.notOurs(old, fs.ErrPermission)
	}
	return nil
}

// look returns what is there, nil for nothing, and an error if it can't be
// replaced.
func (f *File) look() (fs.FileInfo, error) {
	info, err := os.Lstat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, f.failed("looking at it", err)
	case info.Mode().IsRegular() && stat(info).Nlink > 1:
		return nil, fmt.Errorf("%s has %d names (hard links), which would become different files; make it one with: cp -p %[1]s %[1]s.copy && mv %[1]s.copy %[1]s",
			f.path, stat(info).Nlink)
	}
	return info, nil
}

// Path returns the path of the file itself, behind symlinks.
func (f *File) Path() string { return f.path }

// Close lets others change the file.
func (f *File) Close() error { return f.lock.Close() }

// Replace puts text in the place of what was there. Mode, owner, group and
// access control list stay as they are; where they can't, nothing is changed,
// and the error says so. Other attributes stay where the system allows it. A
// new file can be read by its group, which is the one given or, with
// KeepGroup, the usual one.
//
// A writer that is killed can leave its file behind, see temporaryName; the
// next writer removes it.
func (f *File) Replace(text string, group int) error {
	old, err := f.look()
	if err != nil {
		return err
	}
	temporary := f.temporaryName()
	if info, err := os.Lstat(temporary); err == nil && !info.IsDir() {
		if err := os.Remove(temporary); err != nil {
			return f.failed("removing what is left of an earlier attempt, "+temporary, err)
		}
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // beside the file that the administrator names
	if err != nil {
		return f.failed("making a file beside it", err)
	}
	if err := f.fill(file, text, old, group); err != nil {
		_ = file.Close()
		_ = os.Remove(temporary)
		return err
	}
	if now, err := f.look(); err != nil || !isSame(now, f.seen) {
		_ = os.Remove(temporary)
		return fmt.Errorf("%s was changed by somebody else at the same time; try again", f.path)
	}
	if err := os.Rename(temporary, f.path); err != nil {
		_ = os.Remove(temporary)
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("%s is a mount of its own, as in containers, and can't be replaced; mount its folder instead", f.path)
		}
		return f.failed("putting the new one in its place", err)
	}
	return f.syncFolder()
}

// temporaryName is the name of the new version until it is in its place.
func (f *File) temporaryName() string {
	folder, name := filepath.Split(f.path)
	return filepath.Join(folder, "."+name[:min(len(name), 200)]+".caddy-htpasswd-new") // names have 255 bytes at most
}

// isSame reports whether a file is the same as before, and unchanged.
func isSame(now, before fs.FileInfo) bool {
	if now == nil || before == nil {
		return now == nil && before == nil
	}
	return os.SameFile(now, before) && now.Size() == before.Size() && now.ModTime().Equal(before.ModTime())
}

// fill writes the text and makes everything else about the file as it has to
// be. Nobody else can read it before that.
func (f *File) fill(file *os.File, text string, old fs.FileInfo, group int) error {
	mode := fs.FileMode(newMode)
	if old == nil {
		if group != KeepGroup {
			if err := file.Chown(-1, group); err != nil {
				return f.failed("giving it its group", err)
			}
		}
	} else {
		mode = old.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		if err := f.keepOwner(file, old); err != nil {
			return err
		}
		if err := copyAttributes(f.path, file); err != nil {
			return f.failed("keeping its access control list", err)
		}
	}
	if err := file.Chmod(mode); err != nil {
		return f.failed("keeping its mode", err)
	}
	if _, err := file.WriteString(text); err != nil {
		return f.failed("writing", err)
	}
	if err := file.Sync(); err != nil {
		return f.failed("writing", err)
	}
	if err := file.Close(); err != nil {
		return f.failed("writing", err)
	}
	return nil
}

// keepOwner gives file the owner and group of old.
func (f *File) keepOwner(file *os.File, old fs.FileInfo) error {
	info, err := file.Stat()
	if err != nil {
		return f.failed("looking at it", err)
	}
	want, got := stat(old), stat(info)
	if got.Uid == want.Uid && got.Gid == want.Gid {
		return nil
	}
	if err := file.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return f.notOurs(old, err)
	}
	return nil
}

func (f *File) notOurs(old fs.FileInfo, err error) error {
	return fmt.Errorf("%s belongs to user %d and group %d, and would not any more; run this with sudo, or as that user who is in that group: %w",
		f.path, stat(old).Uid, stat(old).Gid, cause(err))
}

// syncFolder makes sure that the new version is there after a power cut, too.
func (f *File) syncFolder() error {
	folder, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return f.failed("changed, but not known to be on disk", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // file systems that can't
		return f.failed("changed, but not known to be on disk", err)
	}
	return nil
}

func (f *File) failed(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", f.path, what, cause(err))
}

// cause takes off what the messages here say anyway.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

func stat(info fs.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }
