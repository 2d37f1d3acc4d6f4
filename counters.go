package caddyhtpasswd

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	counterSets = 1 << 14
	counterWays = 8 // keys in a set

	countBits = 24 // of a cell; the rest is the time when its window began
	countMask = 1<<countBits - 1
	timeBias  = 1 << (64 - countBits - 1) // the clock can be set back before its beginning

	_ uint = countMask - maxFailures // a count must fit
)

// counters count failures by key, each in a window that begins with the key's
// first one. They have room for 131,072 keys in an array that never grows. In a
// set that is full, the key with the fewest failures is forgotten for a new one:
// whoever sprays forgets only what the same spray has just counted, and to have
// a key forgotten that has failed n times, all others in its set must have failed
// as often. The keys are of a hash that nobody outside can predict.
//
// Reading takes no lock.
type counters struct {
	mu   sync.Mutex
	sets [counterSets][counterWays]counter
}

// counter is the count of one key: 0 for none.
type counter struct {
	key  atomic.Uint64
	cell atomic.Uint64 // count and the beginning of the window; see pack
}

// cell returns the cell of a key, 0 if there is none.
func (c *counters) cell(key uint64) uint64 {
	set := &c.sets[key%counterSets]
	for i := range set {
		if set[i].key.Load() != key {
			continue
		}
		if cell := set[i].cell.Load(); set[i].key.Load() == key { // else it has just become another's
			return cell
		}
	}
	return 0
}

// most returns the number of a key if its window has not ended.
func (c *counters) most(key uint64) int { return int(c.cell(key) & countMask) }

// count returns the number of a key at a time in milliseconds, and how long
// its window goes on.
func (c *counters) count(key uint64, now int64, window time.Duration) (n int, left time.Duration) {
	return unpack(c.cell(key), now, window)
}

// add counts one failure of a key, and returns its new number.
func (c *counters) add(key uint64, now int64, window time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := &c.sets[key%counterSets]
	least, fewest := 0, countMask+1
	for i := range set {
		old := set[i].cell.Load()
		n, _ := unpack(old, now, window)
		if set[i].key.Load() == key {
			if n == 0 {
				old = pack(now, 0)
			}
			n = min(n+1, countMask)
			set[i].cell.Store(old&^countMask | uint64(n)) //nolint:gosec // not negative
			return n
		}
		if n < fewest {
			least, fewest = i, n
		}
	}
	set[least].cell.Store(0) // before the key: nobody may read it as the new one's
	set[least].key.Store(key)
	set[least].cell.Store(pack(now, 1))
	return 1
}

// forget makes a key one that has not failed, and reports whether it had.
func (c *counters) forget(key uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	set := &c.sets[key%counterSets]
	for i := range set {
		if set[i].key.Load() == key {
			return set[i].cell.Swap(0)&countMask > 0
		}
	}
	return false
}

// keys yields the keys for which there is a place, failed lately or not.
func (c *counters) keys(yield func(key uint64) bool) {
	for i := range c.sets {
		for j := range c.sets[i] {
			if key := c.sets[i][j].key.Load(); key != 0 && !yield(key) {
				return
			}
		}
	}
}

// pack returns a cell with a window that begins at start.
func pack(start int64, n int) uint64 {
	return uint64(start+timeBias)<<countBits | uint64(n) //nolint:gosec // the lower bits of start are all there is
}

// unpack returns the count of a cell and how long its window goes on. Both are
// 0 when that is over, or begins so far in the future that the clock must have
// been set back.
func unpack(cell uint64, now int64, window time.Duration) (n int, left time.Duration) {
	start := int64(cell>>countBits) - timeBias
	age := time.Duration(now-start) * time.Millisecond
	if cell&countMask == 0 || age >= window || age < -window {
		return 0, 0
	}
	return int(cell & countMask), window - age
}
