package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// smoothRoundRobin is nginx's smooth weighted round robin: for each choice, every
// available member gains its weight. The first member with the highest sum is chosen,
// and pays the total of all gains.
//
// While all members are available, the order repeats. So one period of it is stored
// in a table, and choosing takes no lock. While some are not available, it is computed
// for the others under a lock.
type smoothRoundRobin struct {
	order  []uint16 // one period, as indexes of members; nil if it is too long
	cursor atomic.Uint64

	weights // guarded by mu, except for areWhole
	mu      sync.Mutex
	gained  []int64 // by each member, minus what it paid
}

// Bounds of the table's size, and of the work to create it: some milliseconds.
const (
	maxRoundRobinOrder = 1 << 16
	maxRoundRobinWork  = 1 << 22
)

// newSmoothRoundRobin returns a round robin that begins at the given position.
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

// takeTurn makes one choice among the members with a weight, and returns the index of
// the chosen one, or -1 if there is none.
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
