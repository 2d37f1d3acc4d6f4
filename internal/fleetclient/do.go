package fleetclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// Do calls f with the store, waits for its end, and returns its error. Each call that f
// makes has at most 10 seconds, and its error tells whether the store works; other errors
// of f do not matter here. fs.ErrNotExist, fleet.ErrConflict and fleet.ErrTooLarge do not mean
// that the store is down, nor does the end of ctx by its cancellation.
//
// While not even Ping succeeds, the error is ErrDown, with the reason, without a call of f. A
// store that is only too slow for logins is called. Do works before Start, too. It is for
// calls of administrators and of mirrors.
func (c *Client) Do(ctx context.Context, f func(context.Context, fleet.Store) error) error {
	c.mu.Lock()
	if c.isDown && c.isUnreachable {
		c.skipped++
		err := fmt.Errorf("%w: %v", ErrDown, c.callErr) //nolint:errorlint // the old error is only the reason; this call has not timed out
		c.mu.Unlock()
		return err
	}
	c.group.Add(1)
	period := c.period
	c.mu.Unlock()
	defer c.group.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	return f(ctx, observed{c, period})
}

// observed is the store in Do. Each call is recorded.
type observed struct {
	c      *Client
	period uint64
}

// call makes one call.
func (o observed) call(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, doTimeout)
	defer cancel()
	begin := time.Now()
	err := safely(func() error { return call(ctx) })
	o.c.config.Durations.Observe(time.Since(begin).Seconds())
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fleet.ErrConflict), errors.Is(err, fleet.ErrTooLarge):
		o.c.end(o.period, nil)
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		o.c.mu.Lock()
		o.c.failed++
		o.c.mu.Unlock()
	default:
		o.c.end(o.period, err)
		if err != nil {
			o.c.mu.Lock()
			o.c.isUnreachable = true // until a Ping succeeds
			o.c.mu.Unlock()
		}
	}
	return err
}

// Add implements fleet.Store.
func (o observed) Add(ctx context.Context, additions []fleet.Addition) (counts []fleet.Count, err error) {
	err = o.call(ctx, func(ctx context.Context) (err error) {
		counts, err = o.c.config.Store.Add(ctx, additions)
		return err
	})
	return counts, err
}

// Remove implements fleet.Store.
func (o observed) Remove(ctx context.Context, counters []fleet.Counter) error {
	return o.call(ctx, func(ctx context.Context) error { return o.c.config.Store.Remove(ctx, counters) })
}

// RemoveAll implements fleet.Store.
func (o observed) RemoveAll(ctx context.Context, sets []fleet.Set) error {
	return o.call(ctx, func(ctx context.Context) error { return o.c.config.Store.RemoveAll(ctx, sets) })
}

// Publish implements fleet.Store.
func (o observed) Publish(ctx context.Context, event []byte) error {
	return o.call(ctx, func(ctx context.Context) error { return o.c.config.Store.Publish(ctx, event) })
}

// Subscribe implements fleet.Store. There is a subscription already, so it only waits.
func (o observed) Subscribe(ctx context.Context, _ fleet.Subscriber) { <-ctx.Done() }

// Revision implements fleet.Store.
func (o observed) Revision(ctx context.Context, name string) (revision string, err error) {
	err = o.call(ctx, func(ctx context.Context) (err error) {
		revision, err = o.c.config.Store.Revision(ctx, name)
		return err
	})
	return revision, err
}

// Load implements fleet.Store.
func (o observed) Load(ctx context.Context, name string) (text fleet.Text, err error) {
	err = o.call(ctx, func(ctx context.Context) (err error) {
		text, err = o.c.config.Store.Load(ctx, name)
		return err
	})
	return text, err
}

// Replace implements fleet.Store.
func (o observed) Replace(ctx context.Context, name, old string, next fleet.Text) error {
	return o.call(ctx, func(ctx context.Context) error { return o.c.config.Store.Replace(ctx, name, old, next) })
}

// Ping implements fleet.Store.
func (o observed) Ping(ctx context.Context) error { return o.call(ctx, o.c.config.Store.Ping) }

// Close implements fleet.Store. Only the Client closes the store.
func (observed) Close() error { return nil }
