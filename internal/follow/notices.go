package follow

import (
	"path/filepath"

	"go.uber.org/zap"
)

// directoryNotices are the notices of changes in the directory of a file. The
// directory is watched, not the file, since most changes put another file in its
// place. Nothing is watched before renew.
type directoryNotices struct {
	directory string
	names     noticedNames
	watch     directoryWatch // nil: none could be made yet
	watched   signature      // of the directory
	failure   string         // logged once
	changed   chan struct{}  // has a signal when there may be something new
}

// noticedNames are the entries of the directory that concern the file. A move
// onto the first one puts a complete file there.
type noticedNames [2]string

func (n *noticedNames) has(name string) bool { return name == n[0] || name == n[1] }

// directoryWatch is what the operating system has for that. Its methods are
// called one at a time, except for close.
type directoryWatch interface {
	// add watches a directory instead of the one before.
	add(directory string) error
	// isActive reports whether a directory is watched. A directory that is deleted no longer is.
	isActive() bool
	// lastMove takes in the notices that there are. It returns the number of the
	// last one if that is of a file moved onto the name, and 0 otherwise.
	lastMove() uint64
	close()
}

func newDirectoryNotices(path string) *directoryNotices {
	directory, name := filepath.Split(path)
	// Kubernetes swaps a symlink beside the file's, "..data", for all files of a volume at once.
	return &directoryNotices{directory: filepath.Clean(directory), names: noticedNames{name, "..data"}, changed: make(chan struct{}, 1)}
}

// renew sets up the watch if there is none, or if it is of a directory that has
// been replaced since. Without a watch there is still the poll.
func (n *directoryNotices) renew(logger *zap.Logger) {
	if err := n.tryRenew(); err != nil && err.Error() != n.failure {
		n.failure = err.Error()
		logger.Warn("file notifications unavailable; falling back to polling",
			zap.String("directory", n.directory), zap.Error(err))
	} else if err == nil {
		n.failure = ""
	}
}

func (n *directoryNotices) tryRenew() error {
	sig, err := sign(n.directory)
	if err != nil {
		return withAdvice(err)
	}
	if n.watch == nil {
		if n.watch, err = newDirectoryWatch(n.names, n.directory, n.changed); err != nil {
			n.watch = nil
			return err
		}
	}
	if n.watch.isActive() && sig.sameFile(n.watched) {
		return nil
	}
	if err := n.watch.add(n.directory); err != nil {
		return err
	}
	n.watched = sig
	return nil
}

// lastMove returns the number of the last notice, if that is of a file moved
// onto the name, and 0 otherwise. Everything that has happened to the name until
// now is in it.
func (n *directoryNotices) lastMove() uint64 {
	if n.watch == nil {
		return 0
	}
	move := n.watch.lastMove()
	if move == 0 {
		return 0
	}
	if sig, err := sign(n.directory); err != nil || !sig.sameFile(n.watched) {
		return 0 // the name leads elsewhere now
	}
	return move
}

func (n *directoryNotices) close() {
	if n.watch != nil {
		n.watch.close()
	}
}
