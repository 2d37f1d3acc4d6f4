package caddyhtpasswd

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// Select returns the server for the request, or nil if no server is available.
func (g *UpstreamGroup) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	if len(pool) == 0 {
		return nil
	}
	plan := g.plan.Load()
	if plan == nil || !plan.fits(pool) {
		plan = g.replan(pool)
	}
	return g.selectBy(plan, pool, len(pool) == 1, r, w)
}

// selectBy returns the server for the request by a plan that fits the pool, or nil. isOnly
// tells that a retry has the same single server.
func (g *UpstreamGroup) selectBy(plan *upstreamPlan, pool reverseproxy.UpstreamPool, isOnly bool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	if !markClientBody(r) {
		return nil // the body cannot be sent again, so the error of the first server is final
	}
	request := balance.Request{Servers: plan.serversOf(pool)}
	if plan.keyOf != nil {
		request.Key = plan.keyOf(r)
	}
	if g.SlowStart > 0 {
		request.Now = time.Now().UnixNano()
	}
	var timed *timedWriter
	if plan.times != nil {
		request.Now, timed = g.newAttempt(w)
	}
	if isOnly {
		index := g.choose(plan, request, r)
		timed.begin(plan.times, index, r)
		return chosenOf(pool, index)
	}
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	state := stateOf(vars)
	if state != nil && state.request == r {
		request.Tried = state.triedFor(r)
	}
	index := g.choose(plan, request, r)
	timed.begin(plan.times, index, r)
	upstream := chosenOf(pool, index)
	if state != nil && upstream != nil {
		state.request, state.last = r, upstream
	}
	return upstream
}

// choose returns the index of the server, or -1.
func (g *UpstreamGroup) choose(plan *upstreamPlan, request balance.Request, r *http.Request) int {
	if g.sessions != nil {
		return g.sessions.choose(plan, request, r)
	}
	return plan.group.Choose(request)
}

// chosenOf returns the upstream at an index, or nil for -1.
func chosenOf(pool reverseproxy.UpstreamPool, index int) *reverseproxy.Upstream {
	if index < 0 {
		return nil
	}
	return pool[index]
}

// groupStateVar is the variable of a request that has its groupState.
const groupStateVar = "upstream_group"

// groupState is what groups keep of a request. In Caddy's retry loop, Select is called
// with the same request again. Each time that a request goes through a handler, it is
// another copy.
//
// The variables of a request are a map, which Caddy's transport reads while it dials, even
// after the request has got another connection. So they are written once, before the first
// attempt. Later only the fields change, which the transport does not read.
type groupState struct {
	request *http.Request          // the copy of the last attempt
	last    *reverseproxy.Upstream // of the last attempt
	tried   *triedServers          // from the first retry on
	answer  *stickyAnswer          // of the proxy_pass that handles the request; nil for none
}

// stateOf returns the state of a request, by its variables. It returns nil without
// variables.
func stateOf(vars map[string]any) *groupState {
	state, _ := vars[groupStateVar].(*groupState)
	if state == nil && vars != nil {
		state = new(groupState)
		vars[groupStateVar] = state
	}
	return state
}

// triedServers are the servers to which a request was already sent.
type triedServers struct {
	request *http.Request
	balance.Tried
}

// triedFor returns the servers to which a request was sent before this retry.
func (s *groupState) triedFor(r *http.Request) *balance.Tried {
	if s.tried == nil || s.tried.request != r {
		s.tried = &triedServers{request: r}
	}
	if s.last != nil {
		s.tried.Add(s.last.Dial)
	}
	return &s.tried.Tried
}

// replan makes and stores the plan for the pool.
func (g *UpstreamGroup) replan(pool reverseproxy.UpstreamPool) *upstreamPlan {
	g.planning.Lock()
	defer g.planning.Unlock()

	old := g.plan.Load()
	if old != nil && old.fits(pool) {
		return old
	}
	// The first pool starts with its first server, so that the order is known. A pool
	// that has changed starts at a random server: if the pool changed with every
	// request, its first server would get all requests.
	var start uint64
	if old != nil {
		start = rand.Uint64() //nolint:gosec // needs no secure random number
	}
	plan := g.newPlan(pool, start, func(i int) (UpstreamServer, *serverRecovery) {
		return g.Servers[pool[i].Dial], g.recoveries[pool[i].Dial]
	})
	g.plan.Store(plan)
	return plan
}

// newPlan makes a group of the pool's servers. settingsOf returns the settings of a server,
// and its state or nil.
func (g *UpstreamGroup) newPlan(pool reverseproxy.UpstreamPool, start uint64, settingsOf func(i int) (UpstreamServer, *serverRecovery)) *upstreamPlan {
	members, routes := make([]balance.Member, len(pool)), make([]string, len(pool))
	for i, upstream := range pool {
		server, known := settingsOf(i)
		members[i] = balance.Member{Address: upstream.Dial, Weight: server.Weight, Backup: server.Backup, Down: server.Down, Drain: server.Drain}
		routes[i] = server.Route
		if known != nil {
			members[i].Recovery, members[i].Time = &known.Recovery, &known.time
		}
	}
	times := g.newTimes(members)
	plan := &upstreamPlan{pool: pool, routes: routes, servers: balanceServers(pool), times: times, group: balance.New(balance.Settings{
		Method:    balance.Method(g.Balance),
		SlowStart: time.Duration(g.SlowStart),
		EachOnce:  g.EachOnce,
		Start:     start,
	}, members)}
	switch balance.Method(g.Balance) {
	case balance.MethodIPHash:
		plan.keyOf = func(r *http.Request) string { return clientIP(r.Context()) }
	case balance.MethodHash:
		plan.keyOf = newHashKey(g.HashKey).of
	}
	return plan
}

// upstreamPlan is what has been computed for a pool. It refers to servers by their index
// in the pool, so it also fits another pool with the same addresses.
type upstreamPlan struct {
	pool    reverseproxy.UpstreamPool
	servers []balance.Server // of pool
	group   *balance.Group
	times   []*balance.ResponseTime    // of pool; nil unless the group measures them
	keyOf   func(*http.Request) string // returns the hash key of a request; nil for methods without one

	routes []string                  // of the servers; "" for none
	ids    atomic.Pointer[stickyIDs] // computed when they are used
}

// serversOf returns the servers of a pool that the plan fits.
func (p *upstreamPlan) serversOf(pool reverseproxy.UpstreamPool) []balance.Server {
	if &pool[0] == &p.pool[0] {
		return p.servers // always for static upstreams, which saves them an allocation
	}
	return balanceServers(pool)
}

// balanceServers returns the servers of a pool as package balance needs them.
func balanceServers(pool reverseproxy.UpstreamPool) []balance.Server {
	servers := make([]balance.Server, len(pool))
	for i, upstream := range pool {
		servers[i] = upstream
	}
	return servers
}

// fits reports whether the plan can be used for the pool.
func (p *upstreamPlan) fits(pool reverseproxy.UpstreamPool) bool {
	if len(pool) != len(p.pool) {
		return false
	}
	// Static upstreams are the same slice in every call. p.pool keeps its memory from
	// being reused, so the same address is the same pool.
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

// hashKey is the key of a hash, with placeholders.
type hashKey struct {
	text        string
	placeholder string // the name, if text is a single placeholder
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

// hasPlaceholder reports whether a key contains a placeholder.
func hasPlaceholder(key string) bool {
	_, rest, open := strings.Cut(key, "{")
	return open && strings.IndexByte(rest, '}') > 0
}

// Interface guard
var _ balance.Server = (*reverseproxy.Upstream)(nil)
