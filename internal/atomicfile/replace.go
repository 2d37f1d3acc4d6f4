//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// newMode is the mode of a new file, regardless of the umask: its group can read it.
const newMode = 0o640

// KeepGroup stands for the group that the system assigns to a new file.
const KeepGroup = -1

// Check returns the error that Replace would return, as far as it is known without
// replacing the file.
func (f *File) Check() error {
	if f.old != nil && isMount(f.old) {
		return f.mountError()
	}
	if err := unix.Faccessat(int(f.dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return f.failed("cannot create a file in its directory", err)
	}
	if uid := os.Geteuid(); f.old != nil && uid != 0 && int(f.seen.Uid) != uid {
		return f.ownerError(fs.ErrPermission)
	}
	return nil
}

// Replace replaces the file by one with the given text. It keeps owner, group,
// access control list and permissions. If that is not possible, it changes nothing
// and returns an error. It keeps other attributes as far as the system allows. A new
// file is readable by its group, which is the given one or KeepGroup.
//
// A writer that is killed can leave a temporary file behind, which the next writer
// removes.
func (f *File) Replace(text string, group int) error {
	if f.lock != nil { // without the lock, another writer may be using its temporary file
		f.removeLeftovers()
	}
	file, temporary, err := f.create()
	if err != nil {
		return err
	}
	if err := f.fill(file, text, group); err != nil {
		_ = file.Close()
		f.remove(temporary)
		return err
	}
	if err := f.putInPlace(temporary); err != nil {
		f.remove(temporary)
		return err
	}
	if err := f.dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // EINVAL: not supported by the file system
		return f.failed("replaced, but syncing its directory to disk failed", err)
	}
	return nil
}

// create creates the temporary file for the new version. Its name is random, so that
// other users cannot create it first.
func (f *File) create() (file *os.File, name string, err error) {
	name = f.temporaryPrefix() + "-" + rand.Text()[:randomLen]
	fd, err := openAt(int(f.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, "", f.failed("cannot create a file in its directory", err)
	}
	return os.NewFile(uintptr(fd), f.path), name, nil
}

// fill sets the owner, the attributes and the mode of the file, and writes the text,
// in this order: no other user can read the file before it has its owner.
func (f *File) fill(file *os.File, text string, group int) error {
	mode := fs.FileMode(newMode)
	if f.old == nil {
		if group != KeepGroup {
			if err := file.Chown(-1, group); err != nil {
				return f.failed("set group", err)
			}
		}
	} else {
		mode = fs.FileMode(f.seen.Mode) & fs.ModePerm
		if err := f.keepOwner(file); err != nil {
			return err
		}
		if err := copyAttributes(f.old, file); err != nil {
			return f.failed("copy access control list", err)
		}
	}
	if err := file.Chmod(mode); err != nil {
		return f.failed("set mode", err)
	}
	if _, err := file.WriteString(text); err != nil {
		return f.failed("write", err)
	}
	if err := file.Sync(); err != nil {
		return f.failed("write", err)
	}
	if err := file.Close(); err != nil {
		return f.failed("write", err)
	}
	return nil
}

// keepOwner sets the owner and group of the old version.
func (f *File) keepOwner(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return f.failed("stat", err)
	}
	if st.Uid == f.seen.Uid && st.Gid == f.seen.Gid {
		return nil
	}
	if err := file.Chown(int(f.seen.Uid), int(f.seen.Gid)); err != nil {
		return f.ownerError(err)
	}
	return nil
}

// putInPlace renames the temporary file to the name of the file, unless the file has
// changed since it was opened.
func (f *File) putInPlace(temporary string) error {
	now, there, err := f.entry()
	if err != nil || there != (f.old != nil) || there && !sameVersion(&now, &f.seen) {
		return f.changedError()
	}
	dir := int(f.dir.Fd())
	if there {
		err = unix.Renameat(dir, temporary, dir, f.name)
	} else {
		err = renameNew(dir, temporary, f.name)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return f.changedError()
	case errors.Is(err, unix.EBUSY):
		return f.mountError()
	}
	return f.failed("rename", err)
}
