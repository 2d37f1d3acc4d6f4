package caddyhtpasswd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
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
// notice of the operating system, when look asked for it, at every poll, and
// when a login that fails asks (awaitCurrent). These are the states that a look
// can find; in all of them the version that was loaded last is active.
//
//	state     found by                         set                    then
//	current   sig == loaded, not young         failure = ""           a look at each poll
//	young     sig == loaded, young             tried, retry           read again: it could have changed within the tick of a clock
//	changing  another sig                      pending, settling,     read when it has stood still for settleTime, or after maxSettle;
//	                                           since, first           at once if it was moved onto its name
//	torn      sig is another after reading     pending, retry         as changing
//	empty     no lines, where there were some  emptySince             read again; active after emptyGrace
//	refused   load returns an error            refused, failure       read when sig is another
//	missing   nothing at the path              pending, missing       failing when it lasts for settleTime: many tools delete the old file first
//	failing   no sig, or reading fails         failure                tried at each poll
//	orphaned  loaded, and sig has no links     failure                read when sig is another
//	unmounted on the mount below, and older    refused, failure       read when sig is another, or by reload
//
// A login that fails waits while pending is set: the states changing, torn and missing.
type followedFile struct {
	path  string // absolute
	stat  func(path string) (signature, error)
	fetch func(path string) (text string, sig signature, mode fs.FileMode, err error)
	load  func(text string, logger *zap.Logger) error // parses and swaps in

	mu         sync.Mutex
	notices    *directoryNotices // nil: none
	text       string            // what was loaded last
	loaded     signature         // of the text
	origin     origin            // of the text
	young      bool              // it was so fresh that it could change again without looking any different
	linked     bool              // a version of it had links
	refused    signature         // of a version that is bad, not to be read again and again
	tried      signature         // of the version that was read last, not to be read again before retry
	retry      time.Time
	settling   signature // what is waited for to stand still, since, and since the first change
	since      time.Time
	first      time.Time
	missing    time.Time // since when nothing is at the path
	usedMove   uint64    // the last move before a version was read
	emptySince time.Time // since when a full file is empty
	warnedMode bool
	fileStatus
	published atomic.Pointer[fileStatus] // a copy, for who must not wait while the file is read
	catchUp

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
	return &followedFile{
		path: path, stat: sign, fetch: readFile, load: load,
		catchUp: catchUp{wake: make(chan struct{}, 1)}, stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// reload reads the file now, whatever was read before, and returns what is
// wrong with it: then the version before stays. After the first success the
// file is followed.
func (f *followedFile) reload(logger *zap.Logger) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.settle()
		notify(f.wake) // for logins that wait for it
	}()
	deadline := time.Now().Add(maxSettle)
	isFirst := f.loadedAt.IsZero()
	v := version{sig: f.awaitSettled(deadline), wanted: true, torn: time.Now().After(deadline)}
	err := f.read(time.Now(), v, logger)
	for errors.Is(err, errChanging) {
		time.Sleep(settleTime)
		err = f.read(time.Now(), version{wanted: true, torn: time.Now().After(deadline)}, logger)
	}
	if err == nil && !isFirst {
		err = f.orphaned(f.loaded)
	}
	if err != nil {
		if !isFirst {
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
	last, err := f.stat(f.path)
	if err != nil || f.loadedAt.IsZero() || last == f.loaded || !last.youngAt(time.Now()) {
		return signature{}
	}
	f.pending.Store(true) // logins that fail wait, too
	for time.Now().Before(deadline) {
		time.Sleep(settleTime)
		sig, err := f.stat(f.path)
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
	defer close(f.done) // last: then nothing is left
	notices := newDirectoryNotices(f.path)
	defer notices.close()
	f.mu.Lock()
	f.notices = notices
	f.mu.Unlock()
	f.followWith(notices)
}

// followWith is follow with notices that are not of the operating system.
func (f *followedFile) followWith(notices *directoryNotices) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var renewed time.Time
	for {
		app, settingsChanged := running.inForce()
		select {
		case <-f.stop:
			return
		case <-notices.changed:
		case <-f.wake:
		case <-settingsChanged:
			app, _ = running.inForce()
		case <-timer.C:
		}
		now, poll := time.Now(), time.Duration(app.Poll)
		if now.Sub(renewed) >= lookInterval(poll) { // also while one login after the other asks
			notices.renew(app.logger)
			renewed = now
		}
		asked := f.begin()
		next := f.look(now, poll, app.logger)
		f.end(asked)
		timer.Reset(next)
	}
}

// lookInterval is how long to wait for the next look if there are no notices:
// a change found then is read within poll.
func lookInterval(poll time.Duration) time.Duration { return max(poll-settleTime, settleTime) }

// look compares the file on disk with the version that is loaded, reads it if
// it is another one that stands still, and returns when to look again.
func (f *followedFile) look(now time.Time, poll time.Duration, logger *zap.Logger) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest := lookInterval(poll)
	move := f.notices.lastMove() // before the file is looked at
	sig, err := f.stat(f.path)
	isMissing := errors.Is(err, fs.ErrNotExist)
	if !isMissing {
		f.missing = time.Time{}
	} else if f.missing.IsZero() {
		f.missing = now
	}
	switch {
	case isMissing && f.failure == "" && now.Sub(f.missing) < settleTime:
		f.pending.Store(true)
		return settleTime - now.Sub(f.missing)
	case err != nil:
		f.fail(withAdvice(err), logger)
		f.settle()
		f.refused = signature{}
		return rest
	case sig == f.loaded && !f.young:
		f.settle()
		f.refused, f.emptySince, f.usedMove = signature{}, time.Time{}, move
		f.conclude(sig, logger)
		return rest
	case sig == f.refused:
		f.settle()
		return rest
	case sig == f.tried && now.Before(f.retry) && f.retry.Sub(now) <= settleTime:
		return f.retry.Sub(now)
	}
	if f.first.IsZero() {
		f.first = now
	}
	if sig != f.settling {
		f.settling, f.since = sig, now
	}
	f.pending.Store(sig != f.loaded)
	v := version{sig: sig, torn: now.Sub(f.first) >= maxSettle}
	if wait := min(settleTime-now.Sub(f.since), maxSettle-now.Sub(f.first)); wait > 0 {
		if !sig.linked || !f.isNewFile(move) {
			return wait
		}
		v.move = move
		err = f.read(now, v, logger)
		if errors.Is(err, errChanging) {
			return wait
		}
	} else {
		err = f.read(now, v, logger)
	}
	f.tried, f.retry = sig, now.Add(settleTime)
	if errors.Is(err, errChanging) {
		return settleTime
	}
	f.settle()
	f.usedMove = move
	if err != nil {
		f.fail(err, logger)
		return rest
	}
	if f.loaded != sig || f.young {
		return settleTime // it changed meanwhile, or is fresh, or empty
	}
	return rest
}

// settle ends the wait for a change: there is none, or it is known what it is.
func (f *followedFile) settle() {
	f.first = time.Time{}
	f.pending.Store(false)
}

// isNewFile reports whether a move has put a file at the path since a version
// was read. A symlink is none: there are no notices of the file it leads to.
func (f *followedFile) isNewFile(move uint64) bool {
	if move == 0 || move == f.usedMove {
		return false
	}
	info, err := os.Lstat(f.path)
	return err == nil && info.Mode().IsRegular()
}

// version is what is known of a version of the file before it is read.
type version struct {
	sig signature // what has stood still, or is at the path; zero: not known
	// move is the number of the notice of a move that has put the file there whole. 0: none has.
	move uint64
	// wanted says that somebody asks for it, whatever it looks like.
	wanted bool
	// torn says that text of more than one version is better than none.
	torn bool
}

// errChanging is for a file that did not stand still while it was read: half
// of what was read may be of one version, and half of another.
var errChanging = errors.New("changes while it is read")

// read reads the file and loads what it says. It notes which version that was.
// Text of more than one version, or of another than is meant (if that is
// known), is taken only if it has to be.
func (f *followedFile) read(now time.Time, v version, logger *zap.Logger) error {
	text, sig, mode, err := f.fetch(f.path)
	if err != nil {
		return err
	}
	known := v.sig != signature{}
	if !v.torn && (sig == signature{} || known && sig != v.sig) {
		return errChanging
	}
	if v.move != 0 && f.notices.lastMove() != v.move {
		return errChanging // something has happened to it since it was moved there
	}
	isEmpty := f.text != "" && !htfile.HasLines(text) && htfile.HasLines(f.text)
	from := originOf(f.path)
	if !v.wanted && (isEmpty || sig.mtime < f.loaded.mtime) && from.isUnder(f.origin) {
		f.refused = sig
		return errUnmounted
	}
	f.warnOfMode(mode, logger)
	if isEmpty {
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
	f.conclude(sig, logger)
	f.text, f.loaded, f.origin, f.young, f.refused = text, sig, from, sig.youngAt(now), signature{}
	return nil
}

// conclude notes what there is to say of a version that is loaded.
func (f *followedFile) conclude(sig signature, logger *zap.Logger) {
	if err := f.orphaned(sig); err != nil {
		f.fail(err, logger)
		f.publish() // there can be another version, with the same to say of it
		return
	}
	f.recover(logger)
}

var (
	errOrphaned = errors.New("has been replaced or deleted outside of its mount, which still shows the old file (0 links): " +
		"mount the directory instead of the file, and restart the container")
	errUnmounted = errors.New("is empty or older than the previous version, which was on a file system that is not mounted any more: mount it again. " +
		"To use this file all the same, reload the configuration, or send POST /htpasswd/reload to the admin API")
)

// orphaned returns an error if a version, which can be read, is no longer what
// people edit: it has no name left, and a mount leads to it. Some file systems
// report no links of any file: one that had none before has to be a mount itself.
func (f *followedFile) orphaned(sig signature) error {
	f.linked = f.linked || sig.linked
	if sig.linked {
		return nil
	}
	if again, err := f.stat(f.path); err != nil || again.linked || !again.sameFile(sig) {
		return nil // it was replaced while it was looked at
	}
	if isMount, _ := follow.MountOf(f.path); f.linked || isMount {
		return errOrphaned
	}
	return nil
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
	open := follow.IsWorldReadable(f.path, mode)
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
	if errors.Is(err, syscall.ESTALE) {
		return fmt.Errorf("%w: mount the file system again", err)
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
