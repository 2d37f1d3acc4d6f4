package sealed

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		seal, open *Keys
		age        time.Duration
		want       error
	}{
		{"at once", sealedA, sealedA, 0, nil},
		{"another secret", sealedA, sealedB, 0, ErrOtherSecret},
		{"an old secret", sealedA, both, 0, nil},
		{"both secrets, opened by the old one", both, sealedA, 0, nil},
		{"both secrets, opened by the new one", both, sealedB, 0, nil},
		{"as old as allowed", sealedA, sealedA, MaxSkew, nil},
		{"too old", sealedA, sealedA, MaxSkew + time.Millisecond, ErrStale},
		{"as early as allowed", sealedA, sealedA, -MaxSkew, nil},
		{"from the future", sealedA, sealedA, -MaxSkew - time.Millisecond, ErrStale},
	} {
		for _, body := range []string{"", text} {
			data := NewEvents(row.seal).Seal([]byte(body), noon)
			got, sealed, err := NewEvents(row.open).Open(data, noon.Add(row.age))
			if !errors.Is(err, row.want) || err == nil && (string(got) != body || !sealed.Equal(noon)) {
				t.Errorf("%s: got '%s' %s, error %v", row.name, got, sealed, err)
			}
			if len(data)-len(body) > Overhead || strings.Contains(string(data), "alice") {
				t.Errorf("%s: got %d bytes more, want at most %d, or the body is readable", row.name, len(data)-len(body), Overhead)
			}
		}
	}
	if n := len(NewEvents(both).Seal(nil, noon)); n != Overhead {
		t.Errorf("got %d bytes more with two keys, want %d", n, Overhead)
	}
}

// TestEventsOnce checks that each event is opened once, also with other wraps, other keys,
// and by many at the same time.
func TestEventsOnce(t *testing.T) {
	t.Parallel()
	e := NewEvents(both)
	data := e.Seal([]byte(text), noon)
	var opened atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, _, err := e.Open(data, noon); err == nil {
				opened.Add(1)
			} else if !errors.Is(err, ErrRepeated) {
				t.Errorf("got error %v", err)
			}
		})
	}
	group.Wait()
	if opened.Load() != 1 {
		t.Errorf("opened %d times", opened.Load())
	}
	e.SetKeys(sealedB)
	if _, _, err := e.Open(data, noon.Add(time.Second)); !errors.Is(err, ErrRepeated) {
		t.Errorf("with other keys: got error %v", err)
	}
	if len(e.opened) != 1 || len(e.isOpened) != 1 {
		t.Errorf("remembers %d events", len(e.opened))
	}
}

// TestEventsFull checks that an event is refused where there is no room to remember it.
func TestEventsFull(t *testing.T) {
	t.Parallel()
	e := NewEvents(sealedA)
	e.room = 3
	var events [][]byte
	for i := range 4 {
		events = append(events, e.Seal([]byte(text), noon.Add(time.Duration(i)*time.Second)))
	}
	open := func(i int, now time.Time, want error) {
		t.Helper()
		if _, _, err := e.Open(events[i], now); !errors.Is(err, want) {
			t.Errorf("event %d: got error %v, want %v", i, err, want)
		}
	}
	now := noon.Add(4 * time.Second)
	for i := range 3 {
		open(i, now, nil)
	}
	open(3, now, ErrTooMany)
	open(0, now, ErrRepeated)
	now = noon.Add(MaxSkew + time.Millisecond) // the first one cannot be sent again
	open(3, now, nil)
	for i, want := range []error{ErrStale, ErrRepeated, ErrRepeated, ErrRepeated} {
		open(i, now, want)
		open(i, noon.Add(5*time.Second), want) // after the clock was set back
	}
}

// TestEventsClockSetBack checks that no event is opened again after the clock was set back,
// also after it was forgotten.
func TestEventsClockSetBack(t *testing.T) {
	t.Parallel()
	e := NewEvents(sealedA)
	e.room = 10
	var events [][]byte
	now := noon
	for range 30 {
		events = append(events, e.Seal([]byte(text), now))
		if _, _, err := e.Open(events[len(events)-1], now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(20 * time.Second)
	}
	for back := time.Duration(0); back < time.Hour; back += time.Second {
		for i, data := range events {
			if _, _, err := e.Open(data, now.Add(-back)); err == nil {
				t.Fatalf("opened event %d again, %s back", i, back)
			}
		}
	}
	if len(e.opened) != 10 || len(e.isOpened) != 10 {
		t.Errorf("remembers %d and %d events, want 10", len(e.opened), len(e.isOpened))
	}
	// New events of the time after the newest forgotten one are opened.
	now = fromMillis(e.forgotten).Add(MaxSkew + time.Second)
	e.room++
	if _, _, err := e.Open(e.Seal(nil, now), now); err != nil {
		t.Errorf("got error %v", err)
	}
	if _, _, err := e.Open(e.Seal(nil, fromMillis(e.forgotten)), fromMillis(e.forgotten)); !errors.Is(err, ErrStale) {
		t.Errorf("got error %v, want that of an event that may have been opened", err)
	}
}

// TestEventsModel compares Events, at random times of a clock that is set back and forth,
// with a memory that never forgets: no event is opened twice, and with a clock that only
// goes on and enough room, every fresh event is opened.
func TestEventsModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		e := NewEvents(sealedA)
		e.room = 40
		isSteady := seed%2 == 0
		opened := make(map[int]bool)
		var events [][]byte
		var times []time.Time
		now := noon
		for range 2000 {
			if now = now.Add(time.Duration(random.IntN(2000)) * time.Millisecond); !isSteady && random.IntN(50) == 0 {
				now = now.Add(time.Duration(random.IntN(600)-300) * time.Second)
			}
			times = append(times, now.Add(time.Duration(random.IntN(24000)-12000)*time.Millisecond).Truncate(time.Millisecond))
			events = append(events, e.Seal(nil, times[len(times)-1]))
			i := len(events) - 1 - random.IntN(min(len(events), 20))
			_, _, err := e.Open(events[i], now)
			age := now.Sub(times[i])
			isFresh := age <= MaxSkew && age >= -MaxSkew
			switch {
			case err == nil && opened[i]:
				t.Fatalf("seed %d: opened event %d twice", seed, i)
			case err == nil && !isFresh:
				t.Fatalf("seed %d: opened event %d of age %s", seed, i, age)
			case err != nil && isSteady && isFresh && !opened[i]:
				t.Fatalf("seed %d: refused event %d of age %s: %v", seed, i, age, err)
			case err == nil:
				opened[i] = true
			}
			if len(e.opened) > e.room || len(e.isOpened) != len(e.opened) {
				t.Fatalf("seed %d: remembers %d events", seed, len(e.opened))
			}
		}
		if len(opened) < 20 {
			t.Errorf("seed %d: opened %d events", seed, len(opened))
		}
	}
}
