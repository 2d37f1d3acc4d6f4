package routes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// Walk analyzes the routes of all servers. It does not change them.
func Walk(servers []Server) *Report {
	w := walk{report: &Report{
		Served:          make(map[string][]ServedFiles),
		HasLogin:        make(map[string]bool),
		HasForwardProxy: make(map[string]bool),
	}}
	for i := range servers {
		w.server(&servers[i])
	}
	return w.report
}

// walk is the state of a call of Walk.
type walk struct {
	report  *Report
	named   map[string]Route        // of the current server
	invoked map[invocation]*passage // of the current server
}

// invocation identifies a named route, and what is known about the user before it.
type invocation struct {
	name            string
	user            userKnowledge
	names, doubtful int // number of placeholders
}

// position is a place on the way of requests, with the knowledge about them.
type position struct {
	Place
	knowledge
	early *useSet  // all early uses before it
	paths []string // path patterns of the matchers around it; none for any path
}

// passage is the result of a handler, a route or a list of routes.
type passage struct {
	knowledge          // after it, including the knowledge before it
	early     *useSet  // early uses in it
	end       routeEnd // whether requests go on
	hasLogin  bool     // it contains an htpasswd handler
	rewrites  bool     // it may change the path
}

func (w *walk) server(server *Server) {
	w.named, w.invoked = server.Named, make(map[invocation]*passage)
	begin := position{Place: Place{Server: server.Name}, knowledge: knowledge{names: []string{userPlaceholders}}}
	w.list(server.Routes, begin)
	begin.user, begin.roots = userPossible, []string{unknownRoot}
	w.list(server.Errors, begin)
}

// route walks through the handlers of a route.
func (w *walk) route(route *Route, at position, exactPath string) passage {
	at.narrow(route.Matchers)
	var all passage
	for i := range route.Steps {
		at.IsUnreached = at.IsUnreached || all.end == endAlways
		out := w.step(&route.Steps[i], at, exactPath)
		at.advance(out)
		all.early, all.end = all.early.with(out.early), max(all.end, out.end)
		all.hasLogin, all.rewrites = all.hasLogin || out.hasLogin, all.rewrites || out.rewrites
	}
	all.knowledge = at.knowledge
	return all
}

// advance moves the position to after a handler.
func (p *position) advance(out passage) {
	p.knowledge, p.early = out.knowledge, p.early.with(out.early)
	if out.rewrites {
		p.paths = nil
	}
}

// step walks through one handler.
func (w *walk) step(step *Step, at position, exactPath string) passage {
	out := passage{knowledge: at.knowledge, end: step.end()}
	switch step.Name {
	case "htpasswd":
		out.hasLogin, out.user = true, w.login(step.Config, at, exactPath)
		return out
	case "authentication":
		out.user = userVerified
		return out
	case "subroute":
		return w.subroute(step, at)
	case "invoke":
		return w.invoke(step, at)
	}

	out.early = at.usesInStep(step)
	at.early = at.early.with(out.early)
	w.responses(step, at, &out)
	switch {
	case step.Name == "vars":
		out.setVars(step)
	case step.Name == "map":
		out.addMapped(step)
	case step.Name == "rewrite":
		out.rewrites = true
	case step.Name == "file_server":
		w.addFileServer(step, &at)
	case !step.isCaddys():
		out.user, out.rewrites = max(out.user, userPossible), true
		out.hasLogin = w.unknownHandler(step, at) || out.hasLogin
	}
	return out
}

// login adds an htpasswd handler, and the early uses before it, to the report. It
// returns the knowledge about the user after it.
func (w *walk) login(config json.RawMessage, at position, exactPath string) userKnowledge {
	var handler struct {
		Exempt matchers.Sets `json:"exempt"`
	}
	_ = json.Unmarshal(config, &handler)
	w.report.Logins = append(w.report.Logins, Login{Place: at.Place, Config: config, ExactPath: exactPath, Paths: at.paths})
	w.report.HasLogin[at.Server] = true

	before := at.user
	if found := placeholderIn(config, at.names); found != "" && before != userVerified {
		at.early = at.early.with(newUses(at.use(found, "htpasswd", "")))
	}
	if len(handler.Exempt) > 0 { // exempt is a condition, too
		at.matchers = append(slices.Clip(at.matchers), "none of "+string(laxjson.Encode(handler.Exempt)))
	}
	w.reportUses(&at)
	if len(handler.Exempt) > 0 {
		return max(before, userPossible)
	}
	return userVerified
}

// subroute walks through the routes of a subroute handler.
func (w *walk) subroute(step *Step, at position) passage {
	out := w.list(step.Routes, at)
	out.user = max(out.user, at.user)
	if len(step.Errors) > 0 {
		w.list(step.Errors, at.afterOthers())
		out.rewrites = true
		if out.end == endAlways {
			out.end = endMayEnd // requests go on from the error routes
		}
	}
	return out
}

// afterOthers returns the position for requests that have passed handlers that the
// walk visits later.
func (p position) afterOthers() position {
	p.user, p.early, p.paths = userPossible, nil, nil
	return p
}

// invoke walks through a named route, and uses the previous result for the second
// invocation.
func (w *walk) invoke(step *Step, at position) passage {
	name := laxjson.String(step.field("name"))
	route, ok := w.named[name]
	if !ok {
		return passage{knowledge: at.knowledge}
	}
	key := invocation{name, at.user, len(at.names), len(at.doubtful)}
	out, isKnown := w.invoked[key]
	switch {
	case !isKnown:
		out = &passage{knowledge: knowledge{user: at.user}, rewrites: true, end: endMayEnd}
		w.invoked[key] = out // it may invoke itself
		*out = w.list([]Route{route}, at)
	case out.hasLogin:
		w.reportUses(&at)
	}
	result := *out
	result.knowledge = at.or(out.knowledge)
	return result
}

// responses walks through the handle_response routes of a handler.
func (w *walk) responses(step *Step, at position, out *passage) {
	for _, routes := range step.Responses {
		if step.Name == "intercept" { // of the handlers after it
			out.hasLogin = w.list(routes, at.afterOthers()).hasLogin || out.hasLogin
			continue
		}
		more := w.list(routes, at)
		more.user, more.roots = min(more.user, max(out.user, userPossible)), nil
		out.knowledge, out.early = out.or(more.knowledge), out.early.with(more.early)
		out.hasLogin, out.rewrites = out.hasLogin || more.hasLogin, out.rewrites || more.rewrites
	}
}

// unknownHandler visits a handler of another module. It may set the user, and may
// contain an htpasswd handler: unknownHandler reports whether it does.
func (w *walk) unknownHandler(step *Step, at position) bool {
	at.user = max(at.user, userPossible)
	if step.Name == forwardProxy {
		w.report.HasForwardProxy[at.Server] = true
	}
	if step.Config == nil { // its configuration is unknown
		w.report.HasLogin[at.Server] = true
	}
	if !strings.Contains(string(step.Config), `"htpasswd"`) {
		return false
	}
	var v any
	_ = json.Unmarshal(step.Config, &v)
	found := handlersIn(v, "htpasswd")
	for _, config := range found {
		w.login(config, at, "")
	}
	return len(found) > 0
}
