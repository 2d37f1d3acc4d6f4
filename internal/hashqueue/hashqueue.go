// Package hashqueue runs expensive computations, such as password hashes, a few
// at a time and in a fair order.
//
// Make one [Queue] with [New], and call [Queue.Do] for each [Task]. It promises:
//
//   - At most Config.Workers tasks run at a time.
//   - Clients take turns, one task each. A client with many tasks makes the
//     others wait for one of them at most.
//   - Demoted clients, such as those that failed lately, get every eighth turn
//     while others wait.
//   - Tasks with equal keys share one run. Each of them waits at a place of its
//     own; the first one whose turn comes runs for all.
//   - A task starts within Config.MaxWait, or Do returns [ErrOverloaded]. The
//     number of waiting tasks is bounded.
//   - A run that has begun goes on to its end, even if nobody waits for it any more.
package hashqueue

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// manyWaiting is how many tasks can wait at a time. With that many, only
// clients without a waiting task may add one, until there are twice as many.
const manyWaiting = 16 << 10

// ErrOverloaded is returned for a task that has waited for Config.MaxWait, or
// that found no room in the queue.
var ErrOverloaded = errors.New("too many tasks are waiting; try again later")

// Config holds the settings of a [Queue]. Both functions are called with the
// queue locked. They must be quick, and must not call the queue.
type Config struct {
	// Workers returns how many tasks may run at a time. It is asked whenever a
	// task could begin, so its answer may change; see [Queue.WorkersChanged].
	Workers func() int

	// MaxWait is how long a task waits for its turn.
	MaxWait time.Duration

	// IsDemoted reports whether a client comes after the others at the moment.
	IsDemoted func(client uint64) bool
}

// Task is one computation.
type Task[K comparable, V any] struct {
	// Client is whose turns the task takes.
	Client uint64

	// Key says what is computed: tasks with equal keys have the same result.
	Key K

	// Start is called when the turn of the task has come. It returns what to
	// run, or an error that Do returns instead; then the turn is the next task's.
	//
	// It is called with the queue locked, and that is its point: it sees what all
	// earlier runs have recorded, and no other task starts in between. So it must
	// be quick, and must not call the queue. It is called only while Do waits,
	// but what it returns may run when Do has returned already.
	Start func() (run func() V, err error)
}

// Queue runs tasks. All its methods may be called at the same time.
type Queue[K comparable, V any] struct {
	config Config

	mu      sync.Mutex
	running int
	waiting int
	calls   map[K]*call[K, V]
	turns   turns[K, V]
}

// New returns an empty queue.
func New[K comparable, V any](config Config) *Queue[K, V] {
	return &Queue[K, V]{config: config, calls: make(map[K]*call[K, V]), turns: newTurns[K, V](config.IsDemoted)}
}

// call is one run, and all tasks that wait for it.
type call[K comparable, V any] struct {
	waiters   list.List // of *waiter
	isRunning bool
}

// all yields the waiters. The one that it yields may be removed.
func (c *call[K, V]) all(yield func(*waiter[K, V]) bool) {
	for e := c.waiters.Front(); e != nil; {
		w := e.Value.(*waiter[K, V])
		if e = e.Next(); !yield(w) {
			return
		}
	}
}

// waiter is one task for which Do waits.
type waiter[K comparable, V any] struct {
	Task[K, V]
	call   *call[K, V]
	member *list.Element // of the call
	place  *list.Element // in the client's line; nil while it does not wait for a turn
	isLate bool          // has waited for MaxWait, and runs or shares a run now
	done   chan result[V]
}

type result[V any] struct {
	value  V
	shared bool
	err    error
}

// Do waits for the turn of a task, runs it, and returns its result. It reports
// whether the result is shared: another task with the same key was run.
//
// The error is that of Start, ErrOverloaded, the cause of ctx if that is done
// before the result is there, or an error that names the type of a panic.
// After a panic, tasks that shared the run wait for turns of their own.
func (q *Queue[K, V]) Do(ctx context.Context, task Task[K, V]) (v V, shared bool, err error) {
	if ctx.Err() != nil {
		return v, false, context.Cause(ctx)
	}
	w := &waiter[K, V]{Task: task, done: make(chan result[V], 1)}
	if !q.enter(w) {
		return v, false, ErrOverloaded
	}
	timeout := time.NewTimer(q.config.MaxWait)
	defer timeout.Stop()
	for {
		select {
		case r := <-w.done:
			return r.value, r.shared, r.err
		case <-timeout.C:
			if q.leaveIfWaiting(w) {
				return v, false, ErrOverloaded
			}
		case <-ctx.Done():
			q.leave(w)
			return v, false, context.Cause(ctx)
		}
	}
}

// State returns how many tasks run, and how many wait for their turn.
func (q *Queue[K, V]) State() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running, q.waiting
}

// WorkersChanged starts as many tasks as there are workers now. Without it, more
// workers are used only from the next task on.
func (q *Queue[K, V]) WorkersChanged() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// enter adds w to the call of its key, and to the line of its client unless the
// call runs already. It reports false if there is no room.
func (q *Queue[K, V]) enter(w *waiter[K, V]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls[w.Key]
	if c == nil || !c.isRunning {
		if q.waiting >= 2*manyWaiting || q.waiting >= manyWaiting && q.turns.has(w.Client) {
			return false
		}
	}
	if c == nil {
		c = new(call[K, V])
		q.calls[w.Key] = c
	}
	w.call = c
	w.member = c.waiters.PushBack(w)
	if !c.isRunning {
		q.enqueue(w)
		q.dispatch()
	}
	return true
}

// leave removes w. A run that has begun goes on to its end.
func (q *Queue[K, V]) leave(w *waiter[K, V]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(w)
}

// leaveIfWaiting removes w, unless its run has begun.
func (q *Queue[K, V]) leaveIfWaiting(w *waiter[K, V]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place == nil {
		w.isLate = true
		return false
	}
	q.remove(w)
	return true
}

// dispatch starts tasks while workers are free.
func (q *Queue[K, V]) dispatch() {
	for q.running < q.config.Workers() {
		w := q.turns.next()
		if w == nil {
			return
		}
		run, err := w.Start()
		if err != nil {
			q.remove(w)
			w.done <- result[V]{err: err}
			continue
		}
		for other := range w.call.all {
			q.dequeue(other)
		}
		q.running++
		w.call.isRunning = true
		go q.run(w, run)
	}
}

// run runs the task of w, and hands the result to all who wait for it.
func (q *Queue[K, V]) run(w *waiter[K, V], run func() V) {
	value, err := recovered(run)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	w.call.isRunning = false
	if err != nil {
		q.fail(w, err)
	} else {
		for other := range w.call.all {
			other.done <- result[V]{value: value, shared: other != w}
		}
		delete(q.calls, w.Key)
	}
	q.dispatch()
}

// fail ends the task of w after a panic. The panic may have come of what only
// this one brought, so the others try for themselves.
func (q *Queue[K, V]) fail(w *waiter[K, V], err error) {
	q.remove(w)
	w.done <- result[V]{err: err}
	for other := range w.call.all {
		if other.isLate {
			q.remove(other)
			other.done <- result[V]{err: ErrOverloaded}
		} else {
			q.enqueue(other)
		}
	}
}

// recovered turns a panic into an error. The value of the panic may hold a
// secret, so the error names only its type.
func recovered[V any](run func() V) (value V, err error) {
	defer func() {
		if r := recover(); r != nil {
			var none V
			value, err = none, fmt.Errorf("panic of type %T in a task", r)
		}
	}()
	return run(), nil
}

func (q *Queue[K, V]) enqueue(w *waiter[K, V]) {
	q.turns.add(w)
	q.waiting++
}

// dequeue ends the wait of w for a turn, if it waits for one.
func (q *Queue[K, V]) dequeue(w *waiter[K, V]) {
	if w.place == nil {
		return
	}
	q.turns.remove(w)
	q.waiting--
}

// remove removes w from the queue and from its call.
func (q *Queue[K, V]) remove(w *waiter[K, V]) {
	q.dequeue(w)
	c := w.call
	c.waiters.Remove(w.member)
	if c.waiters.Len() == 0 && !c.isRunning && q.calls[w.Key] == c {
		delete(q.calls, w.Key)
	}
}
