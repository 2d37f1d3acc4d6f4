package sealed

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// MaxSkew is how much the clocks of servers may differ, and how old an event may be.
const MaxSkew = 10 * time.Second

// Errors of Open for events that are authentic.
var (
	// ErrStale: the event is older than MaxSkew, or from the future.
	ErrStale = errors.New("too old, or from the future; the clocks of the servers must agree")
	// ErrRepeated: the event was opened before.
	ErrRepeated = errors.New("sent again")
	// ErrTooMany: more events than can be remembered were sent within the last seconds.
	ErrTooMany = errors.New("too many events")
)

// maxRemembered is how many opened events are remembered, with 24 bytes each in the heap
// and about as much in the set.
const maxRemembered = 1 << 15

// Events seals and opens events. Each event can be opened only once: Events remembers those
// that were opened, in fixed memory. Where that is full of events that could be sent again,
// it refuses others. It is safe for concurrent use.
//
// An event that was forgotten stays refused, even if the clock is set back: no event is
// opened that was sealed before the newest forgotten one. Only a restart of the process
// forgets more: an event can then be opened again if it is not older than MaxSkew.
type Events struct {
	keys atomic.Pointer[Keys]

	mu        sync.Mutex
	opened    openedEvents
	isOpened  map[eventID]struct{} // those of opened
	forgotten int64                // when the newest event was sealed that was opened and forgotten
	room      int                  // maxRemembered; tests have less
}

// eventID is the beginning of the hash of an event's data, which all wraps authenticate.
type eventID [16]byte

// openedEvent is an event that was opened.
type openedEvent struct {
	id     eventID
	sealed int64 // in milliseconds
}

// NewEvents returns Events with keys.
func NewEvents(keys *Keys) *Events {
	e := &Events{isOpened: make(map[eventID]struct{}), forgotten: math.MinInt64, room: maxRemembered}
	e.keys.Store(keys)
	return e
}

// SetKeys replaces the keys, and remembers which events were opened.
func (e *Events) SetKeys(keys *Keys) { e.keys.Store(keys) }

// Seal seals an event for all keys. It adds at most Overhead bytes.
func (e *Events) Seal(body []byte, now time.Time) []byte {
	return e.keys.Load().seal(&eventKind, "", binary.BigEndian.AppendUint64(nil, uint64(millis(now))), body) //nolint:gosec // not negative
}

// Open opens an event, once, and returns when it was sealed. Nobody but the servers of the
// fleet can cause another error than ErrOtherSecret, ErrForged or ErrFormat, except by
// sending their events late or again.
func (e *Events) Open(data []byte, now time.Time) (body []byte, sealed time.Time, err error) {
	fields, body, id, _, err := e.keys.Load().open(&eventKind, "", data)
	if err != nil {
		return nil, time.Time{}, err
	}
	ms := binary.BigEndian.Uint64(fields)
	if ms > maxMillis {
		return nil, time.Time{}, ErrForged // a server of the fleet seals no such event
	}
	sealed = fromMillis(int64(ms))
	if age := now.Sub(sealed); age > MaxSkew || age < -MaxSkew {
		return nil, time.Time{}, ErrStale
	}
	if err := e.remember(openedEvent{eventID(id[:]), int64(ms)}, now); err != nil {
		return nil, time.Time{}, err
	}
	return body, sealed, nil
}

// remember remembers an event, or returns an error if it was opened before, or may have
// been.
func (e *Events) remember(event openedEvent, now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, isOpened := e.isOpened[event.id]; isOpened {
		return ErrRepeated
	}
	if event.sealed <= e.forgotten {
		return ErrStale
	}
	if len(e.opened) >= e.room {
		oldest := e.opened[0]
		if now.Sub(fromMillis(oldest.sealed)) <= MaxSkew || oldest.sealed >= event.sealed {
			return ErrTooMany // the oldest one could be sent again
		}
		heap.Pop(&e.opened)
		delete(e.isOpened, oldest.id)
		e.forgotten = oldest.sealed
	}
	heap.Push(&e.opened, event)
	e.isOpened[event.id] = struct{}{}
	return nil
}

// openedEvents is a heap with the event on top that was sealed first.
type openedEvents []openedEvent

func (o openedEvents) Len() int           { return len(o) }
func (o openedEvents) Less(i, j int) bool { return o[i].sealed < o[j].sealed }
func (o openedEvents) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *openedEvents) Push(x any)        { *o = append(*o, x.(openedEvent)) }
func (o *openedEvents) Pop() any {
	last := len(*o) - 1
	x := (*o)[last]
	*o = (*o)[:last]
	return x
}
