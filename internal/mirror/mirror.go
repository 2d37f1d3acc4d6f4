// Package mirror keeps a text that is in a remote store, such as a password file that
// several servers share, at hand: a [Mirror] is a follow.Source whose methods never wait
// for the store, and a copy in a local file serves while the store is down.
//
// A Mirror promises:
//
//   - The newest version that was ever seen stays available, whatever the store does:
//     while it is down or hangs, after it has lost or damaged the text, and after it has
//     gone back to an older version (if its revisions have an order).
//   - The local copy is written atomically, and only after Start. It is the last version
//     that Config.Validate accepts. A copy that was changed by anybody else is not used.
//   - Edits are never lost: an edit is made to the newest version in the store, and again
//     if another server was faster.
//   - Version, Fetch, Status and Check never wait for the store. Close returns soon, even
//     if a call of the store does not.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// Remote is where the text is. A Mirror makes one call at a time.
type Remote interface {
	// Revision returns the revision that Load would return. It is cheap. The error is
	// fs.ErrNotExist if nobody has written the text yet, or it was deleted.
	Revision(ctx context.Context) (Revision, error)
	// Load returns the text, after all checks. If it cannot be used, so that only another
	// revision helps, the error is ErrInvalid.
	Load(ctx context.Context) (Copy, error)
	// Replace sets the text if its revision is that of old, and returns the new copy.
	// old is nil for no text. Otherwise the error is ErrConflict.
	Replace(ctx context.Context, old *Copy, text string) (Copy, error)
	// Restore writes back a copy that the store has lost, if the store's revision is lost
	// ("" for no text), and returns it. The error is ErrConflict if it is another one, and
	// ErrCannotRestore if the remote does not support it.
	Restore(ctx context.Context, lost Revision, c Copy) (Copy, error)
}

// Revision identifies a version of the text. It contains no whitespace.
type Revision string

// Copy is a version of the text.
type Copy struct {
	Text     string
	Revision Revision
	Version  uint64    // counts changes; 0 if the remote has no versions
	Time     time.Time // when it was written
	IsDue    bool      // it has to be written again, without a change
}

// Errors of a Remote.
var (
	ErrConflict      = errors.New("the text was changed at the same time")
	ErrCannotRestore = errors.New("the store cannot write back a lost version")
	ErrInvalid       = errors.New("the text in the store cannot be used")
)

// ErrUnavailable is wrapped by errors of a Mirror whose store cannot be used now.
var ErrUnavailable = errors.New("the store cannot be used")

// Config configures a Mirror. Fields are required if nothing else is said.
type Config struct {
	Name   string // as in the configuration: "fleet://staff"
	Remote Remote

	// IsOrdered says that of two revisions the newer one is greater. Then an older
	// revision in the store is one that the store has gone back to.
	IsOrdered bool

	// Validate returns an error for a text that must not become the local copy.
	Validate func(text string) error

	// Path is the absolute path of the local copy. Its directory is created with mode 0700.
	Path string

	// Authenticator makes the digest of the local copy. Without one (nil), the digest
	// protects against damage only.
	Authenticator Authenticator

	// MaxStale is the maximum age of a version that Fetch returns. Versions older than
	// half of it are written again. A version that the local copy already had is returned
	// at any age once the store has confirmed it: it is not one that the store has gone
	// back to. 0: no maximum.
	MaxStale time.Duration

	// Poll returns the interval of calls to the store, and a channel that is closed when
	// it changes (nil: never).
	Poll   func() (time.Duration, <-chan struct{})
	Logger func() *zap.Logger

	Timeout time.Duration // of a call
	Advice  string        // what to do if nobody has written the text yet
}

// Authenticator makes and checks keyed digests. A sealed.Keys is one.
type Authenticator interface {
	// CopyDigest returns the digest by the current key.
	CopyDigest(data []byte) []byte
	// IsCopyDigest reports whether a digest is the one by the current or an older key.
	IsCopyDigest(data, digest []byte) bool
}

// Mirror implements follow.Source, follow.Completer, follow.Validator and follow.Warner.
// All methods are safe for concurrent use.
//
// One call of the remote runs at a time (turn). All decisions are made by look, which is
// called by Refresh, before each edit, and by run: at each poll, after Wake, and
// after a change of the settings. These are the states that look can find. In all of them
// but "no copy", the copy in use is the newest version that was ever seen.
//
//	state     the store                       then
//	no copy   was never reached, and there    Fetch returns the problem: a configuration does
//	          is no local copy                not start
//	absent    has no text, and never had one  the text is "", without a problem
//	current   has the revision of the copy    no problem; the copy is written again if it is
//	                                          due (started only)
//	newer     has another revision            load it; then current
//	invalid   has another revision, whose     problem; not loaded again until the revision
//	          text cannot be used             changes
//	lost      has no text, or (ordered) an    Restore (started only); then current. Problem if
//	          older revision                  that fails
//	down      cannot be reached, or does not  problem; tried again at the next look
//	          answer
//
// While there is a problem, Version and ValidateLoaded return it, so that the Follower logs
// it once and keeps the previous version. Its text stays the same while its kind does, even
// if the errors of the store differ. Fetch still returns the copy: reloads and restarts
// succeed.
type Mirror struct {
	c      Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	turn    chan struct{} // held by the running call of the remote
	editing chan struct{} // held by the running edit
	wake    chan struct{}
	unsaved chan struct{}
	saving  chan chan struct{} // closed when the local copy is written
	changed chan struct{}

	startOnce sync.Once
	done      chan struct{}

	mu         sync.Mutex
	isStarted  bool
	copy       Copy
	has        bool // copy is set, or absent
	isAbsent   bool // nobody has written the text yet
	invalid    Revision
	problem    *problem
	lastError  string
	checkedAt  time.Time
	local      Revision // of the local copy that New has read; "" for none
	onDisk     Revision // of the local copy; "" for none
	localError error    // why the local copy was not used
	isWarned   bool     // of localError

	saver saver // used by run only
}

// Interface guards
var (
	_ follow.Source    = (*Mirror)(nil)
	_ follow.Completer = (*Mirror)(nil)
	_ follow.Validator = (*Mirror)(nil)
	_ follow.Warner    = (*Mirror)(nil)
)

// New returns a Mirror with the local copy, if there is one. It does not call the remote:
// call Refresh before Fetch.
func New(c Config) *Mirror {
	m := &Mirror{
		c: c, turn: make(chan struct{}, 1), editing: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), unsaved: make(chan struct{}, 1), saving: make(chan chan struct{}), changed: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	local, err := c.readLocal()
	switch {
	case err == nil:
		m.copy, m.has = local, true
		m.saver.saved, m.onDisk, m.local = local.Revision, local.Revision, local.Revision
	case !errors.Is(err, fs.ErrNotExist):
		m.localError = err
	}
	return m
}

// Start begins to poll, and to write the local copy and the store. Further calls do
// nothing. It is separate from New because "caddy validate" must write nothing.
func (m *Mirror) Start() {
	m.startOnce.Do(func() {
		m.mu.Lock()
		m.isStarted = true
		m.mu.Unlock()
		go m.run()
	})
}

// Wake makes the mirror look at the remote soon.
func (m *Mirror) Wake() { notify(m.wake) }

// Save waits until the local copy has the version of the mirror, or ctx is done. Before
// Start, it does nothing.
func (m *Mirror) Save(ctx context.Context) {
	m.mu.Lock()
	isDue := m.isStarted && m.has && !m.isAbsent && m.onDisk != m.copy.Revision
	m.mu.Unlock()
	if !isDue {
		return
	}
	saved := make(chan struct{})
	select {
	case m.saving <- saved:
		<-saved
	case <-m.done:
	case <-ctx.Done():
	}
}

// Close ends the mirror. Calls that are running return. It must be called once.
func (m *Mirror) Close() error {
	m.cancel()
	m.startOnce.Do(func() { close(m.done) }) // never started
	<-m.done
	return nil
}

// problemPoll is the longest interval of calls to the store while there is a problem.
const problemPoll = 2 * time.Second

func (m *Mirror) run() {
	defer close(m.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		poll, settingsChanged := m.c.Poll()
		if _ = m.Refresh(m.ctx); m.Check() != nil {
			poll = min(poll, problemPoll)
		}
		timer.Reset(poll)
		for isLookDue := false; !isLookDue; {
			m.save()
			select {
			case <-m.ctx.Done():
				return
			case <-m.unsaved:
			case saved := <-m.saving:
				m.save()
				close(saved)
			case <-m.wake:
				isLookDue = true
			case <-settingsChanged:
				isLookDue = true
			case <-timer.C:
				isLookDue = true
			}
		}
	}
}

// Refresh looks at the store now, and returns the problem that it has found. It waits for
// Config.Timeout at most.
func (m *Mirror) Refresh(ctx context.Context) error { return m.do(ctx, m.look) }

// Name implements follow.Source.
func (m *Mirror) Name() string { return m.c.Name }

// Changed implements follow.Source.
func (m *Mirror) Changed() <-chan struct{} { return m.changed }

// version is the version of a copy.
type version struct {
	revision Revision
	isAbsent bool
}

// IsRacy implements follow.Version.
func (version) IsRacy(time.Time) bool { return false }

// Version implements follow.Source.
func (m *Mirror) Version() (follow.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem != nil {
		return nil, m.problem
	}
	return m.version(), nil
}

func (m *Mirror) version() version { return version{m.copy.Revision, m.isAbsent} }

// Fetch implements follow.Source. While there is a problem, it returns the copy.
func (m *Mirror) Fetch() (string, follow.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.has {
		return "", nil, m.noCopy()
	}
	if m.isTooOld() {
		err := fmt.Errorf("the newest version that is available was written at %s, and max_stale allows no version older than %s; "+
			"connect this server to the store, or remove max_stale until the file was written again", m.copy.Time.UTC().Format(time.RFC3339), m.c.MaxStale)
		if m.problem != nil {
			err = fmt.Errorf("%w (%w)", err, m.problem)
		}
		return "", nil, err
	}
	return m.copy.Text, m.version(), nil
}

// isTooOld reports whether max_stale does not allow the copy.
func (m *Mirror) isTooOld() bool {
	isConfirmed := m.problem == nil && !m.checkedAt.IsZero() && m.copy.Revision == m.local
	return m.c.MaxStale > 0 && !m.isAbsent && !isConfirmed && time.Since(m.copy.Time) > m.c.MaxStale
}

// noCopy returns why there is no copy.
func (m *Mirror) noCopy() error {
	err := error(m.problem)
	if m.problem == nil { // closed, or canceled
		err = ErrUnavailable
	}
	if m.localError != nil {
		return fmt.Errorf("%w; the local copy %s was ignored: %w", err, m.c.Path, m.localError)
	}
	return fmt.Errorf("%w; and there is no local copy of an earlier version", err)
}

// IsComplete implements follow.Completer.
func (*Mirror) IsComplete(follow.Version) bool { return true }

// ValidateReplacement implements follow.Validator.
func (*Mirror) ValidateReplacement(follow.Version, follow.Version, bool) error { return nil }

// ValidateLoaded implements follow.Validator: it returns the problem of the store.
func (m *Mirror) ValidateLoaded(follow.Version) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem != nil {
		return m.problem
	}
	return nil
}

// notify sends a signal on a channel with a buffer of one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // a signal is pending already
	}
}
