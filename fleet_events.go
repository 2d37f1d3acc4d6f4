package caddyhtpasswd

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
)

// fleetEvent is what a server tells the others: exactly one of the fields. Events are
// sealed, so only a server with the same secret can send one, and each is opened once, at
// most sealed.MaxSkew after it was sent.
type fleetEvent struct {
	Exceeded   *exceededEvent `json:"exceeded,omitempty"`
	Recognized []uint64       `json:"recognized,omitempty"` // marks of logins
	Forget     *forgetEvent   `json:"forget,omitempty"`
	Changed    string         `json:"changed,omitempty"` // the name of a file
	Hello      bool           `json:"hello,omitempty"`   // for servers with another secret, which cannot open it
}

// exceededEvent says that a limit is exceeded.
type exceededEvent struct {
	Limit    string        `json:"limit"`
	Window   time.Duration `json:"window"` // in nanoseconds
	Key      uint64        `json:"key"`
	Failures int           `json:"failures"`
	Until    int64         `json:"until"` // when the window ends, in Unix milliseconds
}

// forgetEvent says that failed logins were cleared: those of the keys, or all.
type forgetEvent struct {
	All    bool  `json:"all,omitempty"`
	Before int64 `json:"before,omitempty"` // in Unix milliseconds; 0: when the event was sealed
	forgotten
}

// maxEventKeys is the maximum number of keys in one event, which must fit into
// fleet.MaxEvent.
const maxEventKeys = 400

// events yields the events that say what was cleared, and when.
func (f *forgotten) events(at time.Time) iter.Seq[*forgetEvent] {
	return func(yield func(*forgetEvent) bool) {
		for i, keys := range [...][]uint64{f.Users, f.Clients, f.Devices, f.Logins} {
			for some := range slices.Chunk(keys, maxEventKeys) {
				e := &forgetEvent{Before: at.UnixMilli()}
				*[...]*[]uint64{&e.Users, &e.Clients, &e.Devices, &e.Logins}[i] = some
				if !yield(e) {
					return
				}
			}
		}
	}
}

// errUnknownEvent is the error for an event that a later version may know.
var errUnknownEvent = errors.New("unknown kind of event")

// decodeEvent decodes the body of an event, and checks it: another version of this plugin
// may have sent it.
func decodeEvent(body []byte) (*fleetEvent, error) {
	e := new(fleetEvent)
	if err := json.Unmarshal(body, e); err != nil {
		return nil, err
	}
	kinds := 0
	for _, is := range []bool{e.Exceeded != nil, e.Recognized != nil, e.Forget != nil, e.Changed != "", e.Hello} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, errUnknownEvent
	}
	return e, e.check()
}

func (e *fleetEvent) check() error {
	switch {
	case e.Exceeded != nil:
		x := e.Exceeded
		_, isKnown := scopeNamed(x.Limit)
		if !isKnown || x.Key == 0 || x.Failures < 1 || x.Failures > ratelimit.MaxCount || x.Window < minWindow || x.Window > maxWindow {
			return fmt.Errorf("exceeded: %w", errUnknownEvent)
		}
	case e.Forget != nil:
		f := e.Forget
		keys := slices.Concat(f.Users, f.Clients, f.Devices, f.Logins)
		if f.All == (len(keys) > 0) || len(keys) > maxEventKeys || slices.Contains(keys, 0) {
			return fmt.Errorf("forget: %w", errUnknownEvent)
		}
	case e.Recognized != nil:
		if len(e.Recognized) == 0 || len(e.Recognized) > maxEventKeys {
			return fmt.Errorf("recognized: %w", errUnknownEvent)
		}
	case e.Changed != "" && !fileapi.IsName(e.Changed):
		return fmt.Errorf("changed: %w", errUnknownEvent)
	}
	return nil
}

// seal returns the sealed event.
func (f *fleetState) seal(e *fleetEvent) []byte {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err) // it consists of numbers and texts
	}
	return f.events.Seal(body, f.reach.now())
}

// publish sends an event in the background.
func (f *fleetState) publish(e *fleetEvent) { f.client.Publish(f.seal(e)) }

// publishChanged tells all servers that a file has changed.
func (f *fleetState) publishChanged(name string) { f.publish(&fleetEvent{Changed: name}) }

// connected is called when events are received from now on. Some may have been lost.
func (f *fleetState) connected() {
	f.publish(&fleetEvent{Hello: true})
	f.wake("")
}

// receive handles an event, which anybody can have sent who can use the store.
func (f *fleetState) receive(data []byte) {
	now := f.reach.now()
	body, at, err := []byte(nil), time.Time{}, sealed.ErrForged
	if len(data) <= fleet.MaxEvent { // servers send no larger one
		body, at, err = f.events.Open(data, now)
	}
	if err != nil {
		f.refused(err, now)
		return
	}
	e, err := decodeEvent(body)
	if err != nil {
		f.refused(sealed.ErrFormat, now)
		return
	}
	switch {
	case e.Changed != "":
		f.wake(e.Changed)
	case !f.reach.isActive(f): // another configuration, with other keys, is in effect
	case e.Exceeded != nil:
		f.receiveExceeded(e.Exceeded)
	case e.Forget != nil:
		f.receiveForget(e.Forget, at)
	default:
		for _, mark := range e.Recognized {
			f.guard.marks.add(mark)
		}
	}
}

// fleetLine is a kind of log lines about events that are ignored.
type fleetLine uint8

const (
	otherSecretLine fleetLine = iota
	clocksDifferLine
	forgedLine
	otherVersionLine
	fleetLineCount
)

// fleetLineEvery is the shortest time between two lines of one kind. The store decides how
// many events come.
const fleetLineEvery = 10 * time.Minute

// fleetLines are when each kind of line was written, and how many events were ignored
// since.
type fleetLines struct {
	mu      sync.Mutex
	written [fleetLineCount]time.Time
	ignored [fleetLineCount]int
}

// due counts an event, and returns the number of ignored ones if a line should be
// written, or 0.
func (l *fleetLines) due(kind fleetLine, now time.Time) (ignored int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ignored[kind]++
	if written := l.written[kind]; !written.IsZero() && now.Sub(written) < fleetLineEvery && !now.Before(written) {
		return 0
	}
	ignored, l.ignored[kind], l.written[kind] = l.ignored[kind], 0, now
	return ignored
}

// refused logs that an event is ignored.
func (f *fleetState) refused(err error, now time.Time) {
	kind := forgedLine
	switch {
	case errors.Is(err, sealed.ErrOtherSecret):
		kind = otherSecretLine
		if f.hello.isDue(now) { // so that the other server knows, too
			f.publish(&fleetEvent{Hello: true})
		}
	case errors.Is(err, sealed.ErrStale):
		kind = clocksDifferLine
	case errors.Is(err, sealed.ErrFormat):
		kind = otherVersionLine
	}
	ignored := f.lines.due(kind, now)
	if ignored == 0 {
		return
	}
	logger, events := f.reach.logger(), zap.Int("events", ignored)
	switch kind {
	case otherSecretLine:
		logger.Warn("server with another secret in the fleet; nothing is shared with it", events)
	case clocksDifferLine:
		logger.Warn("events of the fleet ignored; the clocks of the servers differ by more than 10s", events)
	case forgedLine:
		logger.Warn("events of the fleet ignored; they are damaged, forged or sent again", events, zap.Error(err))
	case otherVersionLine:
		logger.Warn("events of the fleet ignored; another version of the plugin has sent them", events)
	}
}

// helloEvery is the shortest time between two answers to servers with another secret.
const helloEvery = time.Minute

// fleetHello is when a server with another secret was answered last.
type fleetHello struct {
	mu   sync.Mutex
	last time.Time
}

func (h *fleetHello) isDue(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.last.IsZero() && now.Sub(h.last) < helloEvery && !now.Before(h.last) {
		return false
	}
	h.last = now
	return true
}
