// Package routes analyzes the routes of a configuration of Caddy's HTTP server. It
// walks through them in the order in which requests pass them, and reports for each
// htpasswd handler which requests reach it, and which placeholders of the user are
// used before it.
//
// # Use
//
// Translate the configuration into [Server] values and call [Walk]. [Route] and [Step]
// can be unmarshaled from Caddy's JSON.
//
// # Promises
//
// There are no false positives. An [EarlyUse] is [UseNeverNamesUser] only if no
// request can have a verified user there, whatever the earlier handlers do, and if
// requests go on from there to the login. Otherwise it is at most [UseMayNameUser],
// which deserves a warning.
//
// A walk takes time and memory proportional to the size of the configuration, even if
// named routes invoke each other or themselves. Some lists are limited for this
// reason. Beyond the limits, the walk reports less.
//
// A walk cannot determine
//   - what handlers of other modules do: they may verify a user, rewrite the
//     path, respond, or contain routes;
//   - whether two matchers can match the same request, except for host names and
//     for matchers that match everything;
//   - the values of placeholders, so a rewritten path may be any path;
//   - which handler caused an error, when it handles the error routes.
//
// Invalid JSON is treated as absent: Caddy reports it.
package routes

import (
	"encoding/json"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// Server is one HTTP server of a configuration.
type Server struct {
	Name   string
	Routes []Route
	Errors []Route          // error routes
	Named  map[string]Route // named routes, for the handler invoke
}

// Route is a route of Caddy: matchers and handlers. It can be unmarshaled from
// Caddy's JSON after [laxjson.Unescape].
type Route struct {
	Matchers matchers.Sets `json:"match"`
	Steps    []Step        `json:"handle"`
	Group    string        `json:"group"`    // a request takes only one route of a group; "" for no group
	Terminal bool          `json:"terminal"` // requests do not go on to later routes
}

// Step is a handler of a route.
type Step struct {
	Name      string          // of the module, without its namespace; "" if unknown
	Config    json.RawMessage // nil for a subroute, and if the handler cannot be encoded as JSON
	Routes    []Route         // of a subroute
	Errors    []Route         // error routes of a subroute
	Responses [][]Route       // routes of each handle_response
}

// UnmarshalJSON decodes the JSON of a handler. It never returns an error: Caddy
// reports invalid JSON.
func (s *Step) UnmarshalJSON(text []byte) error {
	text = laxjson.Unescape(text)
	var head struct {
		Handler string `json:"handler"`
	}
	_ = json.Unmarshal(text, &head)
	*s = Step{Name: head.Handler}
	switch s.Name {
	case "subroute":
		var subroute struct {
			Routes []Route `json:"routes"`
			Errors struct {
				Routes []Route `json:"routes"`
			} `json:"errors"`
		}
		_ = json.Unmarshal(text, &subroute)
		s.Routes, s.Errors = subroute.Routes, subroute.Errors.Routes
		return nil
	case "reverse_proxy", "intercept":
		var handler struct {
			Responses []struct {
				Routes []Route `json:"routes"`
			} `json:"handle_response"`
		}
		_ = json.Unmarshal(text, &handler)
		for _, response := range handler.Responses {
			s.Responses = append(s.Responses, response.Routes)
		}
	case "proxy_pass": // wraps another handler
		if proxy := laxjson.Field(text, "proxy"); proxy != nil {
			return s.UnmarshalJSON(proxy)
		}
	}
	s.Config = append(json.RawMessage(nil), text...) // the caller may reuse text
	return nil
}

// field returns a field of the handler's configuration.
func (s *Step) field(key string) json.RawMessage {
	return laxjson.Field(s.Config, key)
}
