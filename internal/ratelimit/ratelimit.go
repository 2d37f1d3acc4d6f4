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
//
// Counts of other servers ([Counter.RaiseTo]) are kept beside the own events, and have a
// window of their own. The count of a key is the higher one. So a count from elsewhere
// that ends early, or is wrong, never hides own events.
type Counter struct {
	start  time.Time
	mu     sync.Mutex // of writers
	sets   [setCount][setSize]slot
	shared atomic.Pointer[[setCount][setSize]atomic.Uint64] // cells of counts of other servers; nil before the first
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
func (c *Counter) Peek(key uint64) int {
	i := c.index(key)
	if i < 0 {
		return 0 // the usual case
	}
	own, shared := c.cellsAt(key, i)
	return int(max(own&MaxCount, shared&MaxCount))
}

// Count returns the number of events of a key in its window, and the time until the
// window ends.
func (c *Counter) Count(key uint64, now time.Time, window time.Duration) (n int, left time.Duration) {
	own, shared := c.cells(key)
	return higher(own, shared, c.clock(now), window)
}

// Wait returns how long the limit of a key will be exceeded, counting more
// additional events. It returns 0 if the limit is not exceeded.
func (c *Counter) Wait(key uint64, now time.Time, limit Limit, more int) time.Duration {
	if limit.Max == 0 {
		return 0
	}
	own, shared := c.cells(key)
	ms := c.clock(now)
	wait := exceeded(own, ms, limit, more)
	if shared != 0 {
		wait = max(wait, exceeded(shared, ms, limit, more))
	}
	return wait
}

// exceeded returns how long a cell will exceed a limit.
func exceeded(cell uint64, now int64, limit Limit, more int) time.Duration {
	n, left := unpack(cell, now, limit.Window)
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
	p := c.take(key, ms, window)
	old := p.slot.cell.Load()
	n, _ := unpack(old, ms, window)
	if n == 0 {
		old = pack(ms, 0)
	}
	n = min(n+1, MaxCount)
	p.slot.cell.Store(old&^MaxCount | uint64(n)) //nolint:gosec // not negative
	if p.shared == nil {
		return n
	}
	cell := p.shared.Load()
	others, _ := unpack(cell, ms, window)
	if others == 0 {
		return n
	}
	others = min(others+1, MaxCount)
	p.shared.Store(cell&^MaxCount | uint64(others)) //nolint:gosec // not negative
	return max(n, others)
}

// Raise makes a key have at least the events of another key, in the window of that key.
// If the key already has as many events in its window, nothing changes. So a second call
// has no further effect.
func (c *Counter) Raise(key, from uint64, now time.Time, window time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ms := c.clock(now)
	own, shared := c.cells(from)
	if events, _ := higher(own, shared, ms, window); events == 0 {
		return
	} else if _, before := c.find(key, ms, window); before >= events {
		return
	}
	p := c.take(key, ms, window)
	raise(&p.slot.cell, own, ms, window)
	if p.shared != nil {
		raise(p.shared, shared, ms, window)
	}
}

// RaiseTo makes a key have at least n events, in a window that ends after left, because
// other servers counted them, and returns its number of events before. It lowers nothing,
// and no window ends earlier. n may be any number, and is limited to MaxCount. left is
// limited to the window.
//
// Events that are added later count in both windows, that of the own events and this one.
func (c *Counter) RaiseTo(key uint64, n int, left time.Duration, now time.Time, window time.Duration) (before int) {
	ms := c.clock(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, before = c.find(key, ms, window)
	n = min(n, MaxCount)
	if n <= 0 || window <= 0 {
		return before
	}
	if c.shared.Load() == nil {
		c.shared.Store(new([setCount][setSize]atomic.Uint64))
	}
	p := c.take(key, ms, window)
	left = min(max(left, 1), window)
	raise(p.shared, pack(ms-(window-left).Milliseconds(), n), ms, window)
	return before
}

// raise replaces a cell by another one with more events.
func raise(cell *atomic.Uint64, by uint64, ms int64, window time.Duration) {
	n, _ := unpack(cell.Load(), ms, window)
	if more, _ := unpack(by, ms, window); more > n {
		cell.Store(by)
	}
}

// place is where a key is, or will be.
type place struct {
	slot   *slot
	shared *atomic.Uint64 // nil if no key has a count of other servers
}

// find returns the place of a key and the number of its events, or the place that a new
// key displaces.
func (c *Counter) find(key uint64, ms int64, window time.Duration) (p place, events int) {
	fewest := MaxCount + 1
	all := c.shared.Load()
	set := &c.sets[key%setCount]
	for i := range set {
		at, cell := place{slot: &set[i]}, uint64(0)
		if all != nil {
			at.shared = &all[key%setCount][i]
			cell = at.shared.Load()
		}
		n, _ := higher(set[i].cell.Load(), cell, ms, window)
		if set[i].key.Load() == key {
			return at, n
		}
		if n < fewest {
			p, fewest = at, n
		}
	}
	return p, 0
}

// take is find, and gives the place to the key.
func (c *Counter) take(key uint64, ms int64, window time.Duration) place {
	p, _ := c.find(key, ms, window)
	if p.slot.key.Load() != key {
		p.slot.cell.Store(0) // before the key: a reader must not use the old count for the new key
		if p.shared != nil {
			p.shared.Store(0)
		}
		p.slot.key.Store(key)
	}
	return p
}

// Forget removes the events of a key, and reports whether there were any.
func (c *Counter) Forget(key uint64) bool {
	return c.forget(key, func(uint64) bool { return true })
}

// ForgetBefore removes the events of a key whose window began before a time, and reports
// whether there were any. Windows that began later stay, so a second call later does not
// remove events that are new.
func (c *Counter) ForgetBefore(key uint64, t time.Time) bool {
	before := c.clock(t)
	return c.forget(key, func(cell uint64) bool { return began(cell) < before })
}

// forget removes the cells of a key for which old returns true, and reports whether there
// was an event in them.
func (c *Counter) forget(key uint64, old func(cell uint64) bool) (had bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.shared.Load()
	set := &c.sets[key%setCount]
	for i := range set {
		if set[i].key.Load() != key {
			continue
		}
		cells := []*atomic.Uint64{&set[i].cell}
		if all != nil {
			cells = append(cells, &all[key%setCount][i])
		}
		for _, cell := range cells {
			if now := cell.Load(); now&MaxCount > 0 && old(now) {
				cell.Store(0)
				had = true
			}
		}
		return had
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

// index returns the index of a key in its set, or -1 if there is none.
func (c *Counter) index(key uint64) int {
	set := &c.sets[key%setCount]
	for i := range set {
		if set[i].key.Load() == key {
			return i
		}
	}
	return -1
}

// cells returns the cells of a key, or 0 where it has none: of own events, and of counts
// of other servers.
func (c *Counter) cells(key uint64) (own, shared uint64) {
	if i := c.index(key); i >= 0 {
		return c.cellsAt(key, i)
	}
	return 0, 0
}

// cellsAt returns the cells of a key that has this index. They are 0 if the place now has
// another key.
func (c *Counter) cellsAt(key uint64, i int) (own, shared uint64) {
	slot := &c.sets[key%setCount][i]
	own = slot.cell.Load()
	if all := c.shared.Load(); all != nil {
		shared = all[key%setCount][i].Load()
	}
	if slot.key.Load() != key {
		return 0, 0
	}
	return own, shared
}

// clock returns a time in milliseconds since the start.
func (c *Counter) clock(now time.Time) int64 { return now.Sub(c.start).Milliseconds() }

// pack returns a cell with n events in a window that begins at start.
func pack(start int64, n int) uint64 {
	return uint64(start+timeBias)<<countBits | uint64(n) //nolint:gosec // start fits into the other bits
}

// began returns when the window of a cell began.
func began(cell uint64) int64 { return int64(cell>>countBits) - timeBias }

// higher returns the higher count of two cells, and the time until its window ends.
func higher(a, b uint64, now int64, window time.Duration) (n int, left time.Duration) {
	n, left = unpack(a, now, window)
	if b == 0 {
		return n, left
	}
	if m, later := unpack(b, now, window); m > n || m == n && later > left {
		return m, later
	}
	return n, left
}

// unpack returns the count of a cell, and the time until its window ends. Both are 0
// if the window has ended, or begins so far in the future that the clock must have
// been set back.
func unpack(cell uint64, now int64, window time.Duration) (n int, left time.Duration) {
	age := time.Duration(now-began(cell)) * time.Millisecond
	if cell&MaxCount == 0 || age >= window || age < -window {
		return 0, 0
	}
	return int(cell & MaxCount), window - age
}
