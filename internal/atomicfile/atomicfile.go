//go:build unix && !aix && !dragonfly && !solaris

// Package atomicfile replaces files that others read at any moment.
//
// A reader sees the whole old version or the whole new one, even if the writer
// is killed or the disk is full. No writer undoes the change of another one that
// uses this package.
//
// Open locks the file and reads what it is, Text returns its text, Replace puts
// another one in its place, and Close ends the lock. Look is for those who only
// read or check.
//
// Root uses the package in directories of other users. They may exchange
// directories, symlinks and files for others while it works. So these invariants
// hold:
//
//  1. A path is resolved component by component, each relative to the open
//     descriptor of the directory before it, and no system call follows a
//     symlink. From then on the path is only text for messages: the directory
//     is its descriptor, and entries of it are named by their last component.
//  2. Text, owner, mode, access control list and other attributes of the old
//     version come from one open descriptor. It is a regular file with one
//     name (hard link).
//  3. The new version is a file that this process has created with a random
//     name, O_EXCL and O_NOFOLLOW. It is written, given away and made readable
//     by its descriptor only.
//  4. Its mode is one of 0777: setuid, setgid and sticky bits are never
//     carried over, nor are capabilities.
//  5. Entries are only renamed and removed inside the directory of 1. What is
//     removed has a name of the pattern of 3 and belongs to this user or to
//     the owner of the file.
//  6. As root, every directory and symlink on the path belongs to root or to
//     the owner of the file. Nobody else can exchange what is in these
//     directories: they are not writable for group and others, or they are
//     sticky. (The group's bits are the mask of an access control list, too.)
//     A new file belongs to root. In a sticky directory of root's, an existing
//     file does so as well: anybody may have put another one there.
//  7. As root, nobody leads the process to where they could not write
//     themselves. In a directory that the owner of the file cannot change, the
//     path has passed nothing of that owner. Behind something of that owner, it
//     has not passed a directory that not everybody can enter.
//  8. No symlink of /proc is followed by its text: that would be the text of a
//     path in another container.
//
// Names and paths in messages were chosen by others. Each is written by
// shown.Text, and in commands by shown.Argument. A command is given only where
// nobody can exchange what it names.
//
// File systems are trusted to tell the truth about owners. A disk or a file
// server in the hands of somebody else is trusted as that person is.
//
// Where a system has no way to keep these promises, such as Windows, Open and
// Look return an error.
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
	// sayAfter is how long Open waits before it says that it does.
	sayAfter = time.Second

	// maxMoves is how often a path may lead elsewhere than a moment before.
	maxMoves = 20
)

// File is a file, or the place for a new one, in an open directory.
type File struct {
	path   string      // with symlinks followed, for commands in messages
	shown  string      // the same, for messages
	dir    *os.File    // the directory
	inode  unix.Stat_t // of dir
	name   string      // in dir
	old    *os.File    // the file; nil if there is none
	seen   unix.Stat_t // of old
	passed []component // on the way to the file
	lock   *os.File    // what is locked; nil for nothing
}

// errMoved is for a path that leads elsewhere than a moment before.
var errMoved = errors.New("its directories or symlinks are being exchanged; try again when nobody does that")

// Open opens a file to replace it. It follows symlinks, and waits until no other
// writer has the file open, for a minute at most or until ctx is done. After a
// second it calls waiting, in a goroutine of its own. The file need not exist.
// Errors name the path.
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
		f, err := Look(path) // what is there now that nobody else changes it
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

// Look is Open without the lock, to read a file or to check it. Do not call
// Replace on what it returns.
func Look(path string) (*File, error) {
	for range maxMoves {
		f, err := look(path)
		if !errors.Is(err, errMoved) {
			return f, err
		}
	}
	return nil, fmt.Errorf("%s: %w", shown.Text(path), errMoved)
}

// look is one attempt of Look. The error is errMoved if the path has led to
// different places meanwhile.
func look(path string) (*File, error) {
	p, err := resolve(path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	f := &File{path: p.path(), shown: shown.Text(p.path()), name: p.name, passed: p.passed}
	fd, err := openAt(p.dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("%s: its directory can't be locked: %w", shown.Text(path), err)
	}
	f.dir = os.NewFile(uintptr(fd), f.path)
	err = unix.Fstat(fd, &f.inode)
	if err == nil {
		err = f.openOld()
	}
	if err == nil {
		err = f.checkTrust()
	}
	if err == nil { // root's advice depends on the trust
		err = f.checkNames()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Exists reports whether the file existed when it was opened.
func (f *File) Exists() bool { return f.old != nil }

// Close ends the lock, so that others can change the file.
func (f *File) Close() error {
	var errs []error
	for _, file := range []*os.File{f.old, f.dir, f.lock} {
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	return errors.Join(errs...)
}
