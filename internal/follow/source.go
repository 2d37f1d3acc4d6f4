// Package follow keeps the text of a source, such as a file, loaded and up to
// date while a server runs. For programs that read a file once, there is ReadFile.
//
// A Follower decides when to read, and what to do when the source cannot be read.
// Options.Load parses the text. A Source knows how to read it, and how to
// distinguish versions without reading. File is a Source; text in a database could
// be another.
//
// A Follower promises:
//
//   - The version that was loaded last stays active until the next one is
//     loaded. If the source cannot be read, or Load returns an error, the error
//     is logged once, the Status has it, and nothing else changes.
//   - A half-written text is not loaded. A version is read when it is unchanged
//     for SettleTime, or when the source knows that it is complete. A version
//     that keeps changing is read after MaxSettle.
//   - A text that becomes empty is loaded after EmptyGrace, not before.
//   - A version that has not changed is not read again, unless it is racy.
//   - Await always returns: after LookTime, or MaxSettle later while a change is
//     pending, whatever the source does.
//
// To follow a source, create a Follower with New, call Reload, which reads the
// source and starts to follow it, and finally Close.
package follow

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// A Source is a text that changes. A Follower calls one method at a time, except
// for Name and Changed. Methods may block, for example on a network file system
// whose server is down.
//
// A source can also implement Completer, Validator, Warner and Renewer.
type Source interface {
	// Name returns the name of the source in logs and errors. It never changes.
	Name() string

	// Version returns the version that Fetch would return now, without
	// reading the text. It must be cheap: it is called at each poll. An
	// error that is fs.ErrNotExist means that the source does not exist now.
	Version() (Version, error)

	// Fetch returns the text and its version. The version is nil if the source
	// changed while it was read: then the text can be a mix of versions.
	Fetch() (text string, v Version, err error)

	// Changed returns a channel that signals a possible change, always the same
	// one. It is a hint: the poll finds changes that it misses. The channel may
	// be nil.
	Changed() <-chan struct{}
}

// A Version identifies the text of a source at one time. Two are equal (==) if
// and only if their texts are the same, as far as the source can tell. So its
// dynamic type must be comparable. A nil Version is unknown.
type Version interface {
	// IsRacy reports whether the text can still change while the version stays
	// the same. Git calls a file "racy" if it changed so shortly before now that
	// its next change can have the same timestamp.
	IsRacy(now time.Time) bool
}

// A Completer is a Source that can know that a new version is complete. Such a
// version is read without waiting for SettleTime.
type Completer interface {
	// IsComplete reports whether version v, which Version or Fetch has returned
	// last, is completely written. It is called before and after Fetch.
	IsComplete(v Version) bool
}

// A Validator is a Source that can tell that a version is not the intended one.
type Validator interface {
	// ValidateReplacement returns an error if version v, which Fetch has returned
	// last, is most likely not meant to replace the loaded one: then it is not
	// loaded. isEmpty reports whether its text is empty and the loaded text is
	// not. Reload does not call it, and loads any version.
	ValidateReplacement(v, loaded Version, isEmpty bool) error

	// ValidateLoaded returns an error if something is wrong with the loaded
	// version v. It is called when v was loaded, and whenever it is found
	// unchanged. The error is reported, and v stays active. Reload returns it,
	// unless it is ErrOutdated.
	ValidateLoaded(v Version) error
}

// ErrOutdated is wrapped by errors of a Validator for a version that may not be the
// newest, because the source cannot tell now. A Reload succeeds with such a version. A
// source that is a Warner warns about it at each Reload; the Follower then logs no error.
var ErrOutdated = errors.New("the version may be outdated")

// A Warner is a Source that can log warnings.
type Warner interface {
	// Warn logs warnings about the version that Fetch has returned last. It does
	// not repeat a warning for each version. It is called after Load, and may block.
	Warn(logger *zap.Logger)
}

// A Renewer is a Source that has to set up the notifications of Changed.
type Renewer interface {
	// Renew sets up the notifications, and sets them up again if they were lost.
	// It is called when following begins, and at each poll.
	Renew(logger *zap.Logger)

	// Close releases what Renew has set up, when following ends. Another method
	// may be running.
	Close() error
}
