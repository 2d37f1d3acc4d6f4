//go:build !linux

package follow

// MountOf reports nothing: only Linux mounts single files into containers.
func MountOf(string) (isMount, isGone bool) { return false, false }

// mountID returns 0: it is not known.
func mountID(string) uint64 { return 0 }
