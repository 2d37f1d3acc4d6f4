package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// searchOnly opens a directory to look up names in it. It need not be
	// readable for that.
	searchOnly = unix.O_PATH

	errnoSymlink = unix.ELOOP // what O_NOFOLLOW says
)

// readLink returns what a name in a directory is, and what is in it if it is a
// symlink.
func readLink(dir int, name string) (inode unix.Stat_t, target string, err error) {
	fd, err := openAt(dir, name, unix.O_PATH)
	if err != nil {
		return inode, "", err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is written
	if err := unix.Fstat(fd, &inode); err != nil || inode.Mode&unix.S_IFMT != unix.S_IFLNK {
		return inode, "", err
	}
	if isMagicLink(fd, name) {
		return inode, "", errOtherPlace
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buffer)
	if err != nil {
		return inode, "", err
	}
	return inode, string(buffer[:n]), nil
}

// isMagicLink reports whether a symlink is one of those of /proc that lead to
// what a process has, as its root directory, whatever their text says. self and
// thread-self are usual ones.
func isMagicLink(fd int, name string) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	return st.Type == unix.PROC_SUPER_MAGIC && name != "self" && name != "thread-self"
}

// renameNew gives a file a name that is not taken.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // file systems that can't
		return unix.Renameat(dir, from, dir, to)
	}
	return err
}

// isMount reports whether a file is a mount of its own, as a single file that
// is mounted into a container. Linux before 5.8 can't tell.
func isMount(file *os.File) bool {
	var st unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
