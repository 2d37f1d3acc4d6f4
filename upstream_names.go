package caddyhtpasswd

import (
	"errors"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() {
	caddy.RegisterModule(UpstreamNames{})
}

// UpstreamNames holds the names of the upstream groups in a Caddyfile. It logs a warning
// for each `reverse_proxy` to such a name, because only `proxy_pass` supports groups: for
// `reverse_proxy`, the name is the name of a host. It has no other effect.
type UpstreamNames struct {
	// The names of the groups. An empty name is an error. Default: none.
	Groups []string `json:"groups,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (UpstreamNames) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "upstream_groups",
		New: func() caddy.Module { return new(UpstreamNames) },
	}
}

// Provision logs the warnings. They are no errors, because a host may have the name of a
// group.
func (n *UpstreamNames) Provision(ctx caddy.Context) error {
	loaded, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nil // Caddy reports the error of the http app
	}
	http, ok := loaded.(*caddyhttp.App)
	if !ok {
		return nil
	}
	groups := make(map[string]bool, len(n.Groups))
	for _, name := range n.Groups {
		groups[name] = true
	}
	for _, server := range slices.Sorted(maps.Keys(http.Servers)) {
		logger := ctx.Logger().With(zap.String("server", server))
		warned := make(map[string]bool)
		for proxy := range proxiesOf(http.Servers[server]) {
			for _, dial := range hostsOf(proxy) {
				if group := bareHost(dial); groups[group] && !warned[dial] {
					warned[dial] = true
					logger.Warn("upstream is a host name here, but an upstream group has the same name; use proxy_pass for the group",
						zap.String("upstream", dial), zap.String("group", group))
				}
			}
		}
	}
	return nil
}

// Validate refuses empty names.
func (n *UpstreamNames) Validate() error {
	if slices.Contains(n.Groups, "") {
		return errors.New("groups: expected the names of groups, found an empty name")
	}
	return nil
}

// Start does nothing.
func (*UpstreamNames) Start() error { return nil }

// Stop does nothing.
func (*UpstreamNames) Stop() error { return nil }

// hostsOf returns the addresses of a reverse_proxy, or nil if it is for a group.
func hostsOf(proxy *reverseproxy.Handler) []string {
	if lb := proxy.LoadBalancing; lb != nil {
		if _, isGroup := lb.SelectionPolicy.(*UpstreamGroup); isGroup {
			return nil
		}
	}
	var dials []string
	for _, upstream := range proxy.Upstreams {
		if upstream != nil && !slices.Contains(dials, upstream.Dial) {
			dials = append(dials, upstream.Dial)
		}
	}
	return dials
}

// bareHost returns the host of an address that a Caddyfile can write as the host alone, or
// "" for any other address.
func bareHost(dial string) string {
	address := strings.TrimPrefix(dial, "tcp/")
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return address
	case port == "80" || port == "443":
		return host
	}
	return ""
}

// proxiesOf returns the loaded reverse_proxy handlers of a server.
func proxiesOf(server *caddyhttp.Server) func(yield func(*reverseproxy.Handler) bool) {
	return func(yield func(*reverseproxy.Handler) bool) {
		if server == nil {
			return
		}
		lists := []caddyhttp.RouteList{server.Routes}
		if server.Errors != nil {
			lists = append(lists, server.Errors.Routes)
		}
		for _, name := range slices.Sorted(maps.Keys(server.NamedRoutes)) {
			if route := server.NamedRoutes[name]; route != nil {
				lists = append(lists, caddyhttp.RouteList{*route})
			}
		}
		for len(lists) > 0 {
			list := lists[0]
			lists = lists[1:]
			for i := range list {
				for _, loaded := range list[i].Handlers {
					handler := unguarded(loaded)
					lists = append(lists, listsIn(handler)...)
					if proxy, ok := handler.(*reverseproxy.Handler); ok && !yield(proxy) {
						return
					}
				}
			}
		}
	}
}

// definedGroups are the group definitions of the Caddyfiles that are being adapted, by the
// JSON of their names. A global option can return an app only as JSON. Caddy passes this
// JSON to the directives, which need the definitions.
var definedGroups sync.Map

// asOption returns the value of the global option.
func (groups upstreamGroups) asOption() httpcaddyfile.App {
	names := UpstreamNames{Groups: slices.Sorted(maps.Keys(groups))}
	value := caddyconfig.JSON(names, nil)
	key := weak.Make(&value[0])
	definedGroups.Store(key, groups)
	runtime.AddCleanup(&value[0], func(key weak.Pointer[byte]) { definedGroups.Delete(key) }, key)
	return httpcaddyfile.App{Name: string(names.CaddyModule().ID), Value: value}
}

// groupsOfOption returns the definitions for a value of the global option, or nil.
func groupsOfOption(option any) upstreamGroups {
	app, ok := option.(httpcaddyfile.App)
	if !ok || len(app.Value) == 0 {
		return nil
	}
	groups, _ := definedGroups.Load(weak.Make(&app.Value[0]))
	defined, _ := groups.(upstreamGroups)
	return defined
}

// Interface guards
var (
	_ caddy.App         = (*UpstreamNames)(nil)
	_ caddy.Provisioner = (*UpstreamNames)(nil)
	_ caddy.Validator   = (*UpstreamNames)(nil)
)
