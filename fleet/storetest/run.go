package storetest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io/fs"
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
