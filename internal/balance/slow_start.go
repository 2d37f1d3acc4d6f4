package balance

import (
	"sync/atomic"
	"time"
)

// Recovery is the state of slow start of a server. Groups can share it, also across a
// reload of the configuration. The zero value is for a server that was never
// unhealthy.
type Recovery struct {
	since atomic.Int64 // when it became healthy again, in nanoseconds since 1970; 0 if it never was unhealthy
}

// wholeWeight is the scaled weight of a server of weight 1 that is not starting
// slowly.
const wholeWeight = 1000

// maxRequestDelay is how much older than a recovery the time of a request can be,
// since requests are delayed. If it is older, the clock was set back.
const maxRequestDelay = time.Second

// observe records whether the server is healthy, and returns its current part of its
// weight, in thousandths.
func (m *member) observe(r *Request, slowStart time.Duration) int {
	if !r.Servers[m.index].Healthy() {
		m.wasAway.Store(true)
		return 0
	}
	if m.wasAway.Load() && m.wasAway.CompareAndSwap(true, false) {
		m.recovery.since.Store(r.Now)
	}
	since := m.recovery.since.Load()
	age := time.Duration(r.Now - since)
	switch {
	case since == 0 || age >= slowStart:
		return wholeWeight
	case age < -maxRequestDelay: // the clock was set back
		m.recovery.since.Store(0)
		return wholeWeight
	}
	return max(int(age*wholeWeight/slowStart), 1)
}
