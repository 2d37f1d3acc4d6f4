// Package fleet defines what a store must do so that several servers can share the state
// of caddy-htpasswd: counts of failed logins, events, and the texts of password files.
//
// A store is a module of Caddy in the namespace htpasswd.fleets, such as
// htpasswd.fleets.redis, which implements [Engine]. [Store] is all that it has to do.
// Package storetest tests a store against this documentation.
//
// # What a store need not do
//
// A store is not trusted. Keys of counters are keyed hashes. Events and texts are
// encrypted and authenticated before they reach the store. Every count in the store
// was counted by a server before. So a store that is down, slow, empty, or lying can
// make servers stricter, never more lenient, and it learns no user name, address,
// password or hash.
//
// A store need not retry: callers decide what is safe to send again. It must not send
// anything twice on its own, since a call that timed out may have been executed.
//
// # How to write a store
//
// Write a package, in a Go module of its own, with a type that implements [Engine]. Its
// exported fields are the settings in JSON. Register it as a module of Caddy:
//
//	func init() { caddy.RegisterModule(Engine{}) }
//
//	func (Engine) CaddyModule() caddy.ModuleInfo {
//		return caddy.ModuleInfo{
//			ID:  "htpasswd.fleets.nats",
//			New: func() caddy.Module { return new(Engine) },
//		}
//	}
//
// With caddyfile.Unmarshaler it can be used as "fleet nats { ... }" in the global option
// htpasswd; the first token that UnmarshalCaddyfile reads is the name of the engine. With
// caddy.Provisioner and caddy.Validator it checks its settings, without connecting:
// "caddy validate" calls both. Errors must not show passwords.
//
// Test the store with the Run function of package storetest, and then with a server that
// hangs, is killed, comes back empty, and refuses the password.
//
// Add is the only method that a failed login waits for, 100 milliseconds at most, so it
// should be one round trip. With a store that has only compare and swap, such as a
// key-value bucket of NATS, Add repeats until it succeeds. With SQL it is one INSERT with
// ON CONFLICT DO UPDATE and RETURNING, and a job deletes the counters whose windows have
// ended. A store without events can poll a table; then servers learn of exceeded limits
// later.
package fleet

import (
	"context"
	"errors"
	"time"
)

// Engine is a guest module of the namespace htpasswd.fleets.
type Engine interface {
	// Open returns a store. It does not wait for a connection: the store connects when
	// it is used first. The store outlives the engine and its configuration: it is used
	// by all configurations with the same settings, and closed after the last one.
	Open() (Store, error)
}

// Store is shared by the servers of a fleet. All methods but Subscribe and Close return
// soon after ctx is done. Methods are safe for concurrent use.
type Store interface {
	// Add adds failed logins to counters, and returns their counts in the same order,
	// including those added by other servers. Each addition is atomic on its own. After
	// an error, any of the additions may have been made.
	//
	// A counter has a window, which begins with its first failed login and lasts for
	// Set.Window. When the window ends, or if it begins in the future, the counter
	// begins again. The time is that of the store.
	//
	// The store may forget counters to bound its memory, those with the fewest failed
	// logins first.
	Add(ctx context.Context, additions []Addition) ([]Count, error)

	// Remove removes counters.
	Remove(ctx context.Context, counters []Counter) error

	// RemoveAll removes all counters of the sets.
	RemoveAll(ctx context.Context, sets []Set) error

	// Publish sends an event, of at most MaxEvent bytes, to all servers that are
	// subscribed now, including the sender. Events may be lost.
	Publish(ctx context.Context, event []byte) error

	// Subscribe receives events until ctx is done. It connects again whenever the
	// connection is lost, and notices a connection that is dead within a few seconds.
	// Calls of the subscriber's functions do not overlap.
	Subscribe(ctx context.Context, s Subscriber)

	// Revision returns the revision of the text with a name, without reading the text.
	// The error is fs.ErrNotExist if the store has no such text, and ErrTooLarge for a
	// revision that is larger than MaxRevision. Names consist of ASCII letters, digits, '.',
	// '_' and '-'.
	Revision(ctx context.Context, name string) (string, error)

	// Load returns the text with a name, or fs.ErrNotExist. The error is ErrTooLarge if it is
	// larger than MaxText. Servers never write such a text, but somebody else who can use
	// the store could fill their memory with it, so it is not read.
	Load(ctx context.Context, name string) (Text, error)

	// Replace sets a text, if the revision of the present one is old. old is "" for
	// no text. Otherwise it changes nothing and returns ErrConflict.
	Replace(ctx context.Context, name, old string, next Text) error

	// Ping returns nil if the store would execute commands now.
	Ping(ctx context.Context) error

	// Close ends all connections. Nothing is called afterwards.
	Close() error
}

// Set is a set of counters with the same meaning and window. Servers whose windows
// differ do not share counters.
type Set struct {
	Name   string // of the limit, such as "login": lower case ASCII letters
	Window time.Duration
}

// Counter identifies a counter of failed logins.
type Counter struct {
	Set
	Key uint64 // a keyed hash, not 0
}

// Addition adds failed logins to a counter.
type Addition struct {
	Counter
	N int // at least 1

	// Age is how long ago the first of them was. A new window begins then, and one that
	// has begun stays. If Age is at least Window, nothing is added, and the Count is
	// the present one, or zero if there is none.
	Age time.Duration
}

// Count is the number of failed logins of a counter, and the time until its window ends.
type Count struct {
	N    int
	Left time.Duration
}

// Text is one version of a text. The store does not look into it.
type Text struct {
	Revision string // at most MaxRevision ASCII characters, without whitespace
	Data     []byte // at most MaxText bytes
}

// Subscriber receives events.
type Subscriber struct {
	// Event is called for each event.
	Event func(event []byte)
	// Connected is called when the subscription is made, and made again: events may
	// have been lost before.
	Connected func()
	// Disconnected is called with the reason when the subscription is lost, or cannot
	// be made. It may be called several times in a row.
	Disconnected func(err error)
}

// The largest sizes in bytes.
const (
	MaxEvent    = 16 << 10
	MaxRevision = 200
	MaxText     = 4<<20 + 4<<10 // of a sealed text of 4 MiB
)

// ErrConflict is returned by Replace if the text has another revision.
var ErrConflict = errors.New("the text was changed by another server at the same time")

// ErrTooLarge is returned by Revision and Load for a text that is larger than servers write
// it.
var ErrTooLarge = errors.New("larger than any text that servers write")
