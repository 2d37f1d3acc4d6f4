package balance

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Method is a load balancing method. The text is its name in configurations.
type Method string

// Load balancing methods. All of them use the weights.
const (
	// MethodRoundRobin is smooth weighted round robin, as in nginx.
	MethodRoundRobin Method = "round_robin"
	// MethodLeastConn chooses the server with the fewest requests, as nginx does.
	MethodLeastConn Method = "least_conn"
	// MethodLeastTime chooses the server that responds fastest, with regard to the
	// requests under way. The caller measures the times: see [ResponseTime.Add].
	MethodLeastTime Method = "least_time"
	// MethodIPHash chooses by the client's address, as nginx does.
	MethodIPHash Method = "ip_hash"
	// MethodHash chooses by consistent hashing of a key.
	MethodHash Method = "hash"
	// MethodRandom chooses two servers at random, and of these the one with fewer
	// requests.
	MethodRandom Method = "random"
)

// methods has a row for each method.
var methods = map[Method]struct {
	// newChooser returns the chooser of the method. There is at least one member.
	newChooser func(s Settings, members []member) chooser
	// slowStart reports whether the method supports slow start. With methods that
	// choose by a key, it would move clients back and forth.
	slowStart bool
}{
	MethodRoundRobin: {slowStart: true, newChooser: func(s Settings, members []member) chooser {
		return newSmoothRoundRobin(members, s.SlowStart, s.Start)
	}},
	MethodLeastConn: {slowStart: true, newChooser: func(s Settings, members []member) chooser {
		return newLeastConn(members, s.SlowStart)
	}},
	MethodLeastTime: {slowStart: true, newChooser: func(s Settings, members []member) chooser {
		return newLeastTime(members, s.SlowStart)
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

// Methods returns all methods, sorted by name.
func Methods() []Method { return slices.Sorted(maps.Keys(methods)) }

// IsKnown reports whether the method exists.
func (m Method) IsKnown() bool {
	_, known := methods[m]
	return known
}

// HasSlowStart reports whether the method supports slow start.
func (m Method) HasSlowStart() bool { return methods[m].slowStart }
