package caddyhtpasswd

import "golang.org/x/sys/unix"

// mountID returns the number of the mount that path leads into, 0 if it is not known.
func mountID(path string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return 0
	}
	return st.Mnt_id
}
