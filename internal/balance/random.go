package balance

import (
	"math/bits"
	"slices"
)

// randomTwo draws two members at random, by their weights, and chooses the one with
// fewer current requests relative to its weight.
type randomTwo struct {
	members []member
	upTo    []int // cumulative weights
	random  func() uint64
}

func newRandomTwo(members []member, random func() uint64) *randomTwo {
	b := &randomTwo{members: members, random: random}
	total := 0
	for _, m := range members {
		total += m.weight
		b.upTo = append(b.upTo, total)
	}
	return b
}

// choose implements chooser.
func (b *randomTwo) choose(r Request) int {
	one := b.draw(&r, -1)
	if one < 0 {
		return -1
	}
	two := b.draw(&r, one)
	if two < 0 {
		return one
	}
	if r.conns(&b.members[two])*int64(b.members[one].weight) < r.conns(&b.members[one])*int64(b.members[two].weight) {
		return two
	}
	return one
}

// randomDraws is the number of draws before drawing only among the members that can
// take the request.
const randomDraws = 8

// draw draws one of the members that can take the request, except for the member
// but. It returns -1 if there is none.
func (b *randomTwo) draw(r *Request, but int) int {
	for range randomDraws {
		place, _ := slices.BinarySearch(b.upTo, b.below(b.upTo[len(b.upTo)-1])+1)
		if place != but && r.canTake(&b.members[place]) {
			return place
		}
	}
	total := 0
	for i := range b.members {
		if m := &b.members[i]; i != but && r.canTake(m) {
			total += m.weight
		}
	}
	if total == 0 {
		return -1
	}
	left, last := b.below(total), -1
	for i := range b.members {
		if m := &b.members[i]; i != but && r.canTake(m) {
			last = i
			if left -= m.weight; left < 0 {
				break
			}
		}
	}
	return last // differs from the drawn one only if a member has just become unavailable
}

// below returns a random number from 0 to n-1. n is so small compared with 2^64 that
// the bias is negligible.
func (b *randomTwo) below(n int) int {
	number, _ := bits.Mul64(b.random(), uint64(n)) //nolint:gosec // n is above zero
	return int(number)                             //nolint:gosec // below n
}
