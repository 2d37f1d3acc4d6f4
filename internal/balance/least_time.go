package balance

import (
	"sync"
	"time"
)

// leastTime chooses the member with the least cost. The cost is the average time to
// the first byte, multiplied by the number of requests that would then be under way,
// and divided by the weight.
//
// A member that always costs more would never be measured again. So members without
// requests under way also take turns with the member of the least cost, by smooth
// weighted round robin: one that costs nine times as much gets one request in ten.
type leastTime struct {
	mu sync.Mutex
	weights
	gained []int64
	costs  []float64
}

func newLeastTime(members []member, slowStart time.Duration) *leastTime {
	return &leastTime{weights: newWeights(members, slowStart), gained: make([]int64, len(members)), costs: make([]float64, len(members))}
}

const (
	// leastTimeUnit is added to each time. So differences that are small compared
	// with it do not matter. nginx counts in the same unit.
	leastTimeUnit = 20 * time.Millisecond

	// leastTimeTurn is the share of the member with the least cost when members
	// take turns. The costs of members differ by less than this.
	leastTimeTurn = 1 << 40
)

// choose implements chooser.
func (b *leastTime) choose(r Request) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(&r)
	least := -1
	for i, w := range b.current {
		if w == 0 {
			continue
		}
		m := &b.members[i]
		average := m.time.Average(r.Now) + leastTimeUnit
		conns := r.conns(m)
		b.costs[i] = float64(average) * float64(1+conns) / float64(w)
		if conns > 0 {
			b.current[i] = busy
		}
		if least < 0 || b.costs[i] < b.costs[least] {
			least = i
		}
	}
	if least < 0 {
		return -1
	}
	cost := b.costs[least]
	for i, w := range b.current {
		switch {
		case w == 0:
		case w == busy && b.costs[i] != cost:
			b.current[i] = 0
		default:
			b.current[i] = max(int64(leastTimeTurn*(cost/b.costs[i])), 1)
		}
	}
	return takeTurn(b.current, b.gained)
}

// busy is the weight of a member with requests under way until the least cost is
// known.
const busy = -1
