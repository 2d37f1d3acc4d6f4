package fleetclient

import (
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// kept has the failed logins that were not sent, at most MaxKept counters.
type kept map[fleet.Counter]failures

// failures of one counter in one window.
type failures struct {
	first time.Time
	n     int
}

// hasEnded reports whether the window that began with the first failure has ended.
func (f failures) hasEnded(window time.Duration, now time.Time) bool {
	return now.Sub(f.first) >= window
}

// add keeps a failed login, or returns false if there is no room.
func (k kept) add(counter fleet.Counter, now time.Time) bool {
	f, isKnown := k[counter]
	if !isKnown && len(k) >= MaxKept {
		return false
	}
	if !isKnown || f.hasEnded(counter.Window, now) {
		f = failures{first: now}
	}
	f.n++
	k[counter] = f
	return true
}

// sweep removes failed logins whose window has ended.
func (k kept) sweep(now time.Time) {
	for counter, f := range k {
		if f.hasEnded(counter.Window, now) {
			delete(k, counter)
		}
	}
}

// take removes failed logins of up to a number of counters, and returns those whose window
// has not ended.
func (k kept) take(counters int, now time.Time) (taken []fleet.Addition) {
	for counter, f := range k {
		delete(k, counter)
		if f.hasEnded(counter.Window, now) {
			continue
		}
		taken = append(taken, fleet.Addition{Counter: counter, N: f.n, Age: now.Sub(f.first)})
		if len(taken) == counters {
			break
		}
	}
	return taken
}

// sum returns the number of failed logins.
func (k kept) sum() (n int) {
	for _, f := range k {
		n += f.n
	}
	return n
}
