package caddyhtpasswd

import "golang.org/x/sys/unix"

// mountOf returns the number of the mount that a path leads into, 0 if that is
// not known, and whether the path is where the mount begins.
func mountOf(path string) (id uint64, isRoot bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return 0, false
	}
	if st.Mask&unix.STATX_MNT_ID != 0 { // from Linux 5.8 on, as the other one
		id = st.Mnt_id
	}
	return id, st.Attributes&st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0
}
