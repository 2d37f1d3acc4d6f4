package hashqueue

import (
	"container/list"
	"context"
)

// idleTask is a function for which DoIdle waits.
type idleTask struct {
	run   func()
	place *list.Element // in the idle list; nil once the function is started
	done  chan error
}

// DoIdle runs a function while the queue has nothing better to do: it starts when a
// worker is free, no task waits, and no other idle function runs. Idle functions start
// in the order in which they came.
//
// An idle function takes no worker, so a task that comes while it runs is not delayed.
// The function should call yield often, at least each millisecond: yield waits while all
// workers are busy. So one function more than Config.Workers runs for that time at most.
// When ctx is done, yield does not wait any more.
//
// If ctx is done before the function is started, DoIdle never runs it, and returns the
// cause. It waits for a function that has been started, and returns an error with the
// type of its panic. The queue does not limit how many callers wait.
func (q *Queue[K, V]) DoIdle(ctx context.Context, run func(yield func())) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := &idleTask{run: func() { run(func() { q.yield(ctx) }) }, done: make(chan error, 1)}
	q.enterIdle(t)
	select {
	case err := <-t.done:
		return err
	case <-ctx.Done():
		if q.leaveIdle(t) {
			return context.Cause(ctx)
		}
		return <-t.done
	}
}

func (q *Queue[K, V]) enterIdle(t *idleTask) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.place = q.idle.PushBack(t)
	q.dispatch()
}

// leaveIdle removes t, and reports whether it was not started.
func (q *Queue[K, V]) leaveIdle(t *idleTask) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.place == nil {
		return false
	}
	q.idle.Remove(t.place)
	return true
}

// startIdle starts the next idle function, unless one is running. It is called when a
// worker is free and no task waits.
func (q *Queue[K, V]) startIdle() {
	if q.isIdleRunning || q.idle.Len() == 0 {
		return
	}
	t := q.idle.Remove(q.idle.Front()).(*idleTask)
	t.place = nil
	q.isIdleRunning = true
	go q.runIdle(t)
}

func (q *Queue[K, V]) runIdle(t *idleTask) {
	_, err := recovered(func() (none struct{}) { t.run(); return none })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.isIdleRunning = false
	t.done <- err
	q.dispatch()
}

// yield waits while all workers are busy.
func (q *Queue[K, V]) yield(ctx context.Context) {
	for q.isBusy.Load() {
		select {
		case <-q.untilFree():
		case <-ctx.Done():
			return
		}
	}
}

// untilFree returns a channel that is closed when a worker is free.
func (q *Queue[K, V]) untilFree() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free == nil {
		q.free = make(chan struct{})
	}
	free := q.free
	q.noteBusy()
	return free
}

// noteBusy tells callers of yield whether all workers are busy. It is called whenever
// that may have changed.
func (q *Queue[K, V]) noteBusy() {
	isBusy := q.running >= q.config.Workers()
	q.isBusy.Store(isBusy)
	if !isBusy && q.free != nil {
		close(q.free)
		q.free = nil
	}
}
