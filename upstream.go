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
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(new(UpstreamGroup))
}

// UpstreamGroup is a selection policy for reverse_proxy that knows weights,
// backup servers and servers that are switched off, shares the requests fairly
// among the servers that are available at the moment, and sends a request that
// is tried again to a server that it was not sent to yet.
//
// In a Caddyfile it is what the `upstream` global option and the `proxy_pass`
// directive become.
type UpstreamGroup struct {
	// How to choose among the available servers:
	//
	// - `round_robin`: in turn, smooth and weighted, so that weights 5, 1 and 1
	//   give the order a a b a c a a;
	// - `least_conn`: the one with the fewest requests at the moment;
	// - `ip_hash`: by the client's address, the one that nginx takes;
	// - `hash`: by `hash_key`, consistently: a server more or less of n moves
	//   about 1/n of the keys;
	// - `random`: the one with fewer requests of two that are drawn.
	//
	// All of them respect the weights. Default: `round_robin`.
	Balance string `json:"balance,omitempty"`

	// What `hash` goes by: a text with placeholders, such as
	// `{http.request.uri}`. Required for `hash`.
	HashKey string `json:"hash_key,omitempty"`

	// How long a server that was unhealthy takes to come back to its whole share
	// of the requests. Not for `hash`, `ip_hash` and `random`. Default: 0, at once.
	SlowStart caddy.Duration `json:"slow_start,omitempty"`

	// Whether a request is sent to each server once at most, however often it may
	// be tried again. Default: false, when all have been tried they are tried again.
	EachOnce bool `json:"each_once,omitempty"`

	// What there is to say about single servers, by their address exactly as
	// it stands in the upstream's `dial`. A server that is not listed here
	// has weight 1 and is neither a backup nor down; with `slow_start`, what is
	// known of it does not outlive a reload. Default: none listed.
	Servers map[string]UpstreamServer `json:"servers,omitempty"`

	states   map[string]*serverState // acquired from the pool
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

// serverStates has what slow_start knows of servers, by address, for all
// configurations: a reload must not bring a server back at once.
var serverStates = caddy.NewUsagePool()

// Provision sets up the policy.
func (g *UpstreamGroup) Provision(_ caddy.Context) error {
	if g.Balance == "" {
		g.Balance = defaultBalance
	}
	if g.SlowStart == 0 {
		return nil
	}
	g.states = make(map[string]*serverState)
	for dial := range g.Servers {
		state, _, err := serverStates.LoadOrNew(dial, func() (caddy.Destructor, error) { return new(serverState), nil })
		if err != nil {
			return err
		}
		g.states[dial] = state.(*serverState)
	}
	return nil
}

// Cleanup lets go of what slow_start knows.
func (g *UpstreamGroup) Cleanup() error {
	var errs []error
	for dial := range g.states {
		_, err := serverStates.Delete(dial)
		errs = append(errs, err)
	}
	g.states = nil
	return errors.Join(errs...)
}

// Validate ensures that the policy's configuration is valid.
func (g *UpstreamGroup) Validate() error {
	_, known := balanceMethods[g.Balance]
	switch {
	case !known:
		return fmt.Errorf("balance: %w", errUnrecognized("method", g.Balance, slices.Sorted(maps.Keys(balanceMethods))))
	case g.Balance == "hash" && g.HashKey == "":
		return errors.New("hash_key: expected a key for balance hash, found none")
	case g.Balance != "hash" && g.HashKey != "":
		return fmt.Errorf("hash_key: expected none for balance %s, found %s", g.Balance, quoted(g.HashKey))
	case g.HashKey != "" && !hasPlaceholder(g.HashKey):
		return fmt.Errorf("hash_key: expected a key with a placeholder such as {http.request.uri}, found %s: by this key all requests would go to one server", quoted(g.HashKey))
	case g.SlowStart < 0:
		return fmt.Errorf("slow_start: expected 0 or more, found %s", time.Duration(g.SlowStart))
	case g.SlowStart > 0 && !slices.Contains(slowStartMethods, g.Balance):
		return fmt.Errorf("slow_start: expected balance %s, found balance %s", strings.Join(slowStartMethods, " or "), g.Balance)
	}
	for _, dial := range slices.Sorted(maps.Keys(g.Servers)) {
		if w := g.Servers[dial].Weight; w < 0 || w > maxServerWeight {
			return fmt.Errorf("server %s: weight: expected 1 to %d, or none for 1, found %d", dial, maxServerWeight, w)
		}
	}
	return nil
}

// slowStartMethods are the methods in which a server can have a part of its
// weight: in the others that would move clients back and forth.
var slowStartMethods = []string{"least_conn", "round_robin"}

// defaultBalance is the method of a group that names none.
const defaultBalance = "round_robin"

// UnmarshalCaddyfile refuses the policy as an lb_policy: weights belong to
// servers, and there is no place for them behind lb_policy.
func (*UpstreamGroup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	return errorContext("").in("lb_policy").unexpected(d.Token(), "policy",
		"define the group with the global option 'upstream <group> { server <address> ... }', and use it with the directive 'proxy_pass <group>'")
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
	if len(pool) == 1 {
		return plan.choose(choice{pool: pool, request: r})
	}
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	c := choice{pool: pool, request: r, tried: tried(vars, r)}
	upstream := plan.choose(c)
	if upstream == nil && c.tried != nil && !g.EachOnce {
		c.tried.servers = c.tried.servers[:0] // once more from the beginning
		upstream = plan.choose(c)
	}
	if vars != nil && upstream != nil {
		vars[lastTriedVar] = upstream
		if c.tried == nil {
			vars[triedForVar] = r
		}
	}
	return upstream
}

// Caddy's retry loop asks for a server again and again with the same request,
// of which each pass through a handler has a copy of its own. What is remembered
// in between stands among its variables: the copy, the last server, and from the
// first retry on all of them.
const (
	triedForVar  = "upstream_group.request"
	lastTriedVar = "upstream_group.last"
	allTriedVar  = "upstream_group.tried"
)

// tried returns the servers that a request was sent to already, nil for none.
func tried(vars map[string]any, r *http.Request) *triedServers {
	if before, _ := vars[triedForVar].(*http.Request); before != r {
		return nil
	}
	t, _ := vars[allTriedVar].(*triedServers)
	if t == nil || t.request != r {
		t = &triedServers{request: r}
		vars[allTriedVar] = t
	}
	if last, _ := vars[lastTriedVar].(*reverseproxy.Upstream); last != nil && !t.has(last) {
		t.servers = append(t.servers, last)
	}
	return t
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
	body := &clientBody{ReadCloser: r.Body, closer: r.Body}
	if u, ok := r.Context().Value(uploadKey{}).(*upload); ok {
		body.closer = u
	}
	r.Body = body
	return true
}

// clientBody is a request body whose errors count as the client's doing.
type clientBody struct {
	io.ReadCloser
	closer io.Closer
	begun  atomic.Bool // the transport reads in a goroutine of its own
}

// Close closes the body if it has been read from; else another server can get
// it. Caddy decides the same by a count that is not safe to read here: HTTP/2
// transports close bodies while they read them.
func (b *clientBody) Close() error {
	if !b.begun.Load() {
		return nil
	}
	return b.closer.Close()
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
		member := groupMember{
			index:  i,
			weight: max(server.Weight, 1),
			down:   server.Down,
			hash:   xxhash.Sum64String(upstream.Dial),
			state:  g.states[upstream.Dial],

			wasAway: new(atomic.Bool),
		}
		if member.state == nil {
			member.state = new(serverState)
		}
		if server.Backup {
			backups = append(backups, member)
		} else {
			primaries = append(primaries, member)
		}
	}

	plan := &upstreamPlan{pool: pool, slowStart: time.Duration(g.SlowStart)}
	for _, members := range [][]groupMember{primaries, backups} {
		if len(members) > 0 {
			plan.tiers = append(plan.tiers, tier{members, balanceMethods[g.Balance](g, members, start)})
		}
	}
	return plan
}

// upstreamPlan is what was worked out for a pool. It knows servers by their
// place in the pool, so it also serves another pool of the same addresses.
type upstreamPlan struct {
	pool      reverseproxy.UpstreamPool
	tiers     []tier // primaries, then backups; none that is empty
	slowStart time.Duration
}

// tier are servers that share the requests while those before can't take any.
type tier struct {
	members []groupMember
	groupBalancer
}

// choose returns a server of the first tier that has one which can take the
// request, or nil.
func (p *upstreamPlan) choose(c choice) *reverseproxy.Upstream {
	for i := range p.tiers {
		if chosen := p.tiers[i].choose(c); chosen >= 0 {
			p.observe(&c, p.tiers[i+1:])
			return c.pool[p.tiers[i].members[chosen].index]
		}
	}
	return nil
}

// observe notes for slow_start how servers are that get no requests now.
func (p *upstreamPlan) observe(c *choice, tiers []tier) {
	if p.slowStart == 0 || len(tiers) == 0 {
		return
	}
	now := time.Now()
	for _, t := range tiers {
		for i := range t.members {
			t.members[i].observe(c, now, p.slowStart)
		}
	}
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

// Interface guards
var (
	_ caddy.Provisioner     = (*UpstreamGroup)(nil)
	_ caddy.Validator       = (*UpstreamGroup)(nil)
	_ caddy.CleanerUpper    = (*UpstreamGroup)(nil)
	_ caddyfile.Unmarshaler = (*UpstreamGroup)(nil)
	_ reverseproxy.Selector = (*UpstreamGroup)(nil)
)
