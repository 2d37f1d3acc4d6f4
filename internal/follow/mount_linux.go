package follow

import "golang.org/x/sys/unix"

// MountOf reports whether the file that path leads to is itself a mount point,
// like a file that is mounted into a container without its directory. isGone
// says that it was replaced or deleted where it comes from, so that it has no
// name left. Linux before 5.8 does not report mounts.
func MountOf(path string) (isMount, isGone bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_NLINK, &st); err != nil {
		return false, false
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, st.Mask&unix.STATX_NLINK != 0 && st.Nlink == 0
}

// mountID returns the number of the mount that path leads into, 0 if it is not known.
func mountID(path string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}
