package rendezvous

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// MaxCommon is how many candidates of a [Table] are weighed one by one.
const MaxCommon = 64

// Candidate is one of the things that a [Table] chooses among.
type Candidate struct {
	Key    uint64 // places the candidate among others; no two of a table have the same
	Weight int    // at least 1
	Index  uint32 // says what is chosen, such as a position in a slice
}

// Table chooses among candidates in bounded time, however many there are. The
// [MaxCommon] heaviest candidates are weighed one by one, which moves the fewest
// numbers when a weight changes. All others are rare: together they count as one
// more candidate, and a tree finds the one among them. So a choice takes at most
// MaxCommon+1 scores and 64 forks of the tree, and rare candidates still get
// their share.
//
// The zero value is a table without candidates. A table does not change once it
// is made, so many goroutines can use it at once.
type Table struct {
	common []Candidate
	rare   rareTree
}

// NewTable returns a table of these candidates. It takes the slice over, and
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

// Choice is what a [Table] has chosen. Of choices in several tables for the same
// number, the one with the least score wins. So the tables are as good as one that
// has all their candidates.
type Choice struct {
	// Score is the score of the winner. It is +Inf for a table without candidates.
	Score float64

	common *Candidate // nil if the winner is a rare one
	rare   *rareTree  // nil if it is a common one
	number uint64     // for the search in rare
}

// Choose chooses a candidate for a number. The salt tells this table's candidates
// from those of other tables that have the same keys.
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

// Index returns the Index of the candidate that won. It panics for a table
// without candidates. The tree of the rare candidates is searched only here, so
// that of choices in several tables only the winner's is.
func (c *Choice) Index() uint32 {
	if c.common != nil {
		return c.common.Index
	}
	return c.rare.find(c.number).Index
}

// rareTree has the rare candidates ordered by key, so that they are the leaves of
// a binary tree: the first bit of the keys parts them in two, the next bit each of
// these, and so on. Each Weight includes those of all candidates before it.
type rareTree []Candidate

// rareKey stands for the key of all rare candidates of a table together.
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

// find goes down the tree. At each fork the number decides between both sides, in
// proportion to their weights. A weight that changes moves numbers only at the
// forks above it. There are at most 64.
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
