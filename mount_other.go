//go:build !linux

package caddyhtpasswd

// mountID returns 0: it is not known.
func mountID(string) uint64 { return 0 }
