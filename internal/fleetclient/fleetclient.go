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
//   - What the store answers is checked and limited. A panic in a store is an error of
//     the call.
package fleetclient

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

const (
	// MaxKept is the maximum number of counters whose failed logins are kept.
	MaxKept = 1 << 14

	// MaxQueued is the maximum number of events that wait to be sent.
	MaxQueued = 1 << 10

	flushSize         = 64               // counters in a call for failed logins that were kept
	backgroundTimeout = time.Second      // of a call that no login waits for
	doTimeout         = 10 * time.Second // of a call in Do
)

// ErrDown is the error of Do while the store cannot be reached.
var ErrDown = errors.New("the fleet store is unavailable")

// errClosed is the reason after Close.
var errClosed = errors.New("the connection is closed")

// Config configures a Client. All fields are required.
type Config struct {
	Store   fleet.Store
	Timeout time.Duration // of a call that a login waits for
	Retry   time.Duration // between two Pings while the store is down
	Logger  func() *zap.Logger

	// Counted is called with counts that the store returned in the background, for failed
	// logins that were kept. Its calls do not overlap.
	Counted func(c fleet.Counter, count fleet.Count)

	// Event is called for each event received.
	Event func(event []byte)

	// Connected is called when the subscription is made, and made again.
	Connected func()

	// Durations observes the duration of each call in seconds.
	Durations prometheus.Observer
}

// Client is the connection of one server to the store. It is safe for concurrent use.
type Client struct {
	config Config

	ctx    context.Context //nolint:containedctx // done after Close
	cancel context.CancelFunc
	group  sync.WaitGroup // all goroutines and calls
	wake   chan struct{}  // for watch
	events chan []byte    // for publish

	mu        sync.Mutex
	isStarted bool
	isClosed  bool
	isDown    bool // after an error of a call, until a Ping succeeds
	// isUnreachable says that isDown has another reason than a store that is too slow for
	// logins.
	isUnreachable bool

	period     uint64    // how often the store was down, so that old calls do not count for a new period
	check      bool      // whether to call Ping at once
	pingAt     time.Time // when to call Ping while isDown
	subscribed bool
	kept       kept
	since      time.Time // when Status.Connected changed
	unsubbed   time.Time // when the subscription was lost
	connected  bool
	lastErr    error // of the last call that failed
	callErr    error // why isDown
	eventErr   error // why not subscribed
	lines      lines

	dropped, ok, failed, skipped uint64
}

// New returns a Client. Before Start, it calls the store only in Do.
func New(c Config) *Client {
	ctx, cancel := context.WithCancel(context.Background())
	return &Client{
		config: c, ctx: ctx, cancel: cancel, since: time.Now(),
		wake: make(chan struct{}, 1), events: make(chan []byte, MaxQueued),
		kept: make(kept),
	}
}

// Start subscribes to events, and begins to call Ping while the store is down. Second and
// further calls do nothing.
func (c *Client) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isStarted || c.isClosed {
		return
	}
	c.isStarted, c.check, c.unsubbed = true, true, time.Now()
	c.group.Go(c.watch)
	c.group.Go(c.publish)
	c.group.Go(c.subscribe)
}

// Add counts one failed login in each counter, and returns the counts in the same order.
// It returns nil if the store is down or does not answer in time. Counters are not
// retained.
func (c *Client) Add(counters []fleet.Counter) []fleet.Count {
	if len(counters) == 0 {
		return nil
	}
	period, isReady := c.beginAdd(counters)
	if !isReady {
		return nil
	}
	defer c.group.Done()
	additions := make([]fleet.Addition, len(counters))
	for i, counter := range counters {
		additions[i] = fleet.Addition{Counter: counter, N: 1}
	}
	counts, err := c.add(additions, c.config.Timeout)
	c.end(period, err)
	if err != nil {
		return nil
	}
	return counts
}

// beginAdd begins a call, for the end of which c.group waits, or keeps the failed login.
func (c *Client) beginAdd(counters []fleet.Counter) (period uint64, isReady bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		return 0, false
	}
	if !c.isStarted || c.isDown {
		c.skipped++
		now := time.Now()
		for _, counter := range counters {
			if !c.kept.add(counter, now) {
				c.dropped++
			}
		}
		return 0, false
	}
	c.group.Add(1)
	return c.period, true
}

// Forget drops the failed logins of counters that were kept because the store was down, and
// that began before a time: they were cleared.
func (c *Client) Forget(counters iter.Seq[fleet.Counter], before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) == 0 {
		return
	}
	for counter := range counters {
		if f, isKept := c.kept[counter]; isKept && f.first.Before(before) {
			delete(c.kept, counter)
		}
	}
}

// add calls Store.Add. It does not wait for a store that ignores the context.
func (c *Client) add(additions []fleet.Addition, timeout time.Duration) ([]fleet.Count, error) {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	type answer struct {
		counts []fleet.Count
		err    error
	}
	answered := make(chan answer, 1)
	begin := time.Now()
	c.group.Go(func() {
		var a answer
		a.err = safely(func() (err error) {
			a.counts, err = c.config.Store.Add(ctx, additions)
			return err
		})
		answered <- a
	})
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	c.config.Durations.Observe(time.Since(begin).Seconds())
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		return nil, &noAnswerError{timeout, a.err}
	case a.err != nil:
		return nil, a.err
	case len(a.counts) != len(additions):
		return nil, fmt.Errorf("the store returned %d counts for %d counters", len(a.counts), len(additions))
	}
	for i := range a.counts {
		a.counts[i] = limited(a.counts[i], additions[i].Window)
	}
	return a.counts, nil
}

// noAnswerError is the error of a call that has taken too long.
type noAnswerError struct {
	within time.Duration
	cause  error
}

func (e *noAnswerError) Error() string { return fmt.Sprintf("no answer within %s", e.within) }

func (e *noAnswerError) Unwrap() error { return e.cause }

// limited returns a count within the range that a true one has.
func limited(count fleet.Count, window time.Duration) fleet.Count {
	const most = 1<<31 - 1
	return fleet.Count{N: min(max(count.N, 0), most), Left: min(max(count.Left, 1), max(window, 1))}
}

// safely turns a panic of a store into an error.
func safely(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the store panicked: %v", p)
		}
	}()
	return call()
}

// end records the end of a call.
func (c *Client) end(period uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.ok++
		return
	}
	c.failed++
	c.lost(period, err)
}

// lost records an error of a call that began in a period. c.mu is locked.
func (c *Client) lost(period uint64, err error) {
	if c.isClosed {
		return
	}
	c.lastErr = err
	if c.isDown || period != c.period {
		return
	}
	c.isDown, c.callErr = true, err
	c.period++
	c.pingAt = time.Now().Add(c.config.Retry)
	c.changed()
}

// changed notes that the state of the store or of the subscription changed. c.mu is locked.
func (c *Client) changed() {
	if connected := c.isStarted && !c.isDown && c.subscribed; connected != c.connected {
		c.connected, c.since = connected, time.Now()
	}
	select {
	case c.wake <- struct{}{}:
	default: // it will wake up
	}
}

// Status is the state of the connection.
type Status struct {
	Connected bool      // the store works: the last call succeeded, and events are received
	Since     time.Time // when Connected changed last
	LastError string    // the reason if not Connected, otherwise the last error; "" for none
	Unsent    int       // failed logins that are kept, once for each of their counters
	Dropped   uint64    // failed logins (once for each of their counters) and events that were dropped

	OK, Failed, Skipped uint64 // calls, without Ping
}

// Status returns the state.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{
		Connected: c.connected, Since: c.since, Unsent: c.kept.sum(), Dropped: c.dropped,
		OK: c.ok, Failed: c.failed, Skipped: c.skipped,
	}
	err := c.lastErr
	switch {
	case c.isDown:
		err = c.callErr
	case !c.subscribed && c.eventErr != nil:
		err = c.eventErr
	}
	if err != nil {
		s.LastError = err.Error()
	}
	return s
}

// Close ends all work and closes the store. It must be called once.
func (c *Client) Close() error {
	c.mu.Lock()
	c.isClosed, c.isDown, c.isUnreachable, c.callErr = true, true, true, errClosed
	c.kept = make(kept)
	c.changed()
	c.mu.Unlock()
	c.cancel()
	c.group.Wait()
	return safely(c.config.Store.Close)
}
