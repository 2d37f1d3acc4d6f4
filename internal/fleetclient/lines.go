package fleetclient

import (
	"time"

	"go.uber.org/zap"
)

const (
	eventsGrace  = 5 * time.Second  // without a subscription, before it is logged
	lineBurst    = 4                // lines
	lineInterval = 30 * time.Second // in which one further line is allowed
)

// state of the store, as it is logged.
type state uint8

const (
	works    state = iota
	noEvents       // calls work, but there is no subscription
	down
)

// lines decides which changes are logged: the last state always is, but if it changes
// often, changes between are not.
type lines struct {
	logged state
	since  time.Time // of the line before
	used   time.Time // until when the lines so far are paid for
}

// state returns the state now. c.mu is locked.
func (c *Client) state() state {
	switch {
	case c.isDown:
		return down
	case !c.subscribed:
		return noEvents
	}
	return works
}

// next returns the time until a line about a state is to be logged, if it is.
func (l *lines) next(now state, at, unsubbed time.Time) (wait time.Duration, isNeeded bool) {
	if now == l.logged {
		return 0, false
	}
	due := l.used.Add(-(lineBurst - 1) * lineInterval)
	if grace := unsubbed.Add(eventsGrace); now == noEvents && grace.After(due) {
		due = grace
	}
	return max(due.Sub(at), 0), true
}

// log logs the state if it has changed.
func (c *Client) log() {
	c.mu.Lock()
	now, at := c.state(), time.Now()
	wait, isNeeded := c.lines.next(now, at, c.unsubbed)
	if !isNeeded || wait > 0 || c.isClosed {
		c.mu.Unlock()
		return
	}
	before := c.lines.since
	used := c.lines.used
	if used.Before(at) {
		used = at
	}
	c.lines = lines{logged: now, since: at, used: used.Add(lineInterval)}
	callErr, eventErr, unsent := c.callErr, c.eventErr, c.kept.sum()
	c.mu.Unlock()
	switch now {
	case down:
		c.config.Logger().Warn("fleet store unavailable; counting failed logins on this server only", zap.Error(callErr))
	case noEvents:
		c.config.Logger().Warn("fleet store delivers no events; limits and files of other servers arrive late", zap.Error(eventErr))
	case works:
		c.config.Logger().Info("fleet store available again", zap.Duration("after", at.Sub(before)), zap.Int("unsent", unsent))
	}
}
