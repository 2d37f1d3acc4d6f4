package caddyhtpasswd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// The placeholders for the host of the chosen server as it is in the configuration. In
// the Host field they replace those of reverse_proxy, which have the IP address.
const (
	configuredHostPort = "http.reverse_proxy.upstream_group.hostport"
	configuredHost     = "http.reverse_proxy.upstream_group.host"
)

// proxyConfig are the parts of a reverse_proxy handler that matter for names.
type proxyConfig struct {
	Upstreams []struct {
		Dial        string `json:"dial"`
		MaxRequests int    `json:"max_requests"`
	} `json:"upstreams"`
	Dynamic       json.RawMessage `json:"dynamic_upstreams"`
	LoadBalancing struct {
		Policy struct {
			Name    string                    `json:"policy"`
			Servers map[string]UpstreamServer `json:"servers"`
		} `json:"selection_policy"`
	} `json:"load_balancing"`
	HealthChecks json.RawMessage `json:"health_checks"`
	Transport    struct {
		Protocol string                         `json:"protocol"`
		Proxy    json.RawMessage                `json:"network_proxy"`
		ProxyURL string                         `json:"forward_proxy_url"`
		Resolver *reverseproxy.UpstreamResolver `json:"resolver"`
		Versions []string                       `json:"versions"`
		TLS      *reverseproxy.TLSConfig        `json:"tls"`
	} `json:"transport"`
}

// takeNames takes the servers out of the configuration of a reverse_proxy handler if the
// addresses of at least one of them are to be followed. It returns nil if there is none.
// If that needs a warning, warn is called with the reason. Faults in the configuration are
// left to Caddy.
func takeNames(proxy *json.RawMessage, names *serverNames, warn func(reason string)) *followedGroup {
	var config proxyConfig
	var fields map[string]json.RawMessage
	if json.Unmarshal(*proxy, &config) != nil || json.Unmarshal(*proxy, &fields) != nil {
		return nil
	}
	policy := new(UpstreamGroup).CaddyModule().ID.Name()
	if config.Dynamic != nil || config.LoadBalancing.Policy.Name != policy {
		return nil
	}
	f := &followedGroup{names: names, health: config.HealthChecks}
	var hosts []string
	for _, u := range config.Upstreams {
		line := followedLine{dial: u.Dial, settings: config.LoadBalancing.Policy.Servers[u.Dial], maxRequests: u.MaxRequests}
		if n, isName := serverNameOf(u.Dial); isName && !line.settings.Down {
			hosts = append(hosts, n.host)
		}
		f.lines = append(f.lines, line)
	}
	if len(hosts) == 0 {
		return nil
	}
	transport := &config.Transport
	isHTTP := transport.Protocol == "" || transport.Protocol == "http"
	f.isTLS = isHTTP && transport.TLS != nil
	slices.Sort(hosts)
	switch isOne := len(slices.Compact(hosts)) == 1; {
	case isHTTP && (transport.Proxy != nil || transport.ProxyURL != "" || names.usesProxy()):
		warn("the HTTP proxy looks the names up")
		return nil
	case f.isTLS && slices.Contains(transport.Versions, "3") && transport.TLS.ServerName == "":
		if !isOne {
			warn("with HTTP/3, several names need tls_server_name")
			return nil
		}
		setField(fields, hosts[0], "transport", "tls", "server_name")
	}
	if transport.Resolver != nil {
		f.resolvers = transport.Resolver.Addresses
	}
	f.setsHost = nameHost(fields, f.isTLS)
	delete(fields, "upstreams")
	// The servers have their own active health checks. The handler counts the failures.
	removeField(fields, "health_checks", "active")
	*proxy, _ = json.Marshal(fields) // text that was decoded can be encoded
	return f
}

// nameHost makes the Host field, where it depends on the server, have the host in the
// configuration. It reports whether there is such a field.
func nameHost(fields map[string]json.RawMessage, isTLS bool) bool {
	var headers struct {
		Request struct {
			Set map[string][]string `json:"set"`
		} `json:"request"`
	}
	if raw := fields["headers"]; raw != nil && json.Unmarshal(raw, &headers) != nil {
		return false
	}
	replace := strings.NewReplacer("{http.reverse_proxy.upstream.hostport}", "{"+configuredHostPort+"}", "{http.reverse_proxy.upstream.host}", "{"+configuredHost+"}")
	hasHost, sets := false, false
	for name, values := range headers.Request.Set {
		if textproto.CanonicalMIMEHeaderKey(name) != "Host" {
			continue
		}
		hasHost = true
		for i, value := range values {
			if changed := replace.Replace(value); changed != value {
				values[i], sets = changed, true
			}
		}
		if sets {
			setField(fields, values, "headers", "request", "set", name)
		}
	}
	if !hasHost && isTLS { // Caddy sets the address of the server
		setField(fields, []string{"{" + configuredHostPort + "}"}, "headers", "request", "set", "Host")
		sets = true
	}
	return sets
}

// setField sets a field in a JSON object, which may be in other objects.
func setField(object map[string]json.RawMessage, value any, name string, path ...string) {
	if len(path) > 0 {
		inner := make(map[string]json.RawMessage)
		if raw := object[name]; raw != nil && json.Unmarshal(raw, &inner) != nil {
			return
		}
		setField(inner, value, path[0], path[1:]...)
		value = inner
	}
	object[name], _ = json.Marshal(value) // a text, a list of texts, or JSON
}

// removeField removes a field of a JSON object that is in another one.
func removeField(object map[string]json.RawMessage, outer, name string) {
	var inner map[string]json.RawMessage
	if json.Unmarshal(object[outer], &inner) != nil || inner == nil {
		return
	}
	delete(inner, name)
	object[outer], _ = json.Marshal(inner)
}

// healthChecks returns the health checks of one server.
func (f *followedGroup) healthChecks(key heldKey) (*reverseproxy.HealthChecks, error) {
	if f.health == nil {
		return nil, nil
	}
	health := new(reverseproxy.HealthChecks)
	if err := json.Unmarshal(f.health, health); err != nil {
		return nil, err
	}
	if key.isAlone {
		health.Passive = nil
	}
	if active := health.Active; active != nil && key.isName && active.Upstream == "" {
		if active.Headers == nil {
			active.Headers = make(http.Header)
		}
		hasHost := false
		for name := range active.Headers {
			hasHost = hasHost || textproto.CanonicalMIMEHeaderKey(name) == "Host"
		}
		if !hasHost {
			host := key.host
			if active.Port != 0 {
				host = net.JoinHostPort(hostOf(host), strconv.Itoa(active.Port))
			}
			active.Headers.Set("Host", host)
		}
	}
	return health, nil
}

// hostOf returns the host of a host and port.
func hostOf(hostPort string) string {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return hostPort
	}
	return host
}

// nameTLSServers makes TLS ask for the names in the configuration, and check the
// certificates for them. Caddy would take the IP addresses.
func (f *followedGroup) nameTLSServers() {
	t, ok := f.proxy.Transport.(*reverseproxy.HTTPTransport)
	if ok && t.TLS != nil && t.TLS.ServerName == "" && t.Transport.TLSClientConfig != nil {
		t.Transport.DialTLSContext = f.dialTLS(t.Transport)
	}
}

// dialTLS returns a function that connects to a server with the name that it has in the
// configuration.
func (f *followedGroup) dialTLS(t *http.Transport) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		config := t.TLSClientConfig.Clone()
		if caddyhttp.GetVar(ctx, onlyHTTP1Var) == true {
			config.NextProtos = nil
		}
		if info, ok := reverseproxy.GetDialInfo(ctx); ok {
			address = info.Address // with the PROXY protocol, the other one has the client in it
		}
		config.ServerName = f.nameOf(address)
		conn, err := t.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if t.TLSHandshakeTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, t.TLSHandshakeTimeout)
			defer cancel()
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secure, nil
	}
}

// onlyHTTP1Var is set by Caddy if a request needs a connection with HTTP/1.1, as for
// WebSockets.
const onlyHTTP1Var = "reverse_proxy.tls_h1_only"

// nameOf returns the name for TLS of the server at an address.
func (f *followedGroup) nameOf(address string) string {
	for _, key := range []string{address, hostOf(address)} { // health_port is another port
		if name, known := f.hosts.Load(key); known {
			return name.(string)
		}
	}
	return hostOf(address)
}

// setHostName remembers the name of a server for TLS. Connections that were made with
// another name are not used again.
func (f *followedGroup) setHostName(key heldKey) {
	if !f.isTLS {
		return
	}
	name, address := hostOf(key.host), hostPort(key.dial)
	if ascii, err := httpguts.PunycodeHostPort(name); err == nil {
		name = ascii
	}
	f.hosts.LoadOrStore(hostOf(address), name) // for health_port
	if before, known := f.hosts.Swap(address, name); known && before != name {
		if t, ok := f.proxy.Transport.(*reverseproxy.HTTPTransport); ok {
			t.Transport.CloseIdleConnections()
		}
	}
}

// forgetHostNames forgets the names of servers that do not exist any more.
func (f *followedGroup) forgetHostNames() {
	known := make(map[any]bool)
	for key := range f.held {
		address := hostPort(key.dial)
		known[address], known[hostOf(address)] = true, true
	}
	f.hosts.Range(func(key, _ any) bool {
		if !known[key] {
			f.hosts.Delete(key)
		}
		return true
	})
}
