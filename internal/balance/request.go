package balance

import "slices"

// Request is a request for which a server is chosen. It is passed by value, and just
// fits into registers: one more word would make each choice slower.
type Request struct {
	// Servers are the current states of the group's members, in the same order.
	Servers []Server

	// Key is the key to hash: the client's address for ip_hash, any text for hash.
	// Other methods ignore it.
	Key string

	// Tried are the servers to which the request was sent already. Nil means none.
	Tried *Tried

	// Now is the current time for slow start and least_time, as returned by
	// time.Time.UnixNano. Otherwise it is ignored.
	Now int64
}

// Tried is a set of servers to which a request was sent already. Servers are
// identified by their addresses, since a proxy may look up its servers again for each
// try. The zero value is empty. It is not safe for concurrent use.
type Tried struct {
	addresses []string
}

// Add adds a server.
func (t *Tried) Add(address string) {
	if !t.has(address) {
		t.addresses = append(t.addresses, address)
	}
}

// has reports whether a server was tried.
func (t *Tried) has(address string) bool {
	return t != nil && slices.Contains(t.addresses, address)
}

// clear removes all servers.
func (t *Tried) clear() { t.addresses = t.addresses[:0] }

// canTake reports whether a member can take the request.
func (r *Request) canTake(m *member) bool {
	return !m.down && r.Servers[m.index].Available() && !r.Tried.has(m.address)
}

// conns returns the number of current requests of a member.
func (r *Request) conns(m *member) int64 { return int64(r.Servers[m.index].NumRequests()) }
