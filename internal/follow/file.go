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
//   - watches the directory of the file. Polling finds changes on network file
//     systems, and of the target of a symlink in another directory.
//   - knows that a file that was renamed to the path is complete (Linux only).
//   - reports a file that was replaced or deleted outside the container into
//     which it is mounted.
//   - rejects an empty or older file that appears where a file system is no
//     longer mounted.
//   - warns of a file that every user of the machine can read.
type File struct {
	path  string // absolute
	stat  func(path string) (signature, error)
	fetch func(path string) (text string, sig signature, mode fs.FileMode, err error)

	notices *directoryNotices
	seen    Version // returned by Version last; kept because each conversion of a signature allocates

	lastMove uint64 // number of the last rename to the path before Version; 0: none, or another event followed
	usedMove uint64 // lastMove when a version was read last

	isLinked bool        // some version had a link count above 0
	fetched  fetchedFile // last
	origin   origin      // of the loaded version
	isWarned bool        // Warn has logged that the file is world-readable
}

// fetchedFile describes a version that was read.
type fetchedFile struct {
	version Version
	origin  origin
	mode    fs.FileMode
}

// NewFile returns a File for an absolute path. The path is its name.
func NewFile(path string) *File {
	return &File{path: path, stat: sign, fetch: readFile, notices: newDirectoryNotices(path)}
}

// Name returns the path.
func (f *File) Name() string { return f.path }

// Changed implements Source.
func (f *File) Changed() <-chan struct{} { return f.notices.changed }

// Renew implements Renewer: it watches the directory.
func (f *File) Renew(logger *zap.Logger) { f.notices.renew(logger) }

// Close implements Renewer.
func (f *File) Close() error {
	f.notices.close()
	return nil
}

// Version implements Source. The version consists of size, times and inode.
func (f *File) Version() (Version, error) {
	f.lastMove = f.notices.lastMove() // before stat
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

// IsComplete implements Completer: it reports whether a file was renamed to the
// path since a version was read, and nothing has happened to the path since. It
// is false for a symlink: the target is not watched.
func (f *File) IsComplete(v Version) bool {
	sig, _ := v.(signature)
	if !sig.linked || f.lastMove == 0 || f.lastMove == f.usedMove || f.notices.lastMove() != f.lastMove {
		return false
	}
	info, err := os.Lstat(f.path)
	return err == nil && info.Mode().IsRegular()
}

var (
	errOrphaned = errors.New("replaced or deleted outside the container; the mount still shows the old file (0 links); " +
		"mount the directory instead of the file, and restart the container")
	errUnmounted = errors.New("empty or older than the previous version, whose file system is no longer mounted; mount it again, " +
		"or, to use this file, reload the configuration or send POST /htpasswd/reload to the admin API")
)

// ValidateReplacement implements Validator: it rejects a file that is empty or
// older than the loaded one if the file system of the loaded one was unmounted.
func (f *File) ValidateReplacement(v, loaded Version, isEmpty bool) error {
	f.usedMove = f.lastMove
	sig, _ := v.(signature)
	old, _ := loaded.(signature)
	if (isEmpty || sig.mtime < old.mtime) && f.fetched.origin.isUnder(f.origin) {
		return errUnmounted
	}
	return nil
}

// ValidateLoaded implements Validator: it returns an error if the file was
// replaced or deleted outside the container into which it is mounted. Such a file
// has a link count of 0. Some file systems report 0 for every file: a file whose
// count was never above 0 has to be a mount point as well.
func (f *File) ValidateLoaded(v Version) error {
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
		return nil // replaced meanwhile
	}
	if isMount, _ := MountOf(f.path); f.isLinked || isMount {
		return errOrphaned
	}
	return nil
}

// Warn implements Warner: it warns once while the file is world-readable.
func (f *File) Warn(logger *zap.Logger) {
	isReadable := IsWorldReadable(f.path, f.fetched.mode)
	if isReadable && !f.isWarned {
		_, group := OwnerOf(f.path)
		logger.Warn("file is world-readable; run chmod o= on it, and chgrp to the server's group",
			zap.String("file", f.path), zap.String("mode", f.fetched.mode.Perm().String()), zap.String("group", group))
	}
	f.isWarned = isReadable
}

// origin is the mount that a version of a file was read from.
type origin struct {
	path string // without symlinks; "": unknown
	// mounts are the mount IDs of the path and of each directory above it.
	// 0: unknown.
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

// isUnder reports whether the mount of other was unmounted, and o has the same
// path in the mount below. A new mount on top of other does not count.
func (o origin) isUnder(other origin) bool {
	if o.path == "" || o.path != other.path {
		return false
	}
	now, before := o.mounts[0], other.mounts[0]
	return now != 0 && now != before && slices.Contains(other.mounts, now)
}

// IsRacy implements Version: it reports whether the file changed so shortly
// before now that its next change can have the same timestamps.
func (s signature) IsRacy(now time.Time) bool { return isRacy(s.changed(), now) }

// isRacy reports whether a change, in nanoseconds since 1970, was so shortly
// before now that another change can have the same timestamp.
func isRacy(changed int64, now time.Time) bool {
	limit := SettleTime
	if changed%int64(time.Second) == 0 {
		limit += 2 * time.Second // most likely the file system stores whole seconds only
	}
	age := now.Sub(time.Unix(0, changed))
	return -limit < age && age < limit
}
