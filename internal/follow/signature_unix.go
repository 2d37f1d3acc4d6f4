//go:build unix

package follow

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// signature distinguishes versions of a file without reading it. Unlike the
// modification time, the change time of the inode (ctime) cannot be set back.
type signature struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
	linked       bool  // the link count is above 0
}

// sign returns the signature of the file at a path.
func sign(path string) (signature, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return signature{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return signatureOf(&st), nil
}

// signOpen returns the signature of an open file.
func signOpen(file *os.File) (signature, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return signature{}, err
	}
	return signatureOf(&st), nil
}

func signatureOf(st *unix.Stat_t) signature {
	return signature{
		dev:   uint64(st.Dev), //nolint:unconvert // other types on other systems
		ino:   uint64(st.Ino), //nolint:unconvert // the same
		size:  st.Size,
		mtime: st.Mtim.Nano(),
		ctime: st.Ctim.Nano(),

		linked: st.Nlink > 0,
	}
}

// sameFile reports whether both are of the same file, changed or not.
func (s signature) sameFile(other signature) bool {
	return s.dev == other.dev && s.ino == other.ino
}

// changed returns when the file changed last, in nanoseconds since 1970.
func (s signature) changed() int64 { return s.ctime }
