// Package fleetclient calls the store of a fleet in such a way that a store that is down,
// slow or hung costs logins almost nothing, and nothing is counted twice.
//
//   - A failed login is counted with one call, which is waited for no longer than
//     Config.Timeout. What was sent is never sent again: a call that timed out may have
//     been executed.
//   - After an error, no login calls the store until a Ping in the background succeeds,
//     one per second. Failed logins of this time are kept, up to MaxKept counters, and
//     sent when the store works again, without those whose window has ended.
//   - Events are sent in the background, and dropped if there are too many or the store
//     is down.
package fleetclient

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// MaxKept is the maximum number of counters whose failed logins are kept.
const MaxKept = 1 << 14

// Config configures a Client. All fields are required.
type Config struct {
	Store   fleet.Store
	Timeout time.Duration // of a call that a login waits for
	Retry   time.Duration // between two Pings while the store is down
	Logger  func() *zap.Logger

	// Counted is called with counts that the store returned in the background, for failed
	// logins that were kept.
	Counted func(c fleet.Counter, count fleet.Count)

	// Event is called for each event received.
	Event func(event []byte)

	// Connected is called when the subscription is made, and made again.
	Connected func()

	// Durations observes the duration of each call in seconds.
	Durations prometheus.Observer
}

// Client is the connection of one server to the store. It is safe for concurrent use.
type Client struct{}

// New returns a Client. It does not connect before Start.
func New(c Config) *Client { panic("TODO") }

// Start subscribes to events, and begins to call Ping while the store is down. Second and
// further calls do nothing.
func (c *Client) Start() { panic("TODO") }

// Add counts one failed login in each counter, and returns the counts in the same order.
// It returns nil if the store is down or does not answer in time. Counters are not
// retained.
func (c *Client) Add(counters []fleet.Counter) []fleet.Count { panic("TODO") }

// Publish sends an event in the background.
func (c *Client) Publish(event []byte) { panic("TODO") }

// Do calls f with the store, waits for its end, and records whether the store works. The
// error is ErrDown, without a call, while the store is down. For calls of administrators and of mirrors. fs.ErrNotExist and
// fleet.ErrConflict do not mean that the store is down.
func (c *Client) Do(ctx context.Context, f func(context.Context, fleet.Store) error) error {
	panic("TODO")
}

// Status is the state of the connection.
type Status struct {
	Connected bool      // the store works: the last call succeeded, and events are received
	Since     time.Time // when Connected changed last
	LastError string    // the last error, also while Connected; "" for none
	Unsent    int       // failed logins that are kept
	Dropped   uint64    // failed logins and events that were dropped

	OK, Failed, Skipped uint64 // calls
}

// Status returns the state.
func (c *Client) Status() Status { panic("TODO") }

// Close ends all work and closes the store. It must be called once.
func (c *Client) Close() error { panic("TODO") }
