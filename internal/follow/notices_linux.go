package follow

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// inotify watches a directory with inotify(7), for all sources with files in it: a
// user can have only 128 instances by default. The portable package fsnotify does not
// distinguish a rename to a name from a creation. Nor can all pending events be read
// from it at any time, which lastMove depends on.
type inotify struct {
	directory string
	file      *os.File
	conn      syscall.RawConn // of the file
	done      chan struct{}   // closed when the goroutine has ended
	users     int             // number of listeners; guarded by watchesMu

	mu        sync.Mutex
	watch     int       // the watch descriptor, -1 for none
	watched   signature // of the directory
	listeners []*listener
}

// listener is the watch of one source. It implements directoryWatch.
type listener struct {
	*inotify
	names   noticedNames
	changed chan<- struct{}

	count uint64 // of events that concern the names
	moved bool   // the last of them, except for attribute changes, is a rename to the first name
}

const watchedEvents = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// watches are the watches of this process, by directory.
var (
	watchesMu sync.Mutex
	watches   = make(map[string]*inotify)
)

func newDirectoryWatch(names noticedNames, directory string, changed chan<- struct{}) (directoryWatch, error) {
	watchesMu.Lock()
	defer watchesMu.Unlock()
	n := watches[directory]
	if n == nil {
		var err error
		if n, err = newInotify(directory); err != nil {
			return nil, err
		}
		watches[directory] = n
	}
	n.users++
	l := &listener{inotify: n, names: names, changed: changed}
	_ = n.conn.Control(func(fd uintptr) {
		n.takeIn(fd) // what has happened before does not concern l
		n.mu.Lock()
		defer n.mu.Unlock()
		n.listeners = append(n.listeners, l)
	})
	return l, nil
}

func newInotify(directory string) (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	n := &inotify{directory: directory, file: file, conn: conn, done: make(chan struct{}), watch: -1}
	go n.await()
	return n, nil
}

// await reads events as they come, until the file is closed.
func (n *inotify) await() {
	defer close(n.done)
	for n.conn.Read(n.takeIn) == nil {
	}
}

// takeIn reads all pending events, and reports whether there were any.
func (n *inotify) takeIn(fd uintptr) (some bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var buffer [4096]byte // room for at least one event, whose name has at most 255 bytes
	for {
		length, err := unix.Read(int(fd), buffer[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || length <= 0 {
			return some // EAGAIN: no more
		}
		some = true
		for rest := buffer[:length]; len(rest) >= unix.SizeofInotifyEvent; {
			watch, mask := int32(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:]) //nolint:gosec // its own type
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name, _, _ := bytes.Cut(rest[unix.SizeofInotifyEvent:end], []byte{0})
			n.note(int(watch), mask, string(name))
			rest = rest[end:]
		}
	}
}

// note handles one event. An event without a name is of the directory itself, or
// means that events were lost.
func (n *inotify) note(watch int, mask uint32, name string) {
	if mask&unix.IN_Q_OVERFLOW == 0 && watch != n.watch {
		return // of the previous directory
	}
	if mask&unix.IN_IGNORED != 0 {
		n.watch = -1
	}
	for _, l := range n.listeners {
		l.note(mask, name)
	}
}

func (l *listener) note(mask uint32, name string) {
	if name != "" && !l.names.has(name) {
		return
	}
	if mask&unix.IN_ATTRIB == 0 {
		l.count++
		l.moved = mask&unix.IN_MOVED_TO != 0 && name == l.names.names[0]
	}
	notify(l.changed)
}

// add watches the directory that has the path now, unless another source has done
// so already.
func (l *listener) add(directory string) (err error) {
	n := l.inotify
	sig, err := sign(directory)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.watch >= 0 && sig.sameFile(n.watched) {
		return nil
	}
	failed := n.conn.Control(func(fd uintptr) {
		if n.watch >= 0 {
			_, _ = unix.InotifyRmWatch(int(fd), uint32(n.watch)) //nolint:gosec // not negative
		}
		for _, other := range n.listeners {
			other.moved = false // pending events are of the previous directory
		}
		n.watch, err = unix.InotifyAddWatch(int(fd), directory, watchedEvents)
	})
	if failed != nil {
		return failed
	}
	n.watched = sig
	return os.NewSyscallError("inotify_add_watch", err)
}

func (l *listener) isActive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.watch >= 0
}

func (l *listener) lastMove() uint64 {
	if l.conn.Control(func(fd uintptr) { l.takeIn(fd) }) != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.moved {
		return 0
	}
	return l.count
}

// close ends the watch of the source, and that of the directory after the last one.
func (l *listener) close() {
	n := l.inotify
	n.mu.Lock()
	n.listeners = slices.DeleteFunc(n.listeners, func(other *listener) bool { return other == l })
	n.mu.Unlock()
	watchesMu.Lock()
	n.users--
	isLast := n.users == 0
	if isLast {
		delete(watches, n.directory)
	}
	watchesMu.Unlock()
	if isLast {
		_ = n.file.Close()
		<-n.done
	}
}
