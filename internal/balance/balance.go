// Package balance shares requests among the servers of a group.
//
// A [Group] is made once for a list of servers, and then chooses one for each
// request. Some servers of a group can be backups: they get requests only while
// no other server can take one. Some can be down: they get none. Among the rest a
// [Method] chooses, in proportion to the weights.
//
// It promises:
//   - A server that is down or not available is never chosen. A server that was
//     tried already is chosen again only after all others, if at all.
//   - A server is found while there is one that can take the request.
//   - hash and ip_hash choose the same server for the same key in every process.
//     These choices are fixed: an update must not move anybody.
//   - round_robin, least_conn and ip_hash choose as nginx does.
//   - Choosing allocates no memory. Many goroutines can do it at once.
//
// # How to add a method
//
// Write a file with a type that implements chooser, and a constructor of it. The
// type embeds weights if a server can have a part of its weight for a while. Then
// add a constant and a row in method.go: the tests of all methods and the benchmarks
// go over the rows. What the method has to know of a server becomes a method of
// [Server], what it has to know of a request a field of [Request]. What holds for
// all methods, such as a cookie that names the server, has its place in
// [Group.Choose] and in canTake.
package balance

import (
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Server is what a proxy knows of one server at the moment. Many goroutines call
// its methods at once, some of them while they hold a lock of the group.
type Server interface {
	// Available reports whether the server can take one more request: it is
	// healthy and not full.
	Available() bool

	// Healthy reports whether the server passes its health checks. Only slow
	// start looks at it: a full server does not start again.
	Healthy() bool

	// NumRequests returns how many requests the server has at the moment.
	NumRequests() int
}

// Member is one server's part in a group.
type Member struct {
	// Address tells the server from others. It places the server for hash, and
	// [Tried] goes by it.
	Address string

	// Weight is the server's share, in proportion to those of the others: 1 to
	// 65535. Less than 1 is taken for 1.
	Weight int

	// Backup says that the server gets requests only while none that is not a
	// backup can take them.
	Backup bool

	// Down says that the server gets no requests. For ip_hash it keeps its place,
	// so that no client of another server moves.
	Down bool

	// Recovery is what slow start knows of the server. Groups that share it
	// let the server come back together. Nil stands for a new one.
	Recovery *Recovery
}

// Settings are what holds for a group as a whole.
type Settings struct {
	// Method chooses among the servers. It must be one of [Methods].
	Method Method

	// SlowStart is how long a server that was unhealthy takes to come back to
	// its weight. 0 is at once. Methods without [Method.HasSlowStart] ignore it.
	SlowStart time.Duration

	// EachOnce says that no server is chosen that was tried already. Otherwise
	// all servers are tried once more when all have been tried.
	EachOnce bool

	// Start is the turn at which a method begins that has an order.
	Start uint64
}

// Group chooses among servers. It is safe for use by many goroutines at once.
type Group struct {
	tiers     []tier // primaries, then backups; none that is empty
	slowStart time.Duration
	eachOnce  bool
}

// tier are servers that share the requests while those before can't take any.
type tier struct {
	members []member
	chooser
}

// chooser is a method at work among the members of one tier.
// It is used by many requests at once.
type chooser interface {
	// choose returns the index of a member that can take the request, or -1 if
	// there is none. It goes by value: behind an interface a pointer would cost
	// each request an allocation.
	choose(r Request) int
}

// member is one server of a tier.
type member struct {
	address  string
	index    int          // in the group
	weight   int          // at least 1
	hash     uint64       // of the address: the same wherever and whenever it is computed
	recovery *Recovery    // for slow start
	wasAway  *atomic.Bool // it was unhealthy when this group looked at it last
	down     bool         // switched off; it is here since ip_hash leaves it its clients' places
}

// New makes a group of these members. It panics if the method is unknown.
func New(s Settings, members []Member) *Group {
	var primaries, backups []member
	for i, m := range members {
		own := member{
			address:  m.Address,
			index:    i,
			weight:   max(m.Weight, 1),
			hash:     xxhash.Sum64String(m.Address),
			recovery: m.Recovery,
			wasAway:  new(atomic.Bool),
			down:     m.Down,
		}
		if own.recovery == nil {
			own.recovery = new(Recovery)
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
	g := &Group{slowStart: s.SlowStart, eachOnce: s.EachOnce}
	for _, members := range [][]member{primaries, backups} {
		if len(members) > 0 {
			g.tiers = append(g.tiers, tier{members, row.newChooser(s, members)})
		}
	}
	return g
}

// Choose returns the index of the server that gets the request, or -1 if none can
// take it. Servers that were tried already come last, or never with
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
		r.Tried.clear() // once more from the beginning
	}
}

// observe notes for slow start how servers are that get no requests now.
func (g *Group) observe(r *Request, tiers []tier) {
	for _, t := range tiers {
		for i := range t.members {
			t.members[i].observe(r, g.slowStart)
		}
	}
}
