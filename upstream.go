package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(new(UpstreamGroup))
}

// UpstreamGroup is a selection policy for reverse_proxy that knows weights,
// backup servers and servers that are switched off, and shares the requests
// fairly among the servers that are available at the moment.
//
// In a Caddyfile it is what the `upstream` global option and the `proxy_pass`
// directive become.
type UpstreamGroup struct {
	// How to choose among the available servers. Only `round_robin` exists
	// in this version: smooth and weighted, so that weights 5, 1 and 1 give
	// the order a a b a c a a. Default: `round_robin`.
	Balance string `json:"balance,omitempty"`

	// What there is to say about single servers, by their address exactly as
	// it stands in the upstream's `dial`. A server that is not listed here
	// has weight 1 and is neither a backup nor down. Default: none listed.
	Servers map[string]UpstreamServer `json:"servers,omitempty"`

	planning sync.Mutex
	plan     atomic.Pointer[upstreamPlan]
}

// UpstreamServer is one server's part in an [UpstreamGroup].
type UpstreamServer struct {
	// The server's share of the requests, in proportion to the weights of
	// the others: 1 to 65535. Default: 1.
	Weight int `json:"weight,omitempty"`

	// Whether the server gets requests only while no other one is available.
	// Backups share them among themselves by their weights. Default: false.
	Backup bool `json:"backup,omitempty"`

	// Whether the server is switched off: it gets no requests at all.
	// Default: false.
	Down bool `json:"down,omitempty"`
}

// maxServerWeight is the highest weight of a server, as in nginx.
const maxServerWeight = 65535

// CaddyModule returns the Caddy module information.
func (*UpstreamGroup) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.upstream_group",
		New: func() caddy.Module { return new(UpstreamGroup) },
	}
}

// Provision sets up the policy.
func (g *UpstreamGroup) Provision(_ caddy.Context) error {
	if g.Balance == "" {
		g.Balance = defaultBalance
	}
	return nil
}

// Validate ensures that the policy's configuration is valid.
func (g *UpstreamGroup) Validate() error {
	if _, ok := balanceMethods[g.Balance]; !ok {
		return fmt.Errorf("balance: unknown method %q; available: %s", g.Balance, balanceMethodNames())
	}
	for _, dial := range slices.Sorted(maps.Keys(g.Servers)) {
		if w := g.Servers[dial].Weight; w < 0 || w > maxServerWeight {
			return fmt.Errorf("server %s: weight %d: must be 1 to %d, or left out for 1", dial, w, maxServerWeight)
		}
	}
	return nil
}

// UnmarshalCaddyfile refuses the policy as an lb_policy: weights belong to
// servers, and there is no place for them behind lb_policy.
func (*UpstreamGroup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	return d.Errf("lb_policy %s can't be written in a Caddyfile: define the group with the global option `upstream <group> { server <address> ... }` and use it with the directive `proxy_pass <group>`", d.Val())
}

// Select returns the server that gets the request, or nil if none is available.
func (g *UpstreamGroup) Select(pool reverseproxy.UpstreamPool, r *http.Request, _ http.ResponseWriter) *reverseproxy.Upstream {
	if len(pool) == 0 {
		return nil
	}
	if !markClientBody(r) {
		return nil // what one server has read of it can't be sent to the next: the error of that one stands
	}
	plan := g.plan.Load()
	if plan == nil || !plan.fits(pool) {
		plan = g.replan(pool)
	}
	for _, tier := range plan.tiers {
		if upstream := tier.choose(pool, r); upstream != nil {
			return upstream
		}
	}
	return nil
}

// markClientBody has what goes wrong while the body of the request is read
// told from what goes wrong with the server. Caddy takes both for a failure of
// the server, and with passive checks, which groups have unless told
// otherwise, any client could take all servers out by breaking off uploads.
// It reports false for a body that has been read from already; one that is
// buffered is a new one at each try.
func markClientBody(r *http.Request) bool {
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	if body, marked := r.Body.(*clientBody); marked {
		return !body.begun.Load()
	}
	r.Body = &clientBody{ReadCloser: r.Body}
	return true
}

// clientBody is a request body whose errors count as the client's doing.
type clientBody struct {
	io.ReadCloser
	begun atomic.Bool // the transport reads in a goroutine of its own
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.begun.Store(true)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: reading the request: %w", context.Canceled, err)
	}
	return n, err
}

// replan makes and stores the plan for the pool.
func (g *UpstreamGroup) replan(pool reverseproxy.UpstreamPool) *upstreamPlan {
	g.planning.Lock()
	defer g.planning.Unlock()

	old := g.plan.Load()
	if old != nil && old.fits(pool) {
		return old
	}
	// The first pool starts at the beginning, so that the order is known. A
	// pool that changes starts anywhere: if it changed with every request,
	// the first server of each would get them all.
	var start uint64
	if old != nil {
		start = rand.Uint64() //nolint:gosec // any turn will do
	}
	plan := g.newPlan(pool, start)
	g.plan.Store(plan)
	return plan
}

// newPlan sorts the pool's servers into primaries and backups.
func (g *UpstreamGroup) newPlan(pool reverseproxy.UpstreamPool, start uint64) *upstreamPlan {
	var primaries, backups []groupMember
	for i, upstream := range pool {
		server := g.Servers[upstream.Dial]
		member := groupMember{index: i, weight: max(server.Weight, 1)}
		switch {
		case server.Down:
		case server.Backup:
			backups = append(backups, member)
		default:
			primaries = append(primaries, member)
		}
	}

	plan := &upstreamPlan{pool: pool}
	for _, members := range [][]groupMember{primaries, backups} {
		if len(members) > 0 {
			plan.tiers = append(plan.tiers, balanceMethods[g.Balance](members, start))
		}
	}
	return plan
}

// upstreamPlan is what was worked out for a pool. It knows servers by their
// place in the pool, so it also serves another pool of the same addresses.
type upstreamPlan struct {
	pool  reverseproxy.UpstreamPool
	tiers []groupBalancer // primaries, then backups; none that is empty
}

// fits reports whether the plan is good for the pool.
func (p *upstreamPlan) fits(pool reverseproxy.UpstreamPool) bool {
	if len(pool) != len(p.pool) {
		return false
	}
	// Static upstreams are the same slice at every call. Since p.pool keeps
	// its memory from being used again, the same place is the same pool.
	if &pool[0] == &p.pool[0] {
		return true
	}
	for i, upstream := range pool {
		if upstream.Dial != p.pool[i].Dial {
			return false
		}
	}
	return true
}

// groupMember is one server of a tier.
type groupMember struct {
	index  int // in the pool
	weight int // at least 1
}

// available reports whether the member can take a request now.
func (m groupMember) available(pool reverseproxy.UpstreamPool) bool {
	return pool[m.index].Available()
}

// groupBalancer shares requests among the members of one tier.
// It is used by many requests at once.
type groupBalancer interface {
	// choose returns an available member of the pool, or nil if there is none.
	choose(pool reverseproxy.UpstreamPool, r *http.Request) *reverseproxy.Upstream
}

// defaultBalance is the method of a group that names none.
const defaultBalance = "round_robin"

// balanceMethods has the constructor of each method. The members are never
// empty; start says where in its order the balancer begins.
var balanceMethods = map[string]func(members []groupMember, start uint64) groupBalancer{
	"round_robin": func(members []groupMember, start uint64) groupBalancer {
		return newSmoothRoundRobin(members, start)
	},
}

// balanceMethodNames lists the methods for error messages.
func balanceMethodNames() string {
	return strings.Join(slices.Sorted(maps.Keys(balanceMethods)), ", ")
}

// smoothRoundRobin is nginx's smooth weighted round robin: at each turn every
// available member gains its weight, the first one with the most is chosen
// and pays what all have gained.
//
// While all members are available the order repeats, so one period of it is
// kept as a table, and choosing takes no lock. When some are not available,
// the turns are taken over those that are, under a lock.
type smoothRoundRobin struct {
	members []groupMember

	order  []uint16 // one period, as indexes of members; nil if that is too long
	cursor atomic.Uint64

	mu      sync.Mutex
	current []int // what each member has gained and not paid
}

// Bounds of the table's size and of the work to make it, which the first
// request waits for: some milliseconds.
const (
	maxRoundRobinOrder = 1 << 16
	maxRoundRobinWork  = 1 << 22
)

// newSmoothRoundRobin makes a round robin that begins at the given turn.
func newSmoothRoundRobin(members []groupMember, start uint64) *smoothRoundRobin {
	divisor, period := 0, 0
	for _, m := range members {
		divisor = greatestDivisor(m.weight, divisor)
		period += m.weight
	}
	period /= divisor

	rr := &smoothRoundRobin{members: members, current: make([]int, len(members))}
	if period > maxRoundRobinOrder || period > maxRoundRobinWork/len(members) {
		return rr
	}
	turn := int(start % uint64(period)) //nolint:gosec // below the period
	rr.cursor.Store(uint64(turn))
	rr.order = make([]uint16, period)
	current := make([]int, len(members))
	for i := range rr.order {
		if i == turn {
			copy(rr.current, current)
		}
		rr.order[i] = uint16(takeTurn(members, current, nil)) //nolint:gosec // no more members than turns, so below 1 << 16
	}
	return rr
}

// choose implements groupBalancer.
func (rr *smoothRoundRobin) choose(pool reverseproxy.UpstreamPool, _ *http.Request) *reverseproxy.Upstream {
	if rr.order == nil || !rr.allAvailable(pool) {
		return rr.chooseAmongAvailable(pool)
	}
	turn := (rr.cursor.Add(1) - 1) % uint64(len(rr.order))
	return pool[rr.members[rr.order[turn]].index]
}

// allAvailable reports whether every member can take a request now.
func (rr *smoothRoundRobin) allAvailable(pool reverseproxy.UpstreamPool) bool {
	for _, m := range rr.members {
		if !m.available(pool) {
			return false
		}
	}
	return true
}

// chooseAmongAvailable takes a turn over the members that are available.
func (rr *smoothRoundRobin) chooseAmongAvailable(pool reverseproxy.UpstreamPool) *reverseproxy.Upstream {
	rr.mu.Lock()
	defer rr.mu.Unlock()

	best := takeTurn(rr.members, rr.current, pool)
	if best < 0 {
		return nil
	}
	return pool[rr.members[best].index]
}

// takeTurn takes a turn over the members that are available in the pool, or
// over all of them if pool is nil, and returns the index of the chosen one,
// or -1 if there is none.
func takeTurn(members []groupMember, current []int, pool reverseproxy.UpstreamPool) int {
	best, gained := -1, 0
	for i, m := range members {
		if pool != nil && !m.available(pool) {
			continue
		}
		current[i] += m.weight
		gained += m.weight
		if best < 0 || current[i] > current[best] {
			best = i
		}
	}
	if best >= 0 {
		current[best] -= gained
	}
	return best
}

// greatestDivisor returns the greatest common divisor of a and b.
func greatestDivisor(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Interface guards
var (
	_ caddy.Provisioner     = (*UpstreamGroup)(nil)
	_ caddy.Validator       = (*UpstreamGroup)(nil)
	_ caddyfile.Unmarshaler = (*UpstreamGroup)(nil)
	_ reverseproxy.Selector = (*UpstreamGroup)(nil)
	_ groupBalancer         = (*smoothRoundRobin)(nil)
)
