package balance

import "net/netip"

// ipHash chooses by the client's address: by the first three octets of an IPv4
// address, and by the whole IPv6 address. Each client gets the same server as from
// nginx.
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

// ipHashTries is the number of hashes that nginx tries before it uses round robin.
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

// clientNetwork returns the part of the client's address that ip_hash uses, and its
// length in bytes. As with nginx, clients without an address have the same key.
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
