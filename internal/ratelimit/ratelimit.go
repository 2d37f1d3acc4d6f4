// Package ratelimit counts events by key, such as failed logins by client, in
// memory that never grows.
//
// Make one Counter for each kind of key. Before an event, ask Counter.Wait whether
// the Limit of its key is exceeded. Afterwards count it with Counter.Add. The time
// is always an argument.
//
// What a Counter promises when there are more keys than it has room for is said
// there.
package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limit is how many events are allowed within a window of time. The window
// begins with the first event. When it ends, all of them are forgotten.
type Limit struct {
	// Max is the number of events from which on the limit is exceeded, at most
	// [MaxCount]. 0 means no limit.
	Max int

	// Window is how long events count.
	Window time.Duration
}

// MaxCount is the highest number of events of one key that is counted.
const MaxCount = 1<<countBits - 1

const (
	setCount = 1 << 14
	setSize  = 8 // keys

	countBits = 24                        // of a cell; the others are the time when the window began
	timeBias  = 1 << (64 - countBits - 1) // the clock may be set back before the start
)

// Counter counts events by key, each key in a window that begins with its first
// event. It has room for 131,072 keys.
//
// The keys must be of a hash that nobody outside can predict, and not 0. They
// fall into sets of eight. In a full set, the key with the fewest events makes
// room for a new one. So a flood of events for ever new keys displaces only what
// the same flood has just counted: for a key with n events to be forgotten, all
// others of its set must have n events, too.
//
// The time is an argument. It should come from a monotonic clock; if it goes
// back, no window lasts longer than two. All methods may be called at the same
// time. Reading takes no lock.
type Counter struct {
	start time.Time
	mu    sync.Mutex // of writers
	sets  [setCount][setSize]slot
}

// slot holds the count of one key, which is 0 for none.
type slot struct {
	key  atomic.Uint64
	cell atomic.Uint64 // number of events and begin of the window; see pack
}

// New returns a Counter without any event. Its times should not be far from
// start: up to 17 years.
func New(start time.Time) *Counter { return &Counter{start: start} }

// Peek returns the number of events of a key, as if its window had not ended.
// So it never returns less than Count, and costs less.
func (c *Counter) Peek(key uint64) int { return int(c.cell(key) & MaxCount) }

// Count returns the number of events of a key in its window, and how long that
// goes on.
func (c *Counter) Count(key uint64, now time.Time, window time.Duration) (n int, left time.Duration) {
	return unpack(c.cell(key), c.clock(now), window)
}

// Wait returns how long a limit is exceeded for a key if more events are added
// to those that are counted, and 0 if it is not.
func (c *Counter) Wait(key uint64, now time.Time, limit Limit, more int) time.Duration {
	if limit.Max == 0 {
		return 0
	}
	n, left := c.Count(key, now, limit.Window)
	if n+more < limit.Max {
		return 0
	}
	return max(left, 1) // more alone may exceed it, before there is a window
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
	set[least].cell.Store(0) // before the key: a reader must not take the old count for the new key's
	set[least].key.Store(key)
	set[least].cell.Store(pack(ms, 1))
	return 1
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

// Keys yields all keys that are kept. The window of some may have ended.
func (c *Counter) Keys(yield func(key uint64) bool) {
	for i := range c.sets {
		for j := range c.sets[i] {
			if key := c.sets[i][j].key.Load(); key != 0 && !yield(key) {
				return
			}
		}
	}
}

// cell returns the cell of a key, 0 if there is none.
func (c *Counter) cell(key uint64) uint64 {
	set := &c.sets[key%setCount]
	for i := range set {
		if set[i].key.Load() != key {
			continue
		}
		if cell := set[i].cell.Load(); set[i].key.Load() == key { // else the slot has just become another key's
			return cell
		}
	}
	return 0
}

// clock returns a time in milliseconds since the start.
func (c *Counter) clock(now time.Time) int64 { return now.Sub(c.start).Milliseconds() }

// pack returns a cell with a window that begins at start.
func pack(start int64, n int) uint64 {
	return uint64(start+timeBias)<<countBits | uint64(n) //nolint:gosec // the lower bits of start are all there is
}

// unpack returns the count of a cell, and how long its window goes on. Both are
// 0 if the window has ended, or begins so far in the future that the clock must
// have been set back.
func unpack(cell uint64, now int64, window time.Duration) (n int, left time.Duration) {
	start := int64(cell>>countBits) - timeBias
	age := time.Duration(now-start) * time.Millisecond
	if cell&MaxCount == 0 || age >= window || age < -window {
		return 0, 0
	}
	return int(cell & MaxCount), window - age
}
