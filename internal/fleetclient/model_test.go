package fleetclient

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

// This file compares servers that share a store with a model, for random failed logins,
// outages of all kinds, losses of all data, and steps of the clock of the store.

const (
	modelKeys = 3
	unusedKey = modelKeys + 1 // nobody fails to log in with it
)

// modelLimit is the limit whose waiting times are compared.
const modelLimit = 4

// fleetModel has three servers and what happened to them.
type fleetModel struct {
	t       *testing.T
	random  *rand.Rand
	set     fleet.Set
	memory  storetest.Memory
	step    time.Duration // of the clock of the store, in sum
	back    time.Duration // of steps back, in sum
	servers []*modelServer

	mu       sync.Mutex
	failures [unusedKey + 1][]time.Time // by key
	notRun   [unusedKey + 1]int         // failed logins in calls that were not executed
	flushed  [unusedKey + 1]int         // counts that the store lost
}

// modelServer is one server: what the package ratelimit counts, with and without the store.
type modelServer struct {
	*storetest.Conn
	*Client
	model *fleetModel
	name  string
	logs  *observer.ObservedLogs
	real  *ratelimit.Counter
	alone *ratelimit.Counter // own failed logins only
	mu    sync.Mutex
	fault storetest.Fault
	lie   func([]fleet.Count) []fleet.Count // instead of the counts; nil for none
}

// modelStore is the store as a server sees it. It notes which failed logins are lost.
type modelStore struct{ *modelServer }

func (s modelStore) Add(ctx context.Context, additions []fleet.Addition) ([]fleet.Count, error) {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == storetest.Refuses || fault == storetest.Hangs {
		s.model.mu.Lock()
		for _, a := range additions {
			s.model.notRun[a.Key] += a.N
		}
		s.model.mu.Unlock()
	}
	conn := &storetest.Conn{Memory: s.Memory, Fault: func() storetest.Fault { return fault }}
	counts, err := conn.Add(ctx, additions)
	if s.lie != nil {
		counts = s.lie(counts)
	}
	return counts, err
}

func (s modelStore) Publish(ctx context.Context, event []byte) error {
	return s.Conn.Publish(ctx, event)
}
func (s modelStore) Close() error { return s.Conn.Close() }

func newFleetModel(t *testing.T, seed uint64, window time.Duration) *fleetModel {
	t.Helper()
	m := &fleetModel{t: t, random: rand.New(rand.NewPCG(seed, 0)), set: fleet.Set{Name: "login", Window: window}}
	m.memory.Now = func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		return time.Now().Add(m.step)
	}
	for i := range 3 {
		core, logs := observer.New(zap.DebugLevel)
		logger := zap.New(core)
		s := &modelServer{
			Conn: m.memory.Connect(), model: m, name: fmt.Sprint("server ", i), logs: logs,
			real: ratelimit.New(time.Now()), alone: ratelimit.New(time.Now()),
		}
		s.Fault = func() storetest.Fault {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.fault
		}
		s.Client = New(Config{
			Store: modelStore{s}, Timeout: timeout, Retry: retry,
			Logger: func() *zap.Logger { return logger },
			Counted: func(c fleet.Counter, count fleet.Count) {
				m.checkAnswer(c.Key, count.N)
				s.real.RaiseTo(c.Key, count.N, count.Left, time.Now(), window)
			},
			Event: func([]byte) {}, Connected: func() {}, Durations: discard{},
		})
		s.Start()
		m.servers = append(m.servers, s)
	}
	synctest.Wait()
	return m
}

// close closes all servers.
func (m *fleetModel) close() {
	for _, s := range m.servers {
		if err := s.Client.Close(); err != nil {
			m.t.Error(err)
		}
	}
}

// since returns the number of failed logins with a key in this time until now.
func (m *fleetModel) since(key uint64, d time.Duration) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.failures[key] {
		if time.Since(t) < d {
			n++
		}
	}
	return n
}

// most returns how many failed logins may be counted with a key: no window, also one with
// failed logins that were kept, lasts longer than twice its length.
func (m *fleetModel) most(key uint64) int { return m.since(key, 2*m.set.Window+m.back+timeout) }

// checkAnswer checks a count that the store returned.
func (m *fleetModel) checkAnswer(key uint64, n int) {
	if most := m.most(key); n > most && m.servers[0].lie == nil {
		m.t.Errorf("the store counts %d failed logins of key %d, want at most %d", n, key, most)
	}
}

// fail is a failed login: counted here, then in the store.
func (s *modelServer) fail(key uint64) (count fleet.Count, isCounted bool) {
	m, window := s.model, s.model.set.Window
	begin := time.Now()
	m.mu.Lock()
	m.failures[key] = append(m.failures[key], begin)
	m.mu.Unlock()
	s.alone.Add(key, begin, window)
	s.real.Add(key, begin, window)
	counts := s.Client.Add([]fleet.Counter{{Set: m.set, Key: key}})
	if took := time.Since(begin); took > timeout {
		m.t.Errorf("%s: a failed login waited %s for the store", s.name, took)
	}
	if len(counts) == 0 {
		return fleet.Count{}, false
	}
	m.checkAnswer(key, counts[0].N)
	s.real.RaiseTo(key, counts[0].N, counts[0].Left, time.Now(), window)
	return counts[0], true
}

// check checks what is true at all times.
func (m *fleetModel) check() {
	window, now := m.set.Window, time.Now()
	for _, s := range m.servers {
		for key := uint64(1); key <= unusedKey; key++ {
			n, _ := s.real.Count(key, now, window)
			own, _ := s.alone.Count(key, now, window)
			if most := m.most(key); n < own || n > most && s.lie == nil {
				m.t.Errorf("%s counts %d failed logins of key %d, want %d (its own) to %d (all)", s.name, n, key, own, most)
			}
			limit := ratelimit.Limit{Max: modelLimit, Window: window}
			if wait, alone := s.real.Wait(key, now, limit, 0), s.alone.Wait(key, now, limit, 0); wait < alone || wait > window {
				m.t.Errorf("%s refuses key %d for %s, want at least %s as without a store", s.name, key, wait, alone)
			}
		}
	}
	for c, n := range m.memory.Counters() {
		if m.mu.Lock(); n > len(m.failures[c.Key]) {
			m.t.Errorf("the store counts %d failed logins of key %d, but there were %d", n, c.Key, len(m.failures[c.Key]))
		}
		m.mu.Unlock()
	}
}

// act does something at random.
func (m *fleetModel) act(hasSteps bool) {
	s := m.servers[m.random.IntN(len(m.servers))]
	key := m.random.Uint64N(modelKeys) + 1
	switch n := m.random.IntN(100); {
	case n < 55:
		s.fail(key)
	case n < 60: // at once
		var group sync.WaitGroup
		for _, s := range m.servers {
			keys := []uint64{m.random.Uint64N(modelKeys) + 1, m.random.Uint64N(modelKeys) + 1, key}
			for _, key := range keys {
				group.Go(func() { s.fail(key) })
			}
		}
		group.Wait()
	case n < 70:
		fault := storetest.Fault(m.random.IntN(int(storetest.HangsRun) + 1)) //nolint:gosec // small
		for _, other := range m.servers {
			if other == s || n < 64 { // one server, or all
				other.set(fault)
			}
		}
	case n < 74:
		s.set(storetest.Works)
	case n < 75:
		m.mu.Lock()
		defer m.mu.Unlock()
		for c, n := range m.memory.Counters() {
			m.flushed[c.Key] += n
		}
		m.memory.Flush()
	case n < 77 && hasSteps:
		step := time.Duration(m.random.IntN(5000)-2500) * time.Millisecond
		m.mu.Lock()
		m.step += step
		m.mu.Unlock()
		m.back += max(-step, 0)
	case n < 80:
		time.Sleep(min(m.set.Window/2, time.Minute))
	default:
		time.Sleep(time.Duration(m.random.IntN(3000)) * time.Millisecond)
	}
}

// set sets the fault of a server.
func (s *modelServer) set(fault storetest.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// recover lets the store work, and checks that all servers use it again.
func (m *fleetModel) recover() {
	for _, s := range m.servers {
		s.set(storetest.Works)
	}
	time.Sleep(5 * time.Second)
	synctest.Wait()
	for _, s := range m.servers {
		if st := s.Status(); !st.Connected || st.Unsent != 0 {
			m.t.Errorf("%s is not connected after 5 seconds: %+v", s.name, st)
		}
	}
}

// TestModelOfSums has windows that do not end, so that the sums are exact: all failed
// logins but those in calls that the store did not execute, and none twice.
func TestModelOfSums(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			m := newFleetModel(t, seed, 100*time.Hour)
			defer m.close()
			for range 4 {
				for range 100 {
					m.act(false)
					m.check()
				}
				m.recover()
				m.check()
				counts := m.memory.Counters()
				for key := uint64(1); key <= unusedKey; key++ {
					got, want := counts[fleet.Counter{Set: m.set, Key: key}], len(m.failures[key])-m.notRun[key]-m.flushed[key]
					if got != want {
						t.Errorf("the store counts %d failed logins of key %d, want %d: %d without %d that it did not execute and %d that it lost", got, key, want, len(m.failures[key]), m.notRun[key], m.flushed[key])
					}
				}
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// TestModelOfWindows has windows that end, and steps of the clock of the store.
func TestModelOfWindows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16) {
		synctest.Test(t, func(t *testing.T) {
			m := newFleetModel(t, seed, 20*time.Second)
			defer m.close()
			begin := time.Now()
			for i := range 400 {
				m.act(seed%2 == 0)
				if m.check(); t.Failed() {
					t.Fatalf("seed %d, step %d", seed, i)
				}
			}
			m.recover()
			m.check()
			for _, s := range m.servers {
				if got, most := s.logs.Len(), lineBurst+1+int(time.Since(begin)/lineInterval); got > most {
					t.Errorf("%s: got %d lines, want at most %d", s.name, got, most)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
}

// TestModelOfAHealthyStore compares each count with the failed logins of all servers in
// one window, which begins with the first. A server with more own failed logins in its own
// window counts these.
func TestModelOfAHealthyStore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			const window = 20 * time.Second
			m := newFleetModel(t, seed, window)
			defer m.close()
			var begin [unusedKey]time.Time
			var n [unusedKey]int
			for i := range 500 {
				time.Sleep(time.Duration(m.random.IntN(1500)) * time.Millisecond)
				s, key := m.servers[m.random.IntN(3)], m.random.Uint64N(modelKeys)+1
				if time.Since(begin[key]) >= window {
					begin[key], n[key] = time.Now(), 0
				}
				n[key]++
				want := fleet.Count{N: n[key], Left: window - time.Since(begin[key])}
				if got, isCounted := s.fail(key); got != want || !isCounted {
					t.Fatalf("seed %d, step %d: got %v, want %v", seed, i, got, want)
				}
				own, _ := s.alone.Count(key, time.Now(), window)
				if got, left := s.real.Count(key, time.Now(), window); got != max(own, want.N) || own < want.N && left != want.Left {
					t.Fatalf("seed %d, step %d: %s counts %d for %s, want %v or %d", seed, i, s.name, got, left, want, own)
				}
				if m.check(); t.Failed() {
					t.Fatalf("seed %d, step %d", seed, i)
				}
			}
		})
	}
}

// TestModelOfAStoreThatLies has a store that answers at random. Servers with it are never
// less strict than without a store, and count for no key that nobody used.
func TestModelOfAStoreThatLies(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			m := newFleetModel(t, seed, 20*time.Second)
			defer m.close()
			var mu sync.Mutex
			random := rand.New(rand.NewPCG(seed, 1))
			lie := func(counts []fleet.Count) []fleet.Count {
				mu.Lock()
				defer mu.Unlock()
				for i := range counts {
					switch random.IntN(6) {
					case 0:
						counts[i].N = int(random.Uint64()) //nolint:gosec // any number
					case 1:
						counts[i].N = random.IntN(20) - 5
					case 2:
						counts[i].Left = time.Duration(random.Uint64()) //nolint:gosec // any number
					case 3:
						counts[i].Left = time.Duration(random.IntN(10)) * time.Millisecond
					case 4:
						return counts[:random.IntN(len(counts)+1)]
					}
				}
				return counts
			}
			for _, s := range m.servers {
				s.lie = lie
			}
			for i := range 300 {
				m.act(true)
				for _, s := range m.servers {
					if n := s.real.Peek(unusedKey); n != 0 {
						t.Errorf("%s counts %d failed logins of a key that nobody used", s.name, n)
					}
				}
				if m.check(); t.Failed() {
					t.Fatalf("seed %d, step %d", seed, i)
				}
			}
		})
	}
}
