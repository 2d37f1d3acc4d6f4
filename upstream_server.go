package caddyhtpasswd

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// groupServer is one `server` line.
type groupServer struct {
	UpstreamServer
	address  caddyfile.Token
	dials    []string // more than one for a port range
	maxConns int
	marks    []string // the parameters that add up to nothing, such as backup; sorted
}

// maxServerConns is the maximum of max_conns. A number much higher is not preserved when
// Caddy adapts a Caddyfile.
const maxServerConns = math.MaxInt32

// serverParameters is the syntax of the parameters after a server's address.
const serverParameters = "[weight=<n>] [max_conns=<n>] [backup] [down | drain] [route=<name>] [resolve]"

// parseGroupServer parses the arguments of a `server` line.
func parseGroupServer(c errorContext, name caddyfile.Token, args caddyfile.Segment) (*groupServer, error) {
	address := args[0]
	if address.Text == "{" || strings.HasPrefix(address.Text, "weight=") || strings.HasPrefix(address.Text, "max_conns=") {
		return nil, c.in("server").expected(address, "an address", quoted(address.Text), "write 'server <address> "+serverParameters+"'")
	}
	if path, ok := strings.CutPrefix(address.Text, "unix:"); ok {
		return nil, c.in("server").expected(address, "an address", quoted(address.Text), "write the unix socket as 'unix/"+path+"'")
	}
	if err := checkAddress(c, address); err != nil {
		return nil, err
	}
	c = c.in("server " + address.Text)
	dials, err := dialAddresses(name, address)
	if err != nil {
		return nil, fmt.Errorf("%s%w", string(c), err)
	}

	server := &groupServer{address: address, dials: dials}
	given := make(map[string]caddyfile.Token)
	for _, param := range args[1:] {
		name, value, hasValue := strings.Cut(param.Text, "=")
		if first, ok := given[name]; ok {
			return nil, c.duplicate(param, "parameter", name, first)
		}
		given[name] = param
		if err := server.setParameter(c, param, name, value, hasValue); err != nil {
			return nil, err
		}
		if !slices.Contains(addedParameters, name) && name != "resolve" {
			server.marks = append(server.marks, param.Text)
		}
	}
	slices.Sort(server.marks)
	if server.Down && server.Drain {
		return nil, c.expected(given["drain"], "either 'down' or 'drain'", "both", "'drain' lets requests that are stuck to the server through")
	}
	return server, nil
}

// checkAddress refuses parts of a URL that a server's address cannot have, and addresses
// that a client could choose.
func checkAddress(c errorContext, address caddyfile.Token) error {
	scheme, rest, hasScheme := strings.Cut(address.Text, "://")
	if !hasScheme {
		scheme, rest = "", address.Text
	} else {
		scheme += "://"
	}
	if network, _, _ := strings.Cut(rest, "/"); scheme == "" && (caddy.IsUnixNetwork(network) || caddy.IsFdNetwork(network)) {
		return nil // the rest is the path of a socket
	}
	network := ""
	if name, after, found := strings.Cut(rest, "/"); scheme == "" && found && slices.Contains([]string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"}, name) {
		network, rest = name+"/", after
	}
	end, depth := 0, 0
	for ; end < len(rest) && (depth > 0 || !strings.ContainsRune("/?#", rune(rest[end]))); end++ {
		switch rest[end] { // {file./run/address} has no path
		case '{':
			depth++
		case '}':
			depth--
		}
	}
	host, more := rest[:end], rest[end:]
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return c.in("server").expected(address, "an address without a user", "a user before '@'",
			fmt.Sprintf("write 'server %s%s%s', and 'header_up Authorization ...' for the credentials", scheme, network, host[at+1:]))
	}
	if strings.Contains(rest, "{http.request.") {
		return c.in("server").expected(address, "a fixed address", quoted(address.Text)+" with a placeholder that a client can set", "write the address, or use reverse_proxy")
	}
	if more == "" {
		return nil
	}
	part, change := "fragment", ""
	switch more[0] {
	case '/':
		if part = "path"; more != "/" {
			change = ", and change the path of the request with 'handle_path', 'uri' or 'rewrite'"
		}
	case '?':
		part, change = "query", ", and change the query of the request with 'uri query'"
	}
	return c.in("server "+address.Text).expected(address, "an address without a "+part, quoted(more), fmt.Sprintf("write 'server %s%s%s'%s", scheme, network, host, change))
}

// setParameter sets one parameter of a `server` line.
func (s *groupServer) setParameter(c errorContext, param caddyfile.Token, name, value string, hasValue bool) error {
	if instead, ok := insteadOf(nginxServer, name); ok {
		return c.unexpected(param, "parameter", instead)
	}
	n, numErr := strconv.Atoi(value)
	switch {
	case name == "weight":
		if numErr != nil || n < 1 || n > maxServerWeight {
			return c.expected(param, fmt.Sprintf("weight=<n> with n from 1 to %d", maxServerWeight), quoted(param.Text), "to send no requests to a server, write 'down'")
		}
		s.Weight = n
	case name == "max_conns":
		if numErr != nil || n < 0 || n > maxServerConns {
			return c.expected(param, fmt.Sprintf("max_conns=<n> with n from 0 (no limit) to %d", maxServerConns), quoted(param.Text), "")
		}
		s.maxConns = n
	case name == "backup" && !hasValue:
		s.Backup = true
	case name == "down" && !hasValue:
		s.Down = true
	case name == "drain" && !hasValue:
		s.Drain = true
	case name == "route" && hasValue:
		if err := checkRoute(value); err != nil {
			return c.in("route").at(param, "%w", err)
		}
		s.Route = value
	case name == "resolve" && !hasValue: // names are always followed
	default:
		return c.unrecognized(param, "parameter", param.Text, "weight=<n>", "max_conns=<n>", "backup", "down", "drain", "route=<name>", "resolve")
	}
	return nil
}

// dialAddresses returns the addresses to dial that reverse_proxy derives from an address.
// The token server provides the file and line.
func dialAddresses(server, address caddyfile.Token) ([]string, error) {
	directive := server.Clone()
	directive.Text = "reverse_proxy"
	h := new(reverseproxy.Handler)
	if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser([]caddyfile.Token{directive, address})); err != nil {
		return nil, withPlace(address, err)
	}
	dials := make([]string, 0, len(h.Upstreams))
	for _, upstream := range h.Upstreams {
		dials = append(dials, upstream.Dial)
	}
	return dials, nil
}

// addressScheme returns the scheme of an address, or "".
func addressScheme(address caddyfile.Token) string {
	if strings.HasPrefix(address.Text, "unix+h2c/") {
		return "h2c"
	}
	scheme, _, found := strings.Cut(address.Text, "://")
	if !found {
		return ""
	}
	return strings.ToLower(scheme)
}

// schemeFound returns the scheme of an address for errors.
func schemeFound(address caddyfile.Token) string {
	if scheme := addressScheme(address); scheme != "" {
		return quoted(scheme + "://")
	}
	return "none"
}
