package follow

import (
	"path/filepath"

	"go.uber.org/zap"
)

// directoryNotices are notifications of changes in the directory of a file. The
// directory is watched, not the file, since most changes replace the file.
// Nothing is watched before renew.
type directoryNotices struct {
	directory string
	names     noticedNames
	watch     directoryWatch // nil: not created yet
	watched   signature      // of the directory
	failure   string         // logged once
	changed   chan struct{}  // signals that the file may have changed
}

// noticedNames are the entries of the directory that concern the source.
type noticedNames struct {
	names   [2]string              // a rename to the first one puts a complete file there
	matches func(name string) bool // others; nil: none
}

func (n *noticedNames) has(name string) bool {
	return name == n.names[0] || name == n.names[1] || n.matches != nil && n.matches(name)
}

// kubernetesData is the symlink that Kubernetes replaces to change all files of a
// volume at once.
const kubernetesData = "..data"

// directoryWatch is the operating system's watch of a directory. Its methods are
// called one at a time, except for close.
type directoryWatch interface {
	// add watches a directory instead of the previous one.
	add(directory string) error
	// isActive reports whether a directory is watched. A deleted directory is not.
	isActive() bool
	// lastMove reads all pending events. It returns the number of the last one if
	// it is a rename to the path, and 0 otherwise.
	lastMove() uint64
	close()
}

func newDirectoryNotices(path string) *directoryNotices {
	directory, name := filepath.Split(path)
	return newNotices(filepath.Clean(directory), noticedNames{names: [2]string{name, kubernetesData}})
}

func newNotices(directory string, names noticedNames) *directoryNotices {
	return &directoryNotices{directory: directory, names: names, changed: make(chan struct{}, 1)}
}

// renew sets up the watch if there is none, or if the directory was replaced.
// Without a watch there is still the poll.
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

// lastMove returns the number of the last event if it is a rename to the path,
// and 0 otherwise. It takes into account all events until now.
func (n *directoryNotices) lastMove() uint64 {
	if n.watch == nil {
		return 0
	}
	move := n.watch.lastMove()
	if move == 0 {
		return 0
	}
	if sig, err := sign(n.directory); err != nil || !sig.sameFile(n.watched) {
		return 0 // the directory was replaced
	}
	return move
}

func (n *directoryNotices) close() {
	if n.watch != nil {
		n.watch.close()
	}
}
