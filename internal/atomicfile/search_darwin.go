package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names. Read permission is not
	// needed. It is O_SEARCH of macOS.
	searchOnly = 0x40000000 | unix.O_DIRECTORY

	errnoSymlink = unix.ELOOP // error of O_NOFOLLOW
)
