package balance

import (
	"sync/atomic"
	"time"
)

// ResponseTime is the average time that a server takes to the first byte of a
// response. Groups can share it, also across a reload of the configuration. The zero
// value is for a server that was never measured. It is safe for concurrent use.
type ResponseTime struct {
	average atomic.Int64 // in nanoseconds; 0: never measured
	at      atomic.Int64 // when it was last measured, in nanoseconds since 1970
}

const (
	// responseTimeShare is the share of a new measurement: an eighth.
	responseTimeShare = 8

	// maxResponseTime is what a longer time counts as, as in nginx. So one
	// response that took minutes does not decide for hours.
	maxResponseTime = 5 * time.Second

	// responseTimeAge is how long it takes for an average to halve, if there are
	// no measurements. So a server that was slow is tried again.
	responseTimeAge = 10 * time.Second
)

// Add records a response. The time is as returned by time.Time.UnixNano.
func (t *ResponseTime) Add(took time.Duration, now int64) {
	sample := int64(min(max(took, 1), maxResponseTime))
	for {
		old := t.average.Load()
		next := sample
		if old > 0 {
			aged := int64(t.after(old, now-int64(took))) // until the request began
			next = max(aged+(sample-aged)/responseTimeShare, 1)
		}
		if t.average.CompareAndSwap(old, next) {
			t.at.Store(now)
			return
		}
	}
}

// Average returns the average at a time, or 0 for a server that was never measured.
func (t *ResponseTime) Average(now int64) time.Duration {
	average := t.average.Load()
	if average == 0 {
		return 0
	}
	return t.after(average, now)
}

// after returns what is left of an average.
func (t *ResponseTime) after(average, now int64) time.Duration {
	at := t.at.Load()
	age := time.Duration(now - at)
	if age < -maxRequestDelay && t.at.CompareAndSwap(at, now) { // the clock was set back
		return time.Duration(average)
	}
	if age < responseTimeAge {
		return time.Duration(average)
	}
	return time.Duration(average) >> min(age/responseTimeAge, 62)
}
