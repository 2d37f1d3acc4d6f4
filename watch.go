package caddyhtpasswd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

const (
	// settleTime is how long a file must have stood still before it is read,
	// so that nobody is judged by the first half of a file.
	settleTime = 200 * time.Millisecond

	// maxSettle is how long a file that never stands still is waited for.
	maxSettle = 2 * time.Second

	// emptyGrace is how long a file that was full may be empty before nobody
	// gets in any more: most likely someone is writing it.
	emptyGrace = 3 * time.Second

	// maxFileSize is how large a file can be: two million users.
	maxFileSize = 256 << 20
)

// followedFile is one file, read when it has changed. It knows when to read
// and what to do about a file that can't be read; what the text means is the
// business of load.
//
// What happens when is decided by look alone, from the time it is given and
// from what it finds on disk. The goroutine (follow) only calls it: on a
// notice of the operating system, when look asked for it, and at every poll.
type followedFile struct {
	path  string // absolute
	fetch func(path string) (text string, sig signature, mode fs.FileMode, err error)
	load  func(text string, logger *zap.Logger) error // parses and swaps in

	mu         sync.Mutex
	text       string    // what was loaded last
	loaded     signature // of the text
	young      bool      // it was so fresh that it could change again without looking any different
	refused    signature // of a version that is bad, not to be read again and again
	settling   signature // what is waited for to stand still, since, and since the first change
	since      time.Time
	first      time.Time
	emptySince time.Time // since when a full file is empty
	warnedMode bool
	fileStatus
	published atomic.Pointer[fileStatus] // a copy, for who must not wait while the file is read

	startOnce sync.Once
	stop      chan struct{}
	done      chan struct{}
}

// fileStatus says how it stands with a file.
type fileStatus struct {
	loadedAt time.Time // of the version in force
	failure  string    // what is wrong with the one on disk, logged once; "" for nothing
	failures int       // how often something else was
}

// publish shows the status to others.
func (f *followedFile) publish() {
	status := f.fileStatus
	f.published.Store(&status)
}

func newFollowedFile(path string, load func(string, *zap.Logger) error) *followedFile {
	return &followedFile{path: path, fetch: readFile, load: load, stop: make(chan struct{}), done: make(chan struct{})}
}

// reload reads the file now, whatever was read before, and returns what is
// wrong with it: then the version before stays. After the first success the
// file is followed.
func (f *followedFile) reload(logger *zap.Logger) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	deadline := time.Now().Add(maxSettle)
	settled := f.awaitSettled(deadline)
	err := f.read(time.Now(), settled, time.Now().After(deadline), logger)
	for errors.Is(err, errChanging) {
		time.Sleep(settleTime)
		err = f.read(time.Now(), signature{}, time.Now().After(deadline), logger)
	}
	if err != nil {
		if !f.loadedAt.IsZero() {
			f.fail(err, logger)
		}
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.startOnce.Do(func() { go f.follow() })
	return nil
}

// isInGrace reports whether the file is empty, and the version before serves
// for a moment.
func (f *followedFile) isInGrace() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.emptySince.IsZero()
}

// awaitSettled waits until a file that is in use, and has just changed, stands
// still, at most until the deadline: somebody may be writing the rest of it.
// It returns the signature that stood still, if it had to wait for one.
func (f *followedFile) awaitSettled(deadline time.Time) signature {
	last, err := sign(f.path)
	if err != nil || f.loadedAt.IsZero() || last == f.loaded || !last.youngAt(time.Now()) {
		return signature{}
	}
	for time.Now().Before(deadline) {
		time.Sleep(settleTime)
		sig, err := sign(f.path)
		if err != nil || sig == last {
			return sig
		}
		last = sig
	}
	return last
}

// Destruct stops following. It implements caddy.Destructor.
func (f *followedFile) Destruct() error {
	f.startOnce.Do(func() { close(f.done) }) // never started
	close(f.stop)
	<-f.done
	return nil
}

// follow looks at the file whenever there may be something new, until stopped.
func (f *followedFile) follow() {
	defer close(f.done)
	folder := newFolderNotices(f.path)
	defer folder.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		app, settingsChanged := running.inForce()
		select {
		case <-f.stop:
			return
		case <-folder.changed:
		case <-settingsChanged:
			app, _ = running.inForce()
		case <-timer.C:
			folder.renew(app.logger)
		}
		timer.Reset(f.look(time.Now(), time.Duration(app.Poll), app.logger))
	}
}

// look compares the file on disk with the version that is loaded, reads it if
// it is another one that stands still, and returns when to look again.
func (f *followedFile) look(now time.Time, poll time.Duration, logger *zap.Logger) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := max(poll-settleTime, settleTime) // a change found then is read within poll
	sig, err := sign(f.path)
	if err != nil {
		f.fail(withAdvice(err), logger)
		f.first, f.refused = time.Time{}, signature{}
		return rest
	}
	current := sig == f.loaded && !f.young
	if current || sig == f.refused {
		f.first = time.Time{}
		if current {
			f.refused, f.emptySince = signature{}, time.Time{}
			f.recover(logger)
		}
		return rest
	}
	if f.first.IsZero() {
		f.first = now
	}
	if sig != f.settling {
		f.settling, f.since = sig, now
	}
	if wait := min(settleTime-now.Sub(f.since), maxSettle-now.Sub(f.first)); wait > 0 {
		return wait
	}
	err = f.read(now, sig, now.Sub(f.first) >= maxSettle, logger)
	if errors.Is(err, errChanging) {
		return settleTime
	}
	f.first = time.Time{}
	if err != nil {
		f.fail(err, logger)
		return rest
	}
	if f.loaded != sig || f.young {
		return settleTime // it changed meanwhile, or is fresh, or empty
	}
	return rest
}

// errChanging is for a file that did not stand still while it was read: half
// of what was read may be of one version, and half of another.
var errChanging = errors.New("changes while it is read")

// read reads the file and loads what it says. It notes which version that was.
// Text of more than one version, or of another than has settled (if that is
// known), is taken only if anything has to be.
func (f *followedFile) read(now time.Time, settled signature, anything bool, logger *zap.Logger) error {
	text, sig, mode, err := f.fetch(f.path)
	if err != nil {
		return err
	}
	known := settled != signature{}
	if !anything && (sig == signature{} || known && sig != settled) {
		return errChanging
	}
	f.warnOfMode(mode, logger)
	if f.text != "" && !hasLines(text) && hasLines(f.text) {
		if f.emptySince.IsZero() {
			f.emptySince = now
			logger.Warn("file is empty; the version loaded before serves for a few seconds more, in case it is being written",
				zap.String("file", f.path), zap.Duration("grace", emptyGrace))
		}
		if now.Sub(f.emptySince) < emptyGrace {
			return nil
		}
	}
	f.emptySince = time.Time{}
	first := f.loadedAt.IsZero()
	if first || text != f.text {
		if err := f.load(text, logger); err != nil {
			if !sig.youngAt(now) {
				f.refused = sig
			}
			return err
		}
		f.loadedAt = now
		if !first {
			logger.Info("file changed; the new version is in force", zap.String("file", f.path))
		}
	}
	f.recover(logger)
	f.text, f.loaded, f.young, f.refused = text, sig, sig.youngAt(now), signature{}
	return nil
}

// fail notes and logs what went wrong, once until it is something else.
func (f *followedFile) fail(err error, logger *zap.Logger) {
	f.emptySince = time.Time{} // a file that is empty when this is over is one that is begun anew
	if err.Error() == f.failure {
		return
	}
	f.failure = err.Error()
	f.failures++
	logger.Error("file can't be used; the version loaded before keeps serving until it is mended",
		zap.String("file", f.path), zap.Error(err), zap.Time("serving_version_of", f.loadedAt), zap.Int("failures", f.failures))
	f.publish() // last, so that who sees it finds the reason in the log
}

// recover notes and logs that what went wrong is over.
func (f *followedFile) recover(logger *zap.Logger) {
	if f.failure != "" {
		f.failure = ""
		logger.Info("file is good again", zap.String("file", f.path))
	}
	f.publish()
}

// warnOfMode warns once while everyone on the machine can read the hashes.
func (f *followedFile) warnOfMode(mode fs.FileMode, logger *zap.Logger) {
	open := isWorldReadable(f.path, mode)
	if open && !f.warnedMode {
		logger.Warn("file can be read by every user of this machine; mend with: chmod o= on it, and chgrp to the group of the server",
			zap.String("file", f.path), zap.String("mode", mode.Perm().String()))
	}
	f.warnedMode = open
}

// readFile reads a whole regular file, without blocking on what is none, and
// the signature it had. The signature is zero if it changed in the meantime.
func readFile(path string) (string, signature, fs.FileMode, error) {
	if err := checkRegular(os.Stat(path)); err != nil {
		return "", signature{}, 0, err // before opening it does something
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the administrator names it
	if err != nil {
		return "", signature{}, 0, withAdvice(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err := checkRegular(info, err); err != nil {
		return "", signature{}, 0, err
	}
	before, err := signOpen(file)
	if err != nil {
		return "", signature{}, 0, err
	}
	var text strings.Builder
	text.Grow(int(info.Size()))
	if n, err := io.Copy(&text, io.LimitReader(file, maxFileSize+1)); err != nil {
		return "", signature{}, 0, err
	} else if n > maxFileSize {
		return "", signature{}, 0, errTooLarge
	}
	if after, err := signOpen(file); err != nil || after != before {
		return text.String(), signature{}, info.Mode(), err
	}
	return text.String(), before, info.Mode(), nil
}

var errTooLarge = fmt.Errorf("larger than %d MiB", maxFileSize>>20)

// checkRegular returns why a file can't be read as one.
func checkRegular(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return withAdvice(err)
	case info.IsDir():
		return errors.New("is a folder, not a file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case info.Size() > maxFileSize:
		return errTooLarge
	}
	return nil
}

// withAdvice takes the path off an error of the file system, since it stands
// beside it, and adds what to do.
func withAdvice(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let the user that the server runs as read it, e.g. chgrp caddy and chmod 640, and enter its folders", err)
	}
	return err
}

// isYoung reports whether a change, in nanoseconds since 1970, was so shortly
// before now that another one can have the same time.
func isYoung(changed int64, now time.Time) bool {
	limit := settleTime
	if changed%int64(time.Second) == 0 {
		limit += 2 * time.Second // most likely the file system knows no parts of a second
	}
	age := now.Sub(time.Unix(0, changed))
	return -limit < age && age < limit
}

// folderNotices are the notices of changes in the folder of a file. The
// folder is watched, not the file: most changes put another file in its place.
type folderNotices struct {
	folder  string
	names   [2]string // of entries of the folder that concern the file
	watcher *fsnotify.Watcher
	watched signature // of the folder
	failure string    // logged once
	changed chan struct{}
	done    chan struct{} // closed when the watcher is, and says nothing more
}

func newFolderNotices(path string) *folderNotices {
	folder, name := filepath.Split(path)
	// Kubernetes swaps a symlink beside the file's, "..data", for all files of a volume at once.
	return &folderNotices{folder: filepath.Clean(folder), names: [2]string{name, "..data"}, changed: make(chan struct{}, 1), done: make(chan struct{})}
}

// forward turns notices that can mean a change of the file, and the loss of
// notices, into one signal. It has a goroutine of its own, since fsnotify can
// hold a lock while it sends that its other methods want.
func (n *folderNotices) forward(events <-chan fsnotify.Event, errors <-chan error) {
	defer close(n.done)
	for events != nil || errors != nil {
		select {
		case event, ok := <-events:
			if !ok {
				events = nil
			}
			if name := filepath.Base(event.Name); name != n.names[0] && name != n.names[1] && event.Name != n.folder {
				continue
			}
		case _, ok := <-errors:
			if !ok {
				errors = nil
				continue
			}
		}
		select {
		case n.changed <- struct{}{}:
		default: // there is one already
		}
	}
}

// renew sets up the watch if it is missing, or is one of a folder that has
// been replaced. Without a watch there is still the poll.
func (n *folderNotices) renew(logger *zap.Logger) {
	if err := n.tryRenew(); err != nil && err.Error() != n.failure {
		n.failure = err.Error()
		logger.Warn("no notices of changes from the operating system; looking at each poll instead",
			zap.String("folder", n.folder), zap.Error(err))
	} else if err == nil {
		n.failure = ""
	}
}

func (n *folderNotices) tryRenew() error {
	sig, err := sign(n.folder)
	if err != nil {
		return withAdvice(err)
	}
	if n.watcher == nil {
		watcher, err := fsnotify.NewWatcher()
		if err != nil {
			return err
		}
		n.watcher = watcher
		go n.forward(watcher.Events, watcher.Errors)
	}
	if len(n.watcher.WatchList()) > 0 {
		if sig.sameFile(n.watched) {
			return nil
		}
		_ = n.watcher.Remove(n.folder) // it is gone, or another one now
	}
	if err := n.watcher.Add(n.folder); err != nil {
		return err
	}
	n.watched = sig
	return nil
}

func (n *folderNotices) close() {
	if n.watcher != nil {
		_ = n.watcher.Close()
		<-n.done
	}
}
