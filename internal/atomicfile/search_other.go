//go:build unix && !linux && !darwin && !freebsd && !aix && !dragonfly && !solaris

package atomicfile

import "golang.org/x/sys/unix"

const (
	// searchOnly opens a directory to look up names in it.
	searchOnly = unix.O_RDONLY

	errnoSymlink = unix.EFTYPE // what O_NOFOLLOW says on some systems
)
