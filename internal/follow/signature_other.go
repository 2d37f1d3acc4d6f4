//go:build !unix

package follow

import "os"

// signature distinguishes versions of a file without reading it, by size and
// modification time.
type signature struct {
	size  int64
	mtime int64 // nanoseconds since 1970

	linked bool // always true: the link count is unknown
}

// sign returns the signature of the file at a path.
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

// sameFile reports whether both can be of the same file.
func (s signature) sameFile(other signature) bool {
	return s.mtime == other.mtime
}

// changed returns when the file changed last, in nanoseconds since 1970.
func (s signature) changed() int64 { return s.mtime }
