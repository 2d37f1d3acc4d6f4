package fleetclient

import (
	"context"
	"errors"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// watch calls Ping while the store is down, sends what was kept, and logs changes.
func (c *Client) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		if c.isDue() && c.ping() {
			c.flush()
		}
		c.log()
		if wait, isNeeded := c.next(); isNeeded {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// isDue reports whether to call Ping now.
func (c *Client) isDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.check || c.isDown && !time.Now().Before(c.pingAt)
}

// next returns the time until watch has something to do.
func (c *Client) next() (wait time.Duration, isNeeded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait, isNeeded = c.lines.next(c.state(), time.Now(), c.unsubbed)
	if c.isDown {
		if untilPing := time.Until(c.pingAt); !isNeeded || untilPing < wait {
			wait, isNeeded = untilPing, true
		}
	}
	return max(wait, 0), isNeeded
}

// ping reports whether the store works. Its first answer may take longer than a login
// waits, because the store may have to connect.
func (c *Client) ping() bool {
	c.mu.Lock()
	c.check = false
	period := c.period
	c.mu.Unlock()
	begin := time.Now()
	err := c.pingWithin(backgroundTimeout)
	isUnreachable := err != nil
	if err == nil && time.Since(begin) > c.config.Timeout {
		err = c.pingWithin(c.config.Timeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		return false
	}
	now := time.Now()
	c.isUnreachable = isUnreachable
	switch {
	case err != nil && c.isDown:
		c.lastErr, c.callErr = err, err
		c.pingAt = now.Add(c.config.Retry)
		c.kept.sweep(now)
	case err != nil:
		c.lost(period, err)
	case c.isDown && c.period == period:
		c.isDown = false
		c.unsubbed = now // a subscription can only succeed from now on
		c.changed()
	}
	return !c.isDown
}

// pingWithin calls Ping.
func (c *Client) pingWithin(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(c.ctx, timeout)
	defer cancel()
	err := safely(func() error { return c.config.Store.Ping(ctx) })
	if errors.Is(err, context.DeadlineExceeded) {
		return &noAnswerError{timeout, err}
	}
	return err
}

// flush sends what was kept, until a call fails. What was in that call is lost, because it
// may have been counted.
func (c *Client) flush() {
	for {
		c.mu.Lock()
		period := c.period
		var batch []fleet.Addition
		if !c.isDown {
			batch = c.kept.take(flushSize, time.Now())
		}
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		counts, err := c.add(batch, backgroundTimeout)
		c.end(period, err)
		if err != nil {
			c.mu.Lock()
			for _, a := range batch {
				c.dropped += uint64(a.N) //nolint:gosec // not negative
			}
			c.mu.Unlock()
			return
		}
		for i, count := range counts {
			c.config.Counted(batch[i].Counter, count)
		}
	}
}
