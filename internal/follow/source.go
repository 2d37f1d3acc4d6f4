// Package follow keeps the text of a source, such as a file, up to date while
// a server runs, and reads files for programs that do so once.
//
// A Follower decides when to read, and what to do when the source cannot be
// read. What a text means is the business of Options.Load. How to read, and
// how to tell versions apart without reading, is the business of the Source.
// A File is one. Text from a database would be another.
//
// A Follower promises:
//
//   - The version that was loaded last stays active until another one is
//     loaded. A source that cannot be read, or a text that Load refuses,
//     changes the Status and nothing else. It is logged once.
//   - No half of a text is loaded while somebody writes the rest. A version
//     must have stood still for SettleTime, unless the source knows that it is
//     complete. A version that never stands still is read after MaxSettle.
//   - A text that becomes empty is active after EmptyGrace, not before.
//   - A version that has not changed is not read again, unless it is racy.
//   - No caller of Await waits without end. It returns after LookTime, or
//     MaxSettle later while a change is pending, whatever the source does.
//
// To use it, make a Follower with New, call Reload, which reads the source and
// starts to follow it, and in the end Close.
package follow

import (
	"time"

	"go.uber.org/zap"
)

// A Source is a text that changes. A Follower calls one method at a time, except
// for Name and Changed. Methods may block, as on a network file system whose
// server is gone.
//
// A source can have the methods of Completer, Judge, Warner and Renewer as
// well, each for something that only some sources know.
type Source interface {
	// Name is what logs and errors call the source. It never changes.
	Name() string

	// Version returns the version that Fetch would return now, without
	// reading the text. It must be cheap: it is called at each poll. An
	// error that is fs.ErrNotExist means that there is nothing at the moment.
	Version() (Version, error)

	// Fetch returns the text and its version. The version is nil if it changed
	// while the text was read: then the text can be of more than one version.
	Fetch() (text string, v Version, err error)

	// Changed returns a channel that has a signal when there may be another
	// version. It is a hint: what it misses is found by the poll. A nil
	// channel never has one. It is always the same channel.
	Changed() <-chan struct{}
}

// A Version tells the versions of one source apart. Two are equal (==) if and
// only if they are of the same text, as far as the source can tell. So its
// dynamic type must be comparable. A nil Version is not known.
type Version interface {
	// IsRacy reports whether the text can still change without the version
	// becoming another one. Git says "racy" of a file that changed so shortly
	// before now that its next change can have the same time.
	IsRacy(now time.Time) bool
}

// A Completer is a Source that can know that a version is complete, though it
// has just appeared. Such a version need not stand still before it is read.
type Completer interface {
	// IsComplete reports whether nobody is still writing version v, which
	// Version or Fetch has returned last. It is called before and after Fetch.
	IsComplete(v Version) bool
}

// A Judge is a Source that knows more of its versions than that they differ.
type Judge interface {
	// Doubt returns why version v, which Fetch has returned last, is most likely
	// not meant to replace the loaded one. isEmpty says that its text is empty and
	// the loaded text is not. Reload does not call Doubt: it was asked to load
	// what there is.
	Doubt(v, loaded Version, isEmpty bool) error

	// Confirm returns what is wrong with version v although it is loaded. It is called
	// when v has been loaded, and whenever it is found unchanged. The error is
	// reported, and v stays active.
	Confirm(v Version) error
}

// A Warner is a Source that can have something to warn of.
type Warner interface {
	// Warn logs what there is to warn of in the version that Fetch has
	// returned last. It does not repeat itself at each version.
	Warn(logger *zap.Logger)
}

// A Renewer is a Source whose Changed needs care.
type Renewer interface {
	// Renew sets up what Changed depends on, and does so again if it was lost.
	// It is called when the source begins to be followed, and at each poll.
	Renew(logger *zap.Logger)

	// Close ends what Renew has set up, when the source is not followed any
	// more. Another method may be in progress.
	Close() error
}
