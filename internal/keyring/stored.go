package keyring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Storage stores values that the servers of a fleet share. The storages of certmagic,
// and so those of Caddy, implement it.
type Storage interface {
	// Load returns a value. Its error is [fs.ErrNotExist] if there is none.
	Load(ctx context.Context, name string) ([]byte, error)
	// Store sets a value.
	Store(ctx context.Context, name string, value []byte) error
	// Lock acquires a lock, and waits while another server has it. Names of locks
	// are independent of names of values.
	Lock(ctx context.Context, name string) error
	// Unlock releases a lock.
	Unlock(ctx context.Context, name string) error
}

// Stored loads the secret from the storage of a configuration. The first server that
// finds none creates it, under a lock. Set all fields, then call Start, and Stop when
// the configuration ends.
//
// If the secret cannot be loaded, the ring uses the keys of its fallback, a warning
// is logged once, and loading is retried until it succeeds or Stop is called. A
// damaged secret is never replaced: other servers may have loaded it when it was
// intact.
type Stored struct {
	Storage Storage
	Name    string // of the secret in the storage
	Lock    string // of the lock under which it is created
	Ring    *Ring  // receives the keys of the secret
	Logger  *zap.Logger

	StartWait time.Duration // maximum wait of Start for the storage
	Timeout   time.Duration // of one attempt to load the secret
	Pause     time.Duration // after a failed attempt

	cancel context.CancelFunc
	warned atomic.Bool
}

// Start starts loading the secret. It returns after the first attempt, or after
// StartWait. Start and Stop do nothing for a nil Stored, which stands for a secret
// that is not in a storage.
func (s *Stored) Start() {
	if s == nil {
		return
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	tried := make(chan struct{})
	go s.keepLoading(ctx, sync.OnceFunc(func() { close(tried) }))
	patience := time.NewTimer(s.StartWait)
	defer patience.Stop()
	select {
	case <-tried:
	case <-patience.C:
		s.warn(fmt.Errorf("no answer within %s", s.StartWait))
	}
}

// Stop stops loading the secret. It does not wait for a running attempt. It can be
// called more than once, and without Start.
func (s *Stored) Stop() {
	if s != nil && s.cancel != nil {
		s.cancel()
	}
}

// keepLoading tries until the secret is loaded, and calls tried after each attempt.
func (s *Stored) keepLoading(ctx context.Context, tried func()) {
	for {
		found, err := s.loadWithin(ctx)
		if err == nil {
			s.use(found)
			tried()
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.warn(err)
		tried()
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.Pause):
		}
	}
}

// use sets the keys of the secret in the ring, and in its fallback for later
// configurations.
func (s *Stored) use(found Secret) {
	k := NewKeys(found, "")
	s.Ring.fallback.stored.Store(k)
	s.Ring.Set(k)
	if s.warned.Load() {
		s.Logger.Info("secret loaded from storage after earlier errors", zap.String("name", s.Name))
	}
}

// warn logs once that the secret cannot be loaded.
func (s *Stored) warn(err error) {
	if s.warned.CompareAndSwap(false, true) {
		s.Logger.Warn("cannot load secret from storage; using a local one until it can be loaded",
			zap.String("name", s.Name), zap.Error(err))
	}
}

// loadWithin makes one attempt to load or create the secret, within Timeout.
func (s *Stored) loadWithin(ctx context.Context) (Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	found, err := s.load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		found, err = s.create(ctx)
	}
	return found, err
}

// load returns the secret in the storage.
func (s *Stored) load(ctx context.Context) (Secret, error) {
	text, err := s.Storage.Load(ctx, s.Name)
	if err != nil {
		return "", err
	}
	found := Secret(strings.TrimSpace(string(text)))
	if err := found.Check(); err != nil {
		return "", fmt.Errorf("the secret in storage is damaged; delete it and reload all servers: %w", err)
	}
	return found, nil
}

// create creates a secret, unless another server has just created one.
func (s *Stored) create(ctx context.Context) (Secret, error) {
	if err := s.Storage.Lock(ctx, s.Lock); err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Timeout)
		defer cancel()
		_ = s.Storage.Unlock(ctx, s.Lock) // a lock that is left behind expires
	}()
	found, err := s.load(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	found = NewSecret()
	if err := s.Storage.Store(ctx, s.Name, []byte(found)); err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return found, nil
}
