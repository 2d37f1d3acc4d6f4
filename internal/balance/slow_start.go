package balance

import (
	"sync/atomic"
	"time"
)

// Recovery is what slow start knows of a server. It may be shared by groups, also
// with those of the active configuration after a reload. The zero value is for a
// server that was never away.
type Recovery struct {
	since atomic.Int64 // when it came back, in nanoseconds since 1970; 0 if it was never away
}

// wholeWeight is the weight of a server of weight 1 that is not starting
// slowly, where some may be.
const wholeWeight = 1000

// maxRequestDelay is how much older than a recovery the time of a request can be
// that has waited for its turn since. An older one says that the clock was set back.
const maxRequestDelay = time.Second

// observe notes whether the server is healthy, and returns what part of its weight
// it has by now, in thousandths.
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
