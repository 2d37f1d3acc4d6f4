package hashqueue

import "container/list"

// turns says whose turn is next. Clients with waiting tasks stand in one of two
// rounds, and take turns within it.
type turns[K comparable, V any] struct {
	isDemoted func(client uint64) bool
	lines     map[uint64]*line[K, V]
	regular   *list.List // of *line
	demoted   *list.List // of *line
	passed    int        // regular turns since the last demoted one, while a demoted client waits
}

// regularTurns is how many turns regular clients take for each one of the demoted.
const regularTurns = 7

// line holds the waiting tasks of one client, the first one first.
type line[K comparable, V any] struct {
	client  uint64
	waiters list.List // of *waiter
	round   *list.List
	place   *list.Element // in the round
}

func newTurns[K comparable, V any](isDemoted func(client uint64) bool) turns[K, V] {
	return turns[K, V]{isDemoted: isDemoted, lines: make(map[uint64]*line[K, V]), regular: list.New(), demoted: list.New()}
}

// has reports whether a client has waiting tasks.
func (t *turns[K, V]) has(client uint64) bool { return t.lines[client] != nil }

// add puts w at the end of its client's line. A client without a line gets one
// at the end of its round.
func (t *turns[K, V]) add(w *waiter[K, V]) {
	l := t.lines[w.Client]
	if l == nil {
		l = &line[K, V]{client: w.Client}
		t.lines[w.Client] = l
		if t.isDemoted(w.Client) {
			l.join(t.demoted)
		} else {
			l.join(t.regular)
		}
	}
	w.place = l.waiters.PushBack(w)
}

// remove takes w out of its client's line.
func (t *turns[K, V]) remove(w *waiter[K, V]) {
	l := t.lines[w.Client]
	l.waiters.Remove(w.place)
	w.place = nil
	if l.waiters.Len() == 0 {
		l.round.Remove(l.place)
		delete(t.lines, l.client)
	}
}

// next returns the task whose turn it is, nil if none waits. Its client moves to
// the end of the round.
func (t *turns[K, V]) next() *waiter[K, V] {
	t.demote()
	var round *list.List
	switch {
	case t.regular.Len()+t.demoted.Len() == 0:
		return nil
	case t.regular.Len() == 0 || t.demoted.Len() > 0 && t.passed == regularTurns:
		round, t.passed = t.demoted, 0
	default:
		round = t.regular
		if t.demoted.Len() > 0 {
			t.passed++
		}
	}
	l := round.Front().Value.(*line[K, V])
	round.MoveToBack(l.place)
	return l.waiters.Front().Value.(*waiter[K, V])
}

// demote moves clients from the front of the regular round that were demoted
// while they waited.
func (t *turns[K, V]) demote() {
	for t.regular.Len() > 0 {
		l := t.regular.Front().Value.(*line[K, V])
		if !t.isDemoted(l.client) {
			return
		}
		t.regular.Remove(l.place)
		l.join(t.demoted)
	}
}

func (l *line[K, V]) join(round *list.List) {
	l.round, l.place = round, round.PushBack(l)
}
