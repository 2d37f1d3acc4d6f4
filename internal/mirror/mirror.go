// Package mirror keeps a text that is in a remote store, such as a password file that
// several servers share, at hand: a [Mirror] is a follow.Source whose methods never wait
// for the store, and a copy in a local file serves while the store is down.
//
// TODO
package mirror

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// Remote is where the text is.
type Remote interface {
	// Revision returns the revision that Load would return. It is cheap. The error is
	// fs.ErrNotExist if nobody has written the text yet, or it was deleted.
	Revision(ctx context.Context) (Revision, error)
	// Load returns the text, after all checks.
	Load(ctx context.Context) (Copy, error)
	// Replace sets the text if its revision is that of old, and returns the new copy.
	// old is nil for no text. Otherwise the error is ErrConflict.
	Replace(ctx context.Context, old *Copy, text string) (Copy, error)
	// Restore writes back a copy that the store has lost, if the store's revision is lost
	// ("" for no text). ErrCannotRestore if the remote does not support it.
	Restore(ctx context.Context, lost Revision, c Copy) error
}

// Revision identifies a version of the text. Of two revisions that a Remote can order,
// the newer one is greater.
type Revision string

// Copy is a version of the text.
type Copy struct {
	Text     string
	Revision Revision
	Version  uint64    // counts changes; 0 if the remote has no versions
	Time     time.Time // when it was written
}

// Errors of a Remote.
var (
	ErrConflict      = errors.New("the text was changed at the same time")
	ErrCannotRestore = errors.New("the store cannot write back a lost version")
)

// Config configures a Mirror.
type Config struct {
	Name     string // as in the configuration: "fleet://staff"
	Remote   Remote
	Path     string // of the local copy; its directory is created with mode 0700
	MaxStale time.Duration
	Poll     func() (time.Duration, <-chan struct{})
	Logger   func() *zap.Logger
	// Authenticate returns a keyed digest of the local copy, so that a copy that was
	// edited or damaged is not used. Nil: a plain digest against damage only.
	Authenticate func(data []byte) []byte
	Timeout      time.Duration // of a call
}

// Mirror implements follow.Source, follow.Completer and follow.Warner.
type Mirror struct{}

var _ follow.Source = (*Mirror)(nil)

// New returns a Mirror. It calls the remote once, and waits for Config.Timeout at most.
// After an error, it has the local copy, if there is one.
func New(c Config) *Mirror { panic("TODO") }

// Start begins to poll, and to write the local copy. Further calls do nothing. It is
// separate from New because "caddy validate" must write nothing.
func (m *Mirror) Start() { panic("TODO") }

// Wake makes the mirror look at the remote soon.
func (m *Mirror) Wake() { panic("TODO") }

// Name implements follow.Source.
func (m *Mirror) Name() string { panic("TODO") }

// Version implements follow.Source.
func (m *Mirror) Version() (follow.Version, error) { panic("TODO") }

// Fetch implements follow.Source.
func (m *Mirror) Fetch() (string, follow.Version, error) { panic("TODO") }

// Changed implements follow.Source.
func (m *Mirror) Changed() <-chan struct{} { panic("TODO") }

// Edit replaces the text by the result of edit, which is called again if another server
// changes the text at the same time. The text is "" if nobody has written it yet.
// An error of edit is returned as it is. After success the mirror has the new version.
func (m *Mirror) Edit(ctx context.Context, edit func(text string) (string, error)) error {
	panic("TODO")
}

// Check returns the error with which Edit would fail, as far as it is known without a
// call: the store is down.
func (m *Mirror) Check() error { panic("TODO") }

// Status is the state of a mirror.
type Status struct {
	Version   uint64    // of the copy in use; 0: none, or the remote has no versions
	Time      time.Time // when it was written
	CheckedAt time.Time // when the remote last confirmed that it is the newest; zero: never
	Path      string    // of the local copy
	LastError string
}

// Status returns the state.
func (m *Mirror) Status() Status { panic("TODO") }

// Close ends the mirror. Calls that are running return.
func (m *Mirror) Close() error { panic("TODO") }
