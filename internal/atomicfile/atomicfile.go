//go:build unix && !aix && !dragonfly && !solaris

// Package atomicfile replaces files that other processes are reading.
//
// A reader sees the complete old version or the complete new one, even if the
// writer is killed or the disk is full. Writers that use this package never lose
// each other's changes.
//
// Open locks and opens a file, Text returns its text, Replace replaces it, and
// Close releases the lock. Use Look to read or check a file without the lock.
//
// Root uses the package in directories of other users, who may replace
// directories, symlinks and files at any time. So these invariants hold:
//
//  1. A path is resolved component by component, each relative to the open
//     descriptor of the previous directory, and no system call follows a
//     symlink. Afterwards the path is used for messages only. The directory is
//     accessed by its descriptor, and its entries by their last component.
//  2. Text, owner, mode, access control list and other attributes of the old
//     version are read from one open descriptor. It is a regular file with one
//     hard link.
//  3. The new version is a file that this process has created with a random
//     name, O_EXCL and O_NOFOLLOW. It is written, and its owner and mode are
//     set, by its descriptor only.
//  4. Its mode has no bits beyond 0777: setuid, setgid and sticky bits are never
//     copied, nor are capabilities.
//  5. Entries are renamed and removed only in the directory of 1. A removed
//     entry has a name of the pattern of 3, and belongs to this user or to the
//     owner of the file.
//  6. As root, every directory and symlink on the path belongs to root or to
//     the owner of the file. No other user can replace the entries of these
//     directories: they are not writable by group and others, or they are
//     sticky. (With an access control list, the group bits are its mask.) A new
//     file belongs to root. In a sticky directory of root, an existing file must
//     belong to root, too: other users can create files there.
//  7. As root, no user can redirect the process to a place where that user
//     cannot write. If the owner of the file cannot write the directory, the
//     path contains nothing of that owner. After a component of that owner, the
//     path contains only directories that everybody can enter.
//  8. Magic links in /proc are not followed: their text can be a path in another
//     container.
//
// Names and paths in messages can be chosen by other users. Each is escaped by
// shown.Text, and by shown.Argument in commands. A message contains a command only
// where no other user can replace the files that it names.
//
// File systems are trusted to report owners correctly.
//
// On systems where these promises cannot be kept, such as Windows, Open and Look
// return an error.
package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

const (
	// sayAfter is how long Open waits before it calls waiting.
	sayAfter = time.Second

	// maxMoves is how often resolving a path is tried again if the result changes.
	maxMoves = 20
)

// File is an open file, or the place of a new file in an open directory.
type File struct {
	path   string      // with symlinks resolved, for commands in messages
	shown  string      // the same, escaped for messages
	dir    *os.File    // the directory
	inode  unix.Stat_t // of dir
	name   string      // in dir
	old    *os.File    // the file; nil if it does not exist
	seen   unix.Stat_t // of old
	passed []component // of the path
	lock   *os.File    // locked file or directory; nil for none
}

// errMoved is returned for a path that leads to a different place than before.
var errMoved = errors.New("its directories or symlinks keep changing; try again later")

// Open opens and locks a file to replace it. It follows symlinks. It waits until no
// other writer has the lock, for a minute at most or until ctx is done. After a
// second it calls waiting in a separate goroutine. The file need not exist. Errors
// contain the path.
func Open(ctx context.Context, path string, waiting func()) (*File, error) {
	timer := time.AfterFunc(sayAfter, waiting)
	defer timer.Stop()
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for moves := 0; moves < maxMoves; {
		before, err := Look(path)
		if err != nil {
			return nil, err
		}
		if err := before.acquire(ctx); err != nil {
			_ = before.Close()
			return nil, err
		}
		f, err := Look(path) // again, since the file may have been replaced before the lock
		switch {
		case err != nil:
			_ = before.Close()
			return nil, err
		case !f.isPlaceOf(before):
			moves++
		case f.isLockOf(before):
			f.takeLock(before)
			_ = before.Close()
			return f, nil
		}
		_ = f.Close()
		_ = before.Close()
	}
	return nil, fmt.Errorf("%s: %w", shown.Text(path), errMoved)
}

// Look is like Open without the lock, to read or check a file. Do not call Replace
// on the result.
func Look(path string) (*File, error) {
	for range maxMoves {
		f, err := look(path)
		if !errors.Is(err, errMoved) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %w", shown.Text(path), errMoved)
}

// look is one attempt of Look. It returns errMoved if the path has changed
// meanwhile.
func look(path string) (*File, error) {
	p, err := resolve(path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	f := &File{path: p.path(), shown: shown.Text(p.path()), name: p.name, passed: p.passed}
	fd, err := openAt(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot lock its directory: %w", shown.Text(path), err)
	}
	f.dir = os.NewFile(uintptr(fd), f.path)
	err = unix.Fstat(fd, &f.inode)
	if err == nil {
		err = f.openOld()
	}
	if err == nil {
		err = f.checkTrust()
	}
	if err == nil { // after checkTrust: its advice for root depends on it
		err = f.checkLinks()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Exists reports whether the file existed when it was opened.
func (f *File) Exists() bool { return f.old != nil }

// Close releases the lock.
func (f *File) Close() error {
	var errs []error
	for _, file := range []*os.File{f.old, f.dir, f.lock} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
