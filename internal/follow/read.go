package follow

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Reload reads the source now, whatever was read before, and returns what is
// wrong with it: then the previous version stays active. The error names the
// source. If the source has just changed, Reload waits until it stands still,
// for MaxSettle at most. After the first success the source is followed.
func (f *Follower) Reload(logger *zap.Logger) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.settle()
		notify(f.wake) // for those who wait for it
	}()
	deadline := time.Now().Add(MaxSettle)
	isFirst := f.status.LoadedAt.IsZero()
	want := wanted{version: f.awaitSettled(deadline), isAsked: true, mayBeTorn: time.Now().After(deadline)}
	err := f.read(time.Now(), want, logger)
	for errors.Is(err, errChanging) {
		time.Sleep(SettleTime)
		err = f.read(time.Now(), wanted{isAsked: true, mayBeTorn: time.Now().After(deadline)}, logger)
	}
	if err == nil && !isFirst {
		err = f.confirm(f.loaded)
	}
	if err != nil {
		if !isFirst {
			f.fail(err, logger)
		}
		return fmt.Errorf("%s: %w", f.source.Name(), err)
	}
	f.startOnce.Do(func() { go f.run() })
	return nil
}

// awaitSettled waits until a source that is in use, and has just changed,
// stands still, at most until the deadline: somebody may be writing the rest of
// it. It returns the version that stood still, nil if there was no need to wait.
func (f *Follower) awaitSettled(deadline time.Time) Version {
	last, err := f.source.Version()
	if err != nil || f.status.LoadedAt.IsZero() || last == f.loaded || !last.IsRacy(time.Now()) {
		return nil
	}
	f.pending.Store(true) // Await waits, too
	for time.Now().Before(deadline) {
		time.Sleep(SettleTime)
		v, err := f.source.Version()
		if err != nil {
			return nil
		}
		if v == last {
			return v
		}
		last = v
	}
	return last
}

// wanted is what read is to read.
type wanted struct {
	version    Version // nil: whatever there is
	isComplete bool    // the source has said so of the version, which has not stood still
	isAsked    bool    // somebody asks for it, whatever the source thinks of it
	mayBeTorn  bool    // text of more than one version is better than none
}

// errChanging is for a source that did not stand still while it was read: half
// of what was read may be of one version, and half of another.
var errChanging = errors.New("changes while it is read")

// read reads the source and loads what it says. It notes which version that
// was. Text of more than one version, or of another than the wanted one, is
// taken only if it has to be.
func (f *Follower) read(now time.Time, want wanted, logger *zap.Logger) error {
	text, v, err := f.source.Fetch()
	if err != nil {
		return err
	}
	if !want.mayBeTorn && (v == nil || want.version != nil && v != want.version) {
		return errChanging
	}
	if want.isComplete && !f.isComplete(v) {
		return errChanging // something has happened to it since the source has said so
	}
	isEmpty := f.options.IsEmpty(text) && !f.options.IsEmpty(f.text)
	if judge, ok := f.source.(Judge); ok && !want.isAsked {
		if err := judge.Doubt(v, f.loaded, isEmpty); err != nil {
			f.refused = v
			return err
		}
	}
	if warner, ok := f.source.(Warner); ok {
		warner.Warn(logger)
	}
	if isEmpty {
		if f.emptySince.IsZero() {
			f.emptySince = now
			logger.Warn("file is empty; the version loaded before serves for a few seconds more, in case it is being written",
				zap.String("file", f.source.Name()), zap.Duration("grace", EmptyGrace))
		}
		if now.Sub(f.emptySince) < EmptyGrace {
			return nil
		}
	}
	f.emptySince = time.Time{}
	isRacy := v != nil && v.IsRacy(now)
	isFirst := f.status.LoadedAt.IsZero()
	if isFirst || text != f.text {
		if err := f.options.Load(text, logger); err != nil {
			if !isRacy {
				f.refused = v
			}
			return err
		}
		f.status.LoadedAt = now
		if !isFirst {
			logger.Info("file changed; the new version is in force", zap.String("file", f.source.Name()))
		}
	}
	f.conclude(v, logger)
	f.text, f.loaded, f.isRacy, f.refused = text, v, isRacy, nil
	return nil
}

// confirm asks the source about a version that is loaded.
func (f *Follower) confirm(v Version) error {
	if judge, ok := f.source.(Judge); ok {
		return judge.Confirm(v)
	}
	return nil
}

// conclude notes what there is to say of a version that is loaded.
func (f *Follower) conclude(v Version, logger *zap.Logger) {
	if err := f.confirm(v); err != nil {
		f.fail(err, logger)
		f.publish() // there can be another version, with the same to say of it
		return
	}
	f.recover(logger)
}

// fail notes and logs what went wrong, once until it is something else.
func (f *Follower) fail(err error, logger *zap.Logger) {
	f.emptySince = time.Time{} // a source that is empty when this is over gets a new grace period
	if err.Error() == f.status.Failure {
		return
	}
	f.status.Failure = err.Error()
	f.status.Failures++
	logger.Error("file can't be used; the version loaded before keeps serving until it is mended",
		zap.String("file", f.source.Name()), zap.Error(err), zap.Time("serving_version_of", f.status.LoadedAt), zap.Int("failures", f.status.Failures))
	f.publish() // last, so that who sees it finds the reason in the log
}

// recover notes and logs that what went wrong is over.
func (f *Follower) recover(logger *zap.Logger) {
	if f.status.Failure != "" {
		f.status.Failure = ""
		logger.Info("file is good again", zap.String("file", f.source.Name()))
	}
	f.publish()
}

// publish shows the status to others, if it is another one.
func (f *Follower) publish() {
	if shown := f.published.Load(); shown != nil && *shown == f.status {
		return
	}
	status := f.status
	f.published.Store(&status)
}
