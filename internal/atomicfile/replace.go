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

// newMode is the mode of a new file, whatever the umask: its group may read.
const newMode = 0o640

// KeepGroup stands for the group that the system gives a new file.
const KeepGroup = -1

// Check returns the error that Replace would return, as far as that is known
// without replacing the file.
func (f *File) Check() error {
	if f.old != nil && isMount(f.old) {
		return f.mounted()
	}
	if err := unix.Faccessat(int(f.dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return f.failed("making a file beside it", err)
	}
	if uid := os.Geteuid(); f.old != nil && uid != 0 && int(f.seen.Uid) != uid {
		return f.notOurs(fs.ErrPermission)
	}
	return nil
}

// Replace replaces the file by one with the text. Owner, group, access control
// list and the permissions of the mode stay as they are. Where they cannot,
// nothing is changed, and the error says so. Other attributes stay where the
// system allows it. A new file can be read by its group, which is the given one
// or KeepGroup.
//
// A writer that is killed can leave its temporary file behind (temporaryPrefix).
// The next writer removes it.
func (f *File) Replace(text string, group int) error {
	if f.lock != nil { // else somebody may be about to put one in its place
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
	if err := f.dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // file systems that can't
		return f.failed("changed, but not known to be on disk", err)
	}
	return nil
}

// create creates the file of the new version. Its name is random: in a directory
// that others can write, nobody can take the name before.
func (f *File) create() (file *os.File, name string, err error) {
	name = f.temporaryPrefix() + "-" + rand.Text()[:randomLen]
	fd, err := openAt(int(f.dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, "", f.failed("making a file beside it", err)
	}
	return os.NewFile(uintptr(fd), f.path), name, nil
}

// fill gives the file its owner, attributes, mode and text, in this order. Nobody
// else can read it before it has its owner.
func (f *File) fill(file *os.File, text string, group int) error {
	mode := fs.FileMode(newMode)
	if f.old == nil {
		if group != KeepGroup {
			if err := file.Chown(-1, group); err != nil {
				return f.failed("giving it its group", err)
			}
		}
	} else {
		mode = fs.FileMode(f.seen.Mode) & fs.ModePerm
		if err := f.keepOwner(file); err != nil {
			return err
		}
		if err := copyAttributes(f.old, file); err != nil {
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

// keepOwner gives the file the owner and group of the old version.
func (f *File) keepOwner(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return f.failed("looking at it", err)
	}
	if st.Uid == f.seen.Uid && st.Gid == f.seen.Gid {
		return nil
	}
	if err := file.Chown(int(f.seen.Uid), int(f.seen.Gid)); err != nil {
		return f.notOurs(err)
	}
	return nil
}

// putInPlace renames the new version to the name of the file, unless the file has
// changed since it was opened.
func (f *File) putInPlace(temporary string) error {
	now, there, err := f.entry()
	if err != nil || there != (f.old != nil) || there && !sameVersion(&now, &f.seen) {
		return f.changed()
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
		return f.changed()
	case errors.Is(err, unix.EBUSY):
		return f.mounted()
	}
	return f.failed("putting the new one in its place", err)
}
