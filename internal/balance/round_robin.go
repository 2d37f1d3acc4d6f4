package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// smoothRoundRobin is nginx's smooth weighted round robin: at each turn every
// available member gains its weight, the first one with the most is chosen
// and pays what all have gained.
//
// While all members are available the order repeats, so one period of it is
// kept as a table, and choosing takes no lock. When some are not available,
// the turns are taken over those that are, under a lock.
type smoothRoundRobin struct {
	order  []uint16 // one period, as indexes of members; nil if that is too long
	cursor atomic.Uint64

	weights // under mu, but for areWhole
	mu      sync.Mutex
	gained  []int64 // by each member, and not paid
}

// Bounds of the table's size and of the work to make it, which the first
// request waits for: some milliseconds.
const (
	maxRoundRobinOrder = 1 << 16
	maxRoundRobinWork  = 1 << 22
)

// newSmoothRoundRobin makes a round robin that begins at the given turn.
func newSmoothRoundRobin(members []member, slowStart time.Duration, start uint64) *smoothRoundRobin {
	rr := &smoothRoundRobin{weights: newWeights(members, slowStart), gained: make([]int64, len(members))}
	var divisor, period int64
	for _, w := range rr.whole {
		divisor = greatestDivisor(w, divisor)
		period += w
	}
	if divisor > 0 {
		period /= divisor
	}
	if period == 0 || max(period, int64(len(members))) > maxRoundRobinOrder || period > maxRoundRobinWork/int64(len(members)) {
		return rr
	}
	turn := int(start % uint64(period)) //nolint:gosec // below the period
	rr.cursor.Store(uint64(turn))
	rr.order = make([]uint16, period)
	gained := make([]int64, len(members))
	for i := range rr.order {
		if i == turn {
			copy(rr.gained, gained)
		}
		rr.order[i] = uint16(takeTurn(rr.whole, gained)) //nolint:gosec // below 1 << 16, as members are
	}
	return rr
}

// choose implements chooser.
func (rr *smoothRoundRobin) choose(r Request) int {
	if rr.order != nil && rr.areWhole(&r) {
		return int(rr.order[(rr.cursor.Add(1)-1)%uint64(len(rr.order))])
	}
	rr.mu.Lock()
	defer rr.mu.Unlock()
	rr.take(&r)
	return takeTurn(rr.current, rr.gained)
}

// takeTurn takes a turn over the members that have a weight, and returns the
// index of the chosen one, or -1 if there is none.
func takeTurn(weights, gained []int64) int {
	best, total := -1, int64(0)
	for i, w := range weights {
		if w == 0 {
			continue
		}
		gained[i] += w
		total += w
		if best < 0 || gained[i] > gained[best] {
			best = i
		}
	}
	if best >= 0 {
		gained[best] -= total
	}
	return best
}

// greatestDivisor returns the greatest common divisor of a and b.
func greatestDivisor(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
