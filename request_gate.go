package caddyhtpasswd

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// requestGate is a matcher before all routes of a server with htpasswd. It matches every
// request, and so does not change the choice of the route. It enforces what must hold
// even for requests that never reach htpasswd:
//
// The placeholders of the user are empty until a user is verified. Caddy leaves unknown
// placeholders as text in header fields, which an upstream would take for a user name.
//
// Path matchers see the same path as an upstream. Without the gate,
// "GET http://example.com HTTP/1.1" has an empty path, which `htpasswd /*` does not match,
// while an upstream gets "/". In "GET x:http://example.com/private HTTP/1.1" Caddy sees
// no path at all, while an upstream gets "http://example.com/private".
//
// No request can carry other requests past htpasswd: neither with CONNECT, whose body
// reverse_proxy would send unchanged, nor with an upgrade to HTTP/2.
type requestGate struct {
	// allowConnect is set if the server has a forward proxy, the only handler that
	// needs CONNECT.
	allowConnect bool
}

// Match implements [caddyhttp.RequestMatcher].
func (g requestGate) Match(r *http.Request) bool {
	match, _ := g.MatchWithError(r)
	return match
}

// MatchWithError returns an error for a request that no handler may get.
func (g requestGate) MatchWithError(r *http.Request) (bool, error) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(noUser)
	}
	if r.ProtoMajor == 1 && namesH2C(r.Header[headerUpgrade]) {
		delete(r.Header, headerUpgrade)
		delete(r.Header, "Http2-Settings")
	}
	switch u := r.URL; {
	case r.Method == http.MethodConnect && !isWebSocket(r):
		if g.allowConnect {
			return true, nil
		}
		disarm(r)
		return false, caddyhttp.Error(http.StatusMethodNotAllowed, errConnect)
	case u.Opaque != "" || u.Path != "" && u.Path[0] != '/':
		disarm(r)
		return false, caddyhttp.Error(http.StatusBadRequest, sendable.ErrTarget)
	case u.Path == "":
		setRootPath(r) // an empty path means "/" (RFC 9110, section 4.2.3)
	}
	return true, nil
}

// namesH2C reports whether an Upgrade header requests HTTP/2, which clients no longer do
// (RFC 9113, section 3.1). An upstream that accepts the upgrade would get requests that
// Caddy does not see.
func namesH2C(upgrade []string) bool {
	return slices.ContainsFunc(upgrade, func(v string) bool { return strings.Contains(strings.ToLower(v), "h2c") })
}

// isWebSocket reports whether a CONNECT opens a WebSocket. Of such a request,
// reverse_proxy makes a GET.
func isWebSocket(r *http.Request) bool {
	return r.URL.Path != "" && connectProtocol(r) == "websocket"
}

// disarm removes the target, the header and the body of a refused request, so that error
// routes cannot pass them on.
func disarm(r *http.Request) {
	setRootPath(r)
	clear(r.Header)
	withoutBody(r)
}

// setRootPath sets the path to "/", also in the original request, which Caddy restores
// for error routes.
func setRootPath(r *http.Request) {
	urls := []*url.URL{r.URL}
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		urls = append(urls, original.URL)
	}
	for _, u := range urls {
		u.Opaque, u.Path, u.RawPath = "", "/", ""
	}
}

// putInFront puts the gate before the routes of a server and before its named routes. If
// htpasswd is in a named route, the other routes are already compiled when it is loaded.
// The gate is then put before the first route that has a matcher, or into the subroute of
// a route without one. Until a request meets a matcher, its path has no effect.
func (g requestGate) putInFront(server *caddyhttp.Server) {
	for _, route := range server.NamedRoutes {
		if route != nil {
			g.putBefore(route)
		}
	}
	areTogether := true
	for i := range server.Routes {
		areTogether = areTogether && server.Routes[i].HandlersRaw == nil
	}
	for i := range server.Routes {
		route := &server.Routes[i]
		if len(route.MatcherSets) > 0 || !areTogether {
			g.putBefore(route)
			return
		}
		for _, handler := range route.Handlers {
			if subroute, ok := handler.(*caddyhttp.Subroute); ok && len(subroute.Routes) > 0 {
				g.putBefore(&subroute.Routes[0])
				return
			}
		}
	}
}

// putBefore makes the gate the first matcher of a route. It changes the first set in
// place, because a server may have a copy of the route.
func (g requestGate) putBefore(route *caddyhttp.Route) {
	if len(route.MatcherSets) == 0 {
		if route.MatcherSetsRaw != nil {
			return // a named route that is not loaded yet: its own sets would follow one that matches every request
		}
		route.MatcherSets = caddyhttp.MatcherSets{nil}
	}
	route.MatcherSets[0] = append(caddyhttp.MatcherSet{g}, route.MatcherSets[0]...)
}

// Interface guards
var (
	_ caddyhttp.RequestMatcherWithError = requestGate{}
)
