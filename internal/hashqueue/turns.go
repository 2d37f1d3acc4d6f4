package hashqueue

import "container/list"

// turns decides which task is started next. The tasks of a client wait in a line. The
// lines are in one of three rounds, and take turns within their round.
type turns[K comparable, V any] struct {
	isDemoted func(client uint64) bool
	lines     map[lineKey]*line[K, V]
	preferred round[K, V]
	regular   round[K, V]
	demoted   round[K, V]

	passedOthers  int // preferred turns since the last other one, while others wait
	passedDemoted int // regular turns since the last demoted one, while a demoted client waits
}

const (
	// preferredTurns is the number of turns of preferred tasks for each turn of others.
	preferredTurns = 3

	// regularTurns is the number of turns of regular clients for each turn of a demoted
	// client.
	regularTurns = 7
)

// lineKey identifies a line. The preferred tasks of a client have a line of their own.
type lineKey struct {
	client      uint64
	isPreferred bool
}

func (t *Task[K, V]) lineKey() lineKey { return lineKey{t.Client, t.IsPreferred} }

// line holds the waiting tasks of one client, the first one first.
type line[K comparable, V any] struct {
	lineKey
	network uint64
	waiters list.List // of *waiter
	round   *round[K, V]

	place, placeInNetwork *list.Element // in the round, and in its network
}

func newTurns[K comparable, V any](isDemoted func(client uint64) bool) turns[K, V] {
	return turns[K, V]{
		isDemoted: isDemoted, lines: make(map[lineKey]*line[K, V]),
		preferred: newRound[K, V](), regular: newRound[K, V](), demoted: newRound[K, V](),
	}
}

// has reports whether the client of w has waiting tasks.
func (t *turns[K, V]) has(w *waiter[K, V]) bool { return t.lines[w.lineKey()] != nil }

// add appends w to its client's line. A client without a line is appended to its round.
func (t *turns[K, V]) add(w *waiter[K, V]) {
	l := t.lines[w.lineKey()]
	if l == nil {
		l = &line[K, V]{lineKey: w.lineKey(), network: w.Network}
		t.lines[l.lineKey] = l
		switch {
		case l.isPreferred:
			t.preferred.add(l)
		case t.isDemoted(l.client):
			t.demoted.add(l)
		default:
			t.regular.add(l)
		}
	}
	w.place = l.waiters.PushBack(w)
}

// remove removes w from its client's line.
func (t *turns[K, V]) remove(w *waiter[K, V]) {
	l := t.lines[w.lineKey()]
	l.waiters.Remove(w.place)
	w.place = nil
	if l.waiters.Len() == 0 {
		l.round.remove(l)
		delete(t.lines, l.lineKey)
	}
}

// next returns the next task, or nil if none waits.
func (t *turns[K, V]) next() *waiter[K, V] {
	others := t.nextOfOthers()
	switch {
	case t.preferred.len() == 0:
		t.passedOthers = 0
	case others == nil || t.passedOthers < preferredTurns:
		if others != nil {
			t.passedOthers++
		}
		return t.preferred.next()
	default:
		t.passedOthers = 0
	}
	if others == nil {
		return nil
	}
	if t.demoted.len() > 0 {
		t.passedDemoted++
	}
	if others == &t.demoted {
		t.passedDemoted = 0
	}
	return others.next()
}

// giveBack returns the turn of a task that was not started. Otherwise tasks that are refused
// when their turn comes would use up the turns that preferred tasks leave to others.
func (t *turns[K, V]) giveBack(w *waiter[K, V]) {
	switch {
	case !w.IsPreferred:
		t.passedOthers = preferredTurns
	case t.passedOthers > 0:
		t.passedOthers--
	}
}

// nextOfOthers returns the round of the next task that is not preferred, or nil if none
// waits.
func (t *turns[K, V]) nextOfOthers() *round[K, V] {
	t.demote()
	switch {
	case t.regular.len()+t.demoted.len() == 0:
		return nil
	case t.regular.len() == 0 || t.demoted.len() > 0 && t.passedDemoted >= regularTurns:
		return &t.demoted
	}
	return &t.regular
}

// demote moves clients that were demoted while they waited, when their turn comes, from
// the regular round to the demoted one.
func (t *turns[K, V]) demote() {
	for t.regular.len() > 0 {
		l := t.regular.front()
		if !t.isDemoted(l.client) {
			return
		}
		t.regular.remove(l)
		t.demoted.add(l)
	}
}
