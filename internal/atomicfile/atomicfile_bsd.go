//go:build unix && !linux && !aix && !dragonfly && !solaris

package atomicfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// readLink returns the inode of a name in a directory, and its target if it is a
// symlink.
func readLink(dir int, name string) (inode unix.Stat_t, target string, err error) {
	if err := unix.Fstatat(dir, name, &inode, unix.AT_SYMLINK_NOFOLLOW); err != nil || inode.Mode&unix.S_IFMT != unix.S_IFLNK {
		return inode, "", err
	}
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buffer)
	if err != nil {
		return inode, "", err
	}
	var now unix.Stat_t
	if err := unix.Fstatat(dir, name, &now, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return inode, "", err
	}
	if !sameVersion(&now, &inode) {
		return inode, "", errMoved
	}
	return inode, string(buffer[:n]), nil
}

// renameNew renames a file to a name that does not exist, as the caller has checked.
func renameNew(dir int, from, to string) error {
	return unix.Renameat(dir, from, dir, to)
}

// isMount returns false: only on Linux can a file be a mount point.
func isMount(*os.File) bool { return false }
