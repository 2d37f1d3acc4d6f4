//go:build unix && !linux && !darwin && !freebsd && !aix && !dragonfly && !solaris

package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names.
	searchOnly = unix.O_RDONLY

	errnoSymlink = unix.EFTYPE // error of O_NOFOLLOW on some systems
)
