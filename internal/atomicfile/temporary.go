//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// randomLen is how many characters the random part of a name has, 5 bits each.
const randomLen = 13

// temporaryPrefix returns how the name of the new version begins until it is in
// its place. Neither servers nor people take such a file for a password file: its
// name has a dot in front and another ending.
func (f *File) temporaryPrefix() string {
	return "." + f.name[:min(len(f.name), 200)] + ".caddy-htpasswd-new" // names have 255 bytes at most
}

// isTemporary reports whether create chooses such names, or did so in a version
// of this program without the random part.
func (f *File) isTemporary(name string) bool {
	rest, ok := strings.CutPrefix(name, f.temporaryPrefix())
	return ok && (rest == "" || rest[0] == '-' && len(rest) == 1+randomLen)
}

// removeLeftovers removes the temporary files of writers that were killed. Those
// of other users stay: they do no harm.
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

// isOurs reports whether a temporary file belongs to this user, or to the owner of
// the file. A new version gets that owner before it is put in place.
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
