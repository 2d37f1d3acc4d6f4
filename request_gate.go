package caddyhtpasswd

import (
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// requestGate is a matcher in front of all routes of a server that has an
// htpasswd. It matches every request, and so changes nothing about which route
// is taken, but it sees to two things that hold whether the htpasswd is asked or
// not.
//
// The placeholders of the user are empty until somebody is verified. Caddy leaves
// unknown ones as text in header fields, which an upstream would take for a name.
//
// Matchers of paths see the path that an upstream would see. Without the gate,
// "GET http://example.com HTTP/1.1" has an empty path, for which `htpasswd /*` is
// not asked, and an upstream gets "/". And in
// "GET x:http://example.com/private HTTP/1.1" Caddy sees no path at all, and an
// upstream gets "http://example.com/private".
type requestGate struct {
	// Whether the server has a forward proxy, which takes CONNECT. For any other
	// handler it has no use and no path, and reverse_proxy would send its body
	// as if it were further requests.
	allowConnect bool
}

// Match implements [caddyhttp.RequestMatcher].
func (g requestGate) Match(r *http.Request) bool {
	match, _ := g.MatchWithError(r)
	return match
}

// MatchWithError returns an error for a request without a path. An empty one
// means "/" (RFC 9110, section 4.2.3).
func (g requestGate) MatchWithError(r *http.Request) (bool, error) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(noUser)
	}
	u := r.URL
	// Over HTTP/2 and HTTP/3, a CONNECT with a path is for a WebSocket (RFC 8441).
	isTunnel := r.Method == http.MethodConnect && (r.ProtoMajor == 1 || u.Path == "")
	if isTunnel && g.allowConnect || !isTunnel && u.Opaque == "" && u.Path != "" && u.Path[0] == '/' {
		return true, nil
	}
	hasNoPath := u.Opaque != "" || u.Path != ""
	setRootPath(u)
	// Routes that handle the error get the request as it was.
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		setRootPath(original.URL)
	}
	switch {
	case isTunnel:
		return false, caddyhttp.Error(http.StatusMethodNotAllowed, errConnect)
	case hasNoPath:
		return false, caddyhttp.Error(http.StatusBadRequest, errTarget)
	}
	return true, nil
}

// noUser provides the placeholders that nobody has set.
func noUser(key string) (any, bool) {
	return "", key == userPlaceholder || key == groupsPlaceholder
}

func setRootPath(u *url.URL) { u.Opaque, u.Path, u.RawPath = "", "/", "" }

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
