package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names in it. It need not be
	// readable for that.
	searchOnly = unix.O_SEARCH

	errnoSymlink = unix.EMLINK // what O_NOFOLLOW says
)
