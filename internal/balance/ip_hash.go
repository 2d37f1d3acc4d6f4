package balance

import "net/netip"

// ipHash chooses by the client's address, so that a client stays with one
// server: by the first three octets of an IPv4 address and the whole of an IPv6
// one. Each client gets the server that nginx gives it.
type ipHash struct {
	members []member
	total   uint // of weights
	others  *smoothRoundRobin
}

func newIPHash(members []member, start uint64) *ipHash {
	b := &ipHash{members: members, others: newSmoothRoundRobin(members, 0, start)}
	for _, m := range members {
		b.total += uint(m.weight)
	}
	return b
}

// ipHashTries is how many places nginx looks at before it takes any server.
const ipHashTries = 21

// choose implements chooser.
func (b *ipHash) choose(r Request) int {
	key, n := clientNetwork(r.Key)
	hash := uint(89)
	for range ipHashTries {
		for _, octet := range key[:n] {
			hash = (hash*113 + uint(octet)) % 6271
		}
		place, i := hash%b.total, 0
		for ; place >= uint(b.members[i].weight); i++ {
			place -= uint(b.members[i].weight)
		}
		if r.canTake(&b.members[i]) {
			return i
		}
	}
	return b.others.choose(r)
}

// clientNetwork returns what ip_hash takes of the client's address, and how
// many bytes that is. Without an address all clients are one, as for nginx.
func clientNetwork(client string) (key [16]byte, n int) {
	address, err := netip.ParseAddr(client)
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
