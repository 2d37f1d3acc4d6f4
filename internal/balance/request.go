package balance

import "slices"

// Request is one request that a server is to be chosen for. It is passed by value,
// and is small enough for registers: one word more would make each choice slower.
type Request struct {
	// Servers are the servers as they are at the moment, one for each member of
	// the group, in the same order.
	Servers []Server

	// Key is what the request is hashed by. For ip_hash it is the client's address,
	// for hash any text. Other methods do not look at it.
	Key string

	// Tried has the servers that the request was sent to already. Nil is none.
	Tried *Tried

	// Now is the time for slow start, in nanoseconds since 1970 as of
	// time.Time.UnixNano. Without slow start it is not looked at, and can be 0.
	Now int64
}

// Tried are the servers that a request was sent to already. They are told by their
// addresses, since a proxy may look up its servers again for each try. The zero
// value has none. It is for one goroutine at a time.
type Tried struct {
	addresses []string
}

// Add adds a server.
func (t *Tried) Add(address string) {
	if !t.has(address) {
		t.addresses = append(t.addresses, address)
	}
}

// has reports whether a server is among those tried.
func (t *Tried) has(address string) bool {
	return t != nil && slices.Contains(t.addresses, address)
}

// clear forgets all of them.
func (t *Tried) clear() { t.addresses = t.addresses[:0] }

// canTake reports whether a member can take the request.
func (r *Request) canTake(m *member) bool {
	return !m.down && r.Servers[m.index].Available() && !r.Tried.has(m.address)
}

// conns returns how many requests a member has at the moment.
func (r *Request) conns(m *member) int64 { return int64(r.Servers[m.index].NumRequests()) }
