package fleetclient

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/fleet/storetest"
)

const (
	timeout = 100 * time.Millisecond
	retry   = time.Second
	window  = time.Minute
)

var (
	login  = fleet.Set{Name: "login", Window: window}
	client = fleet.Set{Name: "client", Window: window}
)

// discard is a prometheus.Observer.
type discard struct{}

func (discard) Observe(float64) {}

var _ prometheus.Observer = discard{}

// server is a Client with what it reported.
type server struct {
	*Client
	logs *observer.ObservedLogs

	mu        sync.Mutex
	counted   map[fleet.Counter]fleet.Count
	events    []string
	connected int
}

// newServer returns a server that is not started.
func newServer(store fleet.Store) *server {
	core, logs := observer.New(zap.DebugLevel)
	s := &server{logs: logs, counted: make(map[fleet.Counter]fleet.Count)}
	logger := zap.New(core)
	s.Client = New(Config{
		Store: store, Timeout: timeout, Retry: retry,
		Logger: func() *zap.Logger { return logger },
		Counted: func(c fleet.Counter, count fleet.Count) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.counted[c] = count
		},
		Event: func(event []byte) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.events = append(s.events, string(event))
		},
		Connected: func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.connected++
		},
		Durations: discard{},
	})
	return s
}

// start returns a server that is connected, and closed at the end of the test.
func start(t *testing.T, store fleet.Store) *server {
	t.Helper()
	s := newServer(store)
	s.Start()
	synctest.Wait()
	return s
}

// close closes a server.
func (s *server) close(t *testing.T) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error("Close:", err)
	}
}

// lines returns the messages logged.
func (s *server) messages() (messages []string) {
	for _, e := range s.logs.All() {
		messages = append(messages, e.Message)
	}
	return messages
}

// faulty is a connection whose fault can be set.
type faulty struct {
	*storetest.Conn
	fault atomic.Int32
}

func connect(m *storetest.Memory) *faulty {
	f := &faulty{Conn: m.Connect()}
	f.Fault = func() storetest.Fault { return storetest.Fault(f.fault.Load()) } //nolint:gosec // small
	return f
}

func (f *faulty) set(fault storetest.Fault) { f.fault.Store(int32(fault)) }

const (
	lostLine  = "fleet store unavailable; counting failed logins on this server only"
	quietLine = "fleet store delivers no events; limits and files of other servers arrive late"
	againLine = "fleet store available again"
)

func counter(set fleet.Set, key uint64) fleet.Counter { return fleet.Counter{Set: set, Key: key} }

func TestAddCountsOverAllServers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		a, b := start(t, m.Connect()), start(t, m.Connect())
		defer a.close(t)
		defer b.close(t)
		both := []fleet.Counter{counter(login, 1), counter(client, 2)}
		if got := a.Add(both); !slices.Equal(got, []fleet.Count{{N: 1, Left: window}, {N: 1, Left: window}}) {
			t.Errorf("first: got %v", got)
		}
		time.Sleep(10 * time.Second)
		if got := b.Add(both[:1]); !slices.Equal(got, []fleet.Count{{N: 2, Left: window - 10*time.Second}}) {
			t.Errorf("second: got %v", got)
		}
		if got := a.Add(nil); got != nil || m.Calls() != 2 {
			t.Errorf("no counters: got %v and %d calls, want none more", got, m.Calls())
		}
		if s := a.Status(); !s.Connected || s.LastError != "" || s.OK != 1 || s.Failed != 0 || s.Skipped != 0 {
			t.Errorf("got status %+v", s)
		}
	})
}

// TestFaults has one store for each fault of a call, from its begin to the recovery.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fault storetest.Fault
		runs  int // whether the first call is executed
		slow  bool
	}{
		{"refuses", storetest.Refuses, 0, false},
		{"executes, and the answer is lost", storetest.Lost, 1, false},
		{"hangs", storetest.Hangs, 0, true},
		{"executes and hangs", storetest.HangsRun, 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var m storetest.Memory
				conn := connect(&m)
				s := start(t, conn)
				defer s.close(t)
				c := counter(login, 7)
				conn.set(test.fault)
				begin := time.Now()
				if got := s.Add([]fleet.Counter{c}); got != nil {
					t.Errorf("got %v of a store that is down", got)
				}
				if took := time.Since(begin); took > timeout || test.slow != (took == timeout) {
					t.Errorf("the first failed login took %s", took)
				}
				begin = time.Now()
				for range 5 {
					if got := s.Add([]fleet.Counter{c, counter(client, 8)}); got != nil {
						t.Errorf("got %v of a store that is down", got)
					}
				}
				if time.Since(begin) != 0 {
					t.Errorf("further ones took %s, want nothing", time.Since(begin))
				}
				if st := s.Status(); st.Connected || st.LastError == "" || st.Unsent != 10 || st.Failed != 1 || st.Skipped != 5 || !st.Since.Equal(begin) {
					t.Errorf("got status %+v", st)
				}
				time.Sleep(20 * time.Second)
				if calls := m.Calls(); calls != test.runs {
					t.Errorf("got %d calls while it was down, want %d", calls, test.runs)
				}
				conn.set(storetest.Works)
				time.Sleep(5 * time.Second) // recovery
				if got := m.Counters(); got[c] != 5+test.runs || got[counter(client, 8)] != 5 {
					t.Errorf("got counters %v", got)
				}
				if st := s.Status(); !st.Connected || st.Unsent != 0 || st.Dropped != 0 || st.LastError == "" {
					t.Errorf("got status %+v after the recovery", st)
				}
				s.mu.Lock()
				if got := s.counted[c]; got.N != 5+test.runs || got.Left > 40*time.Second {
					t.Errorf("got %v as counted, with the time of the first failure", got)
				}
				s.mu.Unlock()
				if got := s.messages(); !slices.Equal(got, []string{lostLine, againLine}) {
					t.Errorf("got lines %q", got)
				}
			})
		})
	}
}
