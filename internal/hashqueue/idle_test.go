package hashqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdleRunsWhenNothingElseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, start := queueOf(1), time.Now()
		var group sync.WaitGroup
		group.Go(func() { q.Do(t.Context(), taskOf(1, "first", time.Second, new(int))) })
		group.Go(func() { q.Do(t.Context(), taskOf(2, "second", time.Second, new(int))) })
		synctest.Wait()
		var order []string
		for i := range 3 {
			group.Go(func() {
				if err := q.DoIdle(t.Context(), func(func()) {
					order = append(order, fmt.Sprintf("%d at %s", i, time.Since(start)))
					time.Sleep(time.Second)
				}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		group.Wait()
		if got, want := strings.Join(order, ", "), "0 at 2s, 1 at 3s, 2 at 4s"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		checkIdle(t, q)
	})
}

// TestNoTaskWaitsForIdle starts tasks while an idle function runs: they start at once,
// as many as there are workers, and no further idle function does.
func TestNoTaskWaitsForIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(2)
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() { q.DoIdle(t.Context(), func(func()) { time.Sleep(10 * time.Second) }) })
		}
		synctest.Wait()
		for client := range uint64(2) {
			group.Go(func() {
				start := time.Now()
				q.Do(t.Context(), taskOf(client, fmt.Sprint(client), time.Second, new(int)))
				if took := time.Since(start); took != time.Second {
					t.Errorf("took %s beside an idle function, want 1s", took)
				}
			})
		}
		start := time.Now()
		group.Wait()
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("the idle functions took %s, want 20s, one after the other", took)
		}
		checkIdle(t, q)
	})
}

func TestIdleEnds(t *testing.T) {
	errGone := errors.New("gone")
	for _, test := range []struct {
		name string
		gone time.Duration
		took time.Duration
		ran  bool
		err  error
	}{
		{"before it starts", time.Second, time.Second, false, errGone},
		{"while it runs, which is waited for", 3 * time.Second, 4 * time.Second, true, nil},
		{"never", time.Minute, 4 * time.Second, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(1)
				go q.Do(t.Context(), taskOf(1, "busy", 2*time.Second, new(int)))
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				time.AfterFunc(test.gone, func() { cancel(errGone) })
				start, ran := time.Now(), false
				err := q.DoIdle(ctx, func(func()) { ran = true; time.Sleep(2 * time.Second) })
				if took := time.Since(start); ran != test.ran || took != test.took || !errors.Is(err, test.err) {
					t.Errorf("got ran %t, error %v after %s, want %t, %v after %s", ran, err, took, test.ran, test.err, test.took)
				}
				time.Sleep(10 * time.Second)
				if ran != test.ran {
					t.Error("ran later, want never")
				}
				checkIdle(t, q)
			})
		})
	}
	t.Run("already gone", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		if err := queueOf(1).DoIdle(ctx, func(func()) { t.Error("ran, want it never to") }); !errors.Is(err, errGone) {
			t.Errorf("got %v, want %v", err, errGone)
		}
	})
	t.Run("panic", func(t *testing.T) {
		q := queueOf(1)
		err := q.DoIdle(t.Context(), func(func()) { panic("secret") })
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got error %v, want one without the value", err)
		}
		if err := q.DoIdle(t.Context(), func(func()) {}); err != nil {
			t.Errorf("got %v after a panic of another, want none", err)
		}
	})
}

// TestIdleStartsWithMoreWorkers checks that an idle function starts as soon as there is
// a free worker.
func TestIdleStartsWithMoreWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, workers, ran := queueOf(1), 1, false
		q.config.Workers = func() int { return workers }
		go q.Do(t.Context(), taskOf(1, "busy", time.Minute, new(int)))
		synctest.Wait()
		go q.DoIdle(t.Context(), func(func()) { ran = true })
		synctest.Wait()
		if ran {
			t.Error("ran without a free worker")
		}
		q.mu.Lock()
		workers = 2
		q.mu.Unlock()
		q.WorkersChanged()
		synctest.Wait()
		if !ran {
			t.Error("did not run with a free worker")
		}
		time.Sleep(time.Hour)
	})
}

// TestIdlePauses has an idle function yield while tasks run.
func TestIdlePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, start := queueOf(2), time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var took time.Duration
		var group sync.WaitGroup
		group.Go(func() {
			q.DoIdle(ctx, func(yield func()) {
				for range 100 {
					yield()
					time.Sleep(10 * time.Millisecond)
				}
				took = time.Since(start)
			})
		})
		time.Sleep(105 * time.Millisecond)
		for client := range uint64(4) { // two at a time, for 10 s in all
			group.Go(func() { q.Do(t.Context(), taskOf(client, fmt.Sprint(client), 5*time.Second, new(int))) })
		}
		group.Wait()
		if want := 11 * time.Second; took < want-10*time.Millisecond || took > want {
			t.Errorf("took %s beside 10 s with all workers busy, want %s", took, want)
		}
		checkIdle(t, q)

		// One of two workers is free: no pause. And none when the context is done.
		start = time.Now()
		group.Go(func() { q.Do(t.Context(), taskOf(1, "one", time.Minute, new(int))) })
		synctest.Wait()
		q.DoIdle(ctx, func(yield func()) {
			if yield(); time.Since(start) != 0 {
				t.Error("paused though a worker is free")
			}
			group.Go(func() { q.Do(t.Context(), taskOf(2, "two", time.Minute, new(int))) })
			synctest.Wait()
			time.AfterFunc(time.Second, cancel)
			if yield(); time.Since(start) != time.Second {
				t.Errorf("paused for %s, want 1s, until the context is done", time.Since(start))
			}
		})
		group.Wait()
		checkIdle(t, q)
	})
}

// TestIdleByModel runs tasks and idle functions at random times, twice: with and without
// the idle functions. The tasks start at the same times. No idle function starts while a
// task waits or all workers are busy, and one runs at a time.
func TestIdleByModel(t *testing.T) {
	for seed := range uint64(60) {
		plan := newIdlePlan(seed)
		with, without := plan.run(t, true), plan.run(t, false)
		for i := range without {
			if with[i] != without[i] {
				t.Fatalf("seed %d: task %d started after %s, without idle functions after %s", seed, i, with[i], without[i])
			}
		}
	}
}

// idlePlan says when tasks and idle functions come, and how long they run.
type idlePlan struct {
	seed    uint64
	workers int
	steps   []idleStep
}

type idleStep struct {
	after, takes, gone time.Duration // gone 0: never
	client             uint64
	isIdle             bool
}

func newIdlePlan(seed uint64) *idlePlan {
	random := rand.New(rand.NewPCG(seed, 0))
	p := &idlePlan{seed: seed, workers: random.IntN(3) + 1}
	for i := range 120 {
		s := idleStep{
			// The last digits differ, so that no two things happen at the same time.
			after:  time.Duration(random.IntN(60))*time.Millisecond + time.Duration(i+1)*time.Nanosecond,
			takes:  time.Duration(random.IntN(200)+1)*time.Millisecond + time.Duration(i+1)*time.Microsecond,
			client: uint64(random.IntN(4)), isIdle: random.IntN(3) == 0,
		}
		if random.IntN(5) == 0 {
			s.gone = time.Duration(random.IntN(300)+1) * time.Millisecond
		}
		p.steps = append(p.steps, s)
	}
	return p
}

// run returns when the tasks have started, -1 for those that have not.
func (p *idlePlan) run(t *testing.T, hasIdle bool) (started []time.Duration) {
	started = make([]time.Duration, len(p.steps))
	synctest.Test(t, func(t *testing.T) {
		q, start, idle := queueOf(p.workers), time.Now(), 0
		var mu sync.Mutex
		var group sync.WaitGroup
		for i, s := range p.steps {
			started[i] = -1
			time.Sleep(s.after)
			if s.isIdle && !hasIdle {
				started[i] = 0
				continue
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if s.gone > 0 {
				time.AfterFunc(s.gone, cancel)
			}
			if !s.isIdle {
				task := startingWith(func() { started[i] = time.Since(start) }, taskOf(s.client, fmt.Sprint(i), s.takes, new(int)))
				group.Go(func() { q.Do(ctx, task) })
				continue
			}
			started[i] = 0
			group.Go(func() {
				q.DoIdle(ctx, func(yield func()) {
					running, waiting := q.State()
					mu.Lock()
					if idle++; idle > 1 || waiting > 0 || running >= p.workers {
						t.Errorf("seed %d: idle function %d started with %d tasks running, %d waiting, %d idle functions", p.seed, i, running, waiting, idle)
					}
					mu.Unlock()
					for range 10 {
						time.Sleep(s.takes / 10)
						yield()
					}
					mu.Lock()
					idle--
					mu.Unlock()
				})
			})
		}
		group.Wait()
		time.Sleep(time.Minute)
		checkIdle(t, q)
	})
	return started
}
