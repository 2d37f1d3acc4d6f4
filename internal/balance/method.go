package balance

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Method is a way to choose among servers. Its text is its name in configurations.
type Method string

// The methods. All of them respect the weights.
const (
	// MethodRoundRobin takes the servers in turn, smoothly, as nginx does.
	MethodRoundRobin Method = "round_robin"
	// MethodLeastConn takes the server with the fewest requests, as nginx does.
	MethodLeastConn Method = "least_conn"
	// MethodIPHash goes by the client's address, as nginx does.
	MethodIPHash Method = "ip_hash"
	// MethodHash goes by a key, consistently.
	MethodHash Method = "hash"
	// MethodRandom draws two servers and takes the one with fewer Requests.
	MethodRandom Method = "random"
)

// methods has a row for each method.
var methods = map[Method]struct {
	// newChooser makes the method's chooser. The members are never empty.
	newChooser func(s Settings, members []member) chooser
	// slowStart says that a server can have a part of its weight. In methods that
	// go by a key this would move clients back and forth.
	slowStart bool
}{
	MethodRoundRobin: {slowStart: true, newChooser: func(s Settings, members []member) chooser {
		return newSmoothRoundRobin(members, s.SlowStart, s.Start)
	}},
	MethodLeastConn: {slowStart: true, newChooser: func(s Settings, members []member) chooser {
		return newLeastConn(members, s.SlowStart)
	}},
	MethodIPHash: {newChooser: func(s Settings, members []member) chooser {
		return newIPHash(members, s.Start)
	}},
	MethodHash: {newChooser: func(s Settings, members []member) chooser {
		return newConsistentHash(members, s.Start)
	}},
	MethodRandom: {newChooser: func(_ Settings, members []member) chooser {
		return newRandomTwo(members, rand.Uint64)
	}},
}

// Methods returns all methods, in the order of their names.
func Methods() []Method { return slices.Sorted(maps.Keys(methods)) }

// IsKnown reports whether there is such a method.
func (m Method) IsKnown() bool {
	_, known := methods[m]
	return known
}

// HasSlowStart reports whether a server can come back slowly with the method.
func (m Method) HasSlowStart() bool { return methods[m].slowStart }
