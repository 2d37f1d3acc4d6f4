package caddyhtpasswd

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// groupBalancer shares requests among the members of one tier.
// It is used by many requests at once.
type groupBalancer interface {
	// choose returns the index of a member that can take the request, or -1 if
	// there is none.
	choose(c choice) int
}

// balanceMethods has the constructor of each method. The members are never
// empty; start says where in its order a balancer begins that has one.
var balanceMethods = map[string]func(g *UpstreamGroup, members []groupMember, start uint64) groupBalancer{
	"round_robin": func(g *UpstreamGroup, members []groupMember, start uint64) groupBalancer {
		return newSmoothRoundRobin(members, time.Duration(g.SlowStart), start)
	},
	"least_conn": func(g *UpstreamGroup, members []groupMember, _ uint64) groupBalancer {
		return newLeastConn(members, time.Duration(g.SlowStart))
	},
	"ip_hash": func(_ *UpstreamGroup, members []groupMember, start uint64) groupBalancer {
		return newIPHash(members, start)
	},
	"hash": func(g *UpstreamGroup, members []groupMember, start uint64) groupBalancer {
		return newConsistentHash(members, g.HashKey, start)
	},
	"random": func(_ *UpstreamGroup, members []groupMember, _ uint64) groupBalancer {
		return newRandomTwo(members, rand.Uint64)
	},
}

// balanceMethodNames lists the methods for error messages.
func balanceMethodNames() string {
	var names []string
	for name := range balanceMethods {
		if name == "hash" {
			name = "hash <key>"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// groupMember is one server of a tier.
type groupMember struct {
	index  int          // in the pool
	weight int          // at least 1
	down   bool         // switched off; it is here since ip_hash leaves it its clients' places
	hash   uint64       // of its address: the same wherever and whenever Caddy runs
	state  *serverState // for slow_start
	// It was unhealthy when it was looked at last. That depends on the health
	// checks of the handler, so each has its own.
	wasAway *atomic.Bool
}

// choice is one request that a server is to be chosen for.
type choice struct {
	pool    reverseproxy.UpstreamPool
	request *http.Request
	tried   *triedServers // nil for none
}

// canTake reports whether a member can take the request.
func (c *choice) canTake(m *groupMember) bool {
	upstream := c.pool[m.index]
	return !m.down && upstream.Available() && !c.tried.has(upstream)
}

// conns returns how many requests a member has at the moment.
func (c *choice) conns(m *groupMember) int64 { return int64(c.pool[m.index].NumRequests()) }

// triedServers are the servers that a request was sent to already.
type triedServers struct {
	request *http.Request
	servers []*reverseproxy.Upstream
}

// has reports whether a server is among them. Those of a dynamic source are others
// each time, with the same address.
func (t *triedServers) has(u *reverseproxy.Upstream) bool {
	return t != nil && slices.ContainsFunc(t.servers, func(tried *reverseproxy.Upstream) bool { return tried == u || tried.Dial == u.Dial })
}

// serverState is what slow_start knows of a server. It outlives reloads, and is
// the same for all groups.
type serverState struct {
	since atomic.Int64 // when it came back, in nanoseconds since 1970; 0 if it was never away
}

// Destruct implements caddy.Destructor.
func (*serverState) Destruct() error { return nil }

// observe notes whether the server is healthy, and returns what part of
// its weight it has by now, in thousandths.
func (m *groupMember) observe(c *choice, now time.Time, slowStart time.Duration) int {
	if !c.pool[m.index].Healthy() {
		m.wasAway.Store(true)
		return 0
	}
	if m.wasAway.Load() && m.wasAway.CompareAndSwap(true, false) {
		m.state.since.Store(now.UnixNano())
	}
	since := m.state.since.Load()
	age := time.Duration(now.UnixNano() - since)
	switch {
	case since == 0 || age >= slowStart:
		return wholeWeight
	case age < 0: // the clock was set back
		m.state.since.Store(0)
		return wholeWeight
	}
	return max(int(age*wholeWeight/slowStart), 1)
}

// wholeWeight is the weight of a server of weight 1 that is not starting
// slowly, where some may be.
const wholeWeight = 1000

// weights are those of the members of a tier at the moment.
type weights struct {
	members   []groupMember
	slowStart time.Duration // 0: off
	now       func() time.Time

	whole   []int64 // those of all members when none starts slowly
	current []int64 // those for one choice; 0 for a member that can't take it
}

func newWeights(members []groupMember, slowStart time.Duration) weights {
	w := weights{members: members, slowStart: slowStart, now: time.Now, current: make([]int64, len(members))}
	for _, m := range members {
		switch {
		case m.down:
			w.whole = append(w.whole, 0)
		case slowStart > 0:
			w.whole = append(w.whole, int64(m.weight)*wholeWeight)
		default:
			w.whole = append(w.whole, int64(m.weight))
		}
	}
	return w
}

// areWhole reports whether all members that are not switched off can take the
// request, with all of their weights.
func (w *weights) areWhole(c *choice) bool {
	for i := range w.members {
		if m := &w.members[i]; !m.down && !c.canTake(m) {
			return false
		}
	}
	return w.slowStart == 0 || w.noneStarts(c)
}

// noneStarts reports whether no member starts slowly.
func (w *weights) noneStarts(c *choice) bool {
	now := w.now()
	for i := range w.members {
		m := &w.members[i]
		if !m.down && m.observe(c, now, w.slowStart) != wholeWeight {
			return false
		}
	}
	return true
}

// take fills in the current weights.
func (w *weights) take(c *choice) {
	var now time.Time
	if w.slowStart > 0 {
		now = w.now()
	}
	for i := range w.members {
		m := &w.members[i]
		w.current[i] = 0
		part := wholeWeight
		if w.slowStart > 0 && !m.down {
			part = m.observe(c, now, w.slowStart)
		}
		if !c.canTake(m) {
			continue
		}
		w.current[i] = w.whole[i]
		if part != wholeWeight {
			w.current[i] = max(w.whole[i]*int64(part)/wholeWeight, 1)
		}
	}
}

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
func newSmoothRoundRobin(members []groupMember, slowStart time.Duration, start uint64) *smoothRoundRobin {
	rr := &smoothRoundRobin{weights: newWeights(members, slowStart), gained: make([]int64, len(members))}
	var divisor, period int64
	for _, w := range rr.whole {
		divisor = greatestDivisor(w, divisor)
		period += w
	}
	if divisor > 0 {
		period /= divisor
	}
	if period == 0 || period > maxRoundRobinOrder || period > maxRoundRobinWork/int64(len(members)) {
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
		rr.order[i] = uint16(takeTurn(rr.whole, gained)) //nolint:gosec // no more members than turns, so below 1 << 16
	}
	return rr
}

// choose implements groupBalancer.
func (rr *smoothRoundRobin) choose(c choice) int {
	if rr.order != nil && rr.areWhole(&c) {
		return int(rr.order[(rr.cursor.Add(1)-1)%uint64(len(rr.order))])
	}
	rr.mu.Lock()
	defer rr.mu.Unlock()
	rr.take(&c)
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

// leastConn chooses the member with the fewest requests at the moment, in
// proportion to the weights; of several, by smooth weighted round robin, as
// nginx does.
type leastConn struct {
	mu sync.Mutex
	weights
	gained []int64
	conns  []int64
}

func newLeastConn(members []groupMember, slowStart time.Duration) *leastConn {
	return &leastConn{weights: newWeights(members, slowStart), gained: make([]int64, len(members)), conns: make([]int64, len(members))}
}

// choose implements groupBalancer.
func (b *leastConn) choose(c choice) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.take(&c)
	least := -1
	for i, w := range b.current {
		if w == 0 {
			continue
		}
		b.conns[i] = c.conns(&b.members[i])
		if least < 0 || b.conns[i]*b.current[least] < b.conns[least]*w {
			least = i
		}
	}
	if least < 0 {
		return -1
	}
	fewest, per := b.conns[least], b.current[least]
	for i, w := range b.current {
		if w != 0 && b.conns[i]*per != fewest*w {
			b.current[i] = 0
		}
	}
	return takeTurn(b.current, b.gained)
}

// randomTwo draws two members by their weights, and chooses the one with fewer
// requests at the moment, in proportion to the weights.
type randomTwo struct {
	members []groupMember
	upTo    []int // weights, added up
	random  func() uint64
}

func newRandomTwo(members []groupMember, random func() uint64) *randomTwo {
	b := &randomTwo{members: members, random: random}
	total := 0
	for _, m := range members {
		total += m.weight
		b.upTo = append(b.upTo, total)
	}
	return b
}

// choose implements groupBalancer.
func (b *randomTwo) choose(c choice) int {
	one := b.draw(&c, -1)
	if one < 0 {
		return -1
	}
	two := b.draw(&c, one)
	if two < 0 {
		return one
	}
	if c.conns(&b.members[two])*int64(b.members[one].weight) < c.conns(&b.members[one])*int64(b.members[two].weight) {
		return two
	}
	return one
}

// randomDraws is how often to draw before the members that can take the
// request are looked for.
const randomDraws = 8

// draw draws one of the members that can take the request but for one, or -1
// if there is none.
func (b *randomTwo) draw(c *choice, but int) int {
	for range randomDraws {
		place, _ := slices.BinarySearch(b.upTo, b.below(b.upTo[len(b.upTo)-1])+1)
		if place != but && c.canTake(&b.members[place]) {
			return place
		}
	}
	total := 0
	for i := range b.members {
		if m := &b.members[i]; i != but && c.canTake(m) {
			total += m.weight
		}
	}
	if total == 0 {
		return -1
	}
	left, last := b.below(total), -1
	for i := range b.members {
		if m := &b.members[i]; i != but && c.canTake(m) {
			last = i
			if left -= m.weight; left < 0 {
				break
			}
		}
	}
	return last // another than drawn only if one has just become unavailable
}

// below returns a random number from 0 to n-1. n is so far below 2^64 that
// all come equally often.
func (b *randomTwo) below(n int) int { return int(b.random() % uint64(n)) } //nolint:gosec // n is above zero

// Interface guards
var (
	_ groupBalancer    = (*smoothRoundRobin)(nil)
	_ groupBalancer    = (*leastConn)(nil)
	_ groupBalancer    = (*randomTwo)(nil)
	_ caddy.Destructor = (*serverState)(nil)
)
