package caddyhtpasswd

import "golang.org/x/sys/unix"

// mountOf reports whether the file that path leads to is a mount of its own,
// as one that is mounted into a container without its directory, and whether
// it has been replaced or deleted where it comes from: then it has no name left.
// Linux before 5.8 does not tell about mounts.
func mountOf(path string) (isMount, isGone bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_NLINK, &st); err != nil {
		return false, false
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, st.Mask&unix.STATX_NLINK != 0 && st.Nlink == 0
}
