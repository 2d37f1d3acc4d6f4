package routes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// caddysHandlers are Caddy's handlers that cannot set the user.
var caddysHandlers = []string{
	"acme_server", "copy_response", "copy_response_headers", "encode", "error", "file_server", "headers", "intercept", "log_append", "map",
	"metrics", "push", "request_body", "reverse_proxy", "rewrite", "static_response", "subroute", "templates", "timeouts", "tracing", "vars",
}

// lazyHandlers are those of them that evaluate placeholders after the next handler, or
// not at all.
var lazyHandlers = []string{
	"acme_server", "copy_response", "copy_response_headers", "encode", "intercept", "map", "metrics", "templates", "timeouts", "tracing",
}

// forwardProxy is the handler of the plugin caddyserver/forwardproxy, which handles
// CONNECT requests.
const forwardProxy = "forward_proxy"

func (s *Step) isCaddys() bool { return slices.Contains(caddysHandlers, s.Name) }

// routeEnd says whether a handler or route passes requests on to the next one. A
// higher value ends more requests.
type routeEnd int

const (
	endGoesOn routeEnd = iota // passes all requests on
	endMayEnd                 // some requests end, or the handler is unknown
	endAlways                 // all requests end
)

// end returns whether the handler passes requests on.
func (s *Step) end() routeEnd {
	switch s.Name {
	case "error", "metrics", "copy_response":
		return endAlways
	case "static_response":
		switch status := strings.Trim(string(s.field("status_code")), `"`); {
		case status == "103": // early hints
			return endGoesOn
		case strings.Contains(status, "{"):
			return endMayEnd
		}
		return endAlways
	case "reverse_proxy":
		if len(s.Responses) == 0 {
			return endAlways
		}
		return endMayEnd
	case "file_server":
		if string(s.field("pass_thru")) == "true" {
			return endMayEnd
		}
		return endAlways
	case "acme_server":
		return endMayEnd
	case "htpasswd", "authentication", "subroute", "invoke":
		return endGoesOn
	}
	if s.isCaddys() {
		return endGoesOn
	}
	return endMayEnd
}

// directive returns the Caddyfile directive that most likely created the handler.
func (s *Step) directive() string {
	switch s.Name {
	case "vars":
		switch {
		case s.field("root") != nil:
			return "root"
		case s.field(loggerNameVar) != nil:
			return "log_name"
		}
	case "headers":
		if s.field("response") == nil {
			return "request_header"
		}
		return "header"
	case "static_response":
		if laxjson.Field(s.field("headers"), "Location") != nil {
			return "redir"
		}
		return "respond"
	}
	return s.Name
}

// loggerNameVar is the variable set by Caddy's directive log_name.
const loggerNameVar = "access_logger_names"

// eagerHeaders returns the part of the configuration of a headers handler that is
// applied before it passes a request on.
func (s *Step) eagerHeaders() json.RawMessage {
	response := s.field("response")
	var later struct {
		Deferred bool            `json:"deferred"`
		Require  json.RawMessage `json:"require"`
	}
	_ = json.Unmarshal(response, &later)
	if later.Deferred || later.Require != nil && string(later.Require) != "null" {
		return laxjson.Without(s.Config, "response")
	}
	return s.Config
}

// handlersIn returns the JSON of all handlers of a name within v, at any depth.
func handlersIn(v any, name string) []json.RawMessage {
	var found []json.RawMessage
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			found = append(found, handlersIn(element, name)...)
		}
	case map[string]any:
		if v["handler"] == name {
			return []json.RawMessage{laxjson.Encode(v)}
		}
		for _, element := range v {
			found = append(found, handlersIn(element, name)...)
		}
	}
	return found
}
