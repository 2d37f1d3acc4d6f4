package storetest

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// listener is a subscriber.
type listener struct {
	connected chan struct{}
	events    chan string
	ended     chan struct{}
	busy      atomic.Bool
}

func listen(ctx context.Context, t *testing.T, s fleet.Store) *listener {
	l := &listener{make(chan struct{}, 100), make(chan string, 1000), make(chan struct{}), atomic.Bool{}}
	alone := func(call func()) {
		if !l.busy.CompareAndSwap(false, true) {
			t.Error("calls of a subscriber's functions overlap")
		}
		call()
		l.busy.Store(false)
	}
	go func() {
		defer close(l.ended)
		s.Subscribe(ctx, fleet.Subscriber{
			Event:        func(event []byte) { alone(func() { l.events <- string(event) }) },
			Connected:    func() { alone(func() { l.connected <- struct{}{} }) },
			Disconnected: func(err error) { alone(func() { t.Logf("disconnected: %v", err) }) },
		})
	}()
	return l
}

// next returns the next event that the test has sent: it contains its mark.
func (l *listener) next(t *testing.T, mark string) string {
	t.Helper()
	for {
		select {
		case event := <-l.events:
			if strings.Contains(event, mark) {
				return event
			}
		case <-time.After(patience):
			t.Fatal("the event did not arrive")
		}
	}
}

// testEvents tests that all subscribers receive events, in order, with any bytes and of
// any size, and until their context is done.
func testEvents(t *testing.T, connect func(*testing.T) fleet.Store) {
	a, b := connect(t), connect(t)
	first, cancelFirst := context.WithCancel(t.Context())
	second, cancelSecond := context.WithCancel(t.Context())
	defer cancelFirst()
	defer cancelSecond()
	listeners := []*listener{listen(first, t, a), listen(second, t, b)}
	for _, l := range listeners {
		select {
		case <-l.connected:
		case <-time.After(patience):
			t.Fatal("Connected was not called")
		}
	}
	mark := newName()
	largest := append([]byte(mark), bytes.Repeat([]byte{0, 255, '\r', '\n'}, fleet.MaxEvent/4)...)[:fleet.MaxEvent]
	for i, event := range [][]byte{[]byte(mark), largest, []byte(mark + "\x00\xff")} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		must(t, []fleet.Store{a, b}[i%2].Publish(ctx, event))
		cancel()
		for _, l := range listeners {
			if got := l.next(t, mark); got != string(event) {
				t.Fatalf("event %d arrived with %d bytes, want the %d that were sent", i, len(got), len(event))
			}
		}
	}
	cancelFirst()
	select {
	case <-listeners[0].ended:
	case <-time.After(tolerance):
		t.Fatal("Subscribe did not return after its context was done")
	}
	must(t, a.Publish(t.Context(), []byte(mark+"last"))) // the connection is still there
	if got := listeners[1].next(t, mark); got != mark+"last" {
		t.Errorf("event %q arrived, want the last one", got)
	}
	cancelSecond()
	<-listeners[1].ended
	if len(listeners[0].events) > 0 {
		t.Error("an event arrived after Subscribe returned")
	}
}
