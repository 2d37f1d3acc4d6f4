package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// testStorage is a storage in memory. Each call returns the error of fault, or works
// if there is none.
type testStorage struct {
	fault func(ctx context.Context) error // nil for none
	calls atomic.Int64

	lock   chan struct{} // has room for one
	mu     sync.Mutex
	values map[string]string
	stores int
}

func newTestStorage(fault func(ctx context.Context) error) *testStorage {
	return &testStorage{fault: fault, lock: make(chan struct{}, 1), values: make(map[string]string)}
}

func (s *testStorage) call(ctx context.Context) error {
	s.calls.Add(1)
	if s.fault == nil {
		return nil
	}
	return s.fault(ctx)
}

func (s *testStorage) Load(ctx context.Context, name string) ([]byte, error) {
	if err := s.call(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[name]
	if !ok {
		return nil, fmt.Errorf("load %s: %w", name, fs.ErrNotExist)
	}
	return []byte(value), nil
}

func (s *testStorage) Store(ctx context.Context, name string, value []byte) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[name] = string(value)
	s.stores++
	return nil
}

func (s *testStorage) Lock(ctx context.Context, _ string) error {
	if err := s.call(ctx); err != nil {
		return err
	}
	select {
	case s.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *testStorage) Unlock(_ context.Context, _ string) error {
	<-s.lock
	return nil
}

const (
	testName    = "test/secret"
	testWait    = 2 * time.Second
	testTimeout = 30 * time.Second
	testPause   = time.Minute
)

// storedIn returns a Stored for a storage, with a new fallback.
func storedIn(storage Storage, logger *zap.Logger) *Stored {
	return &Stored{
		Storage: storage, Name: testName, Lock: "test_secret", Ring: NewRing(new(Fallback)), Logger: logger,
		StartWait: testWait, Timeout: testTimeout, Pause: testPause,
	}
}

func isDown(context.Context) error    { return errors.New("connection refused") }
func hangs(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// TestStorageComesBack checks a storage that is down for a while: a start does not
// wait for long, loading is retried, and finally the loaded secret is used.
func TestStorageComesBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault func(ctx context.Context) error
		waits time.Duration // of the start
	}{
		{"it is down", isDown, 0},
		{"it hangs", hangs, testWait},
		{"it is slow", func(context.Context) error { time.Sleep(testWait + time.Second); return nil }, testWait},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				var isBack atomic.Bool
				storage := newTestStorage(func(ctx context.Context) error {
					if isBack.Load() {
						return nil
					}
					return test.fault(ctx)
				})
				s := storedIn(storage, zap.New(core))
				began := time.Now()
				s.Start()
				if waited := time.Since(began); waited != test.waits {
					t.Errorf("the start took %s, want %s", waited, test.waits)
				}
				if s.Ring.own.Load() != nil || len(s.Ring.Keys().Decoys) != subkeyLen {
					t.Error("got keys of the ring's own, want those of the fallback")
				}
				time.Sleep(10 * time.Minute)
				if n := logs.FilterLevelExact(zap.WarnLevel).Len(); n != 1 {
					t.Errorf("got %d warnings, want 1: %v", n, logs.All())
				}
				isBack.Store(true)
				time.Sleep(testPause + testTimeout)
				synctest.Wait()
				want := Secret(storage.values[testName]).Subkey(DecoysPurpose)
				if got := s.Ring.Keys().Decoys; !bytes.Equal(got, want) {
					t.Error("got another key, want that of the secret, which can be loaded")
				}
				if got := NewRing(s.Ring.fallback).Keys().Decoys; !bytes.Equal(got, want) {
					t.Error("got another key for the next configuration, want that of the secret")
				}
				if n := logs.FilterMessage("secret loaded from storage after earlier errors").Len(); n != 1 {
					t.Errorf("got %d entries that it is loaded, want 1: %v", n, logs.All())
				}
				calls := storage.calls.Load()
				time.Sleep(time.Hour)
				if got := storage.calls.Load(); got != calls {
					t.Errorf("got %d calls after it was loaded, want none", got-calls)
				}
				s.Stop()
			})
		})
	}
}

// TestStoppedWhileStorageIsDown checks that no attempts are made after Stop.
func TestStoppedWhileStorageIsDown(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(context.Context) error{"is down": isDown, "hangs": hangs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				storage := newTestStorage(fault)
				s := storedIn(storage, zap.NewNop())
				s.Stop()
				s.Start()
				s.Stop()
				s.Stop()
				synctest.Wait()
				calls := storage.calls.Load()
				time.Sleep(time.Hour)
				if got := storage.calls.Load(); got != calls {
					t.Errorf("got %d calls after the stop, want none", got-calls)
				}
			}) // fails if a goroutine is left
		})
	}
	var none *Stored
	none.Start()
	none.Stop()
}

// TestFirstStartsAgree checks that servers that start at the same time, with a shared
// storage, use the same secret.
func TestFirstStartsAgree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const servers = 8
		storage := newTestStorage(func(context.Context) error { time.Sleep(time.Millisecond); return nil })
		found := make([][]byte, servers)
		var group sync.WaitGroup
		for i := range servers {
			group.Go(func() {
				s := storedIn(storage, zap.NewNop())
				s.Start()
				defer s.Stop()
				found[i] = s.Ring.Keys().Decoys
			})
		}
		group.Wait()
		if n := len(slices.CompactFunc(found, bytes.Equal)); n != 1 || storage.stores != 1 {
			t.Errorf("got %d secrets, stored %d times, want 1, once", n, storage.stores)
		}
		if len(storage.lock) != 0 {
			t.Error("the lock is left behind")
		}
	})
}

// TestDamagedSecretStays checks that a damaged secret is not replaced: other servers
// may have loaded it when it was intact.
func TestDamagedSecretStays(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "canary", string(secretA[:31]) + "\n"} {
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			storage := newTestStorage(nil)
			storage.values[testName] = text
			s := storedIn(storage, zap.New(core))
			s.Start()
			defer s.Stop()
			time.Sleep(time.Hour)
			if storage.stores > 0 || storage.values[testName] != text {
				t.Errorf("got %q in the storage, want it unchanged", storage.values[testName])
			}
			entries := logs.TakeAll()
			if len(entries) != 1 {
				t.Fatalf("got %d lines, want 1", len(entries))
			}
			got := fmt.Sprint(entries[0].ContextMap())
			if !strings.Contains(got, "the secret in storage is damaged; delete it") || strings.Contains(got, "canary") {
				t.Errorf("got entry %s, want what to do, without the secret", got)
			}
		})
	}
}

// TestSecretInStorage checks that whitespace around the secret is ignored, as in a
// file.
func TestSecretInStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newTestStorage(nil)
		storage.values[testName] = " " + string(secretA) + "\r\n"
		s := storedIn(storage, zap.NewNop())
		s.Start()
		defer s.Stop()
		if got, want := s.Ring.Keys().Decoys, secretA.Subkey(DecoysPurpose); !bytes.Equal(got, want) {
			t.Error("got another key, want that of the secret in the storage")
		}
	})
}

// TestStoreFails checks that a secret that could not be stored is not used, since no
// other server can have it.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storage := newTestStorage(nil)
		storage.fault = func(context.Context) error {
			if len(storage.lock) > 0 && storage.calls.Load()%4 == 0 { // load, lock, load, store
				return errors.New("read-only")
			}
			return nil
		}
		core, logs := observer.New(zap.DebugLevel)
		s := storedIn(storage, zap.New(core))
		s.Start()
		if s.Ring.own.Load() != nil {
			t.Error("got a secret that is not in the storage")
		}
		if got := fmt.Sprint(logs.All()); logs.Len() != 1 || !strings.Contains(got, "store: read-only") {
			t.Errorf("got %s, want one line with the error", got)
		}
		if len(storage.lock) != 0 {
			t.Error("the lock is left behind")
		}
		s.Stop()
	})
}
