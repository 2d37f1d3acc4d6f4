package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/resolve"
)

// serverName is the address of an upstream server that has a name for a host.
type serverName struct {
	network string // as in the address, such as tcp4; "" means tcp
	host    string
	port    string
}

// serverNameOf returns the name in an address that reverse_proxy dials, if its addresses
// can be followed. IP addresses, sockets and placeholders stay as they are. So does
// localhost: its addresses are those of one server, and often only one of them works.
func serverNameOf(dial string) (serverName, bool) {
	if strings.Contains(dial, "{") {
		return serverName{}, false
	}
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil || address.PortRangeSize() != 1 {
		return serverName{}, false
	}
	n := serverName{network: address.Network, host: address.Host, port: strconv.FormatUint(uint64(address.StartPort), 10)}
	switch n.network {
	case "tcp":
		n.network = ""
	case "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return serverName{}, false
	}
	if _, err := netip.ParseAddr(n.host); err == nil {
		return serverName{}, false
	}
	switch host := strings.ToLower(strings.TrimSuffix(n.host, ".")); {
	case host == "", host == "localhost", strings.HasSuffix(host, ".localhost"):
		return serverName{}, false
	}
	return n, true
}

// networks returns the networks to look up.
func (n serverName) networks() []string {
	switch {
	case strings.HasSuffix(n.network, "4"):
		return []string{"ip4"}
	case strings.HasSuffix(n.network, "6"):
		return []string{"ip6"}
	}
	return []string{"ip4", "ip6"}
}

// dial returns the address to dial for one of the IP addresses of the name.
func (n serverName) dial(ip netip.Addr) string {
	address := net.JoinHostPort(ip.String(), n.port)
	if strings.HasPrefix(n.network, "udp") {
		return "udp/" + address
	}
	return address
}

// hostPort returns the host and port of an address to dial.
func hostPort(dial string) string {
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return dial
	}
	return address.JoinHostPort(0)
}

// serverNames are the names of upstream servers that are followed. All configurations
// share them, so a reload keeps the addresses.
type serverNames struct {
	inUse   *caddy.UsagePool // *followedName by its key
	changes atomic.Uint64    // counts changes of the addresses of any name

	// provisioning is held while a group makes servers: each handler of Caddy sets the
	// same logger of its metrics, without a lock. A reload sets it too; Caddy uses it only
	// after a panic.
	provisioning sync.Mutex

	// Only tests set these.
	lookup lookupFunc
	after  func(time.Duration) <-chan time.Time
	getenv func(string) string
}

// lookupFunc looks up the addresses of a host. Without resolvers, it asks the system.
type lookupFunc func(ctx context.Context, resolvers []caddy.NetworkAddress, network, host string) ([]netip.Addr, error)

func newServerNames() *serverNames {
	return &serverNames{inUse: caddy.NewUsagePool(), lookup: lookupHost, getenv: os.Getenv}
}

// firstLookupTime is the longest time that loading a configuration waits for the
// addresses of a name. All groups with the name share it.
const firstLookupTime = 3 * time.Second

// followedName is a name in serverNames. It implements caddy.Destructor.
type followedName struct {
	*resolve.Name
	deadline time.Time // for the first lookup
}

// Destruct ends the lookups.
func (n *followedName) Destruct() error {
	n.Close()
	return nil
}

// key returns the key of a name in serverNames. Ports share the lookups.
func (n serverName) key(resolvers []string) string {
	return strings.Join(append([]string{n.host, strings.Join(n.networks(), "")}, resolvers...), " ")
}

// acquire follows a name until release is called with its key.
func (s *serverNames) acquire(n serverName, resolvers []string) (*followedName, error) {
	servers := make([]caddy.NetworkAddress, 0, len(resolvers))
	for _, text := range resolvers {
		address, err := caddy.ParseNetworkAddressWithDefaults(text, "udp", 53)
		if err != nil {
			return nil, fmt.Errorf("resolver: %w", err)
		}
		servers = append(servers, address)
	}
	name, _, err := s.inUse.LoadOrNew(n.key(resolvers), func() (caddy.Destructor, error) {
		return &followedName{deadline: time.Now().Add(firstLookupTime), Name: resolve.Follow(resolve.Settings{
			Networks: n.networks(),
			Lookup: func(ctx context.Context, network string) ([]netip.Addr, error) {
				return s.lookup(ctx, servers, network, n.host)
			},
			Changed: func() { s.changes.Add(1) },
			Report:  func(r resolve.Report) { reportLookup(n.host, r) },
			After:   s.after,
		})}, nil
	})
	if err != nil {
		return nil, err
	}
	return name.(*followedName), nil
}

// release undoes acquire.
func (s *serverNames) release(key string) error {
	_, err := s.inUse.Delete(key)
	return err
}

// reportLookup logs what operators should know about a lookup. The log is that of the
// active configuration, because the name may outlive the one that began to follow it.
func reportLookup(host string, r resolve.Report) {
	logger := caddy.Log().Named("upstream_names").With(zap.String("name", host))
	switch {
	case r.Err != nil && r.Failures == 1 && r.Used > 0:
		logger.Warn("cannot resolve upstream name; keeping the previous addresses", zap.String("error", r.Err.Error()), zap.Int("addresses", r.Used))
	case r.Err != nil:
	case r.Failures > 0:
		logger.Info("upstream name resolved again after earlier errors", zap.Int("addresses", r.Used))
	case r.Changed:
		logger.Info("addresses of upstream name changed", zap.Int("addresses", r.Used))
	}
	if r.Changed && r.Found > r.Used {
		logger.Warn("upstream name has too many addresses; only the first are used", zap.Int("found", r.Found), zap.Int("addresses", r.Used))
	}
}

// usesProxy reports whether the environment has an HTTP proxy. Go decides by the host
// whether to use it, and a proxy looks names up itself. So names must not be replaced by
// their addresses.
func (s *serverNames) usesProxy() bool {
	return slices.ContainsFunc([]string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}, func(name string) bool { return s.getenv(name) != "" })
}

// lookupHost is the lookupFunc of the process.
func lookupHost(ctx context.Context, resolvers []caddy.NetworkAddress, network, host string) ([]netip.Addr, error) {
	if len(resolvers) == 0 {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	resolver := &net.Resolver{
		PreferGo: true, // the other resolver ignores Dial
		Dial: func(ctx context.Context, transport, _ string) (net.Conn, error) {
			server := resolvers[rand.IntN(len(resolvers))] //nolint:gosec // needs no secure random number
			if server.Network == "udp" && strings.HasPrefix(transport, "tcp") {
				server.Network = "tcp" // for an answer that does not fit into a datagram
			}
			return new(net.Dialer).DialContext(ctx, server.Network, server.JoinHostPort(0))
		},
	}
	return resolver.LookupNetIP(ctx, network, host)
}

// errNotResolved is the reason if the first lookup takes too long.
var errNotResolved = errors.New("the lookup takes longer than " + firstLookupTime.String())

// Interface guard
var _ caddy.Destructor = (*followedName)(nil)
