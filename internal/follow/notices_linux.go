package follow

import (
	"bytes"
	"encoding/binary"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// inotify watches a directory with inotify(7). The portable package fsnotify does
// not distinguish a rename to a name from a creation. Nor can all pending events
// be read from it at any time, which lastMove depends on.
type inotify struct {
	file    *os.File
	conn    syscall.RawConn // of the file
	names   noticedNames
	changed chan<- struct{}
	done    chan struct{} // closed when the goroutine has ended

	mu    sync.Mutex
	watch int    // the watch descriptor, -1 for none
	count uint64 // of events that concern the names
	moved bool   // the last of them, except for attribute changes, is a rename to the first name
}

const watchedEvents = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

func newDirectoryWatch(names noticedNames, _ string, changed chan<- struct{}) (directoryWatch, error) {
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
	n := &inotify{file: file, conn: conn, names: names, changed: changed, done: make(chan struct{}), watch: -1}
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
	if name != "" && !n.names.has(name) {
		return
	}
	if mask&unix.IN_ATTRIB == 0 {
		n.count++
		n.moved = mask&unix.IN_MOVED_TO != 0 && name == n.names[0]
	}
	notify(n.changed)
}

func (n *inotify) add(directory string) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	failed := n.conn.Control(func(fd uintptr) {
		if n.watch >= 0 {
			_, _ = unix.InotifyRmWatch(int(fd), uint32(n.watch)) //nolint:gosec // not negative
		}
		n.moved = false // pending events are of the previous directory
		n.watch, err = unix.InotifyAddWatch(int(fd), directory, watchedEvents)
	})
	if failed != nil {
		return failed
	}
	return os.NewSyscallError("inotify_add_watch", err)
}

func (n *inotify) isActive() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watch >= 0
}

func (n *inotify) lastMove() uint64 {
	if n.conn.Control(func(fd uintptr) { n.takeIn(fd) }) != nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.moved {
		return 0
	}
	return n.count
}

func (n *inotify) close() {
	_ = n.file.Close()
	<-n.done
}
