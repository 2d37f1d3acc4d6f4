// Package rendezvous implements weighted rendezvous hashing: it chooses one of a
// number of candidates for a 64-bit number, in proportion to their weights, and
// always the same one for the same number.
//
// It promises:
//   - Choices need no state. Every process with the same candidates makes the
//     same choices, regardless of the order of the candidates.
//   - Over many numbers, each candidate is chosen in proportion to its weight.
//   - If a candidate is added or removed, or its weight changes, few numbers move:
//     with [Score] only those that the candidate wins or loses.
//   - The results never change between versions: servers of a fleet must agree on
//     them, also while they run different versions.
//
// For a few candidates, call [Score] for each and take the lowest. For more, use a
// [Table]. Numbers and keys must be spread over all 64 bits, like hashes.
package rendezvous

import "math"

// Mix spreads the bits of x. It is the finalizer of SplitMix64, a bijection.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Score returns the score of one candidate, a positive number. The candidate with
// the lowest score wins. The hash combines the number and the candidate's key, for
// example number ^ key. The weight must be at least 1.
func Score(hash uint64, weight int) float64 {
	return -math.Log(uniform(hash)) / float64(weight)
}

// uniform maps a hash to a number between 0 and 1, exclusive.
func uniform(hash uint64) float64 {
	return (float64(Mix(hash)>>11) + 0.5) / (1 << 53)
}
