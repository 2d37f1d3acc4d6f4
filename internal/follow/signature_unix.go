//go:build unix

package follow

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// signature tells versions of a file apart without reading it. The time of
// the last change of the inode (ctime) cannot be set back, as that of the last
// modification can.
type signature struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
	linked       bool  // it has a name left
}

// sign returns the signature of the file that path leads to.
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

// sameFile reports whether both are of one file, changed or not.
func (s signature) sameFile(other signature) bool {
	return s.dev == other.dev && s.ino == other.ino
}

// isRacy reports whether the file changed so shortly before now that it can
// change again within the resolution of its times.
func (s signature) isRacy(now time.Time) bool { return isRacy(s.ctime, now) }
