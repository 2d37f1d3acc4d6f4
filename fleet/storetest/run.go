package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

const (
	// patience is how long a call may take. Stores are faster, but test machines are
	// slow.
	patience = 30 * time.Second
	// soon is how long a call may take whose context is done.
	soon = 2 * time.Second
	// tolerance is for times that a store tells.
	tolerance = 5 * time.Second
	// window is longer than a test.
	window = 10 * time.Minute
)

// Run tests a store against the documentation of [fleet.Store].
//
// Each call of open returns another connection to the same store, as another server of a
// fleet has. Run closes it. The store may have other users and other content: names and
// keys of the tests are random.
func Run(t *testing.T, open func(t *testing.T) fleet.Store) {
	t.Helper()
	connect := func(t *testing.T) fleet.Store {
		t.Helper()
		s := open(t)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return s
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, func(*testing.T) fleet.Store)
	}{
		{"counters of two servers", testCounters},
		{"windows end", testWindows},
		{"additions of the past", testAges},
		{"concurrent additions", testConcurrentAdditions},
		{"removed counters", testRemove},
		{"events", testEvents},
		{"texts", testTexts},
		{"a text of 4 MiB", testLargeText},
		{"concurrent writers", testWriters},
		{"a context that is done", testDone},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, connect) })
	}
}

// testCounters tests counts that two servers share, and which counters are different.
func testCounters(t *testing.T, connect func(*testing.T) fleet.Store) {
	a, b := connect(t), connect(t)
	must(t, a.Ping(t.Context()))
	counter := fleet.Counter{Set: newSet(window), Key: newKey()}
	otherKey, otherName, otherWindow := counter, counter, counter
	otherKey.Key++
	otherName.Name += "x"
	otherWindow.Window += time.Second

	expectCounts(t, a, []int{1}, counter)
	expectCounts(t, b, []int{2}, counter)
	expectCounts(t, a, []int{1, 1, 1, 3, 4}, otherKey, otherName, otherWindow, counter, counter)
	expectCounts(t, b, []int{5, 2, 2, 2}, counter, otherWindow, otherName, otherKey)

	for _, key := range []uint64{1, 1<<63 | 0x0a0d, 1<<64 - 1} {
		expectCounts(t, a, []int{1}, fleet.Counter{Set: counter.Set, Key: key})
		expectCounts(t, b, []int{2}, fleet.Counter{Set: counter.Set, Key: key})
	}
	if counts := addAll(t, b, fleet.Addition{Counter: counter, N: 1000}); counts[0].N != 1005 {
		t.Errorf("1,000 failed logins after 5 make %d", counts[0].N)
	}
	var many []fleet.Addition
	set := newSet(window)
	for i := range 500 {
		many = append(many, fleet.Addition{Counter: fleet.Counter{Set: set, Key: uint64(i)*7919 + 1}, N: i + 1})
	}
	for i, count := range addAll(t, a, many...) {
		if count.N != i+1 {
			t.Fatalf("addition %d of %d: the count is %d, want %d", i, len(many), count.N, i+1)
		}
	}
	if counts, err := a.Add(t.Context(), nil); err != nil || len(counts) != 0 {
		t.Errorf("without additions: %v, %v", counts, err)
	}
}

// testWindows tests that a window begins with its first failed login and is not extended,
// and that the counter begins anew when it is over.
func testWindows(t *testing.T, connect func(*testing.T) fleet.Store) {
	s := connect(t)
	const short = 700 * time.Millisecond
	counter := fleet.Counter{Set: newSet(short), Key: newKey()}
	first := addAll(t, s, fleet.Addition{Counter: counter, N: 3})[0]
	if first.N != 3 || first.Left <= 0 || first.Left > short {
		t.Fatalf("a new counter: %+v, want 3 failed logins and at most %s", first, short)
	}
	begin, last := time.Now(), first
	for {
		time.Sleep(20 * time.Millisecond)
		count := addAll(t, s, fleet.Addition{Counter: counter, N: 1})[0]
		if count.N == 1 { // anew
			if elapsed := time.Since(begin); elapsed < first.Left-200*time.Millisecond {
				t.Errorf("the counter began anew after %s, but had %s left", elapsed, first.Left)
			}
			return
		}
		if count.N != last.N+1 || count.Left > last.Left {
			t.Fatalf("after %+v came %+v, want one failed login more and less time", last, count)
		}
		if last = count; time.Since(begin) > tolerance {
			t.Fatalf("the counter did not begin anew after its window of %s: %+v", short, count)
		}
	}
}

// testAges tests failed logins that could not be added when they happened.
func testAges(t *testing.T, connect func(*testing.T) fleet.Store) {
	s := connect(t)
	counter := fleet.Counter{Set: newSet(window), Key: newKey()}
	const age = window / 4
	expectLeft := func(count fleet.Count, want time.Duration) {
		t.Helper()
		if count.Left > want || count.Left < want-tolerance {
			t.Errorf("%s are left, want about %s", count.Left, want)
		}
	}
	count := addAll(t, s, fleet.Addition{Counter: counter, N: 2, Age: age})[0]
	if count.N != 2 {
		t.Errorf("2 failed logins make %d", count.N)
	}
	expectLeft(count, window-age)
	// The window that has begun stays.
	count = addAll(t, s, fleet.Addition{Counter: counter, N: 3, Age: age / 2})[0]
	if count.N != 5 {
		t.Errorf("3 failed logins after 2 make %d", count.N)
	}
	expectLeft(count, window-age)
	// The window of these is over.
	for _, tooOld := range []time.Duration{window, 100 * window} {
		count = addAll(t, s, fleet.Addition{Counter: counter, N: 7, Age: tooOld})[0]
		if count.N != 5 {
			t.Errorf("failed logins that are %s old, after 5, make %d", tooOld, count.N)
		}
		expectLeft(count, window-age)
		other := fleet.Counter{Set: counter.Set, Key: newKey()}
		if count = addAll(t, s, fleet.Addition{Counter: other, N: 7, Age: tooOld})[0]; count != (fleet.Count{}) {
			t.Errorf("only failed logins that are %s old make %+v", tooOld, count)
		}
	}
}

// testConcurrentAdditions tests that each addition is atomic.
func testConcurrentAdditions(t *testing.T, connect func(*testing.T) fleet.Store) {
	stores := []fleet.Store{connect(t), connect(t)}
	const goroutines, times = 16, 25
	counters := []fleet.Counter{{Set: newSet(window), Key: newKey()}, {Set: newSet(window), Key: newKey()}}
	var mu sync.Mutex
	seen := make(map[int]int) // by count, of both counters
	var group sync.WaitGroup
	for i := range goroutines {
		group.Go(func() {
			for range times {
				counts, err := add(t, stores[i%2], fleet.Addition{Counter: counters[0], N: 1}, fleet.Addition{Counter: counters[1], N: 1})
				if err != nil || len(counts) != 2 {
					t.Errorf("Add: %v, %v", counts, err)
					return
				}
				mu.Lock()
				seen[counts[0].N]++
				seen[counts[1].N]++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for n := 1; n <= goroutines*times; n++ {
		if seen[n] != 2 {
			t.Fatalf("the count %d of two counters was returned %d times, want 2", n, seen[n])
		}
	}
}

// testRemove tests Remove and RemoveAll.
func testRemove(t *testing.T, connect func(*testing.T) fleet.Store) {
	a, b := connect(t), connect(t)
	set, other := newSet(window), newSet(window)
	otherWindow := fleet.Set{Name: set.Name, Window: 2 * window}
	key := newKey()
	counters := []fleet.Counter{{Set: set, Key: key}, {Set: set, Key: key + 1}, {Set: other, Key: key}, {Set: otherWindow, Key: key}}
	expectCounts(t, a, []int{1, 1, 1, 1}, counters...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, b.Remove(ctx, []fleet.Counter{counters[0], {Set: set, Key: key + 2}})) // the second is not there
	must(t, b.Remove(ctx, nil))
	expectCounts(t, a, []int{1, 2, 2, 2}, counters...)

	var many []fleet.Addition
	for i := range 300 {
		many = append(many, fleet.Addition{Counter: fleet.Counter{Set: set, Key: key + 1000 + uint64(i)}, N: 1})
	}
	addAll(t, a, many...)
	must(t, b.RemoveAll(ctx, []fleet.Set{set, newSet(window)}))
	must(t, b.RemoveAll(ctx, nil))
	for i, count := range addAll(t, a, many...) {
		if count.N != 1 {
			t.Fatalf("after RemoveAll counter %d has %d failed logins, want 1", i, count.N)
		}
	}
	expectCounts(t, a, []int{1, 1, 3, 3}, counters...)
	must(t, b.RemoveAll(ctx, []fleet.Set{other, otherWindow}))
	expectCounts(t, a, []int{2, 2, 1, 1}, counters...)
}

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

// testTexts tests how a text is written, compared, and read.
func testTexts(t *testing.T, connect func(*testing.T) fleet.Store) {
	a, b := connect(t), connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := "A._-" + newName()
	if _, err := a.Revision(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Revision of no text: %v, want fs.ErrNotExist", err)
	}
	if _, err := a.Load(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no text: %v, want fs.ErrNotExist", err)
	}
	expectText := func(want fleet.Text) {
		t.Helper()
		for _, s := range []fleet.Store{a, b} {
			text, err := s.Load(ctx, name)
			must(t, err)
			if text.Revision != want.Revision || !bytes.Equal(text.Data, want.Data) {
				t.Fatalf("the text is %q %q, want %q %q", text.Revision, text.Data, want.Revision, want.Data)
			}
			revision, err := s.Revision(ctx, name)
			must(t, err)
			if revision != want.Revision {
				t.Fatalf("the revision is %q, want %q", revision, want.Revision)
			}
		}
	}
	expectConflict := func(s fleet.Store, old string) {
		t.Helper()
		if err := s.Replace(ctx, name, old, fleet.Text{Revision: "x", Data: []byte("x")}); !errors.Is(err, fleet.ErrConflict) {
			t.Fatalf("Replace of revision %q: %v, want ErrConflict", old, err)
		}
	}
	one := fleet.Text{Revision: "1-" + strings.Repeat("Ab9/=+._", 24), Data: []byte("\x00\xff\r\nalice:\t{}\x80")}
	two := fleet.Text{Revision: "2", Data: nil}
	three := fleet.Text{Revision: "1", Data: []byte("a lower revision is not the store's matter")}
	expectConflict(a, "1")
	must(t, a.Replace(ctx, name, "", one))
	expectText(one)
	expectConflict(b, "")
	expectConflict(b, "2")
	must(t, b.Replace(ctx, name, one.Revision, two))
	expectText(two)
	expectConflict(a, one.Revision)
	must(t, a.Replace(ctx, name, two.Revision, three))
	expectText(three)
	if _, err := b.Load(ctx, strings.ToLower(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of the name in lower case: %v, want fs.ErrNotExist", err)
	}
	// The store keeps its own copy.
	three.Data[0] = 'X'
	text, err := b.Load(ctx, name)
	must(t, err)
	if text.Data[0] != 'a' {
		t.Error("the store's text changed with the caller's")
	}
}

// testLargeText tests the largest text of a fleet.
func testLargeText(t *testing.T, connect func(*testing.T) fleet.Store) {
	s := connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text := fleet.Text{Revision: "1", Data: make([]byte, 4<<20)}
	_, _ = rand.Read(text.Data)
	name := newName()
	must(t, s.Replace(ctx, name, "", text))
	loaded, err := s.Load(ctx, name)
	must(t, err)
	if !bytes.Equal(loaded.Data, text.Data) {
		t.Error("the text is another one")
	}
	must(t, s.Replace(ctx, name, "1", fleet.Text{Revision: "2"})) // less memory
}

// testWriters tests that concurrent writers, who begin anew after a conflict, lose
// nothing.
func testWriters(t *testing.T, connect func(*testing.T) fleet.Store) {
	stores := []fleet.Store{connect(t), connect(t)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const writers, times = 16, 5
	name := newName()
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for j := range times {
				if err := appendLine(ctx, stores[i%2], name, fmt.Sprintf("%d-%d\n", i, j)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	text, err := stores[0].Load(ctx, name)
	must(t, err)
	lines := slices.Sorted(strings.Lines(string(text.Data)))
	if n := len(slices.Compact(lines)); n != writers*times || n != len(lines) {
		t.Errorf("%d of %d lines are there", n, writers*times)
	}
}

// appendLine appends a line to a text.
func appendLine(ctx context.Context, s fleet.Store, name, line string) error {
	for {
		text, err := s.Load(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		next := fleet.Text{Revision: newName(), Data: append(slices.Clone(text.Data), line...)}
		if err := s.Replace(ctx, name, text.Revision, next); !errors.Is(err, fleet.ErrConflict) {
			return err
		}
	}
}

// testDone tests that methods return soon after their context is done, with an error.
func testDone(t *testing.T, connect func(*testing.T) fleet.Store) {
	s := connect(t)
	set := newSet(window)
	counter := fleet.Counter{Set: set, Key: newKey()}
	for name, call := range map[string]func(context.Context) error{
		"Add": func(ctx context.Context) error {
			_, err := s.Add(ctx, []fleet.Addition{{Counter: counter, N: 1}})
			return err
		},
		"Remove":    func(ctx context.Context) error { return s.Remove(ctx, []fleet.Counter{counter}) },
		"RemoveAll": func(ctx context.Context) error { return s.RemoveAll(ctx, []fleet.Set{set}) },
		"Publish":   func(ctx context.Context) error { return s.Publish(ctx, []byte("x")) },
		"Revision":  func(ctx context.Context) error { _, err := s.Revision(ctx, "x"); return err },
		"Load":      func(ctx context.Context) error { _, err := s.Load(ctx, "x"); return err },
		"Replace":   func(ctx context.Context) error { return s.Replace(ctx, "x", "", fleet.Text{Revision: "1"}) },
		"Ping":      s.Ping,
		"Subscribe": func(ctx context.Context) error {
			nothing := func() {}
			s.Subscribe(ctx, fleet.Subscriber{Event: func([]byte) {}, Connected: nothing, Disconnected: func(error) {}})
			return ctx.Err()
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		if err := call(ctx); err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fleet.ErrConflict) {
			t.Errorf("%s: %v, want the error of the context", name, err)
		}
		if elapsed := time.Since(begin); elapsed > soon {
			t.Errorf("%s returned %s after its context was done", name, elapsed)
		}
	}
	expectCounts(t, s, []int{1}, counter)
}

// add adds failed logins, and checks that the answer has one count for each.
func add(t *testing.T, s fleet.Store, additions ...fleet.Addition) ([]fleet.Count, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	counts, err := s.Add(ctx, additions)
	if err == nil && len(counts) != len(additions) {
		return nil, fmt.Errorf("%d additions have %d counts", len(additions), len(counts))
	}
	return counts, err
}

func addAll(t *testing.T, s fleet.Store, additions ...fleet.Addition) []fleet.Count {
	t.Helper()
	counts, err := add(t, s, additions...)
	must(t, err)
	return counts
}

// expectCounts adds one failed login to each counter, and compares their counts.
func expectCounts(t *testing.T, s fleet.Store, want []int, counters ...fleet.Counter) {
	t.Helper()
	var additions []fleet.Addition
	for _, counter := range counters {
		additions = append(additions, fleet.Addition{Counter: counter, N: 1})
	}
	var got []int
	for i, count := range addAll(t, s, additions...) {
		got = append(got, count.N)
		if count.Left <= 0 || count.Left > counters[i].Window {
			t.Fatalf("%s of a window of %s are left", count.Left, counters[i].Window)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the counts are %v, want %v", got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newName returns a random name of lower case letters.
func newName() string {
	name := make([]byte, 16)
	_, _ = rand.Read(name)
	for i, b := range name {
		name[i] = 'a' + b%26
	}
	return string(name)
}

// newSet returns a set that no other test has.
func newSet(window time.Duration) fleet.Set { return fleet.Set{Name: newName(), Window: window} }

// newKey returns a random key.
func newKey() uint64 {
	var key [8]byte
	_, _ = rand.Read(key[:])
	return binary.BigEndian.Uint64(key[:]) | 1
}
