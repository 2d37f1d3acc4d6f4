//go:build !linux

package caddyhtpasswd

// mountOf reports nothing: only Linux mounts single files into containers.
func mountOf(string) (isMount, isGone bool) { return false, false }
