// Package balance distributes requests among the servers of a group.
//
// Create a [Group] with [New] for a list of servers, and call [Group.Choose] for each
// request. Backup servers get requests only while no other server is available.
// Servers that are down get none. Among the others, the [Method] of the group
// chooses, in proportion to their weights.
//
// It promises:
//   - A server that is down or not available is never chosen. A server that was
//     tried already is chosen again only after all others, if at all.
//   - A server is found whenever there is one that can take the request.
//   - hash and ip_hash choose the same server for the same key in every process.
//     These choices never change: an update must not move clients.
//   - round_robin, least_conn and ip_hash choose as nginx does.
//   - Choosing does not allocate, and is safe for concurrent use.
//
// # How to add a method
//
// Write a file with a type that implements chooser, and a constructor. If servers
// can temporarily have a part of their weight, the type embeds weights. Then add a
// constant and a row in method.go: the tests of all methods and the benchmarks use
// these rows. If the method needs more information about a server, add a method to
// [Server]; about a request, add a field to [Request]. Features of all methods belong
// in [Group.Choose] and canTake. [Group.ChooseSticky] is such a feature.
package balance

import (
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Server is the current state of a server. Its methods must be safe for concurrent
// use. Some calls hold a lock of the group.
type Server interface {
	// Available reports whether the server can take another request: it is
	// healthy and not full.
	Available() bool

	// Healthy reports whether the server passes its health checks. Only slow
	// start uses it: a server that was full does not start slowly.
	Healthy() bool

	// NumRequests returns the number of requests that the server is handling.
	NumRequests() int
}

// Member is the configuration of a server in a group.
type Member struct {
	// Address identifies the server. It determines the keys of the server with
	// hash, and is used by [Tried].
	Address string

	// Weight is the server's share of the requests, relative to those of the
	// others: 1 to 65535. Less than 1 means 1.
	Weight int

	// Backup servers get requests only while no other server can take them.
	Backup bool

	// Down servers get no requests. With ip_hash such a server keeps its place,
	// so that clients of other servers do not move.
	Down bool

	// Drain servers get only requests that [Group.ChooseSticky] is told to send
	// there. For all others they are down.
	Drain bool

	// Recovery is the server's state of slow start. Groups can share it. Nil
	// means a new one.
	Recovery *Recovery

	// Time is the server's average time to the first byte, for least_time. Groups
	// can share it. Nil means a new one.
	Time *ResponseTime
}

// Settings are the settings of a group.
type Settings struct {
	// Method chooses among the servers. It must be one of [Methods].
	Method Method

	// SlowStart is how long a server that was unhealthy takes to get back to its
	// full weight. 0 means at once. Methods without [Method.HasSlowStart] ignore it.
	SlowStart time.Duration

	// EachOnce means that no server is tried twice. Otherwise all servers are
	// tried again when all have been tried.
	EachOnce bool

	// Start is the position at which round robin begins.
	Start uint64
}

// Group chooses among servers. It is safe for concurrent use.
type Group struct {
	tiers     []tier  // primaries, then backups; none is empty
	places    []place // of the members, by their index in the group
	slowStart time.Duration
	eachOnce  bool
}

// tier are servers that get requests only while no server of the previous tiers can
// take them.
type tier struct {
	members []member
	chooser
}

// chooser implements a method for the members of one tier. It is safe for concurrent
// use.
type chooser interface {
	// choose returns the index of a member that can take the request, or -1 if
	// there is none. The request is passed by value: a pointer would escape, and
	// cost an allocation per request.
	choose(r Request) int
}

// member is one server of a tier.
type member struct {
	address  string
	index    int           // in the group
	weight   int           // at least 1
	hash     uint64        // of the address; the same in every process and version
	recovery *Recovery     // for slow start
	time     *ResponseTime // for least_time
	wasAway  *atomic.Bool  // was unhealthy when this group last checked
	down     bool          // the method does not choose it, but it keeps its place for ip_hash
	drain    bool          // and it gets the requests that are stuck to it
}

// New returns a group of the members. It panics if the method is unknown.
func New(s Settings, members []Member) *Group {
	var primaries, backups []member
	for i, m := range members {
		own := member{
			address:  m.Address,
			index:    i,
			weight:   max(m.Weight, 1),
			hash:     xxhash.Sum64String(m.Address),
			recovery: m.Recovery,
			time:     m.Time,
			wasAway:  new(atomic.Bool),
			down:     m.Down || m.Drain,
			drain:    m.Drain && !m.Down,
		}
		if own.recovery == nil {
			own.recovery = new(Recovery)
		}
		if own.time == nil {
			own.time = new(ResponseTime)
		}
		if m.Backup {
			backups = append(backups, own)
		} else {
			primaries = append(primaries, own)
		}
	}
	row, known := methods[s.Method]
	if !known {
		panic("balance: unknown method " + string(s.Method))
	}
	if !row.slowStart {
		s.SlowStart = 0
	}
	g := &Group{slowStart: s.SlowStart, eachOnce: s.EachOnce, places: make([]place, len(members))}
	for _, members := range [][]member{primaries, backups} {
		if len(members) > 0 {
			for i, m := range members {
				g.places[m.index] = place{int32(len(g.tiers)), int32(i)} //nolint:gosec // indexes of members
			}
			g.tiers = append(g.tiers, tier{members, row.newChooser(s, members)})
		}
	}
	return g
}

// Choose returns the index of the server for the request, or -1 if no server can
// take it. Servers that were tried already are chosen last, or never with
// [Settings.EachOnce]; r.Tried is cleared when all have been tried.
func (g *Group) Choose(r Request) int {
	for again := false; ; again = true {
		for i := range g.tiers {
			if chosen := g.tiers[i].choose(r); chosen >= 0 {
				if g.slowStart > 0 {
					g.observe(&r, g.tiers[i+1:])
				}
				return g.tiers[i].members[chosen].index
			}
		}
		if again || r.Tried == nil || g.eachOnce {
			return -1
		}
		r.Tried.clear() // try all servers again
	}
}

// observe records the health of servers that get no requests now, for slow start.
func (g *Group) observe(r *Request, tiers []tier) {
	for _, t := range tiers {
		for i := range t.members {
			t.members[i].observe(r, g.slowStart)
		}
	}
}
