// Package resolve follows the addresses of a name.
//
// [Follow] looks a name up again and again, until [Name.Close]. It promises:
//   - A lookup that fails, or that finds nothing, never takes addresses away. The
//     addresses that were found last stay. IPv4 and IPv6 are looked up each for itself:
//     if one of them fails, its last addresses stay.
//   - The order in which a name server sends the addresses has no effect: they are
//     sorted, so all processes see the same list.
//   - A name has at most [MaxAddresses] addresses. Of more, the first in the order of
//     [netip.Addr.Compare] are taken, which are the same in all processes.
//   - [Name.Addresses] does not block and does not allocate.
package resolve

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxAddresses is the highest number of addresses of a name.
	MaxAddresses = 64

	// Period is the time between two lookups. Go's resolver does not tell for how
	// long an answer is valid.
	Period = 10 * time.Second

	// Timeout is the longest time that a lookup takes.
	Timeout = 10 * time.Second

	// firstRetry is the time after the first lookup that failed. It doubles up to
	// Period.
	firstRetry = time.Second
)

// ErrNoAddress is reported if a lookup succeeds without an address.
var ErrNoAddress = errors.New("the name has no address")

// Settings say how a name is looked up. Only Lookup is required.
type Settings struct {
	// Lookup returns the addresses of the name in a network: "ip4" or "ip6".
	Lookup func(ctx context.Context, network string) ([]netip.Addr, error)

	// Networks are the networks that are looked up. The default is both.
	Networks []string

	// Changed is called after [Name.Addresses] has changed.
	Changed func()

	// Report is called after each lookup, before Changed.
	Report func(Report)

	// After waits for a duration. The default is time.After.
	After func(time.Duration) <-chan time.Time

	// Random returns a number in [0, 1). The default is rand.Float64.
	Random func() float64
}

// Report is the result of a lookup.
type Report struct {
	Err      error // nil if the lookup has found addresses
	Failures int   // lookups that have failed in a row; before this one, if it has succeeded
	Found    int   // addresses that the lookup has found; more than MaxAddresses are not used
	Used     int   // addresses that are used now
	Changed  bool  // the addresses differ from those before
}

// Name is a name whose addresses are followed. All methods are safe for concurrent use.
type Name struct {
	settings  Settings
	addresses atomic.Pointer[[]netip.Addr]
	err       atomic.Pointer[error] // of the last lookup
	looked    chan struct{}
	cancel    context.CancelFunc
	stopped   chan struct{}

	// Only for the goroutine:
	failures int            // in a row
	parts    [][]netip.Addr // found last, for each network
}

// Follow starts to follow a name.
func Follow(s Settings) *Name {
	if s.After == nil {
		s.After = time.After
	}
	if s.Random == nil {
		s.Random = rand.Float64
	}
	if len(s.Networks) == 0 {
		s.Networks = []string{"ip4", "ip6"}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Name{settings: s, looked: make(chan struct{}), cancel: cancel, stopped: make(chan struct{}), parts: make([][]netip.Addr, len(s.Networks))}
	go n.run(ctx)
	return n
}

// Addresses returns the addresses that were found last, sorted, or none if no lookup has
// found any. The caller must not change them.
func (n *Name) Addresses() []netip.Addr {
	if addresses := n.addresses.Load(); addresses != nil {
		return *addresses
	}
	return nil
}

// Err returns the error of the last lookup, or nil.
func (n *Name) Err() error {
	if err := n.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Looked is closed after the first lookup, whatever its result.
func (n *Name) Looked() <-chan struct{} { return n.looked }

// Close stops the lookups, and waits until a lookup under way has ended. Addresses keeps
// its value.
func (n *Name) Close() {
	n.cancel()
	<-n.stopped
}

// run looks the name up until ctx is done.
func (n *Name) run(ctx context.Context) {
	defer close(n.stopped)
	delay := n.look(ctx)
	close(n.looked)
	for {
		select {
		case <-n.settings.After(delay):
			delay = n.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look looks the name up once. It returns the time until the next lookup.
func (n *Name) look(ctx context.Context) time.Duration {
	found, err := n.lookup(ctx)
	if ctx.Err() != nil {
		return Period // closed; says nothing about the name
	}
	n.err.Store(&err)
	addresses := Unique(slices.Concat(found...))
	report := Report{Failures: n.failures, Found: len(addresses)}
	if len(addresses) == 0 {
		n.failures++
		report.Err, report.Failures = err, n.failures
		report.Used = len(n.Addresses())
		n.report(report)
		return n.spread(min(Period, firstRetry<<min(n.failures-1, 10)))
	}
	n.failures, n.parts = 0, found
	addresses = addresses[:min(len(addresses), MaxAddresses)]
	report.Used, report.Changed = len(addresses), !slices.Equal(addresses, n.Addresses())
	if report.Changed {
		n.addresses.Store(&addresses)
	}
	n.report(report)
	if report.Changed && n.settings.Changed != nil {
		n.settings.Changed()
	}
	return n.spread(Period)
}

// lookup looks the name up in all networks. It returns what is known of each after that:
// nothing at all, and an error, if no network has an address.
func (n *Name) lookup(ctx context.Context) ([][]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	networks := n.settings.Networks
	parts, errs := make([][]netip.Addr, len(networks)), make([]error, len(networks))
	var all sync.WaitGroup
	for i, network := range networks {
		all.Go(func() {
			found, err := n.settings.Lookup(ctx, network)
			if parts[i] = Unique(found); len(parts[i]) > 0 {
				return
			}
			if errs[i] = err; err == nil {
				errs[i] = ErrNoAddress
			}
		})
	}
	all.Wait()
	if !slices.Contains(errs, nil) {
		// One error is enough: the one that says more than that there is no address.
		for _, err := range errs {
			if !isNotFound(err) {
				return nil, err
			}
		}
		return nil, errs[0]
	}
	for i, err := range errs {
		if err != nil && !isNotFound(err) {
			parts[i] = n.parts[i]
		}
	}
	return parts, nil
}

// isNotFound reports whether a lookup has found out that there is no address.
func isNotFound(err error) bool {
	if errors.Is(err, ErrNoAddress) {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	_, ok := errors.AsType[*net.AddrError](err) // the hosts file has addresses of the other network only
	return ok
}

// report reports the result of a lookup.
func (n *Name) report(r Report) {
	if n.settings.Report != nil {
		n.settings.Report(r)
	}
}

// spread returns a duration between 90 and 110 percent of d, so that many processes do
// not ask a name server at the same moment.
func (n *Name) spread(d time.Duration) time.Duration {
	return d*9/10 + time.Duration(n.settings.Random()*float64(d/5))
}

// Unique returns the addresses sorted and without duplicates. An IPv4 address in an IPv6
// address is the IPv4 address. Invalid and unspecified addresses are left out: no server
// has them.
func Unique(addresses []netip.Addr) []netip.Addr {
	unique := make([]netip.Addr, 0, len(addresses))
	for _, a := range addresses {
		if a = a.Unmap(); a.IsValid() && !a.IsUnspecified() {
			unique = append(unique, a)
		}
	}
	slices.SortFunc(unique, netip.Addr.Compare)
	return slices.Compact(unique)
}
