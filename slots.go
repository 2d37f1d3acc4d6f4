package caddyhtpasswd

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// maxWait is how long a check waits for a slot, and a refusal for its turn.
	maxWait = 10 * time.Second

	// manyWaiting is how many checks can wait at a time. With that many, only
	// clients none of whose checks waits may add one, until there are twice as many.
	manyWaiting = 16 << 10
)

// errOverloaded is for those who waited too long for their turn, or whom there
// was no room for.
var errOverloaded = errors.New("too many passwords are waiting to be checked; try again later")

// slots are where hashes are computed: at most max at a time. Whoever wants
// one waits for their turn. Turns go round the clients, one each, so that one
// with many checks makes the others wait for no more than one of them. Clients
// without failures come first; those with get every eighth turn. Equal checks
// share one turn.
type slots struct {
	max       func() int
	maxWait   time.Duration            // how long a check waits for a slot
	hasFailed func(client uint64) bool // lately

	mu      sync.Mutex
	busy    int
	waiting int
	calls   map[any]*call
	queues  map[uint64]*clientQueue
	rounds  [2]list.List // of *clientQueue: clients without failures, and those with
	passed  int          // turns that those with failures let pass
}

// waiter is one check that waits for its turn.
type waiter struct {
	client uint64
	key    any // comparable; equal ones have the same result

	// refused is asked when the turn has come, and says why there shall be none
	// after all. It is called with the slots locked, so it must be quick.
	refused func() error
	// begin is called then, likewise, while the one who waits is still there. It
	// returns what to compute, maybe when they are gone.
	begin func() func() verdict

	call   *call
	member *list.Element // of the call
	place  *list.Element // in the client's queue; nil while not waiting for a turn
	late   bool          // waited for maxWait, and is computed now
	done   chan result
}

// call is one computation, and all who wait for it. Before it runs each has a
// place of their own; when the first one's turn comes, the result is for all.
type call struct {
	waiters list.List // of *waiter
	running bool
}

// all yields those who wait for the call. The one it yields may be removed.
func (c *call) all(yield func(*waiter) bool) {
	for e := c.waiters.Front(); e != nil; {
		w := e.Value.(*waiter)
		if e = e.Next(); !yield(w) {
			return
		}
	}
}

// clientQueue are those of one client who wait for a turn.
type clientQueue struct {
	client  uint64
	waiters list.List // of *waiter
	round   *list.List
	place   *list.Element // in the round
}

type result struct {
	verdict verdict
	err     error
}

// do has w computed, or gets the result of an equal one, which is marked as
// repeated then. It waits for that until ctx is over, and at most maxWait for a
// turn.
func (s *slots) do(ctx context.Context, w *waiter) (verdict, error) {
	if ctx.Err() != nil {
		return verdict{}, context.Cause(ctx)
	}
	w.done = make(chan result, 1)
	if !s.enter(w) {
		return verdict{}, errOverloaded
	}
	timeout := time.NewTimer(s.maxWait)
	defer timeout.Stop()
	for {
		select {
		case r := <-w.done:
			return r.verdict, r.err
		case <-timeout.C:
			if s.leaveIfWaiting(w) {
				return verdict{}, errOverloaded
			}
		case <-ctx.Done():
			s.leave(w)
			return verdict{}, context.Cause(ctx)
		}
	}
}

// enter lets w wait for its turn, or for the result of an equal one that has
// its turn already. It reports false if there is no room.
func (s *slots) enter(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == nil {
		s.calls, s.queues = make(map[any]*call), make(map[uint64]*clientQueue)
	}
	c := s.calls[w.key]
	if c == nil || !c.running {
		if s.waiting >= 2*manyWaiting || s.waiting >= manyWaiting && s.queues[w.client] != nil {
			return false
		}
	}
	if c == nil {
		c = new(call)
		s.calls[w.key] = c
	}
	w.call = c
	w.member = c.waiters.PushBack(w)
	if !c.running {
		s.enqueue(w)
		s.dispatch()
	}
	return true
}

// leave takes w out. A computation that has begun goes on to its end.
func (s *slots) leave(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(w)
}

// leaveIfWaiting takes w out, unless its turn, or an equal one's, has come.
func (s *slots) leaveIfWaiting(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.place == nil {
		w.late = true
		return false
	}
	s.remove(w)
	return true
}

// state returns how many hashes are being computed, and how many checks wait.
func (s *slots) state() (busy, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy, s.waiting
}

// dispatch gives free slots to those whose turn it is.
func (s *slots) dispatch() {
	for s.busy < s.max() {
		w := s.next()
		if w == nil {
			return
		}
		if err := w.refused(); err != nil {
			s.remove(w)
			w.done <- result{err: err}
			continue
		}
		for other := range w.call.all {
			s.dequeue(other)
		}
		s.busy++
		w.call.running = true
		go s.run(w, w.begin())
	}
}

// run computes what w wants and hands the result to all who wait for it. After
// a panic the others are none the wiser: each of them tries for itself.
func (s *slots) run(w *waiter, compute func() verdict) {
	v, err := protect(compute)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	c := w.call
	c.running = false
	if err != nil {
		s.remove(w)
		w.done <- result{err: err}
		for other := range c.all {
			if other.late {
				s.remove(other)
				other.done <- result{err: errOverloaded}
			} else {
				s.enqueue(other)
			}
		}
	} else {
		for other := range c.all {
			r := result{verdict: v}
			r.verdict.repeated = v.repeated || other != w
			other.done <- r
		}
		delete(s.calls, w.key)
	}
	s.dispatch()
}

// protect turns a panic into an error. What was thrown could hold the
// password: only its type is told.
func protect(compute func() verdict) (v verdict, err error) {
	defer func() {
		if r := recover(); r != nil {
			v, err = verdict{}, fmt.Errorf("panic of type %T while a password was hashed", r)
		}
	}()
	return compute(), nil
}

// settingsChanged sees to it that new slots are used at once.
func (s *slots) settingsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatch()
}

// enqueue puts w at the end of its client's queue, and a client who had none
// at the end of the round.
func (s *slots) enqueue(w *waiter) {
	q := s.queues[w.client]
	if q == nil {
		q = &clientQueue{client: w.client}
		s.queues[w.client] = q
		if s.hasFailed(w.client) {
			q.join(&s.rounds[1])
		} else {
			q.join(&s.rounds[0])
		}
	}
	w.place = q.waiters.PushBack(w)
	s.waiting++
}

// letPass is how many turns those with failures let pass until one is theirs.
const letPass = 7

// next returns whose turn it is, and moves their client to the end of the round.
func (s *slots) next() *waiter {
	good, failed := &s.rounds[0], &s.rounds[1]
	for good.Len() > 0 {
		q := good.Front().Value.(*clientQueue)
		if !s.hasFailed(q.client) {
			break
		}
		good.Remove(q.place) // it has failed in the meantime
		q.join(failed)
	}
	round := good
	switch {
	case good.Len()+failed.Len() == 0:
		return nil
	case good.Len() == 0 || failed.Len() > 0 && s.passed == letPass:
		round, s.passed = failed, 0
	case failed.Len() > 0:
		s.passed++
	}
	q := round.Front().Value.(*clientQueue)
	round.MoveToBack(q.place)
	return q.waiters.Front().Value.(*waiter)
}

func (q *clientQueue) join(round *list.List) {
	q.round, q.place = round, round.PushBack(q)
}

// dequeue takes w out of its client's queue, if it is in it.
func (s *slots) dequeue(w *waiter) {
	if w.place == nil {
		return
	}
	q := s.queues[w.client]
	q.waiters.Remove(w.place)
	w.place = nil
	s.waiting--
	if q.waiters.Len() == 0 {
		q.round.Remove(q.place)
		delete(s.queues, q.client)
	}
}

// remove takes w out of everything.
func (s *slots) remove(w *waiter) {
	s.dequeue(w)
	c := w.call
	c.waiters.Remove(w.member)
	if c.waiters.Len() == 0 && !c.running && s.calls[w.key] == c {
		delete(s.calls, w.key)
	}
}
