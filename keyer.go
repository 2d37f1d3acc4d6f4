package caddyhtpasswd

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/siphash"
)

// keyer makes the keys under which failed logins are counted: keyed hashes of a client, a
// user name, or a device cookie. There are two kinds:
//
//   - The local keyer of a guard, which is used without a fleet. Its hash is the fast one
//     of this process, and files are told apart by their paths.
//   - The shared keyer of a fleet, whose keys are the same on all servers with the secret.
//     Files are told apart by their configured names, as for decoys, since servers can have
//     a file at different paths.
//
// A keyer belongs to the settings. A reload that begins or ends the use of a fleet changes
// all keys: all limits begin anew, and no client is recognized any more. Keys of two keyers
// are never compared, so an attempt uses one keyer to its end.
type keyer struct {
	seed   maphash.Seed
	shared *siphash.Key // nil for the local keyer
	marks  *siphash.Key // of the marks of recognized clients; nil for the local keyer
}

func newLocalKeyer() *keyer { return &keyer{seed: maphash.MakeSeed()} }

// newSharedKeyer returns the keyer of a fleet, for its keys of counters and of marks:
// keyring.Keys.FleetCounters and FleetMarks. It returns the same keyer for the same keys, so
// that limits and recognized clients outlive reloads.
func newSharedKeyer(counters, marks []byte) *keyer {
	id := [2][siphash.KeyLen]byte{[siphash.KeyLen]byte(counters), [siphash.KeyLen]byte(marks)}
	sharedKeyers.mu.Lock()
	defer sharedKeyers.mu.Unlock()
	k := sharedKeyers.byKeys[id]
	if k == nil {
		k = &keyer{shared: siphash.NewKey(id[0]), marks: siphash.NewKey(id[1])}
		sharedKeyers.byKeys[id] = k
	}
	return k
}

// sharedKeyers has the shared keyers of this process: one for each secret that it has had.
var sharedKeyers = struct {
	mu     sync.Mutex
	byKeys map[[2][siphash.KeyLen]byte]*keyer
}{byKeys: make(map[[2][siphash.KeyLen]byte]*keyer)}

// isShared reports whether the keys are the same on all servers of a fleet.
func (k *keyer) isShared() bool { return k.shared != nil }

func (k *keyer) sum(b []byte) uint64 {
	if k.shared != nil {
		return k.shared.Sum(b)
	}
	return maphash.Bytes(k.seed, b)
}

func (k *keyer) sumString(s string) uint64 {
	if k.shared != nil {
		return k.shared.SumString(s)
	}
	return maphash.String(k.seed, s)
}

// noClient is the key of clients without an address, behind a unix socket.
const noClient = 0

// client returns the key of the client with an IP address, which is written as
// netip.Addr writes it. An IPv6 /64 is one client, because it belongs to one customer.
func (k *keyer) client(ip string) uint64 {
	if isIPv4(ip) { // the usual case, which saves the parsing
		if k.shared == nil {
			return max(maphash.String(k.seed, ip), noClient+1)
		}
		return max(k.shared.SumString(ip), noClient+1)
	}
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return noClient
	}
	if address.Is4In6() {
		return k.client(address.Unmap().String())
	}
	bytes := address.As16()
	return max(k.sum(bytes[:8]), noClient+1)
}

// isIPv4 reports whether a client_ip of Caddy is an IPv4 address. Others are IPv6
// addresses, and texts that stand for no address.
func isIPv4(ip string) bool {
	return ip != "" && '0' <= ip[0] && ip[0] <= '9' && strings.IndexByte(ip, ':') < 0
}

// device returns the key of the limits of a device token.
func (k *keyer) device(nonce *devicecookie.Nonce) uint64 { return max(k.sum(nonce[:]), 1) }
