package balance

import "time"

// weights are the current weights of the members of a tier.
type weights struct {
	members   []member
	slowStart time.Duration // 0: off

	whole   []int64 // full weights, while no member starts slowly
	current []int64 // weights for one choice; 0 for a member that cannot take the request
}

func newWeights(members []member, slowStart time.Duration) weights {
	w := weights{members: members, slowStart: slowStart, current: make([]int64, len(members))}
	for _, m := range members {
		switch {
		case m.down:
			w.whole = append(w.whole, 0)
		case slowStart > 0:
			w.whole = append(w.whole, int64(m.weight)*wholeWeight)
		default:
			w.whole = append(w.whole, int64(m.weight))
		}
	}
	return w
}

// areWhole reports whether all members that are not down can take the request, with
// their full weights.
func (w *weights) areWhole(r *Request) bool {
	for i := range w.members {
		if m := &w.members[i]; !m.down && !r.canTake(m) {
			return false
		}
	}
	return w.slowStart == 0 || w.noneStarts(r)
}

// noneStarts reports whether no member starts slowly.
func (w *weights) noneStarts(r *Request) bool {
	for i := range w.members {
		m := &w.members[i]
		if !m.down && m.observe(r, w.slowStart) != wholeWeight {
			return false
		}
	}
	return true
}

// take sets the current weights.
func (w *weights) take(r *Request) {
	for i := range w.members {
		if r.canTake(&w.members[i]) {
			w.current[i] = w.whole[i]
		} else {
			w.current[i] = 0
		}
	}
	if w.slowStart > 0 {
		w.reduce(r)
	}
}

// reduce reduces the current weights of members that start slowly.
func (w *weights) reduce(r *Request) {
	for i := range w.members {
		m := &w.members[i]
		if m.down {
			continue
		}
		if part := m.observe(r, w.slowStart); part != wholeWeight && w.current[i] != 0 {
			w.current[i] = max(w.whole[i]*int64(part)/wholeWeight, 1)
		}
	}
}
