package follow

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// A File is a Source: a regular file, or a symlink to one. Beyond what every
// source does, it:
//
//   - has its directory watched. Changes on network file systems, and of the
//     target of a symlink in another directory, are found by the poll.
//   - knows that a file that was moved to the name is complete (Linux only).
//   - reports a file that has lost its name while a mount still leads to it.
//   - doubts a file that appears where a file system is not mounted any more.
//   - warns of a file that every user of the machine can read.
type File struct {
	path  string // absolute
	stat  func(path string) (signature, error)
	fetch func(path string) (text string, sig signature, mode fs.FileMode, err error)

	notices *directoryNotices
	seen    Version // by Version, kept because each conversion of a signature allocates

	lastMove uint64 // to the name, before Version has looked; 0: none, or something has happened since
	usedMove uint64 // the last one before a version was read

	isLinked bool        // a version of it had links
	fetched  fetchedFile // last
	origin   origin      // of the version that is loaded
	isWarned bool        // Warn has said that everybody can read it
}

// fetchedFile is what File notes of a version that was read.
type fetchedFile struct {
	version Version
	origin  origin
	mode    fs.FileMode
}

// NewFile returns the file at an absolute path. The path is its name.
func NewFile(path string) *File {
	return &File{path: path, stat: sign, fetch: readFile, notices: newDirectoryNotices(path)}
}

// Name returns the path.
func (f *File) Name() string { return f.path }

// Changed implements Source.
func (f *File) Changed() <-chan struct{} { return f.notices.changed }

// Renew implements Renewer: it has the directory watched.
func (f *File) Renew(logger *zap.Logger) { f.notices.renew(logger) }

// Close implements Renewer.
func (f *File) Close() error {
	f.notices.close()
	return nil
}

// Version implements Source. The version is of size, times and inode.
func (f *File) Version() (Version, error) {
	f.lastMove = f.notices.lastMove() // before the file is looked at
	sig, err := f.stat(f.path)
	if err != nil {
		return nil, withAdvice(err)
	}
	if seen, ok := f.seen.(signature); !ok || seen != sig {
		f.seen = sig
	}
	return f.seen, nil
}

// Fetch implements Source.
func (f *File) Fetch() (string, Version, error) {
	text, sig, mode, err := f.fetch(f.path)
	if err != nil {
		f.usedMove = f.lastMove
		return "", nil, err
	}
	f.fetched = fetchedFile{origin: originOf(f.path), mode: mode}
	if sig != (signature{}) {
		f.fetched.version = sig
	}
	return text, f.fetched.version, nil
}

// IsComplete implements Completer: it reports whether a move has put a file at
// the path since a version was read, and nothing has happened to the name since.
// A symlink is none: there are no notices of the file it leads to.
func (f *File) IsComplete(v Version) bool {
	sig, _ := v.(signature)
	if !sig.linked || f.lastMove == 0 || f.lastMove == f.usedMove || f.notices.lastMove() != f.lastMove {
		return false
	}
	info, err := os.Lstat(f.path)
	return err == nil && info.Mode().IsRegular()
}

var (
	errOrphaned = errors.New("has been replaced or deleted outside of its mount, which still shows the old file (0 links): " +
		"mount the directory instead of the file, and restart the container")
	errUnmounted = errors.New("is empty or older than the previous version, which was on a file system that is not mounted any more: mount it again. " +
		"To use this file all the same, reload the configuration, or send POST /htpasswd/reload to the admin API")
)

// Doubt implements Judge: a file that is empty or older than the loaded one is
// not taken if the mount that the loaded one came from is gone.
func (f *File) Doubt(v, loaded Version, isEmpty bool) error {
	f.usedMove = f.lastMove
	sig, _ := v.(signature)
	old, _ := loaded.(signature)
	if (isEmpty || sig.mtime < old.mtime) && f.fetched.origin.isUnder(f.origin) {
		return errUnmounted
	}
	return nil
}

// Confirm implements Judge: it returns an error if a version, which can be read,
// is no longer what people edit, since it has no name left and a mount leads to
// it. Some file systems report no links of any file: one that had none before
// has to be a mount itself.
func (f *File) Confirm(v Version) error {
	f.usedMove = f.lastMove
	if v == f.fetched.version {
		f.origin = f.fetched.origin
	}
	sig, _ := v.(signature)
	f.isLinked = f.isLinked || sig.linked
	if sig.linked {
		return nil
	}
	if again, err := f.stat(f.path); err != nil || again.linked || !again.sameFile(sig) {
		return nil // it was replaced while it was looked at
	}
	if isMount, _ := MountOf(f.path); f.isLinked || isMount {
		return errOrphaned
	}
	return nil
}

// Warn implements Warner: it warns once while everybody on the machine can read
// the file.
func (f *File) Warn(logger *zap.Logger) {
	isReadable := IsWorldReadable(f.path, f.fetched.mode)
	if isReadable && !f.isWarned {
		logger.Warn("file can be read by every user of this machine; mend with: chmod o= on it, and chgrp to the group of the server",
			zap.String("file", f.path), zap.String("mode", f.fetched.mode.Perm().String()))
	}
	f.isWarned = isReadable
}

// origin is where a version of a file comes from.
type origin struct {
	path string // without symlinks; "": not known
	// mounts are the numbers of the mounts that the path leads into, and each
	// directory above it. 0: not known.
	mounts []uint64
}

func originOf(path string) origin {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return origin{}
	}
	o := origin{path, []uint64{mountID(path)}}
	for above := filepath.Dir(path); above != path; path, above = above, filepath.Dir(above) {
		o.mounts = append(o.mounts, mountID(above))
	}
	return o
}

// isUnder reports whether the mount that other comes from is gone, and o is of
// the same path in the one below. A mount on top of other does not count.
func (o origin) isUnder(other origin) bool {
	if o.path == "" || o.path != other.path {
		return false
	}
	now, before := o.mounts[0], other.mounts[0]
	return now != 0 && now != before && slices.Contains(other.mounts, now)
}

// IsRacy implements Version: it reports whether the file changed so shortly
// before now that it can change again within the resolution of its times.
func (s signature) IsRacy(now time.Time) bool { return isRacy(s.changed(), now) }

// isRacy reports whether a change, in nanoseconds since 1970, was so shortly
// before now that another one can have the same time.
func isRacy(changed int64, now time.Time) bool {
	limit := SettleTime
	if changed%int64(time.Second) == 0 {
		limit += 2 * time.Second // most likely the file system knows no parts of a second
	}
	age := now.Sub(time.Unix(0, changed))
	return -limit < age && age < limit
}
