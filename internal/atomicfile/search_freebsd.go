package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names. Read permission is not
	// needed.
	searchOnly = unix.O_SEARCH

	errnoSymlink = unix.EMLINK // error of O_NOFOLLOW
)
