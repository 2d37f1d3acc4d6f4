//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// openOld opens the existing file, and returns an error if it cannot be replaced.
func (f *File) openOld() error {
	st, there, err := f.entry()
	if err != nil || !there {
		return err
	}
	switch st.Mode & unix.S_IFMT { // before open, which can have side effects
	case unix.S_IFREG:
	case unix.S_IFLNK:
		return errMoved
	case unix.S_IFDIR:
		return fmt.Errorf("%s: is a directory, not a file", f.shown)
	default:
		return fmt.Errorf("%s: is not a regular file", f.shown)
	}
	fd, err := openAt(int(f.dir.Fd()), f.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errSymlink) {
		return errMoved
	}
	if errors.Is(err, unix.EACCES) {
		if advice := f.insteadOfSudo(st.Uid); advice != "" { // otherwise callers advise sudo
			return fmt.Errorf("%s: cannot read it (owner %d); %s", f.shown, st.Uid, advice)
		}
	}
	if err != nil {
		return f.failed("open", err)
	}
	f.old = os.NewFile(uintptr(fd), f.path)
	if err := unix.Fstat(fd, &f.seen); err != nil {
		return f.failed("stat", err)
	}
	if !sameInode(&f.seen, &st) {
		return errMoved
	}
	return nil
}

// entry returns the current directory entry of the name.
func (f *File) entry() (st unix.Stat_t, there bool, err error) {
	err = unix.Fstatat(int(f.dir.Fd()), f.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	if err != nil {
		return st, false, f.failed("stat", err)
	}
	return st, true, nil
}

// checkLinks returns an error for a file with more than one hard link.
func (f *File) checkLinks() error {
	if f.old == nil || f.seen.Nlink <= 1 { // 0 if it has just been replaced
		return nil
	}
	advice := "remove the other links, or keep it in a directory that nobody else can write"
	file, temporary := shown.Argument(f.path), shown.Argument(f.path+".copy")
	switch user := os.Geteuid(); {
	case int(f.inode.Uid) == user && !isShared(&f.inode): // nobody else can create a symlink at the name of the copy
		advice = fmt.Sprintf("to make it a separate file, run: cp -p %s %s && mv %[2]s %[1]s", file, temporary)
	case user == root && f.seen.Uid != root:
		advice = "run: " + runAs(f.seen.Uid, f.seen.Gid)
	}
	return fmt.Errorf("%s has %d hard links; replacing it would break them; %s", f.shown, f.seen.Nlink, advice)
}

// Text returns the text of the file, or "" if it does not exist. It returns an error
// if the text is longer than limit bytes, or if the file changes while it is read.
func (f *File) Text(limit int64) (string, error) {
	if f.old == nil {
		return "", nil
	}
	if f.seen.Size > limit {
		return "", fmt.Errorf("%s: larger than %d MiB", f.shown, limit>>20)
	}
	var text strings.Builder
	text.Grow(int(f.seen.Size) + 1)
	n, err := io.Copy(&text, io.NewSectionReader(f.old, 0, f.seen.Size+1))
	if err != nil {
		return "", f.failed("read", err)
	}
	var now unix.Stat_t
	if err := unix.Fstat(int(f.old.Fd()), &now); err != nil {
		return "", f.failed("stat", err)
	}
	if n != f.seen.Size || !sameContent(&now, &f.seen) {
		return "", f.changedError()
	}
	return text.String(), nil
}

func sameInode(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// sameContent reports whether a file was not written to. It may have been replaced:
// that changes only its link count.
func sameContent(a, b *unix.Stat_t) bool { return a.Size == b.Size && a.Mtim == b.Mtim }

// sameVersion reports whether both are of the same, unchanged file.
func sameVersion(a, b *unix.Stat_t) bool {
	return sameInode(a, b) && sameContent(a, b) && a.Ctim == b.Ctim
}
