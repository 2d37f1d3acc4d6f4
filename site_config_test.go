package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// TestOddJSON has configurations that Caddy refuses, or that have no user. The checks must
// ignore them.
func TestOddJSON(t *testing.T) {
	s := checkedServer(t)
	login := `{"handler":"htpasswd","files":["` + s.dir + `/users"]}`
	for _, routes := range []string{
		`null`, `[]`, `[{}]`, `[{"handle":[]}]`, `[{"handle":[null]}]`, `[{"handle":[1]}]`, `[{"handle":[{}]}]`, `[{"match":[null],"handle":[` + login + `]}]`,
		`[{"match":[{}],"handle":[` + login + `]}]`, `[{"match":[{"path":1}],"handle":[` + login + `]}]`, `[{"handle":[` + login + `,{"handler":"vars","root":1}]}]`,
		`[{"handle":[` + login + `,{"handler":"subroute"}]}]`, `[{"handle":[` + login + `,{"handler":"subroute","routes":1}]}]`, `[{"handle":[` + login + `,{"handler":"subroute","errors":null,"routes":[{}]}]}]`,
		`[{"handle":[` + login + `,{"handler":"reverse_proxy","handle_response":[{}]}]}]`, `[{"handle":[` + login + `,{"handler":"reverse_proxy","upstreams":[null],"handle_response":1}]}]`,
		`[{"handle":[` + login + `,{"handler":"invoke"}]}]`, `[{"handle":[` + login + `,{"handler":"invoke","name":"none"}]}]`, `[{"handle":[` + login + `,{"handler":"file_server","hide":1,"root":{}}]}]`,
		`[{"handle":[` + login + `,{"handler":"headers","response":1}]}]`, `[{"handle":[` + login + `,{"handler":"map","destinations":1}]}]`, `[{"handle":[{"handler":"test_identity","note":"htpasswd"},` + login + `]}]`,
		`[{"handle":[{"handler":"htpasswd"}]}]`, `[{"handle":[{"handler":"htpasswd","files":1}]}]`, `[{"handle":[{"handler":"htpasswd","exempt":[null],"files":["x"]}]}]`,
	} {
		text := `{"admin":{"disabled":true},"logging":{"logs":{"default":{"writer":{"output":"file","filename":"` + s.dir + `/log"}}}},` +
			`"apps":{"upstream_groups":{"groups":["a"]},"http":{"servers":{"s":{"listen":["127.0.0.1:0"],"routes":` + routes + `,"named_routes":{"x":{"handle":[` + login + `,{"handler":"invoke","name":"x"}]}}}}}}}`
		var cfg caddy.Config
		if json.Unmarshal([]byte(text), &cfg) != nil {
			continue
		}
		_ = caddy.Validate(&cfg) // must not panic
	}
}

// guardingHandler is a loaded handler that wraps another one.
type guardingHandler struct{ inner any }

func (g guardingHandler) guarded() any { return g.inner }

func (guardingHandler) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	return nil
}

// TestGuardedProxy finds a reverse_proxy inside of another handler, loaded or not.
func TestGuardedProxy(t *testing.T) {
	const (
		proxy = `{"handler":"reverse_proxy","headers":{"request":{"set":{"X-User":["{http.auth.user.id}"]}}}}`
		login = `{"handler":"htpasswd","files":["x"]}`
	)
	raw := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"proxy_pass","group":"g","proxy":` + proxy + `}`)}}
	handler := new(reverseproxy.Handler)
	must(t, json.Unmarshal([]byte(strings.Replace(proxy, `"handler":"reverse_proxy",`, "", 1)), handler))
	loaded := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{guardingHandler{handler}}}
	inside := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[` + login + `]}]}]}}`)}}
	last := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(login)}}
	for _, route := range []caddyhttp.Route{raw, loaded} {
		report := routes.Walk(serversOf(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {Routes: caddyhttp.RouteList{route, last}}}}))
		if uses := report.EarlyUses; len(uses) != 1 || uses[0].Directive != "reverse_proxy" || uses[0].Verdict != routes.UseOnOpenPage {
			t.Errorf("got %+v, want one about reverse_proxy", uses)
		}
	}
	report := routes.Walk(serversOf(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {Routes: caddyhttp.RouteList{inside}}}}))
	if len(report.EarlyUses) != 0 || len(report.Logins) != 1 {
		t.Errorf("got %d logins and early uses %+v, want 1 and none", len(report.Logins), report.EarlyUses)
	}
}

// TestLargeConfigurationIsTranslated translates sites with many routes. The work must not
// grow with the square of their number.
func TestLargeConfigurationIsTranslated(t *testing.T) {
	raw := caddyhttp.Route{HandlersRaw: []json.RawMessage{[]byte(`{"handler":"subroute","routes":[{"match":[{"path":["/a"]}],"handle":[{"handler":"htpasswd","files":["x"]},{"handler":"reverse_proxy"}]}]}`)}}
	loaded := caddyhttp.Route{Handlers: []caddyhttp.MiddlewareHandler{&caddyhttp.Subroute{Routes: caddyhttp.RouteList{{
		MatcherSets: caddyhttp.MatcherSets{{caddyhttp.MatchPath{"/a"}}},
		Handlers:    []caddyhttp.MiddlewareHandler{guardingHandler{new(reverseproxy.Handler)}, new(identityHandler)},
	}}}}}
	for name, route := range map[string]caddyhttp.Route{"routes that are JSON": raw, "routes that are loaded": loaded} {
		t.Run(name, func(t *testing.T) {
			translate := func(n int) uint64 {
				app := &caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {Routes: slices.Repeat(caddyhttp.RouteList{route}, n)}}}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				servers := serversOf(app)
				runtime.ReadMemStats(&after)
				if got := len(servers[0].Routes[n-1].Steps[0].Routes[0].Steps); got != 2 {
					t.Errorf("got %d handlers in the last route, want 2", got)
				}
				return after.TotalAlloc - before.TotalAlloc
			}
			translate(10)
			small, large := translate(250), translate(2000)
			if large > 12*small { // eight times as many
				t.Errorf("got %d bytes for 250 and %d for 2000, want at most 12 times as many", small, large)
			}
		})
	}
}

// TestLoadedHandlersAreReadAsTheirJSON compares the translation of loaded handlers with
// the translation of their JSON.
func TestLoadedHandlersAreReadAsTheirJSON(t *testing.T) {
	const text = `{"match":[{"path":["/a"],"not":[{"host":["b"]}]}],"group":"g","terminal":true,"handle":[` +
		`{"handler":"subroute","routes":[{"handle":[{"handler":"vars","root":"/srv"}]}],"errors":{"routes":[{"handle":[{"handler":"static_response","body":"x"}]}]}},` +
		`{"handler":"test_identity","note":"n"}]}`
	translated := func(load bool) string {
		route := new(caddyhttp.Route)
		must(t, json.Unmarshal([]byte(text), route))
		if load {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			must(t, route.Provision(ctx, nil))
		}
		result := routeOf(route)
		for i := range result.Steps { // the struct does not contain its own name
			result.Steps[i].Config = laxjson.Without(result.Steps[i].Config, "handler")
		}
		inner := result.Steps[0]
		for _, step := range []*routes.Step{&inner.Routes[0].Steps[0], &inner.Errors[0].Steps[0]} {
			step.Config = laxjson.Without(step.Config, "handler")
		}
		return strings.ReplaceAll(fmt.Sprintf("%+v", result), "[]", "") // nil or empty
	}
	if got, want := translated(true), translated(false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzWalkSites walks through unusual routes.
func FuzzWalkSites(f *testing.F) {
	for _, routes := range []string{
		`[{"handle":[{"handler":"htpasswd","files":["x"]}]}]`,
		`[{"match":[{"path":["/a"]},{"not":[{"header":{"X":["{http.auth.user.id}"]}}]}],"handle":[{"handler":"subroute","routes":[{"group":"g","terminal":true,"handle":[{"handler":"vars","root":"/x"}]}],"errors":{"routes":[{}]}}]}]`,
		`[{"handle":[{"handler":"reverse_proxy","handle_response":[{"routes":[{"handle":[{"handler":"invoke","name":"x"}]}]}]},{"handler":"map","source":"{http.auth.user.id}","destinations":["{a}"]},{"handler":"proxy_pass","proxy":{"handler":"reverse_proxy"}}]}]`,
		`[{"handle":[{"handler":"headers","response":{"deferred":true}},{"handler":"log_append","early":true},{"handler":"file_server","root":"{a}","hide":["/x"]},{"handler":"other","x":{"handler":"htpasswd"}}]}]`,
	} {
		f.Add([]byte(routes))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var list caddyhttp.RouteList
		if json.Unmarshal(text, &list) != nil {
			return
		}
		report := routes.Walk(serversOf(&caddyhttp.App{Servers: map[string]*caddyhttp.Server{"s": {
			Routes:      list,
			Errors:      &caddyhttp.HTTPErrorConfig{Routes: list},
			NamedRoutes: map[string]*caddyhttp.Route{"x": {HandlersRaw: []json.RawMessage{[]byte(`{"handler":"subroute","routes":` + string(text) + `}`)}}, "nil": nil},
		}}}))
		for i := range report.Logins {
			login := newFoundLogin(&report.Logins[i])
			_ = login.handler.describeExempt()
			for _, set := range login.handler.ExemptRaw {
				_ = exemptsAll(set, true)
			}
		}

		// The same routes without Caddy's types.
		var direct []routes.Route
		if err := json.Unmarshal(laxjson.Unescape(text), &direct); err != nil {
			t.Fatalf("got error %v of routes that Caddy reads, want none", err)
		}
		named := routes.Route{Steps: []routes.Step{{Name: "subroute", Routes: direct}}}
		same := routes.Walk([]routes.Server{{Name: "s", Routes: direct, Errors: direct, Named: map[string]routes.Route{"x": named}}})
		if len(report.Logins) != len(same.Logins) || len(report.EarlyUses) != len(same.EarlyUses) || !maps.Equal(report.HasLogin, same.HasLogin) {
			t.Errorf("got %d logins and %d early uses with Caddy's types, %d and %d without",
				len(report.Logins), len(report.EarlyUses), len(same.Logins), len(same.EarlyUses))
		}
	})
}
