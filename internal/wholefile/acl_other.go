//go:build unix && !linux

package wholefile

import "os"

// copyACL does nothing: access control lists are kept on Linux only.
func copyACL(string, *os.File) error { return nil }
