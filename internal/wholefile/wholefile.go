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
)

const (
	// lockTime is how long to wait for others that write in the same folder.
	// Each takes milliseconds.
	lockTime = time.Minute

	lockRetry = 5 * time.Millisecond

	// newMode is what a new file gets, whatever the umask: its group may read.
	newMode = 0o640

	maxLinks = 40 // followed, as by Linux
)

// KeepGroup is the group of a new file that gets the one of whoever makes it.
const KeepGroup = -1

// File is a file that nobody else changes by this package at the same time.
type File struct {
	path string // with symlinks followed
	lock *flock.Flock
}

// Open follows symlinks, and waits for its turn to change the file, which
// need not be there. The lock is one of the folder: the file itself is
// replaced, and so can't hold it. Errors name the path.
func Open(ctx context.Context, path string) (*File, error) {
	path, err := follow(path)
	if err != nil {
		return nil, err
	}
	folder := filepath.Dir(path)
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	lock := flock.New(folder, flock.SetFlag(os.O_RDONLY))
	_, err = lock.TryLockContext(ctx, lockRetry)
	switch {
	case err == nil:
		return &File{path, lock}, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: somebody else has held a lock on its folder for %s", path, lockTime)
	case errors.Is(err, context.Canceled):
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: its folder is not there", path)
	default:
		return nil, fmt.Errorf("%s: its folder can't be locked: %w", path, cause(err))
	}
}

// follow returns where symlinks lead from path, also if nothing is there.
func follow(path string) (string, error) {
	for range maxLinks {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return path, nil // reading or writing it says what is wrong
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

// Path returns the path of the file itself, behind symlinks.
func (f *File) Path() string { return f.path }

// Close lets others change the file.
func (f *File) Close() error { return f.lock.Close() }

// Replace puts text in the place of what was there. Mode, owner, group and
// access control list stay as they are; where they can't, nothing is changed,
// and the error says so. A new file can be read by its group, which is the
// one given or, with KeepGroup, the usual one.
//
// A writer that is killed can leave its file behind, whose name is that of the
// file between "." and ".new"; the next writer removes it.
func (f *File) Replace(text string, group int) error {
	old, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = nil, nil
	}
	if err != nil {
		return f.failed("looking at it", err)
	}
	if old != nil && stat(old).Nlink > 1 {
		return fmt.Errorf("%s has %d names (hard links), which would become different files; make it one with: cp -p %[1]s %[1]s.copy && mv %[1]s.copy %[1]s",
			f.path, stat(old).Nlink)
	}
	temporary := filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".new")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f.failed("removing what is left of an earlier attempt, "+temporary, err)
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
	if err := os.Rename(temporary, f.path); err != nil {
		_ = os.Remove(temporary)
		if errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("%s is a mount of its own, as in containers, and can't be replaced; mount its folder instead", f.path)
		}
		return f.failed("putting the new one in its place", err)
	}
	return f.syncFolder()
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
		if err := copyACL(f.path, file); err != nil {
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
		return fmt.Errorf("%s belongs to user %d and group %d, and would not any more; run this with sudo or as that user: %w",
			f.path, want.Uid, want.Gid, cause(err))
	}
	return nil
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
