// Package routes walks through the routes of a configuration of Caddy's HTTP
// server, in the order in which requests pass them, and reports what stands
// around each htpasswd handler: which requests come to it, and which
// placeholders of the user are used before it has verified one.
//
// # Use
//
// Translate the configuration into [Server] values and call [Walk]. What is read
// from JSON needs no translation: [Route] and [Step] can be unmarshaled from it.
//
// # Promises
//
// There is no false refusal. An [EarlyUse] is [UseNeverNamesUser] only if no
// request can have a verified user there, whatever handlers come before, and if
// requests go on from there to the login. Wherever the walk does not know, the use
// is [UseMayNameUser], which deserves a warning at most.
//
// The walk takes time and memory in proportion to the size of the configuration,
// even if named routes invoke each other or themselves. So some of what it
// collects has a limit. Beyond it the walk knows less and reports less.
//
// It cannot know
//   - what handlers of other modules do: they may verify a user, rewrite the
//     path, answer or have routes in them;
//   - whether two matchers can match the same request, but for names of hosts and
//     for matchers that match everything;
//   - what comes out of placeholders, so a path that is rewritten may be any;
//   - at which handler an error happened, when it comes to the error routes.
//
// JSON that Caddy will refuse reads as absent and is no error here.
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
	Errors []Route          // for requests that end with an error
	Named  map[string]Route // what the handler invoke can name
}

// Route has handlers for some requests. It can be unmarshaled from Caddy's JSON
// after [laxjson.Unescape].
type Route struct {
	Matchers matchers.Sets `json:"match"`
	Steps    []Step        `json:"handle"`
	Group    string        `json:"group"`    // of its routes a request takes one; "" for none
	Terminal bool          `json:"terminal"` // no request gets to the route after it
}

// Step is one handler of a route.
type Step struct {
	Name      string          // of the module, without its namespace; "" if unknown
	Config    json.RawMessage // nil for a subroute, and if the handler cannot be written as JSON
	Routes    []Route         // of a subroute
	Errors    []Route         // of a subroute
	Responses [][]Route       // of each handle_response
}

// UnmarshalJSON reads the JSON of a handler. It never returns an error: Caddy
// refuses what cannot be read, and says why.
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
	case "proxy_pass": // does nothing but guard another handler
		if proxy := laxjson.Field(text, "proxy"); proxy != nil {
			return s.UnmarshalJSON(proxy)
		}
	}
	s.Config = append(json.RawMessage(nil), text...) // the caller may use its memory again
	return nil
}

// field returns what the configuration of the handler has under a key.
func (s *Step) field(key string) json.RawMessage {
	return laxjson.Field(s.Config, key)
}
