package fleetclient

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
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

// start returns a server that is connected.
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

// messages returns the messages logged.
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

type addFunc = func(context.Context, []fleet.Addition) ([]fleet.Count, error)

// scripted is a store whose calls can be replaced.
type scripted struct {
	fleet.Store
	adds      atomic.Pointer[addFunc]
	ping      func(context.Context) error
	publish   func(context.Context, []byte) error
	subscribe func(context.Context, fleet.Subscriber)
	load      func(context.Context, string) (fleet.Text, error)
	closed    atomic.Bool
}

func (s *scripted) Add(ctx context.Context, additions []fleet.Addition) ([]fleet.Count, error) {
	if add := s.adds.Load(); add != nil {
		return (*add)(ctx, additions)
	}
	return s.Store.Add(ctx, additions)
}

// add replaces Add.
func (s *scripted) add(add addFunc) { s.adds.Store(&add) }

func (s *scripted) Ping(ctx context.Context) error {
	if s.ping == nil {
		return s.Store.Ping(ctx)
	}
	return s.ping(ctx)
}

func (s *scripted) Publish(ctx context.Context, event []byte) error {
	if s.publish == nil {
		return s.Store.Publish(ctx, event)
	}
	return s.publish(ctx, event)
}

func (s *scripted) Subscribe(ctx context.Context, subscriber fleet.Subscriber) {
	if s.subscribe == nil {
		s.Store.Subscribe(ctx, subscriber)
		return
	}
	s.subscribe(ctx, subscriber)
}

func (s *scripted) Load(ctx context.Context, name string) (fleet.Text, error) {
	if s.load == nil {
		return s.Store.Load(ctx, name)
	}
	return s.load(ctx, name)
}

func (s *scripted) Close() error {
	s.closed.Store(true)
	return s.Store.Close()
}

var errTest = errors.New("a test")

// TestStoreThatLies has answers that no store should give.
func TestStoreThatLies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		counts []fleet.Count
		want   []fleet.Count
	}{
		{"none", nil, nil},
		{"too few", []fleet.Count{{N: 1, Left: 1}}, nil},
		{"too many", make([]fleet.Count, 3), nil},
		{"negative", []fleet.Count{{N: -1, Left: -1}, {N: math.MinInt, Left: math.MinInt64}}, []fleet.Count{{Left: 1}, {Left: 1}}},
		{"huge", []fleet.Count{{N: math.MaxInt, Left: math.MaxInt64}, {N: 5, Left: window + 1}}, []fleet.Count{{N: math.MaxInt32, Left: window}, {N: 5, Left: window}}},
		{"true", []fleet.Count{{N: 3, Left: 4}, {N: 5, Left: window}}, []fleet.Count{{N: 3, Left: 4}, {N: 5, Left: window}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &scripted{Store: new(storetest.Memory).Connect()}
				store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) { return test.counts, nil })
				s := start(t, store)
				defer s.close(t)
				counters := []fleet.Counter{counter(login, 1), counter(client, 2)}
				if got := s.Add(counters); !slices.Equal(got, test.want) {
					t.Errorf("got %v, want %v", got, test.want)
				}
				if s.Status().Connected != (test.want != nil) {
					t.Errorf("got status %+v", s.Status())
				}
			})
		})
	}
}

// TestKeptFailuresOfALyingStore has such answers for what was kept.
func TestKeptFailuresOfALyingStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := new(storetest.Memory).Connect()
		store := &scripted{Store: conn}
		s := newServer(store)
		s.Add([]fleet.Counter{counter(login, 1)})
		store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) {
			return []fleet.Count{{N: math.MaxInt, Left: math.MaxInt64}}, nil
		})
		s.Start()
		defer s.close(t)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if got, want := s.counted[counter(login, 1)], (fleet.Count{N: math.MaxInt32, Left: window}); got != want {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestStoreThatPanics has a panic in each method. No lock stays held, and the store is
// down, unless the panic is in Close.
func TestStoreThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		var isBroken atomic.Bool
		store.add(func(ctx context.Context, a []fleet.Addition) ([]fleet.Count, error) {
			if isBroken.Load() {
				panic("add")
			}
			return store.Store.Add(ctx, a)
		})
		store.ping = func(context.Context) error {
			if isBroken.Load() {
				panic("ping")
			}
			return nil
		}
		store.publish = func(context.Context, []byte) error { panic("publish") }
		store.load = func(context.Context, string) (fleet.Text, error) { panic("load") }
		s := start(t, store)
		defer s.close(t)
		counters := []fleet.Counter{counter(login, 1)}
		for _, test := range []struct {
			name string
			call func()
		}{
			{"add", func() { isBroken.Store(true); s.Add(counters) }},
			{"publish", func() { s.Publish([]byte("x")) }},
			{"load", func() {
				err := s.Do(t.Context(), func(ctx context.Context, store fleet.Store) error {
					_, err := store.Load(ctx, "x")
					return err
				})
				if err == nil {
					t.Error("got no error of a panic")
				}
			}},
		} {
			test.call()
			synctest.Wait()
			if st := s.Status(); st.Connected || !strings.Contains(st.LastError, "panicked: "+test.name) {
				t.Errorf("%s: got status %+v", test.name, st)
			}
			time.Sleep(3 * retry)
			isBroken.Store(false)
			time.Sleep(2 * retry)
			if got := s.Add(counters); got == nil || !s.Status().Connected {
				t.Errorf("%s: got %v and status %+v after the recovery", test.name, got, s.Status())
			}
		}
	})
}

// TestStoreThatIgnoresTheContext hangs longer than it may.
func TestStoreThatIgnoresTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) {
			time.Sleep(time.Hour)
			return []fleet.Count{{N: 1, Left: window}}, nil
		})
		s := start(t, store)
		begin := time.Now()
		if got := s.Add([]fleet.Counter{counter(login, 1)}); got != nil || time.Since(begin) != timeout {
			t.Errorf("got %v after %s", got, time.Since(begin))
		}
		s.close(t) // waits
	})
}

// TestManyLoginsAtOnceMeetAStoreThatHangs: each waits once, and the store is called no
// more afterwards. Errors of these calls that come after the recovery do not count.
func TestManyLoginsAtOnceMeetAStoreThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		conn := connect(&m)
		s := start(t, conn)
		defer s.close(t)
		conn.set(storetest.Hangs)
		var group sync.WaitGroup
		begin := time.Now()
		for i := range 50 {
			group.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if got := s.Add([]fleet.Counter{counter(login, 1)}); got != nil {
					t.Errorf("got %v", got)
				}
			})
		}
		group.Wait()
		if took := time.Since(begin); took > timeout+50*time.Millisecond {
			t.Errorf("took %s", took)
		}
		if st := s.Status(); st.Failed != 50 || st.Skipped != 0 {
			t.Errorf("got status %+v", st)
		}
		conn.set(storetest.Works)
		time.Sleep(2 * retry)
		if got := s.Add([]fleet.Counter{counter(login, 1)}); len(got) != 1 || got[0].N != 1 {
			t.Errorf("got %v after the recovery, want 1: what was sent is not sent again", got)
		}
	})
}

// TestLateErrorDoesNotMeanDown has a call that began before the store was down, and fails
// after it recovered.
func TestLateErrorDoesNotMeanDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		s := start(t, store)
		defer s.close(t)
		store.load = func(ctx context.Context, _ string) (fleet.Text, error) {
			<-ctx.Done()
			return fleet.Text{}, ctx.Err()
		}
		var group sync.WaitGroup
		group.Go(func() {
			err := s.Do(t.Context(), func(ctx context.Context, store fleet.Store) error {
				_, err := store.Load(ctx, "x")
				return err
			})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want that the time is over", err)
			}
		})
		synctest.Wait()
		store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) { return nil, errTest })
		s.Add([]fleet.Counter{counter(login, 1)})
		store.adds.Store(nil)
		time.Sleep(5 * time.Second)
		if !s.Status().Connected {
			t.Error("the store has not recovered")
		}
		group.Wait()
		if st := s.Status(); !st.Connected || st.Failed != 2 {
			t.Errorf("got status %+v after a late error", st)
		}
	})
}

func TestKeptFailuresAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		s := newServer(m.Connect())
		for range 2 {
			for key := range uint64(MaxKept + 100) {
				s.Add([]fleet.Counter{counter(login, key+1)})
			}
		}
		if st := s.Status(); st.Unsent != 2*MaxKept || st.Dropped != 200 {
			t.Errorf("got status %+v", st)
		}
		s.Start()
		defer s.close(t)
		synctest.Wait()
		if got := m.Counters(); len(got) != MaxKept || got[counter(login, 1)] != 2 || m.Calls() != MaxKept/64 {
			t.Errorf("got %d counters of 2 in %d calls", len(got), m.Calls())
		}
		if st := s.Status(); st.Unsent != 0 || st.Dropped != 200 {
			t.Errorf("got status %+v", st)
		}
	})
}

// TestKeptFailuresEndWithTheirWindow has failures of an hour with the store down.
func TestKeptFailuresEndWithTheirWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		conn := connect(&m)
		s := start(t, conn)
		defer s.close(t)
		conn.set(storetest.Refuses)
		s.Add([]fleet.Counter{counter(login, 9)})
		old, again := counter(login, 1), counter(login, 2)
		for range 3 {
			s.Add([]fleet.Counter{old, again})
		}
		time.Sleep(window)
		s.Add([]fleet.Counter{again})
		time.Sleep(2 * time.Second)
		if st := s.Status(); st.Unsent != 1 || st.Dropped != 0 {
			t.Errorf("got status %+v, want one failed login", st)
		}
		conn.set(storetest.Works)
		time.Sleep(2 * time.Second)
		if got := m.Counters(); len(got) != 1 || got[again] != 1 {
			t.Errorf("got %v, want one failed login", got)
		}
	})
}

// TestFlushThatFails loses what was in the call, and no more.
func TestFlushThatFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []storetest.Fault{storetest.Refuses, storetest.Lost, storetest.Hangs, storetest.HangsRun} {
		synctest.Test(t, func(t *testing.T) {
			var m storetest.Memory
			conn := m.Connect()
			store := &scripted{Store: conn}
			store.ping = func(context.Context) error { return nil }
			var calls atomic.Int32
			conn.Fault = func() storetest.Fault {
				if calls.Add(1) == 2 {
					return fault
				}
				return storetest.Works
			}
			s := newServer(store)
			for key := range uint64(200) {
				s.Add([]fleet.Counter{counter(login, key+1)})
			}
			s.Start()
			defer s.close(t)
			time.Sleep(5 * time.Second)
			want := 136
			if fault == storetest.Lost || fault == storetest.HangsRun {
				want = 200
			}
			got := m.Counters()
			if st := s.Status(); len(got) != want || !st.Connected || st.Unsent != 0 || st.Dropped != 64 || calls.Load() != 4 {
				t.Errorf("fault %d: got %d counters, want %d, and %d calls; status %+v", fault, len(got), want, calls.Load(), st)
			}
			for c, n := range got {
				if n != 1 {
					t.Errorf("fault %d: counted %d in %v", fault, n, c)
				}
			}
		})
	}
}

// TestFlushEndsWhenTheStoreIsDown has a login that finds the store down, while what was
// kept is sent. The rest stays kept.
func TestFlushEndsWhenTheStoreIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		store := &scripted{Store: m.Connect()}
		store.add(func(ctx context.Context, a []fleet.Addition) ([]fleet.Count, error) {
			if a[0].Key == 999 {
				return nil, errTest
			}
			time.Sleep(50 * time.Millisecond)
			return store.Store.Add(ctx, a)
		})
		s := newServer(store)
		for key := range uint64(200) {
			s.Add([]fleet.Counter{counter(login, key+1)})
		}
		s.Start()
		defer s.close(t)
		time.Sleep(75 * time.Millisecond)
		s.Add([]fleet.Counter{counter(login, 999)})
		time.Sleep(retry / 2)
		if st := s.Status(); st.Connected || m.Calls() != 2 || st.Unsent != 200-128 || st.Dropped != 0 {
			t.Errorf("got %d calls and status %+v", m.Calls(), st)
		}
		time.Sleep(retry)
		if st := s.Status(); !st.Connected || m.Calls() != 4 || st.Unsent != 0 || len(m.Counters()) != 200 {
			t.Errorf("got %d calls, %d counters and status %+v", m.Calls(), len(m.Counters()), st)
		}
	})
}

// TestSlowConnection has a store whose first answer after an outage takes half a second,
// because it has to connect, and one that always takes so long.
func TestSlowConnection(t *testing.T) {
	t.Parallel()
	for _, isAlways := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			conn := new(storetest.Memory).Connect()
			store := &scripted{Store: conn}
			pings := 0
			store.ping = func(ctx context.Context) error {
				if pings++; pings > 2 && !isAlways {
					return nil
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(500 * time.Millisecond):
					return nil
				}
			}
			s := newServer(store)
			s.Start()
			defer s.close(t)
			time.Sleep(5 * time.Second)
			if got := s.Status().Connected; got == isAlways {
				t.Errorf("always slow: %t, connected: %t", isAlways, got)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		conn := connect(&m)
		a, b := start(t, conn), start(t, m.Connect())
		defer a.close(t)
		defer b.close(t)
		a.Start() // does nothing
		a.Publish([]byte("one"))
		a.Publish(make([]byte, fleet.MaxEvent+1))
		synctest.Wait()
		conn.set(storetest.Refuses)
		a.Publish([]byte("two"))
		synctest.Wait()
		a.Publish([]byte("three"))
		synctest.Wait()
		conn.set(storetest.Works)
		time.Sleep(2 * retry)
		a.Publish([]byte("four"))
		synctest.Wait()
		for name, s := range map[string]*server{"a": a, "b": b} {
			s.mu.Lock()
			if !slices.Equal(s.events, []string{"one", "four"}) || s.connected != 1 {
				t.Errorf("%s: got events %q and %d connections", name, s.events, s.connected)
			}
			s.mu.Unlock()
		}
		if st := a.Status(); st.Dropped != 3 || st.OK != 2 || st.Failed != 1 || st.Skipped != 2 {
			t.Errorf("got status %+v", st)
		}
	})
}

// TestPublishDoesNotWait fills the queue of events while the store hangs.
func TestPublishDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		conn := connect(&m)
		s := start(t, conn)
		defer s.close(t)
		conn.set(storetest.Hangs)
		begin := time.Now()
		s.Publish([]byte("x"))
		synctest.Wait()
		for range MaxQueued + 10 {
			s.Publish([]byte("x"))
		}
		if st := s.Status(); st.Dropped != 10 || time.Since(begin) != 0 {
			t.Errorf("got status %+v after %s", st, time.Since(begin))
		}
		time.Sleep(10 * time.Second)
		if st := s.Status(); st.Dropped != MaxQueued+11 || m.Calls() != 0 {
			t.Errorf("got status %+v and %d calls, want that all were dropped", st, m.Calls())
		}
	})
}

// TestSubscriptionAloneIsLost: calls work, so counts are shared, but it is not connected.
func TestSubscriptionAloneIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		var subscriber fleet.Subscriber
		store.subscribe = func(ctx context.Context, s fleet.Subscriber) {
			subscriber = s
			<-ctx.Done()
		}
		s := start(t, store)
		defer s.close(t)
		if st := s.Status(); st.Connected || st.LastError != "" {
			t.Errorf("got status %+v before the subscription", st)
		}
		subscriber.Connected()
		time.Sleep(time.Minute)
		if got := s.messages(); !s.Status().Connected || got != nil {
			t.Errorf("got lines %q and status %+v", got, s.Status())
		}
		subscriber.Disconnected(errTest)
		since := time.Now()
		for range 3 {
			time.Sleep(time.Second)
			subscriber.Disconnected(errTest)
		}
		if got := s.messages(); got != nil {
			t.Errorf("got lines %q within the grace time", got)
		}
		time.Sleep(time.Minute)
		if st := s.Status(); st.Connected || st.LastError != "no events: a test" || !st.Since.Equal(since) {
			t.Errorf("got status %+v without a subscription", st)
		}
		if got := s.Add([]fleet.Counter{counter(login, 1)}); got == nil {
			t.Error("failed logins are not counted in the store")
		}
		subscriber.Connected()
		synctest.Wait()
		if got := s.messages(); !slices.Equal(got, []string{quietLine, againLine}) || !s.Status().Connected {
			t.Errorf("got lines %q and status %+v", got, s.Status())
		}
	})
}

// TestLostSubscriptionFindsThatTheStoreIsDown: so no login has to find out.
func TestLostSubscriptionFindsThatTheStoreIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		var subscriber fleet.Subscriber
		store.subscribe = func(ctx context.Context, s fleet.Subscriber) {
			subscriber = s
			s.Connected()
			<-ctx.Done()
		}
		var isDown atomic.Bool
		store.ping = func(context.Context) error {
			if isDown.Load() {
				return errTest
			}
			return nil
		}
		s := start(t, store)
		defer s.close(t)
		isDown.Store(true)
		subscriber.Disconnected(nil)
		synctest.Wait()
		if st, got := s.Status(), s.messages(); st.LastError != "a test" || st.Failed != 0 || !slices.Equal(got, []string{lostLine}) {
			t.Errorf("got lines %q and status %+v", got, st)
		}
	})
}

// TestSubscriptionComesBackAfterTheStore: a subscription fails as long as the store is down,
// so it has its grace time from the moment when the store works again.
func TestSubscriptionComesBackAfterTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		var subscriber fleet.Subscriber
		store.subscribe = func(ctx context.Context, s fleet.Subscriber) {
			subscriber = s
			s.Connected()
			<-ctx.Done()
		}
		var isDown atomic.Bool
		store.ping = func(context.Context) error {
			if isDown.Load() {
				return errTest
			}
			return nil
		}
		s := start(t, store)
		defer s.close(t)
		isDown.Store(true)
		subscriber.Disconnected(errTest)
		time.Sleep(time.Minute)
		isDown.Store(false)
		time.Sleep(3 * time.Second)
		subscriber.Connected()
		synctest.Wait()
		if got := s.messages(); !slices.Equal(got, []string{lostLine, againLine}) || !s.Status().Connected {
			t.Errorf("got lines %q and status %+v", got, s.Status())
		}
	})
}

// TestSubscriptionThatEnds is made again.
func TestSubscriptionThatEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		n := 0
		store.subscribe = func(ctx context.Context, s fleet.Subscriber) {
			s.Connected()
			switch n++; n {
			case 1:
				return
			case 2:
				panic("subscribe")
			}
			<-ctx.Done()
		}
		s := start(t, store)
		defer s.close(t)
		if st := s.Status(); st.Connected || !strings.Contains(st.LastError, "ended") {
			t.Errorf("got status %+v", st)
		}
		time.Sleep(retry)
		synctest.Wait()
		if st := s.Status(); st.Connected || !strings.Contains(st.LastError, "panicked: subscribe") {
			t.Errorf("got status %+v", st)
		}
		time.Sleep(retry)
		synctest.Wait()
		if st := s.Status(); !st.Connected || n != 3 || s.connected != 3 {
			t.Errorf("got status %+v after %d subscriptions", st, n)
		}
	})
}

// TestFlappingStoreLogsLittle has a store that answers each Ping, takes what was kept, and
// refuses the next failed login, for an hour.
func TestFlappingStoreLogsLittle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: new(storetest.Memory).Connect()}
		s := start(t, store)
		defer s.close(t)
		var calls atomic.Int32
		store.add(func(ctx context.Context, a []fleet.Addition) ([]fleet.Count, error) {
			if a[0].Age > 0 {
				return store.Store.Add(ctx, a)
			}
			calls.Add(1)
			return nil, errors.New(strings.Repeat("x", int(calls.Load())%10))
		})
		for range 3600 * 4 {
			s.Add([]fleet.Counter{counter(login, 1)})
			time.Sleep(250 * time.Millisecond)
		}
		if n := calls.Load(); n > 2*3600 {
			t.Errorf("got %d calls in an hour", n)
		}
		got := s.messages()
		if most := 4 + 3600/30 + 1; len(got) > most || len(got) < 4 {
			t.Errorf("got %d lines, want at most %d", len(got), most)
		}
		for i, line := range got {
			if line != []string{lostLine, againLine}[i%2] {
				t.Fatalf("got line %d %q", i, line)
			}
		}
		store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) { return nil, errTest })
		before := len(got)
		for range 3600 * 3 {
			s.Add([]fleet.Counter{counter(login, 1)})
			time.Sleep(300 * time.Millisecond) // so something is kept each time
		}
		if got := s.messages(); len(got) > before+6 {
			t.Errorf("got %d lines of a store that refuses what was kept, too", len(got)-before)
		}
		store.adds.Store(nil)
		time.Sleep(5 * time.Minute)
		if got := s.messages(); got[len(got)-1] != againLine {
			t.Errorf("the last line is %q, though the store works", got[len(got)-1])
		}
	})
}

func TestDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m storetest.Memory
		conn := connect(&m)
		s := newServer(conn) // not started
		ctx := t.Context()
		do := func(f func(context.Context, fleet.Store) error) error { return s.Do(ctx, f) }
		c := counter(login, 1)
		for _, test := range []struct {
			name string
			call func(context.Context, fleet.Store) error
			want error
		}{
			{"a text that is not there", func(ctx context.Context, s fleet.Store) error { _, err := s.Load(ctx, "x"); return err }, fs.ErrNotExist},
			{"its revision", func(ctx context.Context, s fleet.Store) error { _, err := s.Revision(ctx, "x"); return err }, fs.ErrNotExist},
			{"a conflict", func(ctx context.Context, s fleet.Store) error { return s.Replace(ctx, "x", "1", fleet.Text{}) }, fleet.ErrConflict},
			{"an error of the caller", func(context.Context, fleet.Store) error { return errTest }, errTest},
			{"all others", func(ctx context.Context, s fleet.Store) error {
				counts, err := s.Add(ctx, []fleet.Addition{{Counter: c, N: 2}})
				if len(counts) != 1 || counts[0].N != 2 {
					t.Errorf("got %v", counts)
				}
				return errors.Join(err, s.Remove(ctx, []fleet.Counter{c}), s.RemoveAll(ctx, []fleet.Set{login}), s.Publish(ctx, nil),
					s.Ping(ctx), s.Replace(ctx, "x", "", fleet.Text{Revision: "1"}), s.Close())
			}, nil},
		} {
			if err := do(test.call); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", test.name, err, test.want)
			}
		}
		if st := s.Status(); st.OK != 9 || st.Failed != 0 || st.Connected || st.LastError != "" {
			t.Errorf("got status %+v", st)
		}
		s.Start()
		defer s.close(t)
		synctest.Wait()

		conn.set(storetest.Hangs)
		canceled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		load := func(ctx context.Context, s fleet.Store) error { _, err := s.Load(ctx, "x"); return err }
		if err := s.Do(canceled, load); !errors.Is(err, context.Canceled) || !s.Status().Connected {
			t.Errorf("got %v and status %+v after a call that was canceled", err, s.Status())
		}
		begin := time.Now()
		if err := do(load); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 10*time.Second || s.Status().Connected {
			t.Errorf("got %v after %s, and status %+v", err, time.Since(begin), s.Status())
		}
		if err := do(load); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("got %v, want ErrDown with the reason", err)
		}
		if st := s.Status(); st.Failed != 2 || st.Skipped != 1 {
			t.Errorf("got status %+v", st)
		}
	})
}

// TestDoWithASlowStore: a store that is too slow for logins still serves administrators and
// mirrors. One that answers no Ping does not make them wait.
func TestDoWithASlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := connect(new(storetest.Memory))
		slow := &slowStore{Store: conn}
		s := start(t, slow)
		defer s.close(t)
		ping := func(ctx context.Context, s fleet.Store) error { return s.Ping(ctx) }
		slow.delay.Store(int64(300 * time.Millisecond))
		if counts := s.Add([]fleet.Counter{counter(login, 1)}); counts != nil {
			t.Errorf("got %v, want no answer in time", counts)
		}
		for range 5 {
			time.Sleep(time.Second)
			if err := s.Do(t.Context(), ping); err != nil || s.Status().Connected {
				t.Errorf("got %v and status %+v, want that the store is called and too slow for logins", err, s.Status())
			}
		}
		slow.delay.Store(int64(time.Hour))
		time.Sleep(3 * time.Second)
		begin := time.Now()
		if err := s.Do(t.Context(), ping); !errors.Is(err, ErrDown) || time.Since(begin) != 0 {
			t.Errorf("got %v after %s, want ErrDown at once", err, time.Since(begin))
		}
		slow.delay.Store(0)
		time.Sleep(3 * time.Second)
		if err := s.Do(t.Context(), ping); err != nil || !s.Status().Connected {
			t.Errorf("got %v and status %+v, want that it works again", err, s.Status())
		}
	})
}

// slowStore delays each Add and Ping.
type slowStore struct {
	fleet.Store
	delay atomic.Int64
}

func (s *slowStore) wait(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(s.delay.Load())):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowStore) Add(ctx context.Context, additions []fleet.Addition) ([]fleet.Count, error) {
	if err := s.wait(ctx); err != nil {
		return nil, err
	}
	return s.Store.Add(ctx, additions)
}

func (s *slowStore) Ping(ctx context.Context) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}

// TestDoFailsBeforeStart: the store is looked at again with the start.
func TestDoFailsBeforeStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := connect(new(storetest.Memory))
		conn.set(storetest.Refuses)
		s := newServer(conn)
		ping := func(ctx context.Context, s fleet.Store) error { return s.Ping(ctx) }
		if err := s.Do(t.Context(), ping); err == nil || errors.Is(err, ErrDown) {
			t.Errorf("got %v, want the error of the store", err)
		}
		if err := s.Do(t.Context(), ping); !errors.Is(err, ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
		conn.set(storetest.Works)
		s.Start()
		defer s.close(t)
		synctest.Wait()
		if err := s.Do(t.Context(), ping); err != nil || !s.Status().Connected {
			t.Errorf("got %v and status %+v", err, s.Status())
		}
	})
}

// TestClose ends calls that hang, and leaves no goroutine (synctest would say so).
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := connect(new(storetest.Memory))
		store := &scripted{Store: conn}
		s := start(t, store)
		conn.set(storetest.Hangs)
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { s.Add([]fleet.Counter{counter(login, 1)}) })
			s.Publish([]byte("x"))
		}
		group.Go(func() {
			err := s.Do(t.Context(), func(ctx context.Context, store fleet.Store) error { return store.Publish(ctx, nil) })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it was canceled", err)
			}
		})
		synctest.Wait()
		begin := time.Now()
		s.close(t)
		if !store.closed.Load() || time.Since(begin) != 0 {
			t.Errorf("closed: %t, after %s", store.closed.Load(), time.Since(begin))
		}
		group.Wait()
		store.add(func(context.Context, []fleet.Addition) ([]fleet.Count, error) { panic("called after Close") })
		s.Start()
		s.Publish([]byte("x"))
		if got := s.Add([]fleet.Counter{counter(login, 1)}); got != nil || s.Status().Connected || s.Status().Unsent != 0 {
			t.Errorf("got %v and status %+v after Close", got, s.Status())
		}
		if err := s.Do(t.Context(), nil); !errors.Is(err, ErrDown) {
			t.Errorf("got %v, want ErrDown", err)
		}
		if got := s.messages(); got != nil {
			t.Errorf("got lines %q", got)
		}
	})
}

// TestCloseBeforeStart closes the store.
func TestCloseBeforeStart(t *testing.T) {
	t.Parallel()
	store := &scripted{Store: new(storetest.Memory).Connect()}
	newServer(store).close(t)
	if !store.closed.Load() {
		t.Error("the store was not closed")
	}
}

// TestAddInParallel counts exactly, in real time.
func TestAddInParallel(t *testing.T) {
	var m storetest.Memory
	s := newServer(m.Connect())
	s.Start()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				s.Add([]fleet.Counter{counter(login, 1)})
				runtime.Gosched()
			}
		})
	}
	group.Wait()
	st := s.Status()
	s.close(t)
	if got := m.Counters()[counter(login, 1)]; st.Failed == 0 && got+st.Unsent != 1600 {
		t.Errorf("got %d, status %+v", got, st)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, bench := range []struct {
		name  string
		fault storetest.Fault
	}{{"store works", storetest.Works}, {"store is down", storetest.Refuses}} {
		b.Run(bench.name, func(b *testing.B) {
			conn := connect(new(storetest.Memory))
			conn.set(bench.fault)
			s := newServer(conn)
			s.Start()
			counters := []fleet.Counter{counter(login, 1), counter(client, 2), {Set: fleet.Set{Name: "user", Window: window}, Key: 3}}
			b.ReportAllocs()
			for b.Loop() {
				s.Add(counters)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
