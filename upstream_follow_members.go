package caddyhtpasswd

import (
	"net/netip"
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// followedMember is one server.
type followedMember struct {
	dial        string
	host        string // host and port in the configuration
	isName      bool   // the host is a name
	settings    UpstreamServer
	maxRequests int
	otherHost   string // of a line with the same address, if it differs; "" for none
}

// members returns the servers for the current addresses. A name without an address is
// dialed by name.
func (f *followedGroup) members() []followedMember {
	var members []followedMember
	index := make(map[string]int)
	add := func(line *followedLine, dial string) {
		m := followedMember{dial: dial, host: hostPort(line.dial), isName: line.name != nil, settings: line.settings, maxRequests: line.maxRequests}
		key := canonicalDial(dial)
		if i, known := index[key]; known {
			members[i] = merged(members[i], m)
			return
		}
		index[key] = len(members)
		members = append(members, m)
	}
	for i := range f.lines {
		line := &f.lines[i]
		var addresses []netip.Addr
		if line.name != nil {
			addresses = line.name.Addresses()
		}
		if len(addresses) == 0 {
			add(line, line.dial)
			continue
		}
		for _, ip := range addresses {
			add(line, line.serverName.dial(ip))
		}
	}
	return members
}

// warnOfSharedAddresses logs the servers that were not in a pool before and have the
// address of another server with TLS, which then has only one of the two names.
func (f *followedGroup) warnOfSharedAddresses(members, before []followedMember) {
	for _, m := range members {
		if f.isTLS && m.otherHost != "" && !slices.Contains(before, m) {
			f.logger.Warn("two upstream servers have the same address; it is used with one of their names",
				zap.String("address", m.dial), zap.Strings("servers", []string{m.host, m.otherHost}))
		}
	}
}

// canonicalDial returns the same text for the same IP address and port.
func canonicalDial(dial string) string {
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return dial
	}
	ip, err := netip.ParseAddr(address.Host)
	if err != nil || address.PortRangeSize() != 1 {
		return dial
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(address.StartPort)).String() //nolint:gosec // it is a port
}

// merged returns the server for an address that two lines have: their weights and limits
// add up. A line that is down, drains or is a backup gives way to one that is not.
func merged(a, b followedMember) followedMember {
	if rank(b) < rank(a) {
		a, b = b, a
	}
	if b.host != a.host {
		a.otherHost = b.host
	}
	if rank(a) != rank(b) {
		return a
	}
	a.settings.Weight = min(max(a.settings.Weight, 1)+max(b.settings.Weight, 1), maxServerWeight)
	if a.maxRequests == 0 || b.maxRequests == 0 {
		a.maxRequests = 0
	} else {
		a.maxRequests += b.maxRequests
	}
	return a
}

// rank is lower for servers that get requests sooner.
func rank(m followedMember) int {
	switch {
	case m.settings.Down:
		return 3
	case m.settings.Drain:
		return 2
	case m.settings.Backup:
		return 1
	}
	return 0
}
