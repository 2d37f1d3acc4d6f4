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
	// lockTime is the maximum wait for other writers in the same directory. Each
	// takes milliseconds.
	lockTime = time.Minute

	// lockRetry is the time between two attempts to lock.
	lockRetry = 5 * time.Millisecond
)

// lockTarget returns what to lock. It is the directory, since the file itself is
// replaced. In a sticky directory that other users can write, it is the file: users
// must not be able to block each other. For a new file there, it is nil, and
// renameNew ensures that no other file is overwritten.
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
	start, timer := time.Now(), time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: cannot lock %s: locked by another process for more than %s", f.shown, what, time.Since(start).Round(time.Second))
			}
			return ctx.Err()
		case <-timer.C:
		}
		err := unix.Flock(int(target.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s: cannot lock %s: %w", f.shown, what, err)
		}
		timer.Reset(lockRetry)
	}
}

// isPlaceOf reports whether both are the same name in the same directory.
func (f *File) isPlaceOf(before *File) bool {
	return sameInode(&f.inode, &before.inode) && f.name == before.name
}

// isLockOf reports whether before has locked what f would lock. Otherwise the
// locked file has been replaced.
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

// takeLock takes over the lock of before.
func (f *File) takeLock(before *File) {
	target := before.lockTarget()
	f.lock, *target = *target, nil
}
