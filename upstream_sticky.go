package caddyhtpasswd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// Sticky says how an [UpstreamGroup] knows the server of a session. Exactly one of its
// fields is set.
type Sticky struct {
	// A cookie that the group sets. Default: none.
	Cookie *StickyCookie `json:"cookie,omitempty"`

	// Placeholders. The first one that is not empty has the `route` of the server.
	// Default: none.
	Route []string `json:"route,omitempty"`
}

// maxRouteLen is the maximum length of a server's route, as in nginx.
const maxRouteLen = 32

// checkRoute refuses texts that cannot be the value of a cookie, and placeholders, which
// would not be replaced.
func checkRoute(route string) error {
	odd := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",;\{}`, r) }
	if route == "" || len(route) > maxRouteLen || strings.ContainsFunc(route, odd) {
		return fmt.Errorf("expected 1 to %d printable ASCII characters without spaces, quotes, commas, semicolons, backslashes and braces, found %s", maxRouteLen, quoted(route))
	}
	return nil
}

// validate checks the settings for servers.
func (s *Sticky) validate(servers map[string]UpstreamServer) error {
	switch {
	case s == nil:
		return nil
	case s.Cookie != nil && len(s.Route) > 0:
		return errors.New("expected either cookie or route, found both")
	case s.Cookie != nil:
		if err := s.Cookie.validate(); err != nil {
			return fmt.Errorf("cookie: %w", err)
		}
		return nil
	case len(s.Route) == 0:
		return errors.New("expected cookie or route, found none")
	}
	for _, text := range s.Route {
		if newHashKey(text).placeholder == "" {
			return fmt.Errorf("route: expected a placeholder such as {http.request.cookie.route}, found %s", quoted(text))
		}
	}
	for _, server := range servers {
		if server.Route != "" {
			return nil
		}
	}
	return errors.New("route: expected at least one server with a route, found none")
}

// errNoGuard is for a cookie of a group that is not inside a ProxyPass.
var errNoGuard = errors.New("sticky: cookie: expected a proxy_pass handler with the reverse_proxy handler in it, found none; reverse_proxy cannot set the cookie")

// provisionSticky sets up sticky sessions. The cookie needs a ProxyPass around the group,
// and the secret of the app.
func (g *UpstreamGroup) provisionSticky(ctx caddy.Context) error {
	if g.Sticky == nil {
		return nil
	}
	g.sessions = newStickySessions(*g.Sticky)
	if g.Sticky.Cookie == nil {
		return nil
	}
	modules, around := ctx.Modules(), 3 // the guard, its proxy, and this policy
	if len(modules) < around {
		return errNoGuard
	}
	guard, ok := modules[len(modules)-around].(interface{ groupName() string })
	if !ok {
		return errNoGuard
	}
	g.sessions.group = guard.groupName()
	app, err := ctx.App(appName)
	if err != nil {
		return err
	}
	g.sessions.keys = app.(*App).settings.keys
	return nil
}

// stickySessions finds the servers of sessions.
type stickySessions struct {
	cookie *cookieWriter // nil for routes
	group  string
	keys   *keyring.Ring
	routes []hashKey
}

func newStickySessions(s Sticky) *stickySessions {
	sessions := new(stickySessions)
	if s.Cookie != nil {
		sessions.cookie = newCookieWriter(s.Cookie)
	}
	for _, text := range s.Route {
		sessions.routes = append(sessions.routes, newHashKey(text))
	}
	return sessions
}

// choose chooses the server for one attempt of a request.
func (s *stickySessions) choose(plan *upstreamPlan, request balance.Request, r *http.Request) int {
	ids := plan.ids.Load()
	if ids == nil || !ids.areCurrent(s) {
		ids = s.newIDs(plan)
		plan.ids.Store(ids)
	}
	if s.cookie == nil {
		chosen, _ := plan.group.ChooseSticky(request, ids.wanted[s.routeOf(r)])
		return chosen
	}
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	state, _ := vars[groupStateVar].(*groupState)
	if state == nil || state.answer == nil || state.answer.sessions != s {
		return plan.group.Choose(request) // not by ProxyPass: the cookie could not be set
	}
	answer := state.answer
	chosen, session := plan.group.ChooseSticky(request, ids.inCookies(answer.cookies, s.cookie.name))
	answer.value = ""
	if session >= 0 {
		answer.value = ids.values[session]
	}
	return chosen
}

// routeOf returns the route in a request: as in nginx, the first that is not empty, even
// if no server has it.
func (s *stickySessions) routeOf(r *http.Request) string {
	for _, key := range s.routes {
		if route := key.of(r); route != "" {
			return route
		}
	}
	return ""
}

// stickyIDs are the IDs of a plan's servers. An ID is the route of a server, or a digest
// of its address.
type stickyIDs struct {
	keys   *keyring.Keys    // by which the digests were made; nil for routes only
	local  *keyring.Keys    // also accepted; nil for none
	values []string         // of the cookie, by the server's index
	wanted map[string][]int // indexes of the servers, by ID
}

// areCurrent reports whether the IDs were made with the current keys. These change once,
// if the secret could not be loaded in time.
func (ids *stickyIDs) areCurrent(s *stickySessions) bool {
	return s.cookie == nil || ids.keys == s.keys.Keys()
}

// idSeparator is between the parts of a cookie's value.
const idSeparator = "."

// newIDs returns the IDs of the plan's servers with the current keys.
//
// A cookie has the digest by the current secret. While there is an old one, it also has
// the digest by the old one, because servers with one of the two secrets must find the
// server, too. The digest by local keys is accepted: this process has set such cookies
// until the secret was loaded.
//
// A cookie has the route instead. If several servers share it, such as the addresses of a
// name, the digests follow. If the server that they name has gone or fails, another one
// of the route is found.
func (s *stickySessions) newIDs(plan *upstreamPlan) *stickyIDs {
	ids := &stickyIDs{values: make([]string, len(plan.pool)), wanted: make(map[string][]int)}
	for i, route := range plan.routes {
		if route != "" {
			ids.wanted[route] = append(ids.wanted[route], i)
		}
	}
	if s.cookie == nil {
		return ids
	}
	ids.keys, ids.local = s.keys.Keys(), s.keys.Local()
	for i, upstream := range plan.pool {
		sharing := ids.wanted[plan.routes[i]]
		wanted := append([]int{i}, slices.DeleteFunc(slices.Clone(sharing), func(other int) bool { return other == i })...)
		add := func(key []byte) string {
			digest := s.digest(key, upstream.Dial)
			ids.wanted[digest] = wanted
			return digest
		}
		value := add(ids.keys.Sticky)
		if ids.keys.OldSticky != nil {
			value += idSeparator + add(ids.keys.OldSticky)
		}
		if ids.local != nil {
			add(ids.local.Sticky)
		}
		switch {
		case len(sharing) > 1:
			value = plan.routes[i] + idSeparator + value
		case len(sharing) == 1:
			value = plan.routes[i]
		}
		ids.values[i] = value
	}
	return ids
}

// digestLen is the length of a digest: 128 bits in base64.
const digestLen = 22

// digest returns the digest of an address. The name of the group is part of it, so that
// no cookie tells that two groups have the same server.
func (s *stickySessions) digest(key []byte, address string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s.group + "\x00" + address))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// maxValueLen is the maximum length of a cookie's value.
const maxValueLen = maxRouteLen + 2*(digestLen+len(idSeparator))

// named returns the servers that the value of a cookie names, or nil. Of several parts,
// the last one that is known counts.
func (ids *stickyIDs) named(value string) []int {
	if len(value) > maxValueLen {
		return nil
	}
	for {
		if wanted := ids.wanted[value]; wanted != nil {
			return wanted
		}
		end := strings.LastIndex(value, idSeparator)
		if end < 0 || len(value)-end-len(idSeparator) != digestLen {
			return nil
		}
		if wanted := ids.wanted[value[end+len(idSeparator):]]; wanted != nil {
			return wanted
		}
		value = value[:end]
	}
}

// inCookies returns the servers that the Cookie fields of a request name: by the first
// cookie of the name whose value names any. Others may be foreign, such as a cookie of
// the parent domain.
func (ids *stickyIDs) inCookies(fields []string, name string) []int {
	for _, field := range fields {
		for field != "" {
			var pair string
			pair, field, _ = strings.Cut(field, ";")
			value, is := strings.CutPrefix(strings.TrimLeft(pair, " \t"), name)
			if !is || value == "" || value[0] != '=' {
				continue
			}
			if wanted := ids.named(strings.TrimRight(value[1:], " \t")); wanted != nil {
				return wanted
			}
		}
	}
	return nil
}
