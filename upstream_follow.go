package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// followedGroup makes each address of the names in a group a server of its own. It
// replaces the selection policy of the handler, and passes the current servers to the
// group's policy. The handler itself has no upstreams.
//
// Each server has a reverse_proxy handler that gets no requests. It is how Caddy makes a
// single upstream: with its active health checks, its metrics, and the counters that are
// shared by address. The handlers are made when the addresses have changed, by the next
// request. No handler is ever changed while requests use it. A server whose address
// stays keeps its handler, and so its state.
type followedGroup struct {
	names     *serverNames
	ctx       caddy.Context
	logger    *zap.Logger
	proxy     *reverseproxy.Handler
	group     *UpstreamGroup
	lines     []followedLine
	health    json.RawMessage // the health checks of each server
	setsHost  bool            // a placeholder for the Host field is in use
	isTLS     bool
	resolvers []string
	hosts     sync.Map // host name by the IP address and by address and port, for TLS

	seen atomic.Uint64 // names.changes when the pool was made
	pool atomic.Pointer[followedPool]

	updating sync.Mutex
	held     map[heldKey]*heldServer // with servers that have left, but still have requests
}

// triesPerName is how many addresses of a name a request is tried at by default. No request
// should be tried at 64 servers.
const triesPerName = 8

// followedLine is one of the upstreams in the configuration.
type followedLine struct {
	dial        string
	serverName                // if name is set
	name        *followedName // nil if the address stays as it is
	settings    UpstreamServer
	maxRequests int
}

// followedPool are the servers at one time.
type followedPool struct {
	members    []followedMember
	upstreams  reverseproxy.UpstreamPool
	recoveries []*serverRecovery
	hosts      map[*reverseproxy.Upstream][2]any // host and port, host; for placeholders

	// The plan for these servers only: the same addresses can get other settings, if an
	// address moves from one name to another.
	plan *upstreamPlan
}

// heldKey has what makes a server another one for Caddy.
type heldKey struct {
	dial        string
	host        string
	isName      bool
	maxRequests int
	isAlone     bool // ignores failures
}

// heldServer is a server and its handler.
type heldServer struct {
	handler  *reverseproxy.Handler
	recovery *serverRecovery
	stop     context.CancelFunc // ends the health checks
	hasLeft  bool
}

// start follows the names and makes the first servers.
func (f *followedGroup) start(ctx caddy.Context, proxy *reverseproxy.Handler) error {
	f.ctx, f.logger, f.proxy = ctx, ctx.Logger(), proxy
	f.group = proxy.LoadBalancing.SelectionPolicy.(*UpstreamGroup)
	f.held = make(map[heldKey]*heldServer)
	for i := range f.lines {
		line := &f.lines[i]
		if _, isName := serverNameOf(line.dial); !isName || line.settings.Down {
			continue
		}
		line.serverName, _ = serverNameOf(line.dial)
		name, err := f.names.acquire(line.serverName, f.resolvers)
		if err != nil {
			return fmt.Errorf("upstream %s: %w", line.dial, err)
		}
		line.name = name
	}
	f.raiseRetries()
	f.nameTLSServers() // before health checks use the transport
	f.awaitNames()
	f.updating.Lock()
	defer f.updating.Unlock()
	if err := f.update(); err != nil {
		return err
	}
	proxy.LoadBalancing.SelectionPolicy = f
	return nil
}

// raiseRetries makes room for the addresses of names in the default of the retries.
func (f *followedGroup) raiseRetries() {
	lb := f.proxy.LoadBalancing
	if !f.group.EachOnce || lb.Retries == 0 {
		return
	}
	servers := 0
	for _, line := range f.lines {
		switch {
		case line.settings.Down:
		case line.name != nil:
			servers += triesPerName
		default:
			servers++
		}
	}
	lb.Retries = max(lb.Retries, servers-1)
}

// awaitNames waits until each name was looked up, and warns about those without addresses.
func (f *followedGroup) awaitNames() {
	warned := make(map[string]bool)
	for _, line := range f.lines {
		if line.name == nil {
			continue
		}
		patience := time.NewTimer(time.Until(line.name.deadline))
		select {
		case <-line.name.Looked():
		case <-patience.C:
		case <-f.ctx.Done():
		}
		patience.Stop()
		if len(line.name.Addresses()) == 0 && !warned[line.host] {
			warned[line.host] = true
			err := line.name.Err()
			if err == nil {
				err = errNotResolved
			}
			f.logger.Warn("cannot resolve upstream name; connecting by name until it has an address",
				zap.String("name", line.host), zap.String("error", err.Error()))
		}
	}
}

// Select implements reverseproxy.Selector. It chooses among the current servers.
func (f *followedGroup) Select(_ reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	pool := f.current()
	upstream := f.group.selectBy(pool.plan, pool.upstreams, false, r, w)
	if upstream != nil && f.setsHost {
		if repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); repl != nil {
			host := pool.hosts[upstream]
			repl.Set(configuredHostPort, host[0])
			repl.Set(configuredHost, host[1])
		}
	}
	return upstream
}

// current returns the current servers.
func (f *followedGroup) current() *followedPool {
	if f.names.changes.Load() != f.seen.Load() && f.updating.TryLock() {
		if err := f.update(); err != nil {
			f.logger.Error("cannot use new addresses of upstream names; keeping the previous addresses", zap.Error(err))
		}
		f.updating.Unlock()
	}
	return f.pool.Load()
}

// update makes the servers of the current addresses. The caller holds f.updating.
func (f *followedGroup) update() error {
	if f.held == nil {
		return nil // closed, but requests are still running
	}
	seen := f.names.changes.Load() // before the addresses are read
	members := f.members()
	var before []followedMember
	if old := f.pool.Load(); old != nil {
		before = old.members
	}
	if before == nil || !slices.Equal(members, before) {
		f.warnOfSharedAddresses(members, before)
		pool, err := f.newPool(members)
		if err != nil {
			f.seen.Store(seen)
			return err
		}
		f.pool.Store(pool)
	}
	f.seen.Store(seen)
	f.releaseLeft()
	return nil
}

// newPool makes the pool for the servers. Servers that are in use already stay.
func (f *followedGroup) newPool(members []followedMember) (*followedPool, error) {
	usable := 0 // as groupDefinition.usable
	for _, m := range members {
		if !m.settings.Down && !m.settings.Drain {
			usable++
		}
	}
	stay := make(map[heldKey]bool)
	pool := &followedPool{members: members, hosts: make(map[*reverseproxy.Upstream][2]any)}
	for _, m := range members {
		key := heldKey{dial: m.dial, host: m.host, isName: m.isName, maxRequests: m.maxRequests, isAlone: usable < 2}
		server := f.held[key]
		if server == nil || server.hasLeft {
			fresh, err := f.hold(key)
			if err != nil {
				return nil, fmt.Errorf("upstream %s: %w", m.dial, err)
			}
			if server != nil {
				f.drop(key, server)
			}
			f.held[key], server = fresh, fresh
		}
		stay[key] = true
		upstream := server.handler.Upstreams[0]
		pool.upstreams = append(pool.upstreams, upstream)
		pool.recoveries = append(pool.recoveries, server.recovery)
		pool.hosts[upstream] = [2]any{m.host, hostOf(m.host)}
	}
	for key, server := range f.held {
		if !stay[key] && !server.hasLeft {
			server.hasLeft = true
			server.stop()
		}
	}
	f.plan(pool)
	return pool, nil
}

// plan makes the plan of a pool. As in replan, the first one starts with its first server.
func (f *followedGroup) plan(pool *followedPool) {
	var start uint64
	if f.pool.Load() != nil {
		start = rand.Uint64() //nolint:gosec // needs no secure random number
	}
	pool.plan = f.group.newPlan(pool.upstreams, start, func(i int) (UpstreamServer, *serverRecovery) {
		return pool.members[i].settings, pool.recoveries[i]
	})
}

// hold makes a server.
func (f *followedGroup) hold(key heldKey) (*heldServer, error) {
	f.names.provisioning.Lock()
	defer f.names.provisioning.Unlock()

	health, err := f.healthChecks(key)
	if err != nil {
		return nil, err
	}
	upstream := &reverseproxy.Upstream{Dial: key.dial, MaxRequests: key.maxRequests}
	server := &heldServer{handler: &reverseproxy.Handler{
		Upstreams: reverseproxy.UpstreamPool{upstream}, Transport: f.proxy.Transport, CB: f.proxy.CB, HealthChecks: health,
	}}
	if passive := f.proxy.HealthChecks; key.isAlone && key.maxRequests == 0 && passive != nil && passive.Passive != nil {
		upstream.MaxRequests = passive.Passive.UnhealthyRequestCount
	}
	if f.group.needsState() {
		recovery, _, err := f.group.shared.servers.LoadOrNew(key.dial, func() (caddy.Destructor, error) { return new(serverRecovery), nil })
		if err != nil {
			return nil, err
		}
		server.recovery = recovery.(*serverRecovery)
	}
	ctx := f.ctx
	ctx.Context, server.stop = context.WithCancel(f.ctx.Context)
	f.setHostName(key)
	if err := server.handler.Provision(ctx); err != nil {
		server.stop()
		return nil, errors.Join(err, f.discard(key, server))
	}
	return server, nil
}

// releaseLeft gives up servers that have left, once they have no more requests.
func (f *followedGroup) releaseLeft() {
	for key, server := range f.held {
		if server.hasLeft && server.handler.Upstreams[0].NumRequests() == 0 {
			f.drop(key, server)
		}
	}
	f.forgetHostNames()
}

// drop gives up a server.
func (f *followedGroup) drop(key heldKey, server *heldServer) {
	server.stop()
	if err := f.discard(key, server); err != nil {
		f.logger.Error("cannot release upstream server", zap.String("upstream", key.dial), zap.Error(err))
	}
	delete(f.held, key)
}

// discard releases what Caddy and the group keep for a server.
func (f *followedGroup) discard(key heldKey, server *heldServer) error {
	err := server.handler.Cleanup()
	if server.recovery != nil {
		_, releaseErr := f.group.shared.servers.Delete(key.dial)
		err = errors.Join(err, releaseErr)
	}
	return err
}

// close gives up all servers and names.
func (f *followedGroup) close() error {
	f.updating.Lock()
	defer f.updating.Unlock()
	var errs []error
	for key, server := range f.held {
		server.stop()
		errs = append(errs, f.discard(key, server))
	}
	f.held = nil
	for i := range f.lines {
		if line := &f.lines[i]; line.name != nil {
			errs = append(errs, f.names.release(line.key(f.resolvers)))
			line.name = nil
		}
	}
	return errors.Join(errs...)
}

// Interface guard
var _ reverseproxy.Selector = (*followedGroup)(nil)
