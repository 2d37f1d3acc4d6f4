//go:build unix && !linux && !aix && !dragonfly && !solaris

package atomicfile

import "os"

// copyAttributes does nothing: attributes are kept on Linux only.
func copyAttributes(_, _ *os.File) error { return nil }
