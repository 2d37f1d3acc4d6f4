//go:build !linux

package follow

import (
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// notifier watches a directory with fsnotify, which does not distinguish a rename
// to a name from a creation.
type notifier struct {
	*fsnotify.Watcher
	names     noticedNames
	directory string
	changed   chan<- struct{}
	done      chan struct{} // closed when the goroutine has ended
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

// forward signals events that can mean a change of the file, and lost events. It
// runs in its own goroutine, since fsnotify can hold a lock while it sends which
// its other methods need.
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
		_ = n.Watcher.Remove(directory) // deleted or replaced
	}
	return n.Watcher.Add(directory)
}

func (n *notifier) isActive() bool { return len(n.Watcher.WatchList()) > 0 }

func (n *notifier) lastMove() uint64 { return 0 }

func (n *notifier) close() {
	_ = n.Watcher.Close()
	<-n.done
}
