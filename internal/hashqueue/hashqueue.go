// Package hashqueue runs expensive computations, such as password hashes, with a
// limited number of workers and in a fair order.
//
// Create a [Queue] with [New], and call [Queue.Do] for each [Task]. It promises:
//
//   - At most Config.Workers tasks run at a time.
//   - Clients take turns, one task each. A client with many tasks delays the
//     others by one of its tasks at most. Every other turn goes round networks of
//     clients, so that many clients of one network delay others little.
//   - Demoted clients, such as those with recent failures, get every eighth turn
//     while others wait.
//   - Preferred tasks come first, and at least one turn in four goes to the others.
//     They have room of their own: a queue that is full of others accepts them.
//   - Tasks with equal keys share one run. Each of them has its own place in the
//     queue; the first one that is dispatched runs for all.
//   - A task starts within Config.MaxWait, or Do returns [ErrOverloaded]. The
//     number of waiting tasks is bounded.
//   - A run that has begun is finished, even if nobody waits for it any more.
//   - Functions passed to [Queue.DoIdle] never delay a task: one at a time starts
//     while a worker is free and no task waits. It takes no worker, and pauses while
//     all workers are busy.
package hashqueue

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// manyWaiting is the number of waiting tasks from which on only clients without a
// waiting task may add one. Twice as many is the maximum. Preferred tasks and others
// are counted separately.
const manyWaiting = 16 << 10

// ErrOverloaded is returned for a task that has waited for Config.MaxWait, or if
// the queue is full.
var ErrOverloaded = errors.New("too many tasks are waiting; try again later")

// Config holds the settings of a [Queue]. Both functions are called with the
// queue locked. They must be quick, and must not call the queue.
type Config struct {
	// Workers returns how many tasks may run at a time. It is called whenever a
	// task could start, so the number may change; see [Queue.WorkersChanged].
	Workers func() int

	// MaxWait is how long a task waits to be started.
	MaxWait time.Duration

	// IsDemoted reports whether a client is currently served after the others.
	IsDemoted func(client uint64) bool
}

// Task is one computation.
type Task[K comparable, V any] struct {
	// Client identifies the client that the task belongs to. For a preferred task it
	// can be something else that takes turns, such as a user.
	Client uint64

	// Network identifies the network of the client. Tasks of a client have the same
	// network.
	Network uint64

	// IsPreferred makes the task come before those that are not preferred.
	IsPreferred bool

	// Key identifies the computation: tasks with equal keys have the same result.
	Key K

	// Start is called when a worker is free for the task. It returns the function
	// to run, or an error for Do to return; then the next task gets the worker.
	//
	// It is called with the queue locked, so that it sees what all earlier runs
	// have recorded, and no other task starts in between. It must be quick, and
	// must not call the queue. It is called only while Do waits, but the function
	// that it returns may run after Do has returned.
	Start func() (run func() V, err error)
}

// Queue runs tasks. It is safe for concurrent use.
type Queue[K comparable, V any] struct {
	config Config

	mu      sync.Mutex
	running int
	waiting map[bool]int // by Task.IsPreferred
	calls   map[K]*call[K, V]
	turns   turns[K, V]

	idle          list.List // of *idleTask
	isIdleRunning bool
	isBusy        atomic.Bool   // whether all workers are busy
	free          chan struct{} // closed when that ends; nil: nobody waits
}

// New returns an empty queue.
func New[K comparable, V any](config Config) *Queue[K, V] {
	return &Queue[K, V]{config: config, waiting: make(map[bool]int), calls: make(map[K]*call[K, V]), turns: newTurns[K, V](config.IsDemoted)}
}

// call is one run, and all tasks that wait for it.
type call[K comparable, V any] struct {
	waiters   list.List // of *waiter
	isRunning bool
}

// all yields the waiters. The yielded one may be removed.
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
	place  *list.Element // in the client's line; nil while it does not wait for a worker
	isLate bool          // has waited for MaxWait, and is running or shares a run
	done   chan result[V]
}

type result[V any] struct {
	value  V
	shared bool
	err    error
}

// Do waits for a free worker, runs the task, and returns its result. shared reports
// whether the result is that of another task with the same key.
//
// The error is that of Start, ErrOverloaded, the cause of ctx if ctx is done before
// the result is available, or an error with the type of a panic. After a panic,
// tasks that shared the run retry on their own.
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

// State returns the number of running and of waiting tasks.
func (q *Queue[K, V]) State() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running, q.waiting[true] + q.waiting[false]
}

// WorkersChanged starts waiting tasks after Config.Workers has increased. Without
// it, additional workers are used only when the next task comes or ends.
func (q *Queue[K, V]) WorkersChanged() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dispatch()
}

// enter adds w to the call of its key, and to the line of its client unless the
// call is running. It returns false if the queue is full.
func (q *Queue[K, V]) enter(w *waiter[K, V]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.calls[w.Key]
	if c == nil || !c.isRunning {
		if n := q.waiting[w.IsPreferred]; n >= 2*manyWaiting || n >= manyWaiting && q.turns.has(w) {
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

// leave removes w. A run that has begun is finished.
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

// dispatch starts tasks while workers are free, and an idle function if no task waits.
func (q *Queue[K, V]) dispatch() {
	defer q.noteBusy()
	for q.running < q.config.Workers() {
		w := q.turns.next()
		if w == nil {
			q.startIdle()
			return
		}
		run, err := w.Start()
		if err != nil {
			q.turns.giveBack(w)
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

// run runs the task of w, and passes the result to all waiters.
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

// fail ends the task of w after a panic. The function of another waiter may not
// panic, so the other waiters retry on their own.
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

// recovered turns a panic into an error. The value of the panic may contain a
// secret, so the error has only its type.
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
	q.waiting[w.IsPreferred]++
}

// dequeue removes w from the line of its client, if it is there.
func (q *Queue[K, V]) dequeue(w *waiter[K, V]) {
	if w.place == nil {
		return
	}
	q.turns.remove(w)
	q.waiting[w.IsPreferred]--
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
