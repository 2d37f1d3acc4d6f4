// Package storetest tests implementations of [fleet.Store] with [Run], and has one in
// memory, which fails on demand.
package storetest

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// Memory is a store in memory for tests. Its connections, one for each server, are
// returned by [Memory.Connect]. The zero value is an empty store with the system's clock.
type Memory struct {
	// Now is the clock of the store. Set it before use; nil stands for time.Now.
	Now func() time.Time

	mu          sync.Mutex
	counters    map[fleet.Counter]memoryCounter
	texts       map[string]fleet.Text
	subscribers map[*subscription]bool
	calls       int
}

type memoryCounter struct {
	start time.Time
	n     int
}

type subscription struct{ events chan []byte }

// Fault is what happens to a call.
type Fault uint8

// The faults of a call.
const (
	Works    Fault = iota
	Refuses        // the call fails, and is not executed
	Lost           // the call is executed, but its answer is lost
	Hangs          // the call is not executed, and returns when its context is done
	HangsRun       // the call is executed, and returns an error when its context is done
)

var errFault = errors.New("the store is down (a test)")

// Conn is the connection of one server to a Memory.
type Conn struct {
	*Memory
	// Fault is asked at each call. Nil stands for Works.
	Fault func() Fault
}

// Connect returns a connection.
func (m *Memory) Connect() *Conn { return &Conn{Memory: m} }

// Calls returns how many calls the store has executed, without Ping and Subscribe.
func (m *Memory) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Counters returns a copy of all counts, those whose window has ended included.
func (m *Memory) Counters() map[fleet.Counter]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := make(map[fleet.Counter]int, len(m.counters))
	for c, state := range m.counters {
		counts[c] = state.n
	}
	return counts
}

// Texts returns a copy of all texts.
func (m *Memory) Texts() map[string]fleet.Text {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.texts)
}

// SetText sets or removes (nil) a text, as somebody does who has access to the store.
func (m *Memory) SetText(name string, text *fleet.Text) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if text == nil {
		delete(m.texts, name)
		return
	}
	if m.texts == nil {
		m.texts = make(map[string]fleet.Text)
	}
	m.texts[name] = *text
}

// Flush removes all counters and texts.
func (m *Memory) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counters, m.texts = nil, nil
}

func (m *Memory) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// do runs a call, unless it has a fault.
func (c *Conn) do(ctx context.Context, call func() error) error {
	fault := Works
	if c.Fault != nil {
		fault = c.Fault()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	run := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls++
		return call()
	}
	switch fault {
	case Refuses:
		return errFault
	case Lost:
		_ = run()
		return errFault
	case Hangs, HangsRun:
		if fault == HangsRun {
			_ = run()
		}
		<-ctx.Done()
		return ctx.Err()
	}
	return run()
}

// Add implements fleet.Store.
func (c *Conn) Add(ctx context.Context, additions []fleet.Addition) (counts []fleet.Count, err error) {
	err = c.do(ctx, func() error {
		now := c.now()
		if c.counters == nil {
			c.counters = make(map[fleet.Counter]memoryCounter)
		}
		for _, a := range additions {
			state, ok := c.counters[a.Counter]
			if age := now.Sub(state.start); !ok || age >= a.Window || age < 0 {
				state, ok = memoryCounter{start: now.Add(-max(a.Age, 0))}, false
			}
			if a.Age >= a.Window { // their window is over
				if !ok {
					counts = append(counts, fleet.Count{})
					continue
				}
				a.N = 0
			}
			state.n += a.N
			c.counters[a.Counter] = state
			counts = append(counts, fleet.Count{N: state.n, Left: state.start.Add(a.Window).Sub(now)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}

// Remove implements fleet.Store.
func (c *Conn) Remove(ctx context.Context, counters []fleet.Counter) error {
	return c.do(ctx, func() error {
		for _, counter := range counters {
			delete(c.counters, counter)
		}
		return nil
	})
}

// RemoveAll implements fleet.Store.
func (c *Conn) RemoveAll(ctx context.Context, sets []fleet.Set) error {
	return c.do(ctx, func() error {
		maps.DeleteFunc(c.counters, func(counter fleet.Counter, _ memoryCounter) bool { return slices.Contains(sets, counter.Set) })
		return nil
	})
}

// Publish implements fleet.Store.
func (c *Conn) Publish(ctx context.Context, event []byte) error {
	return c.do(ctx, func() error {
		for s := range c.subscribers {
			select {
			case s.events <- slices.Clone(event):
			default: // lost
			}
		}
		return nil
	})
}

// Subscribe implements fleet.Store.
func (c *Conn) Subscribe(ctx context.Context, s fleet.Subscriber) {
	own := &subscription{make(chan []byte, 1000)}
	c.mu.Lock()
	if c.subscribers == nil {
		c.subscribers = make(map[*subscription]bool)
	}
	c.subscribers[own] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, own)
	}()
	s.Connected()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-own.events:
			s.Event(event)
		}
	}
}

// Revision implements fleet.Store.
func (c *Conn) Revision(ctx context.Context, name string) (revision string, err error) {
	text, err := c.Load(ctx, name)
	return text.Revision, err
}

// Load implements fleet.Store.
func (c *Conn) Load(ctx context.Context, name string) (text fleet.Text, err error) {
	err = c.do(ctx, func() error {
		found, ok := c.texts[name]
		if !ok {
			return fs.ErrNotExist
		}
		if len(found.Revision) > fleet.MaxRevision || len(found.Data) > fleet.MaxText {
			return fleet.ErrTooLarge
		}
		text = fleet.Text{Revision: found.Revision, Data: slices.Clone(found.Data)}
		return nil
	})
	return text, err
}

// Replace implements fleet.Store.
func (c *Conn) Replace(ctx context.Context, name, old string, next fleet.Text) error {
	return c.do(ctx, func() error {
		if c.texts[name].Revision != old {
			return fleet.ErrConflict
		}
		if c.texts == nil {
			c.texts = make(map[string]fleet.Text)
		}
		c.texts[name] = fleet.Text{Revision: next.Revision, Data: slices.Clone(next.Data)}
		return nil
	})
}

// Ping implements fleet.Store.
func (c *Conn) Ping(ctx context.Context) error {
	if c.Fault != nil && c.Fault() != Works {
		return errFault
	}
	return ctx.Err()
}

// Close implements fleet.Store.
func (*Conn) Close() error { return nil }

var _ fleet.Store = (*Conn)(nil)
