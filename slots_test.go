package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slotsOf returns slots with room for max, without suspects. In these tests the
// time is that of synctest: it goes on when everybody waits.
func slotsOf(max int) *slots {
	return &slots{max: func() int { return max }, maxWait: maxWait, hasFailed: func(uint64) bool { return false }}
}

// job returns a check that takes a while and comes to outcome.
func job(client uint64, key string, took time.Duration, ran *int) *waiter {
	return &waiter{
		client:  client,
		key:     key,
		refused: func() error { return nil },
		begin: func() func() verdict {
			*ran++
			return func() verdict {
				time.Sleep(took)
				return verdict{outcome: wrongPassword, user: key}
			}
		},
	}
}

// checkIdle fails unless slots hold nothing of anybody.
func (s *slots) checkIdle(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy != 0 || s.waiting != 0 || len(s.calls) != 0 || len(s.queues) != 0 || s.rounds[0].Len() != 0 || s.rounds[1].Len() != 0 {
		t.Errorf("left behind: %d busy, %d waiting, %d calls, %d queues, %d and %d in the round",
			s.busy, s.waiting, len(s.calls), len(s.queues), s.rounds[0].Len(), s.rounds[1].Len())
	}
}

// TestTurns lets checks wait while the only slot is taken, and looks at the
// order in which they get it.
func TestTurns(t *testing.T) {
	for _, test := range []struct {
		name     string
		waiting  string // client and number of each, in the order in which they come
		suspects string
		want     string
	}{
		{"one client", "a1 a2 a3", "", "a1 a2 a3"},
		{"two by turns", "a1 a2 a3 b1 b2", "", "a1 b1 a2 b2 a3"},
		{"who comes later with one goes before the rest of the others", "a1 a2 a3 a4 b1 c1", "", "a1 b1 c1 a2 a3 a4"},
		{"without failures first", "a1 a2 b1 b2 c1", "a", "b1 c1 b2 a1 a2"},
		{"but every eighth turn", "a1 a2 b1 c1 d1 e1 f1 g1 h1 i1 j1", "a", "b1 c1 d1 e1 f1 g1 h1 a1 i1 j1 a2"},
		{"by turns among those with failures", "a1 a2 b1 b2 c1", "ab", "c1 a1 b1 a2 b2"},
		{"all with failures", "a1 a2 b1", "ab", "a1 b1 a2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slotsOf(1)
				s.hasFailed = func(client uint64) bool { return strings.Contains(test.suspects, string(rune(client))) }
				ran := 0
				go s.do(t.Context(), job('z', "first", time.Second, &ran))
				synctest.Wait()
				var order []string
				var group sync.WaitGroup
				for _, name := range strings.Fields(test.waiting) {
					c := job(uint64(name[0]), name, time.Millisecond, &ran)
					begin := c.begin
					c.begin = func() func() verdict {
						order = append(order, name)
						return begin()
					}
					group.Go(func() {
						if v, err := s.do(t.Context(), c); err != nil || v.repeated || v.user != name {
							t.Errorf("%v, %v", v, err)
						}
					})
					synctest.Wait()
				}
				group.Wait()
				if got := strings.Join(order, " "); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
				s.checkIdle(t)
			})
		})
	}
}

// TestDemotion is a client that fails while many of its checks wait.
func TestDemotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slotsOf(1)
		failed := false
		s.hasFailed = func(client uint64) bool { return client == 1 && failed }
		var order []string
		var group sync.WaitGroup
		for i := range 5 {
			for client := range uint64(2) {
				c := job(client+1, fmt.Sprint(client+1, i), time.Millisecond, new(int))
				begin := c.begin
				c.begin = func() func() verdict {
					order = append(order, fmt.Sprint(client+1))
					failed = true
					return begin()
				}
				group.Go(func() { s.do(t.Context(), c) })
				synctest.Wait()
			}
		}
		group.Wait()
		if got := strings.Join(order, ""); got != "1222221111" {
			t.Error(got)
		}
		s.checkIdle(t)
	})
}

func TestAtMostMax(t *testing.T) {
	for _, limit := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := slotsOf(limit)
				var mu sync.Mutex
				now, most := 0, 0
				var group sync.WaitGroup
				for i := range 100 {
					group.Go(func() {
						s.do(t.Context(), &waiter{client: uint64(i % 7), key: fmt.Sprint(i), refused: func() error { return nil }, begin: func() func() verdict {
							return func() verdict {
								mu.Lock()
								now++
								most = max(most, now)
								mu.Unlock()
								time.Sleep(time.Millisecond)
								mu.Lock()
								now--
								mu.Unlock()
								return verdict{}
							}
						}})
					})
				}
				start := time.Now()
				group.Wait()
				if want := 100 / time.Duration(limit) * time.Millisecond; most != limit || time.Since(start) != want {
					t.Errorf("%d at once for %s, want %d for %s", most, time.Since(start), limit, want)
				}
				s.checkIdle(t)
			})
		})
	}
}

func TestMaxChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit, ran := 1, 0
		s := slotsOf(1)
		s.max = func() int { return limit }
		set := func(n int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			limit = n
		}
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() { s.do(t.Context(), job(1, fmt.Sprint(i), time.Second, &ran)) })
		}
		synctest.Wait()
		if ran != 1 {
			t.Fatalf("%d run", ran)
		}
		set(3)
		s.settingsChanged()
		synctest.Wait()
		if ran != 3 {
			t.Errorf("%d run with more slots", ran)
		}
		set(1)
		group.Wait()
		s.checkIdle(t)
	})
}

// TestShared is about equal checks: one computation, whose turn ever it is.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ran := slotsOf(1), 0
		go s.do(t.Context(), job(9, "before", time.Second, new(int)))
		synctest.Wait()
		var owners atomic.Int32
		var group sync.WaitGroup
		ask := func(client uint64) {
			group.Go(func() {
				v, err := s.do(t.Context(), job(client, "same", time.Second, &ran))
				if v.user != "same" || err != nil {
					t.Errorf("%v, %v", v, err)
				}
				if !v.repeated {
					owners.Add(1)
				}
			})
			synctest.Wait()
		}
		for client := range uint64(10) {
			ask(client)
		}
		time.Sleep(1500 * time.Millisecond)
		ask(10) // while it is computed
		start := time.Now()
		group.Wait()
		if ran != 1 || owners.Load() != 1 || time.Since(start) != 500*time.Millisecond {
			t.Errorf("%d computations, %d of their own, after %s", ran, owners.Load(), time.Since(start))
		}
		s.checkIdle(t)
	})
}

// TestWaitEnds is about those who give up before their turn comes.
func TestWaitEnds(t *testing.T) {
	errGone := errors.New("gone")
	for _, test := range []struct {
		name  string
		busy  time.Duration // how long the slot is taken
		gone  time.Duration // when the client goes away; 0: never
		hash  time.Duration
		took  time.Duration
		err   error
		begun int
	}{
		{"it is their turn at last", 9 * time.Second, 0, 500 * time.Millisecond, 9500 * time.Millisecond, nil, 1},
		{"T8 it took too long", 11 * time.Second, 0, time.Second, maxWait, errOverloaded, 0},
		{"T8 the turn comes in time, the hash ends later", 9 * time.Second, 0, 3 * time.Second, 12 * time.Second, nil, 1},
		{"T10 gone while waiting", 9 * time.Second, 2 * time.Second, time.Second, 2 * time.Second, errGone, 0},
		{"T10 gone during the hash", time.Second, 1500 * time.Millisecond, time.Second, 1500 * time.Millisecond, errGone, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ran := slotsOf(1), 0
				go s.do(t.Context(), job(1, "before", test.busy, new(int)))
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.gone > 0 {
					time.AfterFunc(test.gone, func() { cancel(errGone) })
				}
				start := time.Now()
				_, err := s.do(ctx, job(2, "mine", test.hash, &ran))
				if took := time.Since(start); !errors.Is(err, test.err) || took != test.took || ran != test.begun {
					t.Errorf("%v after %s with %d computations, want %v after %s with %d", err, took, ran, test.err, test.took, test.begun)
				}
				time.Sleep(20 * time.Second)
				if ran != test.begun {
					t.Error("computed for nobody")
				}
				s.checkIdle(t)
			})
		})
	}
	t.Run("T10 gone before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		s, ran := slotsOf(1), 0
		if _, err := s.do(ctx, job(1, "mine", 0, &ran)); !errors.Is(err, errGone) || ran != 0 {
			t.Error(err, ran)
		}
	})
}

// TestOthersStay is T10: whoever goes away takes nobody along who asked for
// the same, not even the one whose turn it was.
func TestOthersStay(t *testing.T) {
	errGone := errors.New("gone")
	for _, when := range []string{"waiting", "running"} {
		for who := range 3 {
			t.Run(fmt.Sprintf("T10 number %d of 3 goes while %s", who, when), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, ran := slotsOf(1), 0
					if when == "waiting" {
						go s.do(t.Context(), job(9, "before", time.Second, new(int)))
						synctest.Wait()
					}
					errs := make([]error, 3)
					var cancels []context.CancelCauseFunc
					var group sync.WaitGroup
					for i := range 3 {
						ctx, cancel := context.WithCancelCause(t.Context())
						cancels = append(cancels, cancel)
						group.Go(func() { _, errs[i] = s.do(ctx, job(uint64(i), "same", time.Second, &ran)) })
						synctest.Wait()
					}
					cancels[who](errGone)
					group.Wait()
					for i, err := range errs {
						if i == who && !errors.Is(err, errGone) || i != who && err != nil {
							t.Errorf("%d: %v", i, err)
						}
					}
					if ran != 1 {
						t.Errorf("%d computations", ran)
					}
					s.checkIdle(t)
				})
			})
		}
	}
}

// TestAllLeave has everybody leave whom a computation is for, and another one
// come who asks for the same: it is still the one computation.
func TestAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ran := slotsOf(1), 0
		ctx, cancel := context.WithCancel(t.Context())
		go s.do(ctx, job(1, "same", time.Second, &ran))
		synctest.Wait()
		cancel()
		synctest.Wait()
		v, err := s.do(t.Context(), job(2, "same", time.Second, &ran))
		if err != nil || v.user != "same" || !v.repeated || ran != 1 {
			t.Errorf("%v, %v, %d computations", v, err, ran)
		}
		s.checkIdle(t)
	})
}

// TestPanicAgain has each of ten computations panic after six seconds: whoever
// waits for more than maxWait does not wait for all of them.
func TestPanicAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slotsOf(1)
		var group sync.WaitGroup
		start := time.Now()
		for range 10 {
			group.Go(func() {
				c := job(1, "same", 0, new(int))
				c.begin = func() func() verdict {
					return func() verdict {
						time.Sleep(6 * time.Second)
						panic("")
					}
				}
				if _, err := s.do(t.Context(), c); err == nil {
					t.Error("no error")
				}
			})
		}
		group.Wait()
		if took := time.Since(start); took > maxWait+6*time.Second+2*time.Second {
			t.Errorf("%s", took)
		}
		s.checkIdle(t)
	})
}

// TestRefusedTurn is about budgets that are used up while checks wait.
func TestRefusedTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ran := slotsOf(1), 0
		errUsedUp := errors.New("used up")
		go s.do(t.Context(), job(9, "before", time.Second, new(int)))
		synctest.Wait()
		var group sync.WaitGroup
		for i := range 10_000 {
			group.Go(func() {
				c := job(1, fmt.Sprint(i), time.Millisecond, &ran)
				c.refused = func() error {
					if ran >= 10 {
						return errUsedUp
					}
					return nil
				}
				if _, err := s.do(t.Context(), c); err != nil && !errors.Is(err, errUsedUp) {
					t.Error(err)
				}
			})
		}
		start := time.Now()
		group.Wait()
		if took := time.Since(start); ran != 10 || took != 1010*time.Millisecond {
			t.Errorf("%d computations in %s", ran, took)
		}
		s.checkIdle(t)
	})
}

// TestPanic is T10: a panic is an error of the one whose turn it was, with
// nothing of the password in it, and the others get their own answer.
func TestPanic(t *testing.T) {
	const canary = "CANARY"
	for name, panics := range map[string]func(password []byte){
		"a text":  func(p []byte) { panic("can't hash " + string(p)) },
		"bytes":   func(p []byte) { panic(p) },
		"error":   func(p []byte) { panic(fmt.Errorf("can't hash %s", p)) },
		"runtime": func(p []byte) { _ = p[len(p)] }, //nolint:staticcheck // is to panic
		"nil":     func([]byte) { panic(nil) },      //nolint:govet // is to panic
	} {
		t.Run("T10 "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, ran := slotsOf(1), 0
				var failed, good atomic.Int32
				var group sync.WaitGroup
				for range 10 {
					group.Go(func() {
						c := job(1, "same", time.Second, &ran)
						c.begin = func() func() verdict {
							ran++
							first := ran == 1
							return func() verdict {
								time.Sleep(time.Second)
								if first {
									panics([]byte(canary))
								}
								return verdict{outcome: goodPassword}
							}
						}
						switch v, err := s.do(t.Context(), c); {
						case err != nil:
							failed.Add(1)
							if v.outcome == goodPassword || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "panic") {
								t.Error(v, err)
							}
						case v.outcome == goodPassword:
							good.Add(1)
						}
					})
				}
				group.Wait()
				if failed.Load() != 1 || good.Load() != 9 || ran != 2 {
					t.Errorf("%d failed, %d are good, %d computations", failed.Load(), good.Load(), ran)
				}
				s.checkIdle(t)
			})
		})
	}
}

// TestRoom is about more checks than there is room for: who floods gets no
// more in, others do, up to twice as many.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slotsOf(0) // nobody's turn comes
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		results := make(map[string]int)
		var mu sync.Mutex
		ask := func(client uint64, key string) {
			group.Go(func() {
				_, err := s.do(ctx, job(client, key, 0, new(int)))
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, errOverloaded) {
					results[key[:1]]++
				}
			})
		}
		for i := range manyWaiting + 5 {
			ask(1, fmt.Sprint("a", i))
		}
		synctest.Wait()
		for i := range manyWaiting + 7 {
			ask(uint64(2+i), fmt.Sprint("b", i))
		}
		synctest.Wait()
		if s.waiting != 2*manyWaiting || results["a"] != 5 || results["b"] != 7 {
			t.Errorf("%d wait, %v are refused", s.waiting, results)
		}
		cancel()
		group.Wait()
		s.checkIdle(t)
	})
	t.Run("who joins a computation needs none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := slotsOf(1)
			var group sync.WaitGroup
			group.Go(func() { s.do(t.Context(), job(1, "same", time.Second, new(int))) })
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 2 * manyWaiting {
				group.Go(func() { s.do(ctx, job(uint64(2+i), fmt.Sprint(i), 0, new(int))) })
			}
			synctest.Wait()
			if _, err := s.do(t.Context(), job(1, "same", time.Second, new(int))); err != nil {
				t.Error(err)
			}
			cancel()
			group.Wait()
			synctest.Wait() // a check that had begun when all left it
			s.checkIdle(t)
		})
	})
}

// FuzzSlots lets checks come, go and end in any order, and looks that each is
// answered once, and that nothing is left behind.
func FuzzSlots(f *testing.F) {
	f.Add([]byte("abcABCxyz0129"), uint8(1))
	f.Add([]byte("aaaaaaaabbbbbbbbcccccccc"), uint8(2))
	f.Fuzz(func(t *testing.T, script []byte, slotCount uint8) {
		synctest.Test(t, func(t *testing.T) {
			slotCount = slotCount%4 + 1
			s := slotsOf(int(slotCount))
			suspects := make(map[uint64]bool)
			s.hasFailed = func(client uint64) bool { return suspects[client] }
			var group sync.WaitGroup
			var cancels []context.CancelFunc
			var running, most atomic.Int32
			for _, c := range script {
				ctx, cancel := context.WithCancel(t.Context())
				cancels = append(cancels, cancel)
				client, key := uint64(c&3), fmt.Sprint(c>>2&3)
				switch c >> 6 {
				case 1:
					cancels[int(c)%len(cancels)]()
				case 2:
					s.mu.Lock()
					suspects[client] = !suspects[client]
					s.mu.Unlock()
				}
				group.Go(func() {
					j := job(client, key, 0, new(int))
					j.begin = func() func() verdict {
						return func() verdict {
							most.Store(max(most.Load(), running.Add(1)))
							defer running.Add(-1)
							time.Sleep(time.Duration(c) * time.Millisecond)
							if c>>4&3 == 3 {
								panic("")
							}
							return verdict{outcome: wrongPassword, user: key}
						}
					}
					if c>>4&3 == 2 {
						j.refused = func() error { return errOverloaded }
					}
					if v, err := s.do(ctx, j); err == nil && v.user != key {
						t.Errorf("the answer of %v for %s", v.user, key)
					}
				})
				if c&16 != 0 {
					synctest.Wait()
				}
			}
			group.Wait()
			if most.Load() > int32(slotCount) {
				t.Errorf("%d at once in %d slots", most.Load(), slotCount)
			}
			for _, cancel := range cancels {
				cancel()
			}
			synctest.Wait()
			time.Sleep(time.Second)
			s.checkIdle(t)
		})
	})
}
