package rendezvous

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// MaxCommon is the number of candidates of a [Table] that get scores of their own.
const MaxCommon = 64

// Candidate is one of the candidates of a [Table].
type Candidate struct {
	Key    uint64 // unique in the table; determines which numbers the candidate wins
	Weight int    // at least 1
	Index  uint32 // identifies the candidate for the caller, for example a position in a slice
}

// Table chooses among any number of candidates in bounded time. Each of the
// [MaxCommon] candidates with the highest weights has a score of its own, which
// moves the fewest numbers when a weight changes. All others are rare: together they
// count as one more candidate, and a tree selects one of them. So a choice takes at
// most MaxCommon+1 scores and 64 forks of the tree, and rare candidates still get
// their share.
//
// The zero value is a table without candidates. A table is immutable and safe for
// concurrent use.
type Table struct {
	common []Candidate
	rare   rareTree
}

// NewTable returns a table of the candidates. It takes ownership of the slice and
// reorders it.
func NewTable(candidates []Candidate) (t Table) {
	if len(candidates) <= MaxCommon {
		return Table{common: candidates}
	}
	slices.SortFunc(candidates, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(a.Key, b.Key))
	})
	return Table{common: candidates[:MaxCommon:MaxCommon], rare: newRareTree(candidates[MaxCommon:])}
}

// Choice is the result of [Table.Choose]. To choose among the candidates of several
// tables, compare their choices for the same number: the lowest score wins, as in a
// single table with all candidates.
type Choice struct {
	// Score is the score of the winner. It is +Inf for a table without candidates.
	Score float64

	common *Candidate // nil if the winner is a rare one
	rare   *rareTree  // nil if it is a common one
	number uint64     // for the search in rare
}

// Choose chooses a candidate for a number. The salt distinguishes the candidates of
// this table from those of other tables with the same keys.
func (t *Table) Choose(number, salt uint64) Choice {
	best := Choice{Score: math.Inf(1)}
	for i := range t.common {
		c := &t.common[i]
		if score := Score(number^Mix(c.Key^salt), c.Weight); score < best.Score {
			best.Score, best.common = score, c
		}
	}
	if len(t.rare) > 0 {
		number ^= Mix(rareKey ^ salt)
		if score := Score(number, t.rare.weight()); score < best.Score {
			best = Choice{Score: score, rare: &t.rare, number: number}
		}
	}
	return best
}

// Index returns the Index of the chosen candidate. It panics for a table without
// candidates. Only Index searches the tree of the rare candidates, so it is searched
// only for the winner of several tables.
func (c *Choice) Index() uint32 {
	if c.common != nil {
		return c.common.Index
	}
	return c.rare.find(c.number).Index
}

// rareTree has the rare candidates in the order of their keys, which makes them the
// leaves of a binary tree: the first bit of the keys splits them in two, the next bit
// splits each half, and so on. Weights are cumulative.
type rareTree []Candidate

// rareKey is the common key of the rare candidates of a table.
const rareKey = 0

func newRareTree(candidates []Candidate) rareTree {
	slices.SortFunc(candidates, func(a, b Candidate) int { return cmp.Compare(a.Key, b.Key) })
	for i := 1; i < len(candidates); i++ {
		candidates[i].Weight += candidates[i-1].Weight
	}
	return candidates
}

// weight returns the weight of all candidates.
func (r rareTree) weight() int { return r.sum(len(r)) }

// sum returns the weight of the first n candidates.
func (r rareTree) sum(n int) int {
	if n == 0 {
		return 0
	}
	return r[n-1].Weight
}

// find descends the tree. At each fork the number selects a side, in proportion to
// the weights. A changed weight moves numbers only at the forks above it. There are
// at most 64.
func (r rareTree) find(number uint64) *Candidate {
	low, high := 0, len(r)
	for bit := 63; bit >= 0 && high-low > 1; bit-- {
		middle := low + sort.Search(high-low, func(i int) bool { return r[low+i].Key>>bit&1 == 1 })
		if middle == low || middle == high {
			continue // all are on one side
		}
		fork := Mix(r[low].Key>>bit ^ uint64(bit)<<58)
		left, both := r.sum(middle)-r.sum(low), r.sum(high)-r.sum(low)
		if uniform(number^fork)*float64(both) < float64(left) {
			high = middle
		} else {
			low = middle
		}
	}
	return &r[low]
}
