//go:build !unix

package follow

import (
	"os"
	"time"
)

// signature tells versions of a file apart without reading it, as well as
// size and modification time do.
type signature struct {
	size  int64
	mtime int64 // nanoseconds since 1970

	linked bool // always: it is not known
}

// sign returns the signature of the file that path leads to.
func sign(path string) (signature, error) {
	info, err := os.Stat(path)
	if err != nil {
		return signature{}, err
	}
	return signature{info.Size(), info.ModTime().UnixNano(), true}, nil
}

// signOpen returns the signature of an open file.
func signOpen(file *os.File) (signature, error) {
	info, err := file.Stat()
	if err != nil {
		return signature{}, err
	}
	return signature{info.Size(), info.ModTime().UnixNano(), true}, nil
}

// sameFile reports whether both can be of one file.
func (s signature) sameFile(other signature) bool {
	return s.mtime == other.mtime
}

// isRacy reports whether the file changed so shortly before now that it can
// change again within the resolution of its times.
func (s signature) isRacy(now time.Time) bool { return isRacy(s.mtime, now) }
