package follow

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Reload reads the source now, even if it has not changed. If that fails, it
// returns an error that names the source, and the previous version stays active.
// If the source has just changed, Reload waits until it is unchanged for
// SettleTime, for MaxSettle at most. After the first success the source is
// followed.
func (f *Follower) Reload(logger *zap.Logger) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		f.settle()
		notify(f.wake) // for callers of Await
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
		if err = f.validate(f.loaded); errors.Is(err, ErrOutdated) {
			err = nil // reported by read
		}
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

// awaitSettled waits until a source that has just changed is unchanged for
// SettleTime, at most until the deadline: the rest of it may still be written. It
// returns that version, or nil if there was no need to wait.
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

// wanted says what read may load.
type wanted struct {
	version    Version // nil: any
	isComplete bool    // the source reported the version as complete, so it was not waited for
	isAsked    bool    // requested by Reload: skip ValidateReplacement
	mayBeTorn  bool    // a text of more than one version is accepted
}

// errChanging is returned for a source that changed while it was read: the text
// may be a mix of two versions.
var errChanging = errors.New("changed while it was read")

// read reads the source and loads the text. It loads a text of more than one
// version, or of another version than the wanted one, only if want.mayBeTorn.
func (f *Follower) read(now time.Time, want wanted, logger *zap.Logger) error {
	text, v, err := f.source.Fetch()
	if err != nil {
		return err
	}
	if !want.mayBeTorn && (v == nil || want.version != nil && v != want.version) {
		return errChanging
	}
	if want.isComplete && !f.isComplete(v) {
		return errChanging // changed since the source reported it as complete
	}
	isEmpty := f.options.IsEmpty(text) && !f.options.IsEmpty(f.text)
	if validator, ok := f.source.(Validator); ok && !want.isAsked {
		if err := validator.ValidateReplacement(v, f.loaded, isEmpty); err != nil {
			f.rejected = v
			return err
		}
	}
	if warner, ok := f.source.(Warner); ok {
		defer warner.Warn(logger) // after Load: a warning can wait for a slow directory service
	}
	if isEmpty {
		if f.emptySince.IsZero() {
			f.emptySince = now
			logger.Warn("file is empty; keeping the previous version for a grace period",
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
				f.rejected = v
			}
			return err
		}
		f.status.LoadedAt = now
		if !isFirst && !f.options.LogsChanges {
			logger.Info("file reloaded", zap.String("file", f.source.Name()))
		}
	}
	f.conclude(v, want.isAsked, logger)
	f.text, f.loaded, f.isRacy, f.rejected = text, v, isRacy, nil
	return nil
}

// validate asks the source whether something is wrong with a loaded version.
func (f *Follower) validate(v Version) error {
	if validator, ok := f.source.(Validator); ok {
		return validator.ValidateLoaded(v)
	}
	return nil
}

// conclude updates the status after a version was loaded or found unchanged.
func (f *Follower) conclude(v Version, isAsked bool, logger *zap.Logger) {
	if err := f.validate(v); err != nil {
		if _, warns := f.source.(Warner); warns && isAsked && errors.Is(err, ErrOutdated) {
			logger = zap.NewNop() // its warning says the same
		}
		f.fail(err, logger)
		f.publish() // LoadedAt can be new although the error is the same
		return
	}
	f.recover(logger)
}

// fail records and logs an error, once until the error is a different one.
func (f *Follower) fail(err error, logger *zap.Logger) {
	f.emptySince = time.Time{} // a source that is empty after the error gets a new grace period
	if err.Error() == f.status.Failure {
		return
	}
	f.status.Failure = err.Error()
	f.status.Failures++
	if f.status.LoadedAt.IsZero() {
		logger.Error("cannot load new file; its users cannot log in",
			zap.String("file", f.source.Name()), zap.Error(err), zap.Int("failures", f.status.Failures))
	} else {
		logger.Error("cannot load file; keeping the previous version",
			zap.String("file", f.source.Name()), zap.Error(err), zap.Time("previous_version_from", f.status.LoadedAt), zap.Int("failures", f.status.Failures))
	}
	f.publish() // last: when the status shows the error, the log has it
}

// recover clears the error, and logs that the source is loaded again.
func (f *Follower) recover(logger *zap.Logger) {
	if f.status.Failure != "" {
		f.status.Failure = ""
		logger.Info("file loaded again after earlier errors", zap.String("file", f.source.Name()))
	}
	f.publish()
}

// publish makes the status visible to Status, if it has changed.
func (f *Follower) publish() {
	if shown := f.published.Load(); shown != nil && *shown == f.status {
		return
	}
	status := f.status
	f.published.Store(&status)
}
