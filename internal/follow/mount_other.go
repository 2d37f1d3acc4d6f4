//go:build !linux

package follow

// MountOf returns false: only Linux mounts single files into containers.
func MountOf(string) (isMount, isGone bool) { return false, false }

// mountID returns 0: the mount is unknown.
func mountID(string) uint64 { return 0 }
