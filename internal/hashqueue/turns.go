package hashqueue

import "container/list"

// turns decides which client is served next. Clients with waiting tasks are in one
// of two round-robin lists, and take turns within it.
type turns[K comparable, V any] struct {
	isDemoted func(client uint64) bool
	lines     map[uint64]*line[K, V]
	regular   *list.List // of *line
	demoted   *list.List // of *line
	passed    int        // regular turns since the last demoted one, while a demoted client waits
}

// regularTurns is the number of turns of regular clients for each turn of a demoted
// client.
const regularTurns = 7

// line holds the waiting tasks of one client, the first one first.
type line[K comparable, V any] struct {
	client  uint64
	waiters list.List     // of *waiter
	round   *list.List    // regular or demoted
	place   *list.Element // in round
}

func newTurns[K comparable, V any](isDemoted func(client uint64) bool) turns[K, V] {
	return turns[K, V]{isDemoted: isDemoted, lines: make(map[uint64]*line[K, V]), regular: list.New(), demoted: list.New()}
}

// has reports whether a client has waiting tasks.
func (t *turns[K, V]) has(client uint64) bool { return t.lines[client] != nil }

// add appends w to its client's line. A client without a line is appended to its
// list.
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

// remove removes w from its client's line.
func (t *turns[K, V]) remove(w *waiter[K, V]) {
	l := t.lines[w.Client]
	l.waiters.Remove(w.place)
	w.place = nil
	if l.waiters.Len() == 0 {
		l.round.Remove(l.place)
		delete(t.lines, l.client)
	}
}

// next returns the next task, or nil if none waits. Its client moves to the end of
// its list.
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

// demote moves clients that were demoted while they waited, from the front of the
// regular list to the demoted one.
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
