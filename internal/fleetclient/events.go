package fleetclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// Publish sends an event in the background. The event must not be changed afterwards.
func (c *Client) Publish(event []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isDown || len(event) > fleet.MaxEvent {
		c.dropped++
		c.skipped++
		return
	}
	select {
	case c.events <- event:
	default:
		c.dropped++
		c.skipped++
	}
}

// publish sends events.
func (c *Client) publish() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case event := <-c.events:
			c.send(event)
		}
	}
}

// send sends one event, unless the store is down.
func (c *Client) send(event []byte) {
	c.mu.Lock()
	period, isDown := c.period, c.isDown
	if isDown {
		c.dropped++
		c.skipped++
	}
	c.mu.Unlock()
	if isDown {
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, backgroundTimeout)
	defer cancel()
	begin := time.Now()
	err := safely(func() error { return c.config.Store.Publish(ctx, event) })
	c.config.Durations.Observe(time.Since(begin).Seconds())
	if errors.Is(err, context.DeadlineExceeded) {
		err = &noAnswerError{backgroundTimeout, err}
	}
	c.end(period, err)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dropped++
	}
}

// errNoEvents is the error of a store that gives up a subscription by itself.
var errNoEvents = errors.New("the store ended the subscription")

// subscribe receives events until Close. A store that gives up is asked again.
func (c *Client) subscribe() {
	for c.ctx.Err() == nil {
		err := safely(func() error {
			c.config.Store.Subscribe(c.ctx, fleet.Subscriber{Event: c.config.Event, Connected: c.subscriptionMade, Disconnected: c.subscriptionLost})
			return errNoEvents
		})
		if c.ctx.Err() != nil {
			return
		}
		c.subscriptionLost(err)
		select {
		case <-c.ctx.Done():
		case <-time.After(c.config.Retry):
		}
	}
}

// subscriptionMade is called when events are received, or are received again.
func (c *Client) subscriptionMade() {
	c.mu.Lock()
	c.subscribed = true
	c.changed()
	c.mu.Unlock()
	c.config.Connected()
}

// subscriptionLost is called when no events are received any more. The store may be down,
// so it is looked at before a login finds out.
func (c *Client) subscriptionLost(err error) {
	if err == nil {
		err = errNoEvents
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eventErr = fmt.Errorf("no events: %w", err)
	c.lastErr = c.eventErr
	if c.subscribed {
		c.subscribed, c.unsubbed = false, time.Now()
		c.check = c.check || !c.isDown
	}
	c.changed()
}
