package caddyhtpasswd

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// routeStep is one handler of a route as the configuration has it. While Caddy
// loads a configuration it drops the JSON of each part that it has loaded, so
// some handlers are JSON still, and others only the structs made of it.
type routeStep struct {
	name      string                // of the module, without its namespace
	config    json.RawMessage       // nil if the struct can't be written as JSON
	routes    caddyhttp.RouteList   // of a subroute
	errors    caddyhttp.RouteList   // of a subroute
	responses []caddyhttp.RouteList // of a handler with handle_response
	handler   any                   // nil while it is JSON
}

// stepsOf returns the handlers of a route in their order.
func stepsOf(route *caddyhttp.Route) []routeStep {
	var steps []routeStep
	for _, raw := range route.HandlersRaw {
		steps = append(steps, rawStep(raw))
	}
	if len(steps) > 0 {
		return steps // the structs of a route appear when all its handlers are loaded
	}
	for _, handler := range route.Handlers {
		steps = append(steps, loadedStep(handler))
	}
	return steps
}

// rawStep reads a handler that is not loaded yet. What it can't read is left
// out: Caddy refuses it later and says why.
func rawStep(raw json.RawMessage) routeStep {
	var head struct {
		Handler string `json:"handler"`
	}
	_ = json.Unmarshal(raw, &head)
	step := routeStep{name: head.Handler, config: unescaped(raw)}
	switch step.name {
	case "subroute":
		subroute := new(caddyhttp.Subroute)
		_ = json.Unmarshal(raw, subroute)
		step.addSubroute(subroute)
	case "reverse_proxy", "intercept":
		var handler struct {
			HandleResponse []caddyhttp.ResponseHandler `json:"handle_response"`
		}
		_ = json.Unmarshal(raw, &handler)
		step.addResponses(handler.HandleResponse)
	case "proxy_pass":
		if proxy := fieldOf(raw, "proxy"); proxy != nil {
			return rawStep(proxy)
		}
	}
	return step
}

// handlerGuard is a handler of this package that does nothing but guard another.
type handlerGuard interface{ guarded() any }

// loadedStep reads a handler that is loaded.
func loadedStep(handler any) routeStep {
	step := routeStep{name: moduleName(handler), handler: handler}
	switch h := handler.(type) {
	case handlerGuard:
		return loadedStep(h.guarded())
	case *caddyhttp.Subroute:
		step.addSubroute(h)
	case *reverseproxy.Handler:
		step.config = slices.Concat(jsonOf(h), jsonOf(h.Transport)) // its JSON is dropped
		step.addResponses(h.HandleResponse)
	default:
		step.config = jsonOf(h)
	}
	return step
}

func (s *routeStep) addSubroute(subroute *caddyhttp.Subroute) {
	s.config, s.routes = nil, subroute.Routes
	if subroute.Errors != nil {
		s.errors = subroute.Errors.Routes
	}
}

func (s *routeStep) addResponses(handlers []caddyhttp.ResponseHandler) {
	for i := range handlers {
		s.responses = append(s.responses, handlers[i].Routes)
	}
}

// field returns what the configuration of the handler has under a key.
func (s *routeStep) field(key string) json.RawMessage {
	return fieldOf(s.config, key)
}

func fieldOf(config json.RawMessage, key string) json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.NewDecoder(bytes.NewReader(config)).Decode(&fields) // a transport may follow
	return fields[key]
}

// without returns the configuration of the handler without some keys.
func (s *routeStep) without(keys ...string) json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(s.config))
	var fields map[string]json.RawMessage
	if decoder.Decode(&fields) != nil {
		return s.config
	}
	for _, key := range keys {
		delete(fields, key)
	}
	return slices.Concat(jsonOf(fields), s.config[decoder.InputOffset():])
}

// matchersOf returns the matcher sets of a route; none match every request.
func matchersOf(route *caddyhttp.Route) []caddy.ModuleMap {
	if len(route.MatcherSetsRaw) > 0 {
		sets := slices.Clone(route.MatcherSetsRaw)
		for i := range sets {
			sets[i] = unescapedSet(sets[i])
		}
		return sets
	}
	return matcherSetsJSON(route.MatcherSets)
}

func unescapedSet(set caddy.ModuleMap) caddy.ModuleMap {
	result := make(caddy.ModuleMap, len(set))
	for name, config := range set {
		result[name] = unescaped(config)
	}
	return result
}

// matcherSetsJSON returns loaded matchers as they stood in the configuration.
func matcherSetsJSON(sets []caddyhttp.MatcherSet) []caddy.ModuleMap {
	result := make([]caddy.ModuleMap, 0, len(sets))
	for _, set := range sets {
		raw := make(caddy.ModuleMap, len(set))
		for _, matcher := range set {
			if not, ok := matcher.(*caddyhttp.MatchNot); ok { // its own JSON is dropped
				raw["not"] = jsonOf(matcherSetsJSON(not.MatcherSets))
				continue
			}
			raw[moduleName(matcher)] = jsonOf(matcher)
		}
		result = append(result, raw)
	}
	return result
}

func moduleName(v any) string {
	module, ok := v.(caddy.Module)
	if !ok {
		return ""
	}
	return module.CaddyModule().ID.Name()
}

// jsonOf returns v as JSON, nil if there is none. The modules of others are
// not trusted to manage it.
func jsonOf(v any) (text json.RawMessage) {
	defer func() {
		if recover() != nil {
			text = nil
		}
	}()
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return text
}

// unescaped returns JSON in which letters and braces stand for themselves.
func unescaped(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`\u`)) {
		return raw
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	return jsonOf(v)
}

// placeholderIn returns the first placeholder in a JSON text that begins as
// one of the given ones, "" for none. `\{` is no placeholder.
func placeholderIn(text []byte, beginnings []string) string {
	for _, beginning := range beginnings {
		for rest := text; ; {
			i := bytes.Index(rest, []byte(beginning))
			if i < 0 {
				break
			}
			if i == 0 || rest[i-1] != '\\' {
				found := string(rest[i:])
				if end := strings.IndexByte(found, '}'); end >= 0 {
					found = found[:end+1]
				}
				return found
			}
			rest = rest[i+len(beginning):]
		}
	}
	return ""
}

// handlersIn returns the JSON of all handlers of that name within v, at any depth.
func handlersIn(v any, name string) []json.RawMessage {
	var found []json.RawMessage
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			found = append(found, handlersIn(element, name)...)
		}
	case map[string]any:
		if v["handler"] == name {
			return []json.RawMessage{jsonOf(v)}
		}
		for _, element := range v {
			found = append(found, handlersIn(element, name)...)
		}
	}
	return found
}
