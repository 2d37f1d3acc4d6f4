package caddyhtpasswd

import "math"

// mix spreads the bits of x (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// uniform maps a hash to a number between 0 and 1, neither of which it is.
func uniform(hash uint64) float64 {
	return (float64(mix(hash)>>11) + 0.5) / (1 << 53)
}

// rendezvous is the score of one candidate in weighted rendezvous hashing: the
// least wins, and each is that in proportion to its weight.
func rendezvous(hash uint64, weight int) float64 {
	return -math.Log(uniform(hash)) / float64(weight)
}
