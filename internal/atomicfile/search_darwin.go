package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names in it. It need not be
	// readable for that. (It is O_SEARCH of macOS.)
	searchOnly = 0x40000000 | unix.O_DIRECTORY

	errnoSymlink = unix.ELOOP // what O_NOFOLLOW says
)
