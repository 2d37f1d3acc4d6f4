package balance

import (
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// consistentHash chooses by a key, with weighted rendezvous hashing: requests with
// the same key go to the same server, and adding or removing a server moves no keys
// between other servers.
type consistentHash struct {
	members []member
	equal   bool // all weights are the same
	others  *smoothRoundRobin
}

func newConsistentHash(members []member, start uint64) *consistentHash {
	other := func(m member) bool { return m.weight != members[0].weight }
	return &consistentHash{members, !slices.ContainsFunc(members, other), newSmoothRoundRobin(members, 0, start)}
}

// choose implements chooser.
func (b *consistentHash) choose(r Request) int {
	if r.Key == "" { // otherwise all requests without, say, a cookie would go to one server
		return b.others.choose(r)
	}
	key := xxhash.Sum64String(r.Key)
	best, least := -1, math.Inf(1)
	for i := range b.members {
		m := &b.members[i]
		if !r.canTake(m) {
			continue
		}
		var score float64
		if b.equal {
			score = -float64(rendezvous.Mix(key ^ m.hash)) // same order as Score, without a logarithm
		} else {
			score = rendezvous.Score(key^m.hash, m.weight)
		}
		if score < least {
			best, least = i, score
		}
	}
	return best
}
