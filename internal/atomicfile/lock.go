//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockTime is how long to wait for others that write in the same
	// directory. Each takes milliseconds.
	lockTime = time.Minute

	// lockRetry is how long to wait between two attempts to lock.
	lockRetry = 5 * time.Millisecond
)

// lockTarget returns what writers of the file lock. That is the directory,
// since the file itself gets replaced. In a sticky directory that others can
// write, they must not keep each other waiting: there it is the file. For a new
// one it is nothing (nil); renameNew sees to it that none is overwritten.
func (f *File) lockTarget() **os.File {
	if isShared(&f.inode) && f.inode.Mode&unix.S_ISVTX != 0 {
		return &f.old
	}
	return &f.dir
}

// acquire waits until nobody else has the lock.
func (f *File) acquire(ctx context.Context) error {
	target, what := *f.lockTarget(), "its directory"
	if target == nil {
		return ctx.Err()
	}
	if target == f.old {
		what = "it"
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: for %s others have held a lock on %s", f.shown, lockTime, what)
			}
			return ctx.Err()
		case <-timer.C:
		}
		err := unix.Flock(int(target.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s: %s can't be locked: %w", f.shown, what, err)
		}
		timer.Reset(lockRetry)
	}
}

// isPlaceOf reports whether both are one name in one directory.
func (f *File) isPlaceOf(before *File) bool {
	return sameInode(&f.inode, &before.inode) && f.name == before.name
}

// isLockOf reports whether what before has locked is what f would lock. Else
// the file that is locked has been replaced.
func (f *File) isLockOf(before *File) bool {
	now, then := f.lockTarget(), before.lockTarget()
	switch {
	case (now == &f.old) != (then == &before.old):
		return false
	case now != &f.old:
		return true
	case *now == nil || *then == nil:
		return *now == nil && *then == nil
	}
	return sameInode(&f.seen, &before.seen)
}

// takeLock takes over what before has locked.
func (f *File) takeLock(before *File) {
	target := before.lockTarget()
	f.lock, *target = *target, nil
}
