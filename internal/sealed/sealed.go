// Package sealed encrypts and authenticates what the servers of a fleet share through a
// store that they do not trust: events, and the texts of password files.
//
// TODO: formats, what is bound to what, rotation.
package sealed

import (
	"errors"
	"time"
)

// Keys are the keys of a fleet, of the current secret and of the old one that it
// replaces. What is sealed can be opened with either, and is sealed for both, so that
// servers can change their secret one after the other.
type Keys struct{}

// NewKeys returns the keys for subkeys of 32 bytes. old is nil if there is none.
func NewKeys(current, old []byte) *Keys { panic("TODO") }

// Errors of Open.
var (
	// ErrOtherSecret: sealed by a server with another secret.
	ErrOtherSecret = errors.New("sealed with another secret")
	// ErrForged: damaged, or not sealed by a server of the fleet for this purpose.
	ErrForged = errors.New("damaged or forged")
	// ErrFormat: in a format that this version does not know.
	ErrFormat = errors.New("in a format that this version of the module does not know")
)

// Header is the part of a sealed text that can be read without decrypting it. It is
// authenticated only if it comes from OpenText.
type Header struct {
	Version uint64    // counts the changes of the text, from 1
	Time    time.Time // when it was sealed, in whole milliseconds
	Digest  [16]byte  // keyed digest of the text, which tells texts of one version apart
}

// Revision returns the header as a text, for fleet.Text. Of two revisions of a text, the
// newer one is greater as a string: the higher version, the later time, the greater digest.
func (h Header) Revision() string { panic("TODO") }

// ParseRevision parses the result of Revision. It is not authenticated.
func ParseRevision(revision string) (Header, error) { panic("TODO") }

// SealText seals a text under a name for all keys.
func (k *Keys) SealText(name, text string, version uint64, now time.Time) (Header, []byte) {
	panic("TODO")
}

// OpenText opens a sealed text. isCurrent reports whether servers that know only the
// current secret can open it, too.
func (k *Keys) OpenText(name string, data []byte) (h Header, text string, isCurrent bool, err error) {
	panic("TODO")
}

// MaxSkew is how much the clocks of servers may differ, and how old an event may be.
const MaxSkew = 10 * time.Second

// ErrStale: the event is older than MaxSkew, or from the future.
var ErrStale = errors.New("too old, or from the future; the clocks of the servers must agree")

// ErrRepeated: the event was opened before.
var ErrRepeated = errors.New("sent again")

// Events seals and opens events. It remembers events of the last 2*MaxSkew (fixed memory,
// and where that is full it refuses: a replayed event must never pass), so each can be
// opened only once.
type Events struct{}

// NewEvents returns Events with keys.
func NewEvents(keys *Keys) *Events { panic("TODO") }

// Seal seals an event for all keys.
func (e *Events) Seal(body []byte, now time.Time) []byte { panic("TODO") }

// Open opens an event, once, and returns when it was sealed.
func (e *Events) Open(data []byte, now time.Time) (body []byte, sealed time.Time, err error) {
	panic("TODO")
}
