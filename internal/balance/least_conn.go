package balance

import (
	"sync"
	"time"
)

// leastConn chooses the member with the fewest current requests, relative to its
// weight. Among equal members it chooses by smooth weighted round robin, as nginx
// does.
type leastConn struct {
	mu sync.Mutex
	weights
	gained []int64
	conns  []int64
}

func newLeastConn(members []member, slowStart time.Duration) *leastConn {
	return &leastConn{weights: newWeights(members, slowStart), gained: make([]int64, len(members)), conns: make([]int64, len(members))}
}

// choose implements chooser.
func (b *leastConn) choose(r Request) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(&r)
	least, fewest, per := -1, int64(0), int64(0)
	for i, w := range b.current {
		if w == 0 {
			continue
		}
		n := r.conns(&b.members[i])
		b.conns[i] = n
		if least < 0 || n*per < fewest*w {
			least, fewest, per = i, n, w
		}
	}
	if least < 0 {
		return -1
	}
	// All members before least have more requests, so equal ones come after it.
	current, conns := b.current[least:], b.conns[least:]
	for i, w := range current {
		if conns[i]*per != fewest*w {
			current[i] = 0
		}
	}
	return least + takeTurn(current, b.gained[least:])
}
