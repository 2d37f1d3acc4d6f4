package caddyhtpasswd

import (
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// ipHash chooses by the client's address, so that a client stays with one
// server: by the first three octets of an IPv4 address and the whole of an IPv6
// one. Each client gets the server that nginx gives it.
type ipHash struct {
	members []groupMember
	total   uint // of weights
	others  *smoothRoundRobin
}

func newIPHash(members []groupMember, start uint64) *ipHash {
	b := &ipHash{members: members, others: newSmoothRoundRobin(members, 0, start)}
	for _, m := range members {
		b.total += uint(m.weight)
	}
	return b
}

// ipHashTries is how many places nginx looks at before it takes any server.
const ipHashTries = 21

// choose implements groupBalancer.
func (b *ipHash) choose(c choice) int {
	key, n := clientNetwork(c.request)
	hash := uint(89)
	for range ipHashTries {
		for _, octet := range key[:n] {
			hash = (hash*113 + uint(octet)) % 6271
		}
		place, i := hash%b.total, 0
		for ; place >= uint(b.members[i].weight); i++ {
			place -= uint(b.members[i].weight)
		}
		if c.canTake(&b.members[i]) {
			return i
		}
	}
	return b.others.choose(c)
}

// clientNetwork returns what ip_hash takes of the client's address, and how
// many bytes that is. Without an address all clients are one, as for nginx.
func clientNetwork(r *http.Request) (key [16]byte, n int) {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, err := netip.ParseAddr(text)
	if err != nil {
		return key, 3
	}
	if address = address.Unmap(); address.Is4() {
		four := address.As4()
		copy(key[:], four[:3])
		return key, 3
	}
	return address.As16(), 16
}

// consistentHash chooses by a key, so that requests with the same key go to one
// server, and a server that comes or goes moves no other keys than its own
// (rendezvous hashing, weighted).
type consistentHash struct {
	members []groupMember
	key     hashKey
	equal   bool // all weights are the same
	others  *smoothRoundRobin
}

func newConsistentHash(members []groupMember, key string, start uint64) *consistentHash {
	other := func(m groupMember) bool { return m.weight != members[0].weight }
	return &consistentHash{members, newHashKey(key), !slices.ContainsFunc(members, other), newSmoothRoundRobin(members, 0, start)}
}

// choose implements groupBalancer.
func (b *consistentHash) choose(c choice) int {
	text := b.key.of(c.request)
	if text == "" { // else all who have no cookie, say, would go to one server
		return b.others.choose(c)
	}
	key := xxhash.Sum64String(text)
	best, least := -1, math.Inf(1)
	for i := range b.members {
		m := &b.members[i]
		if !c.canTake(m) {
			continue
		}
		var score float64
		if b.equal {
			score = -float64(rendezvous.Mix(key ^ m.hash)) // in the same order, without a logarithm
		} else {
			score = rendezvous.Score(key^m.hash, m.weight)
		}
		if score < least {
			best, least = i, score
		}
	}
	return best
}

// hashKey is the text that a request is hashed by, with placeholders.
type hashKey struct {
	text        string
	placeholder string // if text is just one
}

func newHashKey(text string) hashKey {
	k := hashKey{text: text}
	if strings.HasPrefix(text, "{") && strings.IndexByte(text, '}') == len(text)-1 {
		k.placeholder = text[1 : len(text)-1]
	}
	return k
}

// of returns the key of a request.
func (k hashKey) of(r *http.Request) string {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if k.placeholder != "" {
		value, _ := repl.GetString(k.placeholder)
		return value
	}
	return repl.ReplaceAll(k.text, "")
}

// hasPlaceholder reports whether a key differs from request to request.
func hasPlaceholder(key string) bool {
	_, rest, open := strings.Cut(key, "{")
	return open && strings.IndexByte(rest, '}') > 0
}

// Interface guards
var (
	_ groupBalancer = (*ipHash)(nil)
	_ groupBalancer = (*consistentHash)(nil)
)
