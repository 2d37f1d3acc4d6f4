package rehash

import (
	"context"
	"errors"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// batch is what the next write has: new hashes, and the logins they are for.
type batch struct {
	changes []htfile.Change
	logins  []*Login
	first   time.Time // when the first hash was made
	rested  time.Time // there must be no write before; kept for the next batch
	isRetry bool      // a write has failed
}

func (b *batch) isEmpty() bool { return len(b.changes) == 0 }

func (b *batch) add(l *Login, hash string) {
	if b.isEmpty() {
		b.first = time.Now()
	}
	b.changes = append(b.changes, htfile.Change{Name: l.User, Old: l.Hash, New: hash})
	b.logins = append(b.logins, l)
}

// due returns when the batch is to be written: soon, or later if more logins wait.
func (b *batch) due(moreWait bool) time.Time {
	due := b.first.Add(Interval)
	if moreWait {
		due = b.first.Add(MaxDelay)
	}
	if due.Before(b.rested) {
		return b.rested
	}
	return due
}

// run makes and writes hashes until there is nothing left to do.
func (w *Worker) run(ended chan struct{}) {
	defer close(ended)
	var b batch
	for {
		if w.ctx.Err() != nil {
			w.end(&b)
			return
		}
		l, done := w.next(b.isEmpty() && !time.Now().Before(b.rested))
		switch {
		case done:
			return
		case l != nil && (b.isEmpty() || time.Now().Before(b.due(true))):
			w.make(l, &b)
			continue
		case l != nil:
			w.putBack(l)
		}
		due := b.due(l != nil)
		if b.isEmpty() {
			due = b.rested
		}
		if w.sleep(due, l == nil) && !b.isEmpty() {
			w.write(&b)
		}
	}
}

// sleep waits until a time, and reports whether it has come. It returns earlier if the
// worker is closed, or if a login is added and isInterruptible.
func (w *Worker) sleep(until time.Time, isInterruptible bool) bool {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	wake := w.wake
	if !isInterruptible {
		wake = nil
	}
	select {
	case <-timer.C:
		return true
	case <-wake:
	case <-w.ctx.Done():
	}
	return false
}

// make makes the hash of a login. If that takes until the batch is due, the login waits
// for the next batch.
func (w *Worker) make(l *waiting, b *batch) {
	if b.isEmpty() {
		if err := w.config.Check(); err != nil {
			w.block(err)
			w.postpone(l)
			w.postponeAll()
			return
		}
	}
	end := l.since.Add(MaxWait)
	if due := b.due(true); !b.isEmpty() && due.Before(end) {
		end = due
	}
	ctx, cancel := context.WithDeadline(w.ctx, end)
	defer cancel()
	hash, err := w.config.Make(ctx, l.Cost, l.password)
	switch {
	case err == nil:
		w.release(l)
		b.add(&l.Login, hash)
	case errors.Is(err, context.DeadlineExceeded) && time.Since(l.since) < MaxWait:
		w.putBack(l)
	default:
		w.postpone(l)
	}
}

// write writes the batch. After a failure it tries once more, because the file may just
// have been changed by a program that takes no lock.
func (w *Worker) write(b *batch) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(w.ctx, writeTimeout)
	defer cancel()
	err := w.replace(ctx, b)
	b.rested = time.Now().Add(Interval)
	switch {
	case err == nil:
		b.rested = time.Now().Add(max(Interval, min(maxShare*time.Since(start), MaxDelay)))
	case w.ctx.Err() != nil || !b.isRetry:
		b.isRetry = true
		return
	default:
		w.fail(b, err)
		w.postponeAll()
	}
	b.isRetry = false
}

// replace writes the batch, and empties it if that succeeds.
func (w *Worker) replace(ctx context.Context, b *batch) error {
	made, err := w.config.Replace(ctx, b.changes)
	if err != nil {
		return err
	}
	var report Report
	for i, l := range b.logins {
		outcome := OutcomeConflict
		if made[i] {
			outcome = OutcomeWritten
			report.Written++
		} else {
			report.Conflicts++
		}
		w.finish(l, outcome)
	}
	b.changes, b.logins = nil, nil
	w.mu.Lock()
	w.failure = ""
	w.mu.Unlock()
	w.config.Report(report)
	return nil
}

// fail gives a batch up.
func (w *Worker) fail(b *batch, err error) {
	for _, l := range b.logins {
		w.finish(l, OutcomeFailed)
	}
	b.changes, b.logins = nil, nil
	w.block(err)
}

// end ends all logins after Close.
func (w *Worker) end(b *batch) {
	w.postponeAll()
	if b.isEmpty() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := w.replace(ctx, b); err != nil {
		w.fail(b, err)
	}
}
