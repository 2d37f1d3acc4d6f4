// Package ratelimit counts events by key, such as failed logins by client, in a
// fixed amount of memory.
//
// Create one [Counter] for each kind of key. Before an event, call [Counter.Wait]:
// it tells whether the [Limit] of the key is exceeded. After the event, count it
// with [Counter.Add]. The current time is always an argument.
//
// If there are more keys than a Counter has room for, keys with few events are
// displaced first, as [Counter] documents.
package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limit is the number of events that are allowed within a time window. The window
// begins with the first event. When it ends, all its events are discarded.
type Limit struct {
	// Max is the number of events at which the limit is exceeded, at most
	// [MaxCount]. 0 means no limit.
	Max int

	// Window is the length of the time window.
	Window time.Duration
}

// MaxCount is the highest number of events that is counted for a key.
const MaxCount = 1<<countBits - 1

const (
	setCount = 1 << 14
	setSize  = 8 // keys

	countBits = 24                        // of a cell; the other bits are the time when the window began
	timeBias  = 1 << (64 - countBits - 1) // the clock may be set back to before the start
)

// Counter counts events by key, each key in a time window that begins with its
// first event. It has room for 131,072 keys.
//
// Keys must be hashes that an attacker cannot predict, and not 0. They are in sets
// of eight. In a full set, a new key displaces the key with the fewest events. So a
// flood of events with ever new keys displaces only keys of the flood itself: a key
// with n events is displaced only if all other keys of its set have n events, too.
//
// The time is an argument. It should come from a monotonic clock. If it goes back,
// no window lasts longer than twice its length. A Counter is safe for concurrent
// use. Reading takes no lock.
type Counter struct {
	start time.Time
	mu    sync.Mutex // of writers
	sets  [setCount][setSize]slot
}

// slot holds the count of one key, which is 0 for none.
type slot struct {
	key  atomic.Uint64
	cell atomic.Uint64 // number of events and start of the window; see pack
}

// New returns a Counter without events. Its times must be within 17 years of start.
func New(start time.Time) *Counter { return &Counter{start: start} }

// Peek returns the number of events of a key, even if its window has ended. So it
// never returns less than Count, and is faster.
func (c *Counter) Peek(key uint64) int { return int(c.cell(key) & MaxCount) }

// Count returns the number of events of a key in its window, and the time until the
// window ends.
func (c *Counter) Count(key uint64, now time.Time, window time.Duration) (n int, left time.Duration) {
	return unpack(c.cell(key), c.clock(now), window)
}

// Wait returns how long the limit of a key will be exceeded, counting more
// additional events. It returns 0 if the limit is not exceeded.
func (c *Counter) Wait(key uint64, now time.Time, limit Limit, more int) time.Duration {
	if limit.Max == 0 {
		return 0
	}
	n, left := c.Count(key, now, limit.Window)
	if n+more < limit.Max {
		return 0
	}
	return max(left, 1) // without a window, the additional events alone may exceed it
}

// Add counts one event of a key, and returns the number in its window.
func (c *Counter) Add(key uint64, now time.Time, window time.Duration) int {
	ms := c.clock(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	set := &c.sets[key%setCount]
	least, fewest := 0, MaxCount+1
	for i := range set {
		old := set[i].cell.Load()
		n, _ := unpack(old, ms, window)
		if set[i].key.Load() == key {
			if n == 0 {
				old = pack(ms, 0)
			}
			n = min(n+1, MaxCount)
			set[i].cell.Store(old&^MaxCount | uint64(n)) //nolint:gosec // not negative
			return n
		}
		if n < fewest {
			least, fewest = i, n
		}
	}
	set[least].cell.Store(0) // before the key: a reader must not use the old count for the new key
	set[least].key.Store(key)
	set[least].cell.Store(pack(ms, 1))
	return 1
}

// Raise makes a key have at least the events of another key, in the window of that key.
// If the key already has as many events in its window, nothing changes. So a second call
// has no further effect.
func (c *Counter) Raise(key, from uint64, now time.Time, window time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := c.clock(now)
	cell := c.cell(from)
	events, _ := unpack(cell, ms, window)
	place, own := c.placeOf(key, ms, window)
	if own >= events {
		return
	}
	if place.key.Load() != key {
		place.cell.Store(0) // before the key, as in Add
		place.key.Store(key)
	}
	place.cell.Store(cell)
}

// placeOf returns the slot of a key and the number of its events, or the slot that a new
// key displaces.
func (c *Counter) placeOf(key uint64, ms int64, window time.Duration) (place *slot, events int) {
	fewestEvents := MaxCount + 1
	for i := range c.sets[key%setCount] {
		s := &c.sets[key%setCount][i]
		counted, _ := unpack(s.cell.Load(), ms, window)
		if s.key.Load() == key {
			return s, counted
		}
		if counted < fewestEvents {
			place, fewestEvents = s, counted
		}
	}
	return place, 0
}

// Forget removes the events of a key, and reports whether there were any.
func (c *Counter) Forget(key uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := &c.sets[key%setCount]
	for i := range set {
		if set[i].key.Load() == key {
			return set[i].cell.Swap(0)&MaxCount > 0
		}
	}
	return false
}

// Keys yields all keys with an event. The window of some may have ended.
func (c *Counter) Keys(yield func(key uint64) bool) {
	for i := range c.sets {
		for j := range c.sets[i] {
			if key := c.sets[i][j].key.Load(); key != 0 && !yield(key) {
				return
			}
		}
	}
}

// cell returns the cell of a key, or 0 if there is none.
func (c *Counter) cell(key uint64) uint64 {
	set := &c.sets[key%setCount]
	for i := range set {
		if set[i].key.Load() != key {
			continue
		}
		if cell := set[i].cell.Load(); set[i].key.Load() == key { // otherwise the slot now has another key
			return cell
		}
	}
	return 0
}

// clock returns a time in milliseconds since the start.
func (c *Counter) clock(now time.Time) int64 { return now.Sub(c.start).Milliseconds() }

// pack returns a cell with n events in a window that begins at start.
func pack(start int64, n int) uint64 {
	return uint64(start+timeBias)<<countBits | uint64(n) //nolint:gosec // start fits into the other bits
}

// unpack returns the count of a cell, and the time until its window ends. Both are 0
// if the window has ended, or begins so far in the future that the clock must have
// been set back.
func unpack(cell uint64, now int64, window time.Duration) (n int, left time.Duration) {
	start := int64(cell>>countBits) - timeBias
	age := time.Duration(now-start) * time.Millisecond
	if cell&MaxCount == 0 || age >= window || age < -window {
		return 0, 0
	}
	return int(cell & MaxCount), window - age
}
