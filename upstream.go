package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

func init() {
	caddy.RegisterModule(new(UpstreamGroup))
}

// UpstreamGroup is a selection policy for reverse_proxy, with weights, backup servers and
// servers that are down, like nginx's upstream. It distributes requests among the servers
// that are available. A request that is retried goes to a server that it was not sent to
// before, if there is one.
//
// The `upstream` global option and the `proxy_pass` directive of a Caddyfile become this
// policy. It cannot be written after `lb_policy`.
type UpstreamGroup struct {
	// The method that chooses among the available servers:
	//
	// - `round_robin`: in turn, smooth and weighted, so that weights 5, 1 and 1
	//   give the order a a b a c a a;
	// - `least_conn`: the server with the fewest active requests;
	// - `least_time`: the server with the shortest time to the first byte, with regard to
	//   its active requests; only with the handler `proxy_pass`, which measures the times;
	// - `ip_hash`: by the client's address, the same server as nginx chooses;
	// - `hash`: by `hash_key`, with consistent hashing: adding or removing one of n
	//   servers moves about 1/n of the keys;
	// - `random`: two random servers, and of these the one with fewer active requests.
	//
	// All methods respect the weights. Default: `round_robin`.
	Balance string `json:"balance,omitempty"`

	// The key for `hash`: a text with at least one placeholder, such as
	// `{http.request.uri}`. Required for `hash`, not allowed for other methods.
	HashKey string `json:"hash_key,omitempty"`

	// The time in which a server that was unhealthy returns to its full share of the
	// requests. Only for `round_robin`, `least_conn` and `least_time`. Default: 0, which
	// means immediately.
	SlowStart caddy.Duration `json:"slow_start,omitempty"`

	// Whether a request is sent to each server at most once, even if more retries are
	// allowed. Default: false, which tries all servers again once all have been tried. In
	// proxy_pass, true also raises the retries: an upstream with a name counts as eight.
	EachOnce bool `json:"each_once,omitempty"`

	// Per-server settings, by the exact `dial` address of the upstream. A server that is
	// not listed has weight 1, and is neither a backup nor down. With `slow_start` or
	// `least_time`, list every server: the state of the others is lost at a reload.
	// Default: none.
	Servers map[string]UpstreamServer `json:"servers,omitempty"`

	// How the requests of a session reach the same server. Default: none, so that each
	// request is distributed for itself.
	Sticky *Sticky `json:"sticky,omitempty"`

	shared     *shared
	sessions   *stickySessions            // nil without Sticky
	recoveries map[string]*serverRecovery // acquired from shared.servers
	planning   sync.Mutex
	plan       atomic.Pointer[upstreamPlan]
}

// UpstreamServer has the settings of one server in an [UpstreamGroup].
type UpstreamServer struct {
	// The weight of the server, 1 to 65535. Requests are distributed in proportion to the
	// weights. Default: 1.
	Weight int `json:"weight,omitempty"`

	// Whether the server gets requests only while no other server is available. Backup
	// servers share these requests by their weights. Default: false.
	Backup bool `json:"backup,omitempty"`

	// Whether the server is marked as down and gets no requests. Default: false.
	Down bool `json:"down,omitempty"`

	// Whether the server gets only requests of sessions that are stuck to it. Not
	// allowed together with `down`. Default: false.
	Drain bool `json:"drain,omitempty"`

	// The name of the server for `sticky`, 1 to 32 characters. Default: none. The cookie
	// then has a digest of the server's address.
	Route string `json:"route,omitempty"`
}

// maxServerWeight is the maximum weight of a server, as in nginx.
const maxServerWeight = 65535

// CaddyModule returns the Caddy module information.
func (*UpstreamGroup) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.upstream_group",
		New: func() caddy.Module { return new(UpstreamGroup) },
	}
}

// serverRecovery is the state of a server for slow_start and least_time. All
// configurations share it, because a reload must not bring a server back immediately, nor
// forget which servers are slow.
type serverRecovery struct {
	balance.Recovery
	time balance.ResponseTime
}

// Destruct implements caddy.Destructor.
func (*serverRecovery) Destruct() error { return nil }

// Provision sets up the policy.
func (g *UpstreamGroup) Provision(ctx caddy.Context) error {
	if g.Balance == "" {
		g.Balance = defaultBalance
	}
	g.shared = g.shared.orProcess()
	if err := g.provisionSticky(ctx); err != nil {
		return err
	}
	if !g.needsState() {
		return nil
	}
	g.recoveries = make(map[string]*serverRecovery)
	for dial := range g.Servers {
		recovery, _, err := g.shared.servers.LoadOrNew(dial, func() (caddy.Destructor, error) { return new(serverRecovery), nil })
		if err != nil {
			return err
		}
		g.recoveries[dial] = recovery.(*serverRecovery)
	}
	return nil
}

// needsState reports whether the group keeps a state of its servers.
func (g *UpstreamGroup) needsState() bool { return g.SlowStart != 0 || g.measuresTime() }

// Cleanup releases the state of the servers.
func (g *UpstreamGroup) Cleanup() error {
	var errs []error
	for dial := range g.recoveries {
		_, err := g.shared.servers.Delete(dial)
		errs = append(errs, err)
	}
	g.recoveries = nil
	return errors.Join(errs...)
}

// Validate ensures that the policy's configuration is valid.
func (g *UpstreamGroup) Validate() error {
	method := balance.Method(g.Balance)
	switch {
	case !method.IsKnown():
		return fmt.Errorf("balance: %w", errUnrecognized("method", g.Balance, methodNames(balance.Methods())))
	case method == balance.MethodHash && g.HashKey == "":
		return errors.New("hash_key: expected a key for balance hash, found none")
	case method != balance.MethodHash && g.HashKey != "":
		return fmt.Errorf("hash_key: expected none for balance %s, found %s", g.Balance, quoted(g.HashKey))
	case g.HashKey != "" && !hasPlaceholder(g.HashKey):
		return fmt.Errorf("hash_key: expected a key with a placeholder such as {http.request.uri}, found %s, which would send all requests to one server", quoted(g.HashKey))
	case g.SlowStart < 0:
		return fmt.Errorf("slow_start: expected 0 or more, found %s", time.Duration(g.SlowStart))
	case g.SlowStart > 0 && !method.HasSlowStart():
		return fmt.Errorf("slow_start: expected balance %s, found balance %s", slowStartMethodNames(), g.Balance)
	}
	for _, dial := range slices.Sorted(maps.Keys(g.Servers)) {
		server := g.Servers[dial]
		if w := server.Weight; w < 0 || w > maxServerWeight {
			return fmt.Errorf("server %s: weight: expected 1 to %d, found %d", dial, maxServerWeight, w)
		}
		if server.Drain && server.Down {
			return fmt.Errorf("server %s: expected either drain or down, found both", dial)
		}
		if server.Route != "" {
			if err := checkRoute(server.Route); err != nil {
				return fmt.Errorf("server %s: route: %w", dial, err)
			}
		}
	}
	if err := g.Sticky.validate(g.Servers); err != nil {
		return fmt.Errorf("sticky: %w", err)
	}
	return nil
}

// defaultBalance is the default method of a group.
const defaultBalance = string(balance.MethodRoundRobin)

// methodNames returns the names of methods, for error messages.
func methodNames(methods []balance.Method) []string {
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = string(m)
	}
	return names
}

// balanceMethodNames lists the methods in the syntax of a Caddyfile, for error messages.
func balanceMethodNames() string {
	methods := balance.Methods()
	methods[slices.Index(methods, balance.MethodHash)] += " <key>"
	return strings.Join(methodNames(methods), ", ")
}

// slowStartMethodNames lists the methods that support slow_start.
func slowStartMethodNames() string {
	methods := slices.DeleteFunc(balance.Methods(), func(m balance.Method) bool { return !m.HasSlowStart() })
	names := methodNames(methods)
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// UnmarshalCaddyfile refuses the policy after lb_policy, where the servers could have no
// weights.
func (*UpstreamGroup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	return errorContext("").in("lb_policy").unexpected(d.Token(), "policy",
		"define the group with the global option 'upstream <group> { server <address> ... }', and use it with the directive 'proxy_pass <group>'")
}

// markClientBody marks errors of reading the request body as caused by the client. Caddy
// would take them for failures of the server. With passive health checks, which groups
// have by default, a client could then take all servers out by aborting uploads.
// markClientBody returns false if the body has already been read from. A buffered body is
// a new one for each attempt.
func markClientBody(r *http.Request) bool {
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	if body, marked := r.Body.(*clientBody); marked {
		return !body.begun.Load()
	}
	body := &clientBody{ReadCloser: r.Body, closer: r.Body}
	if u, ok := r.Context().Value(uploadKey{}).(io.Closer); ok {
		body.closer = u
	}
	r.Body = body
	return true
}

// uploadKey is the context key of a request's upload.
type uploadKey struct{}

// clientBody is a request body whose errors count as caused by the client.
type clientBody struct {
	io.ReadCloser
	closer io.Closer
	begun  atomic.Bool // atomic, because the transport reads in its own goroutine
}

// Close closes the body if it has been read from. Otherwise another server can still get
// it. Caddy decides this with a counter that is not safe to read here, because HTTP/2
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
		err = fmt.Errorf("%w: reading the request body: %w", context.Canceled, err)
	}
	return n, err
}

// Interface guards
var (
	_ caddy.Provisioner     = (*UpstreamGroup)(nil)
	_ caddy.Validator       = (*UpstreamGroup)(nil)
	_ caddy.CleanerUpper    = (*UpstreamGroup)(nil)
	_ caddyfile.Unmarshaler = (*UpstreamGroup)(nil)
	_ reverseproxy.Selector = (*UpstreamGroup)(nil)
	_ caddy.Destructor      = (*serverRecovery)(nil)
)
