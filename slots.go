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
	// maxWait is how long a check waits for a slot.
	maxWait = 10 * time.Second

	// manyWaiting is how many checks can wait at a time. With that many, only
	// clients none of whose checks waits may add one, until there are twice as many.
	manyWaiting = 16 << 10
)

// errOverloaded is for checks that waited too long for their turn, or that
// there was no room for.
var errOverloaded = errors.New("too many passwords to check at the moment")

// slots are where hashes are computed: at most max at a time. Whoever wants
// one waits for their turn. Turns go round the clients, one each, those without
// failures first, so that one with many checks makes the others wait for no
// more than one of them. Equal checks share one turn.
type slots struct {
	max       func() int
	isSuspect func(client uint64) bool // has failed lately

	mu      sync.Mutex
	busy    int
	waiting int
	shared  map[string]*sharedCheck
	lines   map[uint64]*line // of the clients with somebody who waits
	round   [2]list.List     // of *line: clients without failures, and those with
}

// check is what waits for a turn.
type check struct {
	client uint64
	key    string // equal ones have the same result

	// refused is asked when the turn has come, and says why there shall be
	// none after all.
	refused func() error
	// begin is called then, while the one who waits is still there, and returns
	// what to compute, maybe when they are gone.
	begin func() func() verdict

	group *sharedCheck
	place *list.Element // in the line; nil while not waiting for a turn
	done  chan result
}

// sharedCheck are equal checks. While they wait each has its own place; when
// the first one's turn comes, its result is for all.
type sharedCheck struct {
	members []*check
	running bool
}

// line is those who wait for a turn, of one client.
type line struct {
	client uint64
	checks list.List // of *check
	round  *list.List
	place  *list.Element // in the round
}

type result struct {
	verdict verdict
	err     error
	own     bool // computed for the one who gets it
}

// do has c computed, or gets the result of an equal check. It waits for that
// until ctx is over, and at most maxWait for a turn.
func (s *slots) do(ctx context.Context, c *check) (verdict verdict, own bool, err error) {
	if ctx.Err() != nil {
		return verdict, false, context.Cause(ctx)
	}
	c.done = make(chan result, 1)
	if !s.enter(c) {
		return verdict, false, errOverloaded
	}
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	for {
		select {
		case r := <-c.done:
			return r.verdict, r.own, r.err
		case <-timeout.C:
			if s.leaveIfWaiting(c) {
				err = errOverloaded
			}
		case <-ctx.Done():
			s.leave(c)
			err = context.Cause(ctx)
		}
		if err != nil {
			return verdict, false, err
		}
	}
}

// enter lets c wait for its turn, or for the result of an equal check that has
// its turn already. It reports false if there is no room.
func (s *slots) enter(c *check) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil {
		s.shared, s.lines = make(map[string]*sharedCheck), make(map[uint64]*line)
	}
	group := s.shared[c.key]
	if group == nil || !group.running {
		if s.waiting >= 2*manyWaiting || s.waiting >= manyWaiting && s.lines[c.client] != nil {
			return false
		}
	}
	if group == nil {
		group = new(sharedCheck)
		s.shared[c.key] = group
	}
	c.group = group
	group.members = append(group.members, c)
	if !group.running {
		s.queue(c)
		s.dispatch()
	}
	return true
}

// leave takes c out. A computation that has begun goes on to its end.
func (s *slots) leave(c *check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(c)
}

// leaveIfWaiting takes c out, unless its turn, or an equal one's, has come.
func (s *slots) leaveIfWaiting(c *check) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.place == nil {
		return false
	}
	s.remove(c)
	return true
}

// dispatch gives free slots to those whose turn it is.
func (s *slots) dispatch() {
	for s.busy < s.max() {
		c := s.next()
		if c == nil {
			return
		}
		if err := c.refused(); err != nil {
			s.remove(c)
			c.done <- result{err: err}
			continue
		}
		for _, member := range c.group.members {
			s.unqueue(member)
		}
		s.busy++
		c.group.running = true
		go s.run(c, c.begin())
	}
}

// run computes c and hands the result to all who wait for it. After a panic
// the others are none the wiser: each of them tries for itself.
func (s *slots) run(c *check, compute func() verdict) {
	verdict, err := protect(compute)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	group := c.group
	group.running = false
	if err != nil {
		s.remove(c)
		c.done <- result{err: err, own: true}
		for _, other := range group.members {
			s.queue(other)
		}
	} else {
		for _, member := range group.members {
			member.done <- result{verdict: verdict, own: member == c}
		}
		delete(s.shared, c.key)
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

// queue puts c at the end of its client's line, and a client who had none at
// the end of the round.
func (s *slots) queue(c *check) {
	l := s.lines[c.client]
	if l == nil {
		l = &line{client: c.client}
		s.lines[c.client] = l
		s.join(l, &s.round[0])
	}
	c.place = l.checks.PushBack(c)
	s.waiting++
}

func (s *slots) join(l *line, round *list.List) {
	l.round, l.place = round, round.PushBack(l)
}

// next returns whose turn it is and moves their client to the end of the round.
func (s *slots) next() *check {
	for i := range s.round {
		for round := &s.round[i]; round.Len() > 0; {
			l := round.Front().Value.(*line)
			round.Remove(l.place)
			if i == 0 && s.isSuspect(l.client) {
				s.join(l, &s.round[1])
				continue
			}
			s.join(l, round)
			return l.checks.Front().Value.(*check)
		}
	}
	return nil
}

// unqueue takes c out of its client's line, if it is in it.
func (s *slots) unqueue(c *check) {
	if c.place == nil {
		return
	}
	l := s.lines[c.client]
	l.checks.Remove(c.place)
	c.place = nil
	s.waiting--
	if l.checks.Len() == 0 {
		l.round.Remove(l.place)
		delete(s.lines, l.client)
	}
}

// remove takes c out of everything.
func (s *slots) remove(c *check) {
	s.unqueue(c)
	group := c.group
	for i, member := range group.members {
		if member == c {
			last := len(group.members) - 1
			group.members[i] = group.members[last]
			group.members[last] = nil
			group.members = group.members[:last]
			break
		}
	}
	if len(group.members) == 0 && !group.running && s.shared[c.key] == group {
		delete(s.shared, c.key)
	}
}
