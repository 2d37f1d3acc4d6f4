package caddyhtpasswd

import (
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// While Caddy loads a configuration, it removes the JSON of each part that it has loaded.
// So some routes are still JSON, and others are only structs. The functions here translate
// both into the input of [routes.Walk].

// serversOf translates the servers of an app, sorted by their names.
func serversOf(app *caddyhttp.App) []routes.Server {
	servers := make([]routes.Server, 0, len(app.Servers))
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		if server := app.Servers[name]; server != nil {
			servers = append(servers, serverOf(name, server))
		}
	}
	return servers
}

func serverOf(name string, server *caddyhttp.Server) routes.Server {
	result := routes.Server{Name: name, Routes: routesOf(server.Routes), Named: make(map[string]routes.Route, len(server.NamedRoutes))}
	if server.Errors != nil {
		result.Errors = routesOf(server.Errors.Routes)
	}
	for name, route := range server.NamedRoutes {
		if route != nil {
			result.Named[name] = routeOf(route)
		}
	}
	return result
}

func routesOf(list caddyhttp.RouteList) []routes.Route {
	result := make([]routes.Route, 0, len(list))
	for i := range list {
		result = append(result, routeOf(&list[i]))
	}
	return result
}

func routeOf(route *caddyhttp.Route) routes.Route {
	return routes.Route{Matchers: matchersOf(route), Steps: stepsOf(route), Group: route.Group, Terminal: route.Terminal}
}

// stepsOf translates the handlers of a route. A route has structs once all its handlers
// are loaded.
func stepsOf(route *caddyhttp.Route) []routes.Step {
	if len(route.HandlersRaw) > 0 {
		steps := make([]routes.Step, len(route.HandlersRaw))
		for i, raw := range route.HandlersRaw {
			_ = steps[i].UnmarshalJSON(raw)
		}
		return steps
	}
	steps := make([]routes.Step, 0, len(route.Handlers))
	for _, handler := range route.Handlers {
		steps = append(steps, stepOf(unguarded(handler)))
	}
	return steps
}

// stepOf translates a loaded handler.
func stepOf(handler any) routes.Step {
	step := routes.Step{Name: moduleName(handler)}
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		step.Routes = routesOf(h.Routes)
		if h.Errors != nil {
			step.Errors = routesOf(h.Errors.Routes)
		}
	case *reverseproxy.Handler:
		step.Config = laxjson.With(laxjson.Encode(h), "transport", laxjson.Encode(h.Transport)) // Caddy has removed its JSON
		for i := range h.HandleResponse {
			step.Responses = append(step.Responses, routesOf(h.HandleResponse[i].Routes))
		}
	default:
		step.Config = laxjson.Encode(h)
	}
	return step
}

// listsIn returns the lists of routes in a loaded handler.
func listsIn(handler any) (lists []caddyhttp.RouteList) {
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		lists = append(lists, h.Routes)
		if h.Errors != nil {
			lists = append(lists, h.Errors.Routes)
		}
	case *reverseproxy.Handler:
		for i := range h.HandleResponse {
			lists = append(lists, h.HandleResponse[i].Routes)
		}
	}
	return lists
}

// handlerGuard is a handler of this package that wraps another handler.
type handlerGuard interface{ guarded() any }

// unguarded returns the handler inside of handlerGuards.
func unguarded(handler any) any {
	for {
		guard, ok := handler.(handlerGuard)
		if !ok {
			return handler
		}
		handler = guard.guarded()
	}
}

// matchersOf returns the matcher sets of a route as in the configuration.
func matchersOf(route *caddyhttp.Route) matchers.Sets {
	if len(route.MatcherSetsRaw) == 0 {
		return loadedSets(route.MatcherSets)
	}
	sets := make(matchers.Sets, 0, len(route.MatcherSetsRaw))
	for _, raw := range route.MatcherSetsRaw {
		set := make(matchers.Set, len(raw))
		for name, config := range raw {
			set[name] = laxjson.Unescape(config)
		}
		sets = append(sets, set)
	}
	return sets
}

func loadedSets(loaded caddyhttp.MatcherSets) matchers.Sets {
	sets := make(matchers.Sets, 0, len(loaded))
	for _, matcherSet := range loaded {
		set := make(matchers.Set, len(matcherSet))
		for _, matcher := range matcherSet {
			if not, ok := matcher.(*caddyhttp.MatchNot); ok { // Caddy has removed its JSON
				set["not"] = laxjson.Encode(loadedSets(not.MatcherSets))
				continue
			}
			set[moduleName(matcher)] = laxjson.Encode(matcher)
		}
		sets = append(sets, set)
	}
	return sets
}

// moduleName returns the name of a module without its namespace, or "" if v is no module.
func moduleName(v any) string {
	module, ok := v.(caddy.Module)
	if !ok {
		return ""
	}
	return module.CaddyModule().ID.Name()
}
