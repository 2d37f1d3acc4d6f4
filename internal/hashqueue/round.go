package hashqueue

import "container/list"

// round is a list of lines that take turns.
//
// Every other turn goes round the networks, and to the next line of the network. The turns
// in between go round the lines. So a line waits for at most twice as many turns as there
// are networks, regardless of how many lines another network has, and for at most twice
// as many as there are lines, regardless of how many lines are in its own network.
type round[K comparable, V any] struct {
	lines     *list.List // of *line
	networks  *list.List // of *network
	byNumber  map[uint64]*network[K, V]
	byNetwork bool // the next turn goes round the networks
}

// network holds the lines of one network.
type network[K comparable, V any] struct {
	number uint64
	lines  list.List // of *line
	place  *list.Element
}

func newRound[K comparable, V any]() round[K, V] {
	return round[K, V]{lines: list.New(), networks: list.New(), byNumber: make(map[uint64]*network[K, V])}
}

func (r *round[K, V]) len() int { return r.lines.Len() }

// add appends a line.
func (r *round[K, V]) add(l *line[K, V]) {
	n := r.byNumber[l.network]
	if n == nil {
		n = &network[K, V]{number: l.network}
		n.place = r.networks.PushBack(n)
		r.byNumber[n.number] = n
	}
	l.round, l.place, l.placeInNetwork = r, r.lines.PushBack(l), n.lines.PushBack(l)
}

func (r *round[K, V]) remove(l *line[K, V]) {
	n := r.byNumber[l.network]
	r.lines.Remove(l.place)
	if n.lines.Remove(l.placeInNetwork); n.lines.Len() == 0 {
		r.networks.Remove(n.place)
		delete(r.byNumber, n.number)
	}
}

// front returns the line whose turn is next.
func (r *round[K, V]) front() *line[K, V] {
	if r.byNetwork {
		return r.networks.Front().Value.(*network[K, V]).lines.Front().Value.(*line[K, V])
	}
	return r.lines.Front().Value.(*line[K, V])
}

// next returns the next task. Its line and network move to the end of their lists.
func (r *round[K, V]) next() *waiter[K, V] {
	l := r.front()
	r.byNetwork = !r.byNetwork
	n := r.byNumber[l.network]
	r.lines.MoveToBack(l.place)
	r.networks.MoveToBack(n.place)
	n.lines.MoveToBack(l.placeInNetwork)
	return l.waiters.Front().Value.(*waiter[K, V])
}
