package atomicfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// searchOnly opens a directory to look up names. Read permission is not
	// needed.
	searchOnly = unix.O_PATH

	errnoSymlink = unix.ELOOP // error of O_NOFOLLOW
)

// readLink returns the inode of a name in a directory, and its target if it is a
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

// isMagicLink reports whether a symlink is a magic link in /proc, such as that to
// the root directory of a process, which does not lead where its text says. self
// and thread-self are normal symlinks.
func isMagicLink(fd int, name string) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	return st.Type == unix.PROC_SUPER_MAGIC && name != "self" && name != "thread-self"
}

// renameNew renames a file to a name that does not exist.
func renameNew(dir int, from, to string) error {
	err := unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not supported by the file system
		return unix.Renameat(dir, from, dir, to)
	}
	return err
}

// isMount reports whether a file is a mount point, such as a single file that is
// mounted into a container. Linux before 5.8 does not report mount points.
func isMount(file *os.File) bool {
	var st unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
