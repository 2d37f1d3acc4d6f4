package follow

import "golang.org/x/sys/unix"

// MountOf reports whether path is a mount point itself, such as a file that is
// mounted into a container without its directory. isGone reports whether the file
// was replaced or deleted at its origin, so that its link count is 0. Linux before
// 5.8 does not report mount points.
func MountOf(path string) (isMount, isGone bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_NLINK, &st); err != nil {
		return false, false
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, st.Mask&unix.STATX_NLINK != 0 && st.Nlink == 0
}

// mountID returns the mount ID of path, or 0 if it is unknown.
func mountID(path string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}
