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

	// Settings of single servers, by the address exactly as in the upstream's
	// `dial`. A server that is not listed here has weight 1, and is neither a
	// backup nor down; with `slow_start`, its state does not outlive a reload.
	// Default: none listed.
	Servers map[string]UpstreamServer `json:"servers,omitempty"`

	shared     *shared
	recoveries map[string]*serverRecovery // acquired from shared.servers
	planning   sync.Mutex
	plan       atomic.Pointer[upstreamPlan]
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

// serverRecovery is what slow_start knows of a server. All configurations share
// it: a reload must not bring a server back at once.
type serverRecovery struct{ balance.Recovery }

// Destruct implements caddy.Destructor.
func (*serverRecovery) Destruct() error { return nil }

// Provision sets up the policy.
func (g *UpstreamGroup) Provision(_ caddy.Context) error {
	if g.Balance == "" {
		g.Balance = defaultBalance
	}
	if g.SlowStart == 0 {
		return nil
	}
	g.shared = g.shared.orProcess()
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

// Cleanup releases what slow_start knows of the servers.
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
		return fmt.Errorf("hash_key: expected a key with a placeholder such as {http.request.uri}, found %s: by this key all requests would go to one server", quoted(g.HashKey))
	case g.SlowStart < 0:
		return fmt.Errorf("slow_start: expected 0 or more, found %s", time.Duration(g.SlowStart))
	case g.SlowStart > 0 && !method.HasSlowStart():
		return fmt.Errorf("slow_start: expected balance %s, found balance %s", slowStartMethodNames(), g.Balance)
	}
	for _, dial := range slices.Sorted(maps.Keys(g.Servers)) {
		if w := g.Servers[dial].Weight; w < 0 || w > maxServerWeight {
			return fmt.Errorf("server %s: weight: expected 1 to %d, or none for 1, found %d", dial, maxServerWeight, w)
		}
	}
	return nil
}

// defaultBalance is the method of a group that names none.
const defaultBalance = string(balance.MethodRoundRobin)

// methodNames returns the names of methods, for error messages.
func methodNames(methods []balance.Method) []string {
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = string(m)
	}
	return names
}

// balanceMethodNames lists the methods as a Caddyfile has them, for error messages.
func balanceMethodNames() string {
	methods := balance.Methods()
	methods[slices.Index(methods, balance.MethodHash)] += " <key>"
	return strings.Join(methodNames(methods), ", ")
}

// slowStartMethodNames lists the methods that slow_start is for.
func slowStartMethodNames() string {
	methods := slices.DeleteFunc(balance.Methods(), func(m balance.Method) bool { return !m.HasSlowStart() })
	return strings.Join(methodNames(methods), " or ")
}

// UnmarshalCaddyfile refuses the policy as an lb_policy: weights belong to
// servers, and there is no place for them behind lb_policy.
func (*UpstreamGroup) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	return errorContext("").in("lb_policy").unexpected(d.Token(), "policy",
		"define the group with the global option 'upstream <group> { server <address> ... }', and use it with the directive 'proxy_pass <group>'")
}

// markClientBody marks the errors of reading the request's body, which Caddy would
// take for failures of the server. With passive health checks, which groups have by
// default, any client could take all servers out by breaking off uploads. It returns
// false for a body that has been read from already. A buffered body is a new one at
// each attempt.
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

// Interface guards
var (
	_ caddy.Provisioner     = (*UpstreamGroup)(nil)
	_ caddy.Validator       = (*UpstreamGroup)(nil)
	_ caddy.CleanerUpper    = (*UpstreamGroup)(nil)
	_ caddyfile.Unmarshaler = (*UpstreamGroup)(nil)
	_ reverseproxy.Selector = (*UpstreamGroup)(nil)
	_ caddy.Destructor      = (*serverRecovery)(nil)
)
