package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

const (
	// pingInterval is how often a subscription without events is tested.
	pingInterval = time.Second
	// maxSilence is how long a subscription may be without events and answers.
	maxSilence = 3 * time.Second
	// reconnectPause is the time between the end of a subscription and the next one.
	reconnectPause = time.Second
)

// channel is the name of the channel of events.
func (s *store) channel() string { return s.prefix + "events" }

// Publish implements fleet.Store.
func (s *store) Publish(ctx context.Context, event []byte) error {
	c := &command{key: s.channel(), args: []any{"publish", s.channel(), event}}
	_, err := do(ctx, s, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.run(ctx, []*command{c})
	})
	return err
}

// Subscribe implements fleet.Store.
func (s *store) Subscribe(ctx context.Context, to fleet.Subscriber) {
	for ctx.Err() == nil {
		err := s.receive(ctx, to)
		if ctx.Err() != nil {
			return
		}
		to.Disconnected(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectPause):
		}
		limited, cancel := context.WithTimeout(ctx, maxSilence)
		s.servers.refresh(limited)
		cancel()
	}
}

// receive subscribes, and receives events until the connection is lost. The client would
// connect again by itself, without telling so.
func (s *store) receive(ctx context.Context, to fleet.Subscriber) error {
	subscription, err := s.subscribe(ctx)
	if err != nil {
		return err
	}
	defer subscription.Close() //nolint:errcheck // unused
	defer context.AfterFunc(ctx, func() { _ = subscription.Close() })()

	heard := time.Now()
	for isConnected := false; ; {
		message, err := next(ctx, subscription)
		var timeout net.Error
		switch {
		case err == nil:
			heard = time.Now()
		case !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil:
			return err
		case time.Since(heard) >= maxSilence:
			return fmt.Errorf("no answer from Redis for %s", maxSilence)
		case isConnected:
			if err := subscription.Ping(ctx); err != nil {
				return err
			}
		}
		switch message := message.(type) {
		case *goredis.Subscription:
			if !isConnected {
				isConnected = true
				to.Connected()
			}
		case *goredis.Message:
			if ctx.Err() == nil && message.Channel == s.channel() {
				to.Event([]byte(message.Payload))
			}
		}
	}
}

// subscribe connects and asks for events.
func (s *store) subscribe(ctx context.Context) (*goredis.PubSub, error) {
	ctx, cancel := context.WithTimeout(ctx, maxSilence)
	defer cancel()
	client, err := do(ctx, s, func(ctx context.Context) (*goredis.Client, error) { return s.servers.forKey(ctx, s.channel()) })
	if err != nil {
		return nil, err
	}
	subscription := client.Subscribe(ctx)
	if err := subscription.Subscribe(ctx, s.channel()); err != nil {
		_ = subscription.Close()
		return nil, err
	}
	return subscription, nil
}

// next returns the next message. The limit of ctx is for the client, which connects again
// before it returns an error.
func next(ctx context.Context, subscription *goredis.PubSub) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*pingInterval)
	defer cancel()
	return subscription.ReceiveTimeout(ctx, pingInterval)
}
