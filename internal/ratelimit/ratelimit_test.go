package ratelimit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// start is the start of all counters here.
var start = time.Unix(1_700_000_000, 0)

// at returns a time after the start.
func at(d time.Duration) time.Time { return start.Add(d) }

func ExampleCounter() {
	limit := Limit{Max: 3, Window: time.Minute}
	failures, key := New(start), uint64(0x9e3779b97f4a7c15)
	for i := range 4 {
		now := at(time.Duration(i) * 10 * time.Second)
		if wait := failures.Wait(key, now, limit, 0); wait > 0 {
			fmt.Println("refused; try again in", wait)
			continue
		}
		fmt.Println("failed logins:", failures.Add(key, now, limit.Window))
	}
	// Output:
	// failed logins: 1
	// failed logins: 2
	// failed logins: 3
	// refused; try again in 30s
}

func TestCount(t *testing.T) {
	t.Parallel()
	const window = time.Minute
	for _, test := range []struct {
		name  string
		added []time.Duration
		now   time.Duration
		count int
		left  time.Duration
	}{
		{"none", nil, 0, 0, 0},
		{"one", []time.Duration{0}, 0, 1, window},
		{"the window begins with the first", []time.Duration{0, 20 * time.Second, 40 * time.Second}, 50 * time.Second, 3, 10 * time.Second},
		{"events count to the last moment", []time.Duration{0, 1}, window - time.Millisecond, 2, time.Millisecond},
		{"events are discarded when the window ends", []time.Duration{0, 59 * time.Second}, window, 0, 0},
		{"another window begins", []time.Duration{0, 0, 0, window}, window, 1, window},
		{"before the start of the counter", []time.Duration{-time.Hour}, -time.Hour, 1, window},
		{"the clock jumps ahead", []time.Duration{0, 0}, 1e6 * time.Hour / 100, 0, 0},
		{"the clock jumps back", []time.Duration{0, 0}, -time.Hour, 0, 0},
		{"the clock goes back a little: no longer than two windows", []time.Duration{0, 0}, -30 * time.Second, 2, 90 * time.Second},
		{"events after the clock jumped back", []time.Duration{0, 0, -time.Hour}, -time.Hour, 1, window},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(start)
			key := rand.Uint64()
			for _, d := range test.added {
				c.Add(key, at(d), window)
			}
			if n, left := c.Count(key, at(test.now), window); n != test.count || left != test.left {
				t.Errorf("got %d for %s, want %d for %s", n, left, test.count, test.left)
			}
			if n, left := c.Count(^key, at(test.now), window); n != 0 || left != 0 {
				t.Errorf("another key: got %d for %s, want none", n, left)
			}
			if n := c.Peek(key); n < test.count {
				t.Errorf("Peek: got %d, want at least %d", n, test.count)
			}
		})
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	limit := Limit{Max: 3, Window: time.Minute}
	for _, test := range []struct {
		name        string
		limit       Limit
		added, more int
		want        time.Duration
	}{
		{"no event", limit, 0, 0, 0},
		{"one below the limit", limit, 2, 0, 0},
		{"as many as the limit", limit, 3, 0, 50 * time.Second},
		{"above the limit", limit, 5, 0, 50 * time.Second},
		{"one more than is counted", limit, 2, 1, 50 * time.Second},
		{"more alone, without a window", limit, 0, 3, 1},
		{"more alone, still below", limit, 0, 2, 0},
		{"no limit", Limit{}, 100, 100, 0},
		{"no limit, with a window", Limit{Window: time.Minute}, 100, 100, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(start)
			for range test.added {
				c.Add(1, start, limit.Window)
			}
			if got := c.Wait(1, at(10*time.Second), test.limit, test.more); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got := c.Wait(1, at(limit.Window), test.limit, 0); got != 0 {
				t.Errorf("after the window: got %s, want 0", got)
			}
		})
	}
}

func TestRaise(t *testing.T) {
	t.Parallel()
	const window = time.Minute
	for _, test := range []struct {
		name     string
		from, to []time.Duration // when events of the two keys were added
		now      time.Duration
		count    int
		left     time.Duration
	}{
		{"no events", nil, nil, 0, 0, 0},
		{"no events of the other key", nil, []time.Duration{0}, 0, 1, window},
		{"a new key gets the events and the window", []time.Duration{0, time.Second}, nil, 20 * time.Second, 2, 40 * time.Second},
		{"a key with fewer events gets them, too", []time.Duration{0, 0, 0}, []time.Duration{10 * time.Second}, 20 * time.Second, 3, 40 * time.Second},
		{"a key with more events keeps its own", []time.Duration{0}, []time.Duration{10 * time.Second, 10 * time.Second}, 20 * time.Second, 2, 50 * time.Second},
		{"a key with as many events keeps its own", []time.Duration{0}, []time.Duration{10 * time.Second}, 20 * time.Second, 1, 50 * time.Second},
		{"events whose window has ended do not count", []time.Duration{0}, nil, window, 0, 0},
		{"own events whose window has ended do not count", []time.Duration{50 * time.Second}, []time.Duration{0, 0}, window, 1, 50 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := New(start)
			from, to := uint64(7), uint64(7+setCount) // in one set
			for _, d := range test.from {
				c.Add(from, at(d), window)
			}
			for _, d := range test.to {
				c.Add(to, at(d), window)
			}
			before, _ := c.Count(from, at(test.now), window)
			for range 2 {
				c.Raise(to, from, at(test.now), window)
				if n, left := c.Count(to, at(test.now), window); n != test.count || left != test.left {
					t.Errorf("got %d for %s, want %d for %s", n, left, test.count, test.left)
				}
			}
			if n, _ := c.Count(from, at(test.now), window); n != before {
				t.Errorf("the other key has %d events, want %d as before", n, before)
			}
		})
	}
}

func TestRaiseTo(t *testing.T) {
	t.Parallel()
	const window = time.Minute
	type raise struct {
		at, left time.Duration
		n        int
	}
	for _, test := range []struct {
		name   string
		own    []time.Duration // when own events were added
		raises []raise
		after  []time.Duration // when further own events were added
		before int             // of the last raise
		now    time.Duration
		count  int
		left   time.Duration
	}{
		{name: "a new key", raises: []raise{{0, 20 * time.Second, 5}}, now: time.Second, count: 5, left: 19 * time.Second},
		{name: "the higher count decides, with its window", own: []time.Duration{0}, raises: []raise{{10 * time.Second, 20 * time.Second, 5}}, before: 1, now: 10 * time.Second, count: 5, left: 20 * time.Second},
		{name: "own events outlast a window that ends earlier", own: []time.Duration{0, 0}, raises: []raise{{0, time.Second, 3}}, before: 2, now: time.Second, count: 2, left: 59 * time.Second},
		{name: "a lower count changes nothing", own: []time.Duration{0, 0}, raises: []raise{{0, window, 1}}, before: 2, now: 0, count: 2, left: window},
		{name: "an equal count that ends later", own: []time.Duration{0, 0}, raises: []raise{{10 * time.Second, window, 2}}, before: 2, now: 10 * time.Second, count: 2, left: window},
		{name: "an equal count that ends earlier", own: []time.Duration{0, 0}, raises: []raise{{0, time.Second, 2}}, before: 2, now: 0, count: 2, left: window},
		{name: "no count of other servers is lowered", raises: []raise{{0, window, 5}, {0, time.Second, 3}}, before: 5, now: 0, count: 5, left: window},
		{name: "or ends earlier", raises: []raise{{0, window, 5}, {0, time.Second, 5}}, before: 5, now: 0, count: 5, left: window},
		{name: "own events are added to it", raises: []raise{{0, 20 * time.Second, 5}}, after: []time.Duration{0, 0}, now: 0, count: 7, left: 20 * time.Second},
		{name: "and stay when its window ends", raises: []raise{{0, 20 * time.Second, 5}}, after: []time.Duration{10 * time.Second, 10 * time.Second}, now: 20 * time.Second, count: 2, left: 50 * time.Second},
		{name: "its window has ended", raises: []raise{{0, time.Second, 5}}, after: []time.Duration{time.Second}, now: time.Second, count: 1, left: window},
		{name: "no events", raises: []raise{{0, window, 0}}, now: 0},
		{name: "fewer than none", own: []time.Duration{0}, raises: []raise{{0, window, -1 << 62}}, before: 1, now: 0, count: 1, left: window},
		{name: "a huge number", raises: []raise{{0, window, 1 << 62}}, after: []time.Duration{0}, now: 0, count: MaxCount, left: window},
		{name: "no time left", raises: []raise{{0, 0, 5}}, now: 0, count: 5, left: time.Millisecond},
		{name: "less than no time left", raises: []raise{{0, -1 << 62, 5}}, now: 0, count: 5, left: time.Millisecond},
		{name: "years left", raises: []raise{{0, 1 << 62, 5}}, now: 0, count: 5, left: window},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, key := New(start), uint64(7)
			for _, d := range test.own {
				c.Add(key, at(d), window)
			}
			before := 0
			for _, r := range test.raises {
				before = c.RaiseTo(key, r.n, r.left, at(r.at), window)
			}
			if before != test.before {
				t.Errorf("got %d events before, want %d", before, test.before)
			}
			for _, d := range test.after {
				c.Add(key, at(d), window)
			}
			if n, left := c.Count(key, at(test.now), window); n != test.count || left != test.left {
				t.Errorf("got %d for %s, want %d for %s", n, left, test.count, test.left)
			}
			if n := c.Peek(key); n < test.count {
				t.Errorf("Peek: got %d, want at least %d", n, test.count)
			}
			if n, _ := c.Count(key+setCount, at(test.now), window); n != 0 {
				t.Errorf("another key has %d events", n)
			}
		})
	}
}

// TestWaitIsTheLongerOne has a limit that is exceeded by own events and by others.
func TestWaitIsTheLongerOne(t *testing.T) {
	t.Parallel()
	limit := Limit{Max: 2, Window: time.Minute}
	c := New(start)
	c.Add(1, start, limit.Window)
	c.Add(1, start, limit.Window)
	c.RaiseTo(1, 9, time.Second, start, limit.Window)
	if got := c.Wait(1, start, limit, 0); got != limit.Window {
		t.Errorf("got %s, want %s", got, limit.Window)
	}
	c.RaiseTo(2, 9, time.Second, start, limit.Window)
	c.Add(2, start, limit.Window)
	if got := c.Wait(2, start, limit, 0); got != time.Second {
		t.Errorf("got %s, want a second", got)
	}
	if got := c.RaiseTo(3, 9, time.Second, start, 0); got != 0 || c.Peek(3) != 0 {
		t.Errorf("without a window, %d events were counted", c.Peek(3))
	}
}

// TestNewKeyHasNoCountOfTheDisplaced displaces a key with a count of other servers, and
// checks that a call without events displaces none.
func TestNewKeyHasNoCountOfTheDisplaced(t *testing.T) {
	t.Parallel()
	c := New(start)
	for i := range uint64(setSize) {
		c.RaiseTo(1+i*setCount, 10, time.Minute, start, time.Minute)
	}
	c.RaiseTo(1+setSize*setCount, 0, time.Minute, start, time.Minute)
	for i := range uint64(setSize) {
		if n := c.Peek(1 + i*setCount); n != 10 {
			t.Fatalf("a call without events left %d events of key %d, want 10", n, i)
		}
	}
	if n := c.Add(1+setSize*setCount, start, time.Minute); n != 1 {
		t.Errorf("got event number %d of a new key, want 1", n)
	}
}

// TestRaiseTakesBothWindows raises a key to another one that has own events and a count
// of other servers.
func TestRaiseTakesBothWindows(t *testing.T) {
	t.Parallel()
	c := New(start)
	c.Add(1, start, time.Minute)
	c.Add(1, start, time.Minute)
	c.RaiseTo(1, 5, time.Second, start, time.Minute)
	c.Raise(2, 1, start, time.Minute)
	for _, test := range []struct {
		now   time.Duration
		count int
	}{{0, 5}, {time.Second, 2}, {time.Minute, 0}} {
		if n, _ := c.Count(2, at(test.now), time.Minute); n != test.count {
			t.Errorf("after %s: got %d events, want %d", test.now, n, test.count)
		}
	}
}

func TestForgetBefore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		raised bool // from another server 5 seconds earlier
		before time.Duration
		forgot bool
		count  int
	}{
		{"a later time", false, 11 * time.Second, true, 0},
		{"the same time", false, 10 * time.Second, false, 1},
		{"an earlier time", false, 0, false, 1},
		{"own events are newer", true, 10 * time.Second, true, 1},
		{"both are newer", true, 5 * time.Second, false, 4},
		{"both are older", true, 11 * time.Second, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, now := New(start), at(10*time.Second)
			c.Add(1, now, time.Minute)
			c.Add(1+setCount, now, time.Minute) // in the same set
			if test.raised {
				c.RaiseTo(1, 4, 55*time.Second, now, time.Minute)
			}
			if c.ForgetBefore(2, at(time.Hour)) {
				t.Error("events of an unknown key were forgotten")
			}
			if got := c.ForgetBefore(1, at(test.before)); got != test.forgot {
				t.Errorf("got %t, want %t", got, test.forgot)
			}
			if n, _ := c.Count(1, now, time.Minute); n != test.count {
				t.Errorf("got %d events, want %d", n, test.count)
			}
			if n := c.Peek(1 + setCount); n != 1 {
				t.Errorf("got %d events of another key, want 1", n)
			}
		})
	}
}

// TestRaiseDisplacesTheFewest raises a key of a full set.
func TestRaiseDisplacesTheFewest(t *testing.T) {
	t.Parallel()
	c := New(start)
	for i := range uint64(setSize) {
		for range i + 1 {
			c.Add(1+i*setCount, start, time.Minute)
		}
	}
	last := uint64(1 + (setSize-1)*setCount)
	c.Raise(1+setSize*setCount, last, start, time.Minute)
	if first, raised := c.Peek(1), c.Peek(1+setSize*setCount); first != 0 || raised != setSize {
		t.Errorf("got %d events of the key with the fewest, and %d of the raised one, want 0 and %d", first, raised, setSize)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	c := New(start)
	c.Add(1, start, time.Minute)
	c.Add(1+setCount, start, time.Minute) // in the same set
	if c.Forget(2) || !c.Forget(1) || c.Forget(1) {
		t.Error("want false for an unknown key, true for a known one, and false the second time")
	}
	if n, m := c.Peek(1), c.Peek(1+setCount); n != 0 || m != 1 {
		t.Errorf("got %d and %d events, want 0 and 1", n, m)
	}
	if n := c.Add(1, start, time.Minute); n != 1 {
		t.Errorf("got event number %d after it was forgotten, want 1", n)
	}
	keys := make(map[uint64]bool)
	for key := range c.Keys {
		keys[key] = true
	}
	if len(keys) != 2 || !keys[1] || !keys[1+setCount] {
		t.Errorf("got keys %v, want 1 and %d", keys, 1+setCount)
	}
	for range c.Keys {
		break // must not yield again
	}
}

func TestForgetLeavesOtherKeys(t *testing.T) {
	t.Parallel()
	c := New(start)
	keys := []uint64{1, 1 + setCount, 1 + 2*setCount} // in one set
	for _, key := range keys {
		c.Add(key, start, time.Minute)
	}
	if !c.Forget(keys[1]) {
		t.Error("got no event to forget, want one")
	}
	for i, want := range []int{1, 0, 1} {
		if n := c.Peek(keys[i]); n != want {
			t.Errorf("key %d: got %d events, want %d", i+1, n, want)
		}
	}
}

// TestKeysYieldsAllSlots fills the first set, and the last one.
func TestKeysYieldsAllSlots(t *testing.T) {
	t.Parallel()
	c, want := New(start), make(map[uint64]bool)
	for i := range uint64(setSize) {
		for _, key := range []uint64{(i + 1) * setCount, i*setCount + setCount - 1} {
			c.Add(key, start, time.Minute)
			want[key] = true
		}
	}
	got := make(map[uint64]bool)
	for key := range c.Keys {
		got[key] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("got the keys %v, want %v", got, want)
	}
	calls := 0
	c.Keys(func(uint64) bool { calls++; return false })
	if calls != 1 {
		t.Errorf("got %d calls of a yield that returns false, want 1", calls)
	}
}

// repeat calls f with 0, 1, 2 and so on for half a second, at most two million
// times: often enough to overlap with other goroutines, also on a busy machine.
func repeat(f func(i uint64)) {
	end := time.Now().Add(time.Second / 2)
	for i := range uint64(2_000_000) {
		if f(i); i%1000 == 0 && time.Now().After(end) {
			return
		}
	}
}

// The next four tests are not parallel, so that all processors are free for
// the goroutines of each.

func TestAddIsExactInParallel(t *testing.T) {
	c, key := New(start), rand.Uint64()
	var added atomic.Int64
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			repeat(func(uint64) {
				c.Add(key, start, time.Minute)
				added.Add(1)
			})
		})
	}
	group.Wait()
	want := int(added.Load())
	if n, _ := c.Count(key, start, time.Minute); n != want || c.Peek(key) != want {
		t.Errorf("got %d, and %d by Peek, want %d", n, c.Peek(key), want)
	}
}

// TestForgetIsExactInParallel calls Forget while events are added: after each
// successful call, the next event is the first one again.
func TestForgetIsExactInParallel(t *testing.T) {
	c, key := New(start), rand.Uint64()
	firsts, forgotten := 0, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		repeat(func(uint64) {
			if c.Add(key, start, time.Minute) == 1 {
				firsts++
			}
		})
	}()
	for isDone := false; !isDone; {
		select {
		case <-done:
			isDone = true
		default:
		}
		if c.Forget(key) {
			forgotten++
		}
	}
	if firsts != forgotten {
		t.Errorf("the count began %d times, and ended %d times, want as often", firsts, forgotten)
	}
}

// TestReadersMixUpNoKeys reads the count of a key with at most one event, while it
// displaces a key with three events, and is displaced by another such key.
func TestReadersMixUpNoKeys(t *testing.T) {
	readersMixUpNoKeys(t, func(c *Counter, key uint64) {
		for range 3 {
			c.Add(key, start, time.Minute)
		}
	})
}

// TestReadersMixUpNoKeysOfOtherServers does so with keys whose events other servers counted.
func TestReadersMixUpNoKeysOfOtherServers(t *testing.T) {
	readersMixUpNoKeys(t, func(c *Counter, key uint64) { c.RaiseTo(key, 3, time.Minute, start, time.Minute) })
}

func readersMixUpNoKeys(t *testing.T, addThree func(c *Counter, key uint64)) {
	t.Helper()
	c := New(start)
	for i := range uint64(setSize - 1) { // these are not displaced
		for range 10 {
			c.Add(1+i*setCount, start, time.Minute)
		}
	}
	var current atomic.Uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		repeat(func(i uint64) {
			key := 1 + (100+2*i)*setCount
			current.Store(key) // a new key each time, without an event
			c.Add(key, start, time.Minute)
			addThree(c, key+setCount)
		})
	}()
	for {
		select {
		case <-done:
			return
		default:
		}
		for range 100 {
			if n := c.Peek(current.Load()); n > 1 {
				t.Fatalf("got %d events of a key that never had more than one", n)
			}
		}
	}
}

func TestCountDoesNotOverflow(t *testing.T) {
	t.Parallel()
	c := New(start)
	c.Add(1, start, time.Minute)
	c.sets[1][0].cell.Store(pack(0, MaxCount))
	if n := c.Add(1, start, time.Minute); n != MaxCount {
		t.Errorf("got %d, want %d", n, MaxCount)
	}
	if n, left := c.Count(1, start, time.Minute); n != MaxCount || left != time.Minute {
		t.Errorf("got %d for %s, want %d for a minute", n, left, MaxCount)
	}
}

// TestSprayForgetsNoGuesser counts a million events of a million keys within one
// window. No other limit is exceeded, and no key with more than one event is
// displaced.
func TestSprayForgetsNoGuesser(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	c := New(start)
	guessers := make([]uint64, 1000)
	for i := range guessers {
		guessers[i] = random.Uint64()
		for range 3 {
			c.Add(guessers[i], start, time.Minute)
		}
	}
	for range 1_000_000 {
		c.Add(random.Uint64(), start, time.Minute)
	}
	for _, key := range guessers {
		if n := c.Peek(key); n != 3 {
			t.Fatalf("got %d events of a guesser, want 3", n)
		}
	}
	for range 100_000 {
		if n := c.Peek(random.Uint64()); n != 0 {
			t.Fatalf("got %d events of a key without any", n)
		}
	}
}

// TestSprayDoesNotHelpGuessing checks that a key cannot exceed its limit, however
// many other keys have events at the same time, except for one event more in each
// window, while the key has none yet.
func TestSprayDoesNotHelpGuessing(t *testing.T) {
	t.Parallel()
	const hours, step = 4, time.Second
	limit := Limit{Max: 100, Window: time.Hour}
	for _, others := range []int{0, 18_000, 200_000} { // an hour; at 5 and at 55 hashes a second
		random := rand.New(rand.NewPCG(3, 4))
		c, key := New(start), random.Uint64()
		guesses := 0
		for now := start; now.Before(at(hours * limit.Window)); now = now.Add(step) {
			for range others * int(step) / int(limit.Window) {
				c.Add(random.Uint64(), now, limit.Window)
			}
			if c.Wait(key, now, limit, 0) == 0 {
				c.Add(key, now, limit.Window)
				guesses++
			}
		}
		if most := hours*limit.Max + hours; guesses > most {
			t.Errorf("with %d other events an hour: got %d guesses in %d windows of %d, want at most %d", others, guesses, hours, limit.Max, most)
		}
	}
}

// modelCount is what FuzzCounter expects of a key: own events, and those that other
// servers counted.
type modelCount [2]struct {
	begin time.Duration
	n     int
}

// count returns the higher count that has not ended, and the time left.
func (m modelCount) count(now, window time.Duration) (n int, left time.Duration) {
	for _, w := range m {
		if rest := window - (now - w.begin); w.n > 0 && rest > 0 && (w.n > n || w.n == n && rest > left) {
			n, left = w.n, rest
		}
	}
	return n, left
}

// FuzzCounter compares a Counter with a map, for few keys.
func FuzzCounter(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 4, 5, 100, 6, 7})
	f.Add([]byte{0, 0, 8, 25, 0, 72, 200, 0, 88, 0x4c, 0, 12, 8, 16, 28, 8, 0, 1, 9, 77, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		const window = 100 * time.Millisecond
		c, model, now := New(start), make(map[uint64]modelCount), time.Duration(0)
		for i := 0; i < len(script); i++ {
			b := script[i]
			key := uint64(b%4) + 1
			now += time.Duration(b>>4) * 10 * time.Millisecond
			m := model[key]
			for w := range m {
				if now-m[w].begin >= window {
					m[w].n = 0
				}
			}
			before, _ := m.count(now, window)
			switch b >> 2 & 3 {
			case 0:
				if m[0].n == 0 {
					m[0].begin = now
				}
				m[0].n++
				if m[1].n > 0 {
					m[1].n++
				}
				if got, want := c.Add(key, at(now), window), max(m[0].n, m[1].n); got != want {
					t.Fatalf("step %d: key %d has %d events, want %d", i, key, got, want)
				}
			case 1: // the next byte is the count and the time left, both sometimes out of range
				if i++; i == len(script) {
					return
				}
				n, left := int(script[i]&15)-2, time.Duration(script[i]>>4)*10*time.Millisecond
				if got := c.RaiseTo(key, n, left, at(now), window); got != before {
					t.Fatalf("step %d: key %d had %d events, want %d", i, key, got, before)
				}
				if n > m[1].n {
					m[1].n, m[1].begin = n, now-window+min(max(left, time.Millisecond), window)
				}
			case 2:
				limit := now - 50*time.Millisecond
				had := false
				for w := range m {
					if m[w].n > 0 && m[w].begin < limit {
						m[w].n, had = 0, true
					}
				}
				if got := c.ForgetBefore(key, at(limit)); had && !got {
					t.Fatalf("step %d: forgetting old events of key %d found none, want some", i, key)
				}
			case 3:
				if got := c.Forget(key); before > 0 && !got {
					t.Fatalf("step %d: forgetting key %d found none, want some", i, key)
				}
				m = modelCount{}
			}
			model[key] = m
			for key, m := range model {
				n, left := c.Count(key, at(now), window)
				if want, wantLeft := m.count(now, window); n != want || left != wantLeft {
					t.Fatalf("step %d: key %d has %d events for %s, want %d for %s", i, key, n, left, want, wantLeft)
				}
				wait := time.Duration(0)
				for _, w := range m {
					if w.n >= 3 {
						wait = max(wait, window-(now-w.begin))
					}
				}
				if got := c.Wait(key, at(now), Limit{Max: 3, Window: window}, 0); got != wait {
					t.Fatalf("step %d: key %d waits %s, want %s", i, key, got, wait)
				}
			}
		}
	})
}

func BenchmarkPeek(b *testing.B) {
	c := New(start)
	c.Add(1, start, time.Minute)
	b.Run("an event", func(b *testing.B) {
		for b.Loop() {
			if c.Peek(1) != 1 {
				b.Fatal("lost")
			}
		}
	})
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			if c.Peek(2) != 0 {
				b.Fatal("an event of nobody")
			}
		}
	})
}
