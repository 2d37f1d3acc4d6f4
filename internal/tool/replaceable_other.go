//go:build !linux

package tool

import "io/fs"

// hasLinks returns false: hard links are counted on Linux only.
func hasLinks(fs.FileInfo) bool { return false }

// isReadOnly returns false: file systems are examined on Linux only.
func isReadOnly(string) bool { return false }
