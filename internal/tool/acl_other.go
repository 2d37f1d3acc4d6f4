//go:build !linux

package tool

// hasACL returns false: access control lists are read on Linux only.
func hasACL(string) bool { return false }
