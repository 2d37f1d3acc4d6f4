//go:build !linux

package follow

import (
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// notifier watches a directory with what the operating system has. It does not
// tell files that were moved onto a name from those that were created there.
type notifier struct {
	*fsnotify.Watcher
	names     noticedNames
	directory string
	changed   chan<- struct{}
	done      chan struct{} // closed when the goroutine is over
}

func newDirectoryWatch(names noticedNames, directory string, changed chan<- struct{}) (directoryWatch, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	n := &notifier{watcher, names, directory, changed, make(chan struct{})}
	go n.forward(watcher.Events, watcher.Errors)
	return n, nil
}

// forward turns notices that can mean a change of the file, and the loss of
// notices, into one signal. It has a goroutine of its own, since fsnotify can
// hold a lock while it sends that its other methods want.
func (n *notifier) forward(events <-chan fsnotify.Event, errors <-chan error) {
	defer close(n.done)
	for events != nil || errors != nil {
		select {
		case event, ok := <-events:
			if !ok {
				events = nil
			}
			if !n.names.has(filepath.Base(event.Name)) && event.Name != n.directory {
				continue
			}
		case _, ok := <-errors:
			if !ok {
				errors = nil
				continue
			}
		}
		notify(n.changed)
	}
}

func (n *notifier) add(directory string) error {
	if n.isActive() {
		_ = n.Watcher.Remove(directory) // it is gone, or another one now
	}
	return n.Watcher.Add(directory)
}

func (n *notifier) isActive() bool { return len(n.Watcher.WatchList()) > 0 }

func (n *notifier) lastMove() uint64 { return 0 }

func (n *notifier) close() {
	_ = n.Watcher.Close()
	<-n.done
}
