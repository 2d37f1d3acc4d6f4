package hashqueue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// testMaxWait is the maximum wait in these tests. They use the fake time of synctest.
const testMaxWait = 10 * time.Second

// queueOf returns a queue with a number of workers, without demoted clients.
func queueOf(workers int) *Queue[string, string] {
	return New[string, string](Config{
		Workers:   func() int { return workers },
		MaxWait:   testMaxWait,
		IsDemoted: func(uint64) bool { return false },
	})
}

// taskOf returns a task that takes a while, and whose result is its key. It
// counts how often it is started.
func taskOf(client uint64, key string, took time.Duration, started *int) Task[string, string] {
	return Task[string, string]{Client: client, Key: key, Start: func() (func() string, error) {
		*started++
		return func() string {
			time.Sleep(took)
			return key
		}, nil
	}}
}

// startingWith calls f when a task starts.
func startingWith(f func(), task Task[string, string]) Task[string, string] {
	start := task.Start
	task.Start = func() (func() string, error) {
		f()
		return start()
	}
	return task
}

// running replaces what a task runs.
func running(run func() string, task Task[string, string]) Task[string, string] {
	start := task.Start
	task.Start = func() (func() string, error) {
		_, err := start()
		return run, err
	}
	return task
}

// checkIdle fails unless the queue is empty.
func checkIdle(t testing.TB, q *Queue[string, string]) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running != 0 || q.waiting[true] != 0 || q.waiting[false] != 0 || len(q.calls) != 0 || len(q.turns.lines) != 0 {
		t.Errorf("left behind: %d running, %v waiting, %d calls, %d lines, want none",
			q.running, q.waiting, len(q.calls), len(q.turns.lines))
	}
	for name, r := range map[string]*round[string, string]{"preferred": &q.turns.preferred, "regular": &q.turns.regular, "demoted": &q.turns.demoted} {
		if r.len() != 0 || r.networks.Len() != 0 || len(r.byNumber) != 0 {
			t.Errorf("left behind: %d %s clients in %d and %d networks, want none", r.len(), name, r.networks.Len(), len(r.byNumber))
		}
	}
	if q.isIdleRunning || q.idle.Len() != 0 {
		t.Errorf("left behind: %d idle functions, one running: %t", q.idle.Len(), q.isIdleRunning)
	}
}

// TestClientsTakeTurns checks the order in which waiting tasks start.
func TestClientsTakeTurns(t *testing.T) {
	for _, test := range []struct {
		name    string
		waiting string // client and number of each, in the order in which they come
		demoted string // clients
		want    string
	}{
		{"one client", "a1 a2 a3", "", "a1 a2 a3"},
		{"two clients alternate", "a1 a2 a3 b1 b2", "", "a1 b1 a2 b2 a3"},
		{"a client that comes later with one task goes before the rest of the others", "a1 a2 a3 a4 b1 c1", "", "a1 b1 c1 a2 a3 a4"},
		{"demoted clients come last", "a1 a2 b1 b2 c1", "a", "b1 c1 b2 a1 a2"},
		{"demoted clients get every eighth turn", "a1 a2 b1 c1 d1 e1 f1 g1 h1 i1 j1", "a", "b1 c1 d1 e1 f1 g1 h1 a1 i1 j1 a2"},
		{"two demoted clients alternate", "a1 a2 b1 b2 c1", "ab", "c1 a1 b1 a2 b2"},
		{"turns count from when the demoted client comes", "b1 c1 d1 e1 a1 f1 g1 h1 i1 j1 k1", "a", "b1 c1 d1 e1 f1 g1 h1 a1 i1 j1 k1"},
		{"all clients are demoted", "a1 a2 b1", "ab", "a1 b1 a2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(1)
				q.turns.isDemoted = func(client uint64) bool { return strings.Contains(test.demoted, string(rune(client))) }
				ran := 0
				go q.Do(t.Context(), taskOf('z', "first", time.Second, &ran))
				synctest.Wait()
				var order []string
				var group sync.WaitGroup
				for _, name := range strings.Fields(test.waiting) {
					task := startingWith(func() { order = append(order, name) }, taskOf(uint64(name[0]), name, time.Millisecond, &ran))
					group.Go(func() {
						if got, shared, err := q.Do(t.Context(), task); got != name || shared || err != nil {
							t.Errorf("got %q, shared %t, error %v, want %q, not shared", got, shared, err, name)
						}
					})
					synctest.Wait()
				}
				group.Wait()
				if got := strings.Join(order, " "); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
				checkIdle(t, q)
			})
		})
	}
}

// TestClientIsDemotedWhileItWaits demotes a client while many of its tasks wait. From
// its next turn on, it gets every eighth turn.
func TestClientIsDemotedWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(1)
		failed := false
		q.turns.isDemoted = func(client uint64) bool { return client == 1 && failed }
		var group sync.WaitGroup
		group.Go(func() { q.Do(t.Context(), taskOf(9, "before", time.Second, new(int))) })
		synctest.Wait()
		var order []string
		for i := range 10 {
			for client := uint64(1); client <= 2; client++ {
				if client == 1 && i >= 4 {
					continue
				}
				task := startingWith(func() {
					order = append(order, fmt.Sprint(client))
					failed = true
				}, taskOf(client, fmt.Sprint(client, i), time.Millisecond, new(int)))
				group.Go(func() { q.Do(t.Context(), task) })
				synctest.Wait()
			}
		}
		group.Wait()
		if got, want := strings.Join(order, ""), "12"+"2222222"+"1"+"22"+"11"; got != want {
			t.Errorf("got the order %s, want %s", got, want)
		}
		checkIdle(t, q)
	})
}

func TestAtMostWorkers(t *testing.T) {
	for _, limit := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := queueOf(limit)
				var mu sync.Mutex
				now, most := 0, 0
				var group sync.WaitGroup
				for i := range 100 {
					group.Go(func() {
						q.Do(t.Context(), running(func() string {
							mu.Lock()
							now++
							most = max(most, now)
							mu.Unlock()
							time.Sleep(time.Millisecond)
							mu.Lock()
							now--
							mu.Unlock()
							return ""
						}, taskOf(uint64(i%7), fmt.Sprint(i), 0, new(int))))
					})
				}
				start := time.Now()
				group.Wait()
				if want := 100 / time.Duration(limit) * time.Millisecond; most != limit || time.Since(start) != want {
					t.Errorf("%d at once for %s, want %d for %s", most, time.Since(start), limit, want)
				}
				checkIdle(t, q)
			})
		})
	}
}

func TestWorkersChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit, ran := 1, 0
		q := queueOf(1)
		q.config.Workers = func() int { return limit }
		set := func(n int) {
			q.mu.Lock()
			defer q.mu.Unlock()
			limit = n
		}
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() { q.Do(t.Context(), taskOf(1, fmt.Sprint(i), time.Second, &ran)) })
		}
		synctest.Wait()
		if ran != 1 {
			t.Fatalf("got %d running, want 1", ran)
		}
		set(3)
		q.WorkersChanged()
		synctest.Wait()
		if ran != 3 {
			t.Errorf("got %d running with more workers, want 3", ran)
		}
		set(1)
		group.Wait()
		checkIdle(t, q)
	})
}

// TestEqualTasksShareOneRun checks that equal tasks run once, for the first one whose
// client is served.
func TestEqualTasksShareOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ran := queueOf(1), 0
		go q.Do(t.Context(), taskOf(9, "before", time.Second, new(int)))
		synctest.Wait()
		var owners atomic.Int32
		var group sync.WaitGroup
		ask := func(client uint64) {
			group.Go(func() {
				got, shared, err := q.Do(t.Context(), taskOf(client, "same", time.Second, &ran))
				if got != "same" || err != nil {
					t.Errorf("got %q, error %v, want %q", got, err, "same")
				}
				if !shared {
					owners.Add(1)
				}
			})
			synctest.Wait()
		}
		for client := range uint64(10) {
			ask(client)
		}
		time.Sleep(1500 * time.Millisecond)
		ask(10) // while it runs
		start := time.Now()
		group.Wait()
		if ran != 1 || owners.Load() != 1 || time.Since(start) != 500*time.Millisecond {
			t.Errorf("got %d runs, %d results that are not shared, after %s, want 1, 1 and 500ms", ran, owners.Load(), time.Since(start))
		}
		checkIdle(t, q)
	})
}

// TestWaitEnds checks tasks that end before they are started.
func TestWaitEnds(t *testing.T) {
	errGone := errors.New("gone")
	for _, test := range []struct {
		name  string
		busy  time.Duration // how long the worker is busy
		gone  time.Duration // when the client goes away; 0: never
		hash  time.Duration
		took  time.Duration
		err   error
		begun int
	}{
		{"it starts in time", 9 * time.Second, 0, 500 * time.Millisecond, 9500 * time.Millisecond, nil, 1},
		{"it does not start in time", 11 * time.Second, 0, time.Second, testMaxWait, ErrOverloaded, 0},
		{"it starts in time, and ends later", 9 * time.Second, 0, 3 * time.Second, 12 * time.Second, nil, 1},
		{"the client is gone while waiting", 9 * time.Second, 2 * time.Second, time.Second, 2 * time.Second, errGone, 0},
		{"the client is gone during the run", time.Second, 1500 * time.Millisecond, time.Second, 1500 * time.Millisecond, errGone, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, ran := queueOf(1), 0
				go q.Do(t.Context(), taskOf(1, "before", test.busy, new(int)))
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.gone > 0 {
					time.AfterFunc(test.gone, func() { cancel(errGone) })
				}
				start := time.Now()
				_, _, err := q.Do(ctx, taskOf(2, "mine", test.hash, &ran))
				if took := time.Since(start); !errors.Is(err, test.err) || took != test.took || ran != test.begun {
					t.Errorf("%v after %s with %d runs, want %v after %s with %d", err, took, ran, test.err, test.took, test.begun)
				}
				time.Sleep(20 * time.Second)
				if ran != test.begun {
					t.Errorf("got %d runs later, want %d: it ran for nobody", ran, test.begun)
				}
				checkIdle(t, q)
			})
		})
	}
	t.Run("the client is gone before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		q, ran := queueOf(1), 0
		if _, _, err := q.Do(ctx, taskOf(1, "mine", 0, &ran)); !errors.Is(err, errGone) || ran != 0 {
			t.Errorf("got error %v and %d runs, want %v and none", err, ran, errGone)
		}
	})
}

// TestOthersStayWhenOneLeaves checks that canceling a task does not cancel equal tasks,
// regardless of which of them was started.
func TestOthersStayWhenOneLeaves(t *testing.T) {
	errGone := errors.New("gone")
	for _, when := range []string{"waiting", "running"} {
		for who := range 3 {
			t.Run(fmt.Sprintf("number %d of 3 goes while %s", who, when), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q, ran := queueOf(1), 0
					if when == "waiting" {
						go q.Do(t.Context(), taskOf(9, "before", time.Second, new(int)))
						synctest.Wait()
					}
					errs := make([]error, 3)
					var cancels []context.CancelCauseFunc
					var group sync.WaitGroup
					for i := range 3 {
						ctx, cancel := context.WithCancelCause(t.Context())
						cancels = append(cancels, cancel)
						group.Go(func() { _, _, errs[i] = q.Do(ctx, taskOf(uint64(i), "same", time.Second, &ran)) })
						synctest.Wait()
					}
					cancels[who](errGone)
					group.Wait()
					for i, err := range errs {
						if i == who && !errors.Is(err, errGone) || i != who && err != nil {
							t.Errorf("task %d: got error %v, want one only for task %d", i, err, who)
						}
					}
					if ran != 1 {
						t.Errorf("got %d runs, want 1", ran)
					}
					checkIdle(t, q)
				})
			})
		}
	}
}

// TestRunGoesOnWhenAllLeave cancels the only task of a run, and adds an equal one: it
// shares the run.
func TestRunGoesOnWhenAllLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ran := queueOf(1), 0
		ctx, cancel := context.WithCancel(t.Context())
		go q.Do(ctx, taskOf(1, "same", time.Second, &ran))
		synctest.Wait()
		cancel()
		synctest.Wait()
		got, shared, err := q.Do(t.Context(), taskOf(2, "same", time.Second, &ran))
		if got != "same" || !shared || err != nil || ran != 1 {
			t.Errorf("got %q, shared %t, error %v after %d runs, want the shared result of 1", got, shared, err, ran)
		}
		checkIdle(t, q)
	})
}

// TestLeavingLateLeavesOthersAlone cancels a task just when its result is available,
// while equal tasks have begun a new run: that run is still shared.
func TestLeavingLateLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ran := queueOf(1), 0
		late := &waiter[string, string]{Task: taskOf(1, "same", time.Second, &ran), done: make(chan result[string], 1)}
		if !q.enter(late) {
			t.Fatal("the queue is full, want room")
		}
		<-late.done
		var group sync.WaitGroup
		ask := func(wantShared bool) {
			group.Go(func() {
				if got, shared, err := q.Do(t.Context(), taskOf(2, "same", time.Second, &ran)); got != "same" || shared != wantShared || err != nil {
					t.Errorf("got %q, shared %t, error %v, want %q, shared %t", got, shared, err, "same", wantShared)
				}
			})
			synctest.Wait()
		}
		ask(false)
		q.leave(late)
		ask(true)
		group.Wait()
		if ran != 2 {
			t.Errorf("got %d runs, want 2", ran)
		}
		checkIdle(t, q)
	})
}

// TestState checks the state while tasks come and end.
func TestState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(2)
		expect := func(running, waiting int) {
			t.Helper()
			synctest.Wait()
			if r, w := q.State(); r != running || w != waiting {
				t.Errorf("got %d running and %d waiting, want %d and %d", r, w, running, waiting)
			}
		}
		expect(0, 0)
		for i := range 5 {
			go q.Do(t.Context(), taskOf(uint64(i), fmt.Sprint(i), time.Second, new(int)))
		}
		expect(2, 3)
		time.Sleep(time.Second)
		expect(2, 1)
		time.Sleep(time.Second)
		expect(1, 0)
		time.Sleep(time.Second)
		expect(0, 0)
	})
}

// TestParallelUse calls all methods at the same time, for the race detector.
func TestParallelUse(t *testing.T) {
	q := queueOf(2)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				task := taskOf(uint64(i), fmt.Sprint(j%5), 0, new(int))
				task.Start = func() (func() string, error) { return func() string { return "" }, nil }
				go cancel()
				q.Do(ctx, task)
				q.State()
				q.WorkersChanged()
			}
		})
	}
	group.Wait()
	for running := 1; running > 0; running, _ = q.State() {
		runtime.Gosched() // runs that have begun are finished
	}
	checkIdle(t, q)
}

// TestPanicsDoNotAddUp makes each of ten runs panic after six seconds: a task that has
// waited for more than testMaxWait does not wait for all of them.
func TestPanicsDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(1)
		var group sync.WaitGroup
		start := time.Now()
		for range 10 {
			group.Go(func() {
				task := running(func() string {
					time.Sleep(6 * time.Second)
					panic("")
				}, taskOf(1, "same", 0, new(int)))
				if _, _, err := q.Do(t.Context(), task); err == nil {
					t.Error("got no error, want one")
				}
			})
		}
		group.Wait()
		if took := time.Since(start); took > testMaxWait+6*time.Second+2*time.Second {
			t.Errorf("%s", took)
		}
		checkIdle(t, q)
	})
}

// TestStartRefuses checks a limit that is exceeded while tasks wait.
func TestStartRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, ran := queueOf(1), 0
		errLimit := errors.New("limit exceeded")
		go q.Do(t.Context(), taskOf(9, "before", time.Second, new(int)))
		synctest.Wait()
		var group sync.WaitGroup
		for i := range 10_000 {
			group.Go(func() {
				task := taskOf(1, fmt.Sprint(i), time.Millisecond, &ran)
				start := task.Start
				task.Start = func() (func() string, error) {
					if ran >= 10 {
						return nil, errLimit
					}
					return start()
				}
				if _, _, err := q.Do(t.Context(), task); err != nil && !errors.Is(err, errLimit) {
					t.Errorf("got error %v, want none or %v", err, errLimit)
				}
			})
		}
		start := time.Now()
		group.Wait()
		if took := time.Since(start); ran != 10 || took != 1010*time.Millisecond {
			t.Errorf("got %d runs in %s, want 10 in 1.01s", ran, took)
		}
		checkIdle(t, q)
	})
}

// TestPanicIsAnErrorOfOneTask checks that only the started task gets an error, without
// the value of the panic, and that the others retry.
func TestPanicIsAnErrorOfOneTask(t *testing.T) {
	const canary = "CANARY"
	for name, panics := range map[string]func(password []byte){
		"a text":  func(p []byte) { panic("cannot hash " + string(p)) },
		"bytes":   func(p []byte) { panic(p) },
		"error":   func(p []byte) { panic(fmt.Errorf("cannot hash %s", p)) },
		"runtime": func(p []byte) { _ = p[len(p)] }, //nolint:staticcheck // is to panic
		"nil":     func([]byte) { panic(nil) },      //nolint:govet // is to panic
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, ran := queueOf(1), 0
				var failed, good atomic.Int32
				var group sync.WaitGroup
				for range 10 {
					group.Go(func() {
						task := Task[string, string]{Client: 1, Key: "same", Start: func() (func() string, error) {
							ran++
							first := ran == 1
							return func() string {
								time.Sleep(time.Second)
								if first {
									panics([]byte(canary))
								}
								return "good"
							}, nil
						}}
						switch got, _, err := q.Do(t.Context(), task); {
						case err != nil:
							failed.Add(1)
							if got != "" || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "panic") {
								t.Errorf("got %q, error %v, want an error with the type of the panic, but not its value", got, err)
							}
						case got == "good":
							good.Add(1)
						}
					})
				}
				group.Wait()
				if failed.Load() != 1 || good.Load() != 9 || ran != 2 {
					t.Errorf("got %d errors, %d results, %d runs, want 1, 9 and 2", failed.Load(), good.Load(), ran)
				}
				checkIdle(t, q)
			})
		})
	}
}

// TestRoomIsBounded fills the queue: then a client that floods it cannot add tasks, and
// other clients can, up to twice as many.
func TestRoomIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queueOf(0) // no task starts
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		results := make(map[string]int)
		var mu sync.Mutex
		ask := func(client uint64, key string) {
			group.Go(func() {
				_, _, err := q.Do(ctx, taskOf(client, key, 0, new(int)))
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, ErrOverloaded) {
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
		if _, waiting := q.State(); waiting != 2*manyWaiting || results["a"] != 5 || results["b"] != 7 {
			t.Errorf("got %d waiting and %v refused, want %d, 5 and 7", waiting, results, 2*manyWaiting)
		}
		// Preferred tasks still have room.
		for i := range 10 {
			group.Go(func() {
				task := taskOf(1, fmt.Sprint("c", i), 0, new(int))
				task.IsPreferred = true
				if _, _, err := q.Do(ctx, task); errors.Is(err, ErrOverloaded) {
					t.Error("a preferred task was refused, want room")
				}
			})
		}
		synctest.Wait()
		cancel()
		group.Wait()
		checkIdle(t, q)
	})
	t.Run("a task that shares a run needs no room", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := queueOf(1)
			var group sync.WaitGroup
			group.Go(func() { q.Do(t.Context(), taskOf(1, "same", time.Second, new(int))) })
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			for i := range 2 * manyWaiting {
				group.Go(func() { q.Do(ctx, taskOf(uint64(2+i), fmt.Sprint(i), 0, new(int))) })
			}
			synctest.Wait()
			if _, _, err := q.Do(t.Context(), taskOf(1, "same", time.Second, new(int))); err != nil {
				t.Errorf("got error %v, want none", err)
			}
			cancel()
			group.Wait()
			synctest.Wait() // until the run that all have left is finished
			checkIdle(t, q)
		})
	})
}

// FuzzQueue adds, cancels and ends tasks in any order: each gets its own result once,
// and the queue is empty in the end.
func FuzzQueue(f *testing.F) {
	f.Add([]byte("abcABCxyz0129"), uint8(1))
	f.Add([]byte("aaaaaaaabbbbbbbbcccccccc"), uint8(2))
	f.Fuzz(func(t *testing.T, script []byte, workers uint8) {
		synctest.Test(t, func(t *testing.T) {
			workers = workers%4 + 1
			q := queueOf(int(workers))
			demoted := make(map[uint64]bool)
			q.turns.isDemoted = func(client uint64) bool { return demoted[client] }
			var group sync.WaitGroup
			var cancels []context.CancelFunc
			var now, most atomic.Int32
			errRefused := errors.New("refused")
			for _, c := range script {
				ctx, cancel := context.WithCancel(t.Context())
				cancels = append(cancels, cancel)
				client, key := uint64(c&3), fmt.Sprint(c>>2&3)
				switch c >> 6 {
				case 1:
					cancels[int(c)%len(cancels)]()
				case 2:
					q.mu.Lock()
					demoted[client] = !demoted[client]
					q.mu.Unlock()
				}
				group.Go(func() {
					task := Task[string, string]{Client: client, Key: key, Network: client / 2, IsPreferred: c&32 != 0, Start: func() (func() string, error) {
						if c>>4&3 == 2 {
							return nil, errRefused
						}
						return func() string {
							most.Store(max(most.Load(), now.Add(1)))
							defer now.Add(-1)
							time.Sleep(time.Duration(c) * time.Millisecond)
							if c>>4&3 == 3 {
								panic("")
							}
							return key
						}, nil
					}}
					if got, _, err := q.Do(ctx, task); err == nil && got != key {
						t.Errorf("got the result of %q, want that of %q", got, key)
					}
				})
				if c&16 != 0 {
					synctest.Wait()
				}
			}
			group.Wait()
			if most.Load() > int32(workers) {
				t.Errorf("got %d at once, want at most %d", most.Load(), workers)
			}
			for _, cancel := range cancels {
				cancel()
			}
			synctest.Wait()
			time.Sleep(time.Second)
			checkIdle(t, q)
		})
	})
}
