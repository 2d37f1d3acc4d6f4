package routes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// caddysHandlers are those that come with Caddy and cannot say who a user is.
var caddysHandlers = []string{
	"acme_server", "copy_response", "copy_response_headers", "encode", "error", "file_server", "headers", "intercept", "log_append", "map",
	"metrics", "push", "request_body", "reverse_proxy", "rewrite", "static_response", "subroute", "templates", "timeouts", "tracing", "vars",
}

// lazyHandlers are those of them that look at a placeholder later, if at all.
var lazyHandlers = []string{
	"acme_server", "copy_response", "copy_response_headers", "encode", "intercept", "map", "metrics", "templates", "timeouts", "tracing",
}

// forwardProxy is the handler of a plugin, caddyserver/forwardproxy, to which
// clients send CONNECT.
const forwardProxy = "forward_proxy"

func (s *Step) isCaddys() bool { return slices.Contains(caddysHandlers, s.Name) }

// routeEnd says whether a request that takes a route, or comes to a handler,
// gets to what comes after. A larger one ends more requests.
type routeEnd int

const (
	endGoesOn routeEnd = iota // the request goes on
	endMayEnd                 // some requests do not, or the handler is not known
	endAlways                 // no request goes on
)

// end says whether the handler passes requests on.
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

// directive is what the handler most likely is in a Caddyfile.
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

// loggerNameVar is the variable that Caddy's directive log_name sets.
const loggerNameVar = "access_logger_names"

// eagerHeaders is what the handler headers changes before it passes a request on.
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
			return []json.RawMessage{laxjson.Encode(v)}
		}
		for _, element := range v {
			found = append(found, handlersIn(element, name)...)
		}
	}
	return found
}
