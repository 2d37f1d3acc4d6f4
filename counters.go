package caddyhtpasswd

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	counterRows = 4
	counterBits = 16 // of a key, for the position in each row
	counterMask = 1<<counterBits - 1

	countBits = 24 // of a cell; the rest is the time when its window began
	countMask = 1<<countBits - 1
	timeBits  = 64 - countBits
	timeBias  = 1 << (timeBits - 1) // the clock can be set back before its beginning

	_ uint = countMask - maxFailures // a count must fit
)

// counters count failures by key in an array that never grows: each key has a
// cell in each row, which it shares with others at random, and the least of
// them is its number (a count-min sketch). That is never too low. It is too high
// only if other keys have raised its cell in every row: to use up a budget so
// takes about a million failures in one window. The keys are of a hash that
// nobody outside can predict.
//
// Reading takes no lock.
type counters struct {
	mu    sync.Mutex
	cells [counterRows][1 << counterBits]atomic.Uint64
}

func (c *counters) cell(row int, key uint64) *atomic.Uint64 {
	return &c.cells[row][key>>(row*counterBits)&counterMask]
}

// most returns the number of a key if no window has ended.
func (c *counters) most(key uint64) int {
	n := uint64(math.MaxUint64)
	for row := range counterRows {
		n = min(n, c.cell(row, key).Load()&countMask)
	}
	return int(n)
}

// count returns the number of a key at a time in milliseconds, and how long
// the first of its windows goes on.
func (c *counters) count(key uint64, now int64, window time.Duration) (n int, left time.Duration) {
	n, left = math.MaxInt, math.MaxInt64
	for row := range counterRows {
		inRow, leftInRow := unpack(c.cell(row, key).Load(), now, window)
		n, left = min(n, inRow), min(left, leftInRow)
	}
	return n, left
}

// add counts one failure of a key, and returns its new number. Of its cells
// only those are raised that would be too low.
func (c *counters) add(key uint64, now int64, window time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, _ := c.count(key, now, window)
	after := min(before+1, countMask)
	for row := range counterRows {
		cell := c.cell(row, key)
		old := cell.Load()
		switch n, _ := unpack(old, now, window); {
		case n == 0:
			cell.Store(pack(now, after))
		case n < after:
			cell.Store(old&^countMask | uint64(after)) //nolint:gosec // not negative
		}
	}
	return after
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
