//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// randomLen is the length of the random part of a name, in characters of 5 bits.
const randomLen = 13

// temporaryPrefix returns the prefix of the name of a temporary file. It begins with
// a dot and does not end like the file, so that nobody mistakes it for the file.
func (f *File) temporaryPrefix() string {
	return "." + f.name[:min(len(f.name), 200)] + ".caddy-htpasswd-new" // names have 255 bytes at most
}

// isTemporary reports whether name is a name of a temporary file, also of earlier
// versions of this program, which had no random part.
func (f *File) isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, f.temporaryPrefix())
	return ok && (rest == "" || rest[0] == '-' && len(rest) == 1+randomLen)
}

// removeLeftovers removes temporary files of writers that were killed. It keeps
// those of other users, which do no harm.
func (f *File) removeLeftovers() {
	if _, err := f.dir.Seek(0, io.SeekStart); err != nil {
		return
	}
	for {
		names, err := f.dir.Readdirnames(1000)
		for _, name := range names {
			if f.isTemporary(name) && f.isOurs(name) {
				f.remove(name)
			}
		}
		if err != nil {
			return
		}
	}
}

// isOurs reports whether a temporary file belongs to this user or to the owner of
// the file, which it gets before it is renamed.
func (f *File) isOurs(name string) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(int(f.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	return int(st.Uid) == os.Geteuid() || f.old != nil && st.Uid == f.seen.Uid
}

// remove removes a temporary file.
func (f *File) remove(name string) {
	_ = unix.Unlinkat(int(f.dir.Fd()), name, 0) // the next writer tries again
}
