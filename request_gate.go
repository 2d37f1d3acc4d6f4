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

// requestGate is a matcher in front of all routes of a server that has an
// htpasswd. It matches every request, and so changes nothing about which route
// is taken, but it sees to what must hold whether the htpasswd is asked or not.
//
// The placeholders of the user are empty until somebody is verified. Caddy leaves
// unknown ones as text in header fields, which an upstream would take for a name.
//
// Matchers of paths see the path that an upstream would see. Without the gate,
// "GET http://example.com HTTP/1.1" has an empty path, for which `htpasswd /*` is
// not asked, and an upstream gets "/". And in
// "GET x:http://example.com/private HTTP/1.1" Caddy sees no path at all, and an
// upstream gets "http://example.com/private".
//
// No request carries others that no htpasswd sees: by CONNECT, of which
// reverse_proxy would send the body as it is, or by an upgrade to HTTP/2.
type requestGate struct {
	// Whether the server has a forward proxy, which takes CONNECT. Any other
	// handler has no use for it.
	allowConnect bool
}

// Match implements [caddyhttp.RequestMatcher].
func (g requestGate) Match(r *http.Request) bool {
	match, _ := g.MatchWithError(r)
	return match
}

// MatchWithError returns an error for a request that nobody should see.
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
		setRootPath(r) // as RFC 9110 says in section 4.2.3
	}
	return true, nil
}

// namesH2C reports whether an Upgrade field asks for HTTP/2, which clients no
// longer do (RFC 9113, section 3.1). An upstream that grants it would get
// requests that Caddy does not see.
func namesH2C(upgrade []string) bool {
	return slices.ContainsFunc(upgrade, func(v string) bool { return strings.Contains(strings.ToLower(v), "h2c") })
}

// isWebSocket reports whether a CONNECT is for a WebSocket, which reverse_proxy
// turns into a GET.
func isWebSocket(r *http.Request) bool {
	return r.URL.Path != "" && connectProtocol(r) == "websocket"
}

// disarm leaves nothing of a refused request that the routes which handle errors
// could pass on: no target, no header, no body.
func disarm(r *http.Request) {
	setRootPath(r)
	clear(r.Header)
	withoutBody(r)
}

// setRootPath sets the path to "/", for routes that handle errors too: Caddy
// gives them the request as it came.
func setRootPath(r *http.Request) {
	urls := []*url.URL{r.URL}
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		urls = append(urls, original.URL)
	}
	for _, u := range urls {
		u.Opaque, u.Path, u.RawPath = "", "/", ""
	}
}

// putInFront puts the gate in front of the routes of a server, and of its named
// routes. An htpasswd in a named route is loaded when the server has put the
// others together already. Then it is in front of the first route that has a
// matcher, or of the subroute of one that has none: a request that has not met
// a matcher before is not led by its path.
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

// putBefore makes the gate the first matcher of a route. It is put into the
// first set in place, since a server may hold a copy of the route.
func (g requestGate) putBefore(route *caddyhttp.Route) {
	if len(route.MatcherSets) == 0 {
		if route.MatcherSetsRaw != nil {
			return // a named route that is not loaded; its matchers would come after a set for all requests
		}
		route.MatcherSets = caddyhttp.MatcherSets{nil}
	}
	route.MatcherSets[0] = append(caddyhttp.MatcherSet{g}, route.MatcherSets[0]...)
}

// Interface guards
var (
	_ caddyhttp.RequestMatcherWithError = requestGate{}
)
