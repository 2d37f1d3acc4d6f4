// Package rendezvous is weighted rendezvous hashing: it chooses one of several
// candidates for a number, in proportion to their weights, and always the same
// one for the same number.
//
// It promises three things:
//   - Choices need no state. Every process with the same candidates makes the
//     same choices, whatever order the candidates are in.
//   - Over many numbers each candidate is chosen in proportion to its weight.
//   - A candidate that comes, goes or changes its weight moves few numbers:
//     [Score] moves only those that it wins or loses.
//
// The results are fixed: servers of one fleet must agree on them, also while
// some of them run another version.
//
// For a few candidates, call [Score] for each and take the least. A [Table]
// chooses among any number of candidates. Numbers and keys must be spread over
// all 64 bits, as those of a hash are.
package rendezvous

import "math"

// Mix spreads the bits of x. It is the finalizer of SplitMix64, a bijection.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Score returns the score of one candidate, a positive number. The candidate with
// the least score wins. The hash is made of the number and the candidate's key, for
// example number ^ key. The weight must be at least 1.
func Score(hash uint64, weight int) float64 {
	return -math.Log(uniform(hash)) / float64(weight)
}

// uniform maps a hash to a number between 0 and 1, without these two.
func uniform(hash uint64) float64 {
	return (float64(Mix(hash)>>11) + 0.5) / (1 << 53)
}
