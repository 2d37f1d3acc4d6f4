//go:build !linux

package caddyhtpasswd

// mountOf reports nothing: only Linux mounts single files into containers.
func mountOf(string) (isMount, isGone bool) { return false, false }

// mountID returns 0: it is not known.
func mountID(string) uint64 { return 0 }
