package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

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
// and that the counter begins again when it is over.
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
		if count.N == 1 { // a new window
			if elapsed := time.Since(begin); elapsed < first.Left-200*time.Millisecond {
				t.Errorf("the counter began again after %s, but had %s left", elapsed, first.Left)
			}
			return
		}
		if count.N != last.N+1 || count.Left > last.Left {
			t.Fatalf("after %+v came %+v, want one failed login more and less time", last, count)
		}
		if last = count; time.Since(begin) > tolerance {
			t.Fatalf("the counter did not begin again after its window of %s: %+v", short, count)
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
		if count.Left <= 0 || count.Left > additions[i].Window {
			t.Fatalf("%s of a window of %s are left", count.Left, additions[i].Window)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the counts are %v, want %v", got, want)
	}
}
