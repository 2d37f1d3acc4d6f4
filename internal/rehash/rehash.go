// Package rehash replaces weak password hashes in a file by strong ones. It uses the
// passwords of logins that have passed, the only time when a server knows them.
//
// There is one [Worker] for each file. [Worker.Add] adds a login, and never blocks. The
// worker makes the hashes one after the other, and writes them in batches. It promises:
//
//   - No hash is made for a file that cannot be written. The worker says so once, and
//     tries again after RetryAfter, or after [Worker.Retry].
//   - Each login is added once and ends with one [Outcome].
//   - There is at most one write every Interval. While more logins wait, their hashes go
//     into the same write, for up to MaxDelay.
//   - The passwords that wait are bounded by a [Room], wait for MaxWait at most, and are
//     overwritten when they are no longer needed.
//   - After [Worker.Close], nothing runs any more. Hashes that were made are written.
//
// A worker has no goroutine while it has nothing to do.
package rehash

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

const (
	// Interval is the time from the first new hash to the write, and the shortest time
	// between two writes.
	Interval = 2 * time.Second

	// MaxDelay is how long a new hash waits for those of other logins.
	MaxDelay = 30 * time.Second

	// MaxWait is how long a password waits until its hash is made. Later, a new login
	// is needed.
	MaxWait = 10 * time.Minute

	// RetryAfter is how long nothing is tried after a write was impossible.
	RetryAfter = 5 * time.Minute

	// maxShare limits how much of the time is spent on writing large files: a write is
	// followed by a pause of so many times its duration, but of MaxDelay at most.
	maxShare = 20

	// writeTimeout is how long a write waits for other writers.
	writeTimeout = 10 * time.Second

	// closeTimeout is the same after Close.
	closeTimeout = time.Second

	// maxPasswords is how many passwords wait in all files together.
	maxPasswords = 4096
)

// Outcome is how a login ends.
type Outcome uint8

// The outcomes.
const (
	// OutcomeWritten: the file has the new hash.
	OutcomeWritten Outcome = iota
	// OutcomeConflict: the user's hash in the file has been changed by somebody else,
	// whose hash stays.
	OutcomeConflict
	// OutcomeFailed: the new hash was made, but the file could not be written.
	OutcomeFailed
	// OutcomePostponed: no hash was made. A later login may be added.
	OutcomePostponed
)

// A Login is a user with a weak hash, who has just logged in.
type Login struct {
	User string
	Hash string // the hash that the password matches
	Cost int    // of the new hash
	// Done is called once, in another goroutine. It must not call the Worker.
	Done func(Outcome)
}

// Config holds what a [Worker] needs. The functions are called one at a time, except for
// Make, which may take as long as it wants.
type Config struct {
	// Check returns an error if the file cannot be written.
	Check func() error

	// Make makes a new hash when there is time for it. It must not keep the password.
	Make func(ctx context.Context, cost int, password []byte) (hash string, err error)

	// Replace writes new hashes. made reports which were written: the others had
	// another hash before.
	Replace func(ctx context.Context, changes []htfile.Change) (made []bool, err error)

	// Report is called after each write, and when the file cannot be written.
	Report func(Report)

	// Room limits the number of waiting passwords.
	Room *Room
}

// Report is the result of a write.
type Report struct {
	Written, Conflicts int

	// Err is why the file cannot be written. IsNew reports whether it differs from the
	// previous one.
	Err   error
	IsNew bool
}

// Room limits the number of passwords that wait, in several workers together. The zero
// value is ready to use.
type Room struct{ passwords atomic.Int64 }

// take reports whether there is room for one more.
func (r *Room) take() bool {
	if r.passwords.Add(1) > maxPasswords {
		r.passwords.Add(-1)
		return false
	}
	return true
}

// Worker replaces the hashes in one file. It is safe for concurrent use.
type Worker struct {
	config Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	blocked atomic.Int64 // until when nothing is tried, in nanoseconds of Unix time
	pending atomic.Int64 // logins without an outcome

	mu      sync.Mutex
	waiting []*waiting
	wake    chan struct{} // signals a new login
	ended   chan struct{} // closed when the goroutine has ended; nil if there is none
	failure string        // why the file cannot be written, as in the last Report
}

// waiting is a login whose hash is not made yet.
type waiting struct {
	Login
	password []byte
	since    time.Time
}

// errClosed is the cause after Close.
var errClosed = errors.New("closed")

// New returns a worker without work.
func New(config Config) *Worker {
	w := &Worker{config: config, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancelCause(context.Background())
	w.ctx, w.cancel = ctx, func() { cancel(errClosed) }
	return w
}

// IsBlocked reports whether the file could not be written recently. Then Add does
// nothing.
func (w *Worker) IsBlocked() bool {
	until := w.blocked.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// Retry ends the pause after a write was impossible, because the file has changed.
func (w *Worker) Retry() { w.blocked.Store(0) }

// State returns the number of logins without an outcome, and why the file cannot be
// written, or "".
func (w *Worker) State() (pending int, failure string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int(w.pending.Load()), w.failure
}

// Add adds a login with its password, of which it makes a copy. It reports whether there
// was room, and whether the file can be written. Otherwise Done is never called.
func (w *Worker) Add(l Login, password []byte) bool {
	if w.IsBlocked() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil || !w.config.Room.take() {
		return false
	}
	w.pending.Add(1)
	// The strings can be parts of the text of a whole file.
	l.User, l.Hash = strings.Clone(l.User), strings.Clone(l.Hash)
	w.waiting = append(w.waiting, &waiting{l, bytes.Clone(password), time.Now()})
	select {
	case w.wake <- struct{}{}:
	default: // signaled already
	}
	if w.ended == nil {
		w.ended = make(chan struct{})
		go w.run(w.ended)
	}
	return true
}

// Check checks whether the file can be written, and reports it if not.
func (w *Worker) Check() {
	if err := w.config.Check(); err != nil {
		w.block(err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = ""
	w.Retry()
}

// Close stops the worker. Passwords that wait are overwritten. Hashes that were made are
// written, if no other writer has the file for long. It waits for that, and for a hash
// that is being made. It may be called more than once.
func (w *Worker) Close() {
	w.mu.Lock()
	w.cancel()
	ended := w.ended
	w.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// next removes the next login, or returns nil if none waits. If done is also true, the
// goroutine has to end.
func (w *Worker) next(isIdle bool) (l *waiting, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		if isIdle {
			w.ended = nil
		}
		return nil, isIdle
	}
	l = w.waiting[0]
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	return l, false
}

// putBack undoes next.
func (w *Worker) putBack(l *waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append([]*waiting{l}, w.waiting...)
}

// release overwrites a password that is no longer needed.
func (w *Worker) release(l *waiting) {
	clear(l.password[:cap(l.password)])
	w.config.Room.passwords.Add(-1)
}

// finish ends a login. The password must have been released.
func (w *Worker) finish(l *Login, o Outcome) {
	w.pending.Add(-1)
	l.Done(o)
}

// postpone ends a login without a hash.
func (w *Worker) postpone(l *waiting) {
	w.release(l)
	w.finish(&l.Login, OutcomePostponed)
}

// postponeAll ends all logins that wait.
func (w *Worker) postponeAll() {
	for {
		l, _ := w.next(false)
		if l == nil {
			return
		}
		w.postpone(l)
	}
}

// block reports that the file cannot be written, and pauses.
func (w *Worker) block(err error) {
	w.blocked.Store(time.Now().Add(RetryAfter).UnixNano())
	w.mu.Lock()
	isNew := w.failure != err.Error()
	w.failure = err.Error()
	w.mu.Unlock()
	w.config.Report(Report{Err: err, IsNew: isNew})
}
