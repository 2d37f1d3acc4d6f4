package caddyhtpasswd

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteWalk goes through all routes of a configuration once, in the order in
// which requests pass them, and notes what is to be said about each htpasswd.
// It takes time in proportion to the size of the configuration: a list of routes
// is gone through once, and what was used on the way is noted once, see useSet.
type siteWalk struct {
	named     map[string]*caddyhttp.Route // of the server
	invoked   map[invocation]*passage
	findings  []htpasswdFinding
	uncertain []reportedUse
	served    map[string][]servedFiles // by root of a file server
	tunnels   map[string]bool          // servers with a forward proxy
	hasLogin  map[string]bool          // servers with an htpasswd
	refusal   error
}

// invocation is a named route, with what is known of the user when it begins.
type invocation struct {
	name            string
	user            userKnowledge
	names, doubtful int // of placeholders
}

// htpasswdFinding is one htpasswd with what stands around it.
type htpasswdFinding struct {
	*Handler
	routePlace
	exactPath string // set if the htpasswd protects only that path
}

// userKnowledge says whether placeholders name a user that was verified.
type userKnowledge int

const (
	userUnknown  userKnowledge = iota // no handler before has asked
	userPossible                      // one may have asked
	userVerified                      // one has asked, whatever the request
)

// userPlaceholders is how the placeholders begin that say who the user is.
const userPlaceholders = "{http.auth.user."

// routePlace is a place on the way of a request.
type routePlace struct {
	requestPlace
	knowledge
	server string
	early  *useSet  // all on the way to here
	paths  []string // patterns, one of which the path fits; none for any path
	except []string // requests that do not come here, since routes before answer them

	isUnreached bool // no request comes here
}

// sideRoute is a route whose requests do not come to the routes after it, or
// not to those of its group.
type sideRoute struct {
	group    string
	end      routeEnd
	isForAll bool
	requests string
}

// maxSideRoutes is how many of them are named.
const maxSideRoutes = 8

// isForHosts reports whether the matchers are those that tell sites apart.
func isForHosts(sets []caddy.ModuleMap) bool {
	return len(sets) == 1 && len(sets[0]) == 1 && sets[0]["host"] != nil
}

// without returns the place of a route after others, which answer some requests.
func (p routePlace) without(sides []sideRoute, group string) routePlace {
	for _, side := range sides {
		switch {
		case side.end != ends && (side.group == "" || side.group != group):
		case side.isForAll:
			p.isUnreached = true
		default:
			p.except = append(slices.Clip(p.except), side.requests)
		}
	}
	return p
}

// passage is what is different behind a list of routes.
type passage struct {
	knowledge
	early    *useSet // what the routes add
	end      routeEnd
	hasLogin bool
	rewrites bool // the path may be another
}

// knowledge is what is known of a request at a place.
type knowledge struct {
	user     userKnowledge
	roots    []string // where files may be looked for
	names    []string // beginnings of the placeholders that say who the user is
	doubtful []string // those of names that say it for some requests only
}

// or returns what is known if a request may have come another way.
func (k knowledge) or(other knowledge) knowledge {
	return knowledge{
		user:     max(k.user, other.user),
		roots:    union(k.roots, other.roots),
		names:    union(k.names, other.names),
		doubtful: union(k.doubtful, other.doubtful),
	}
}

// walkSites goes through the servers by name.
func walkSites(app *caddyhttp.App) *siteWalk {
	w := &siteWalk{served: make(map[string][]servedFiles), tunnels: make(map[string]bool), hasLogin: make(map[string]bool)}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		if server == nil {
			continue
		}
		w.named, w.invoked = server.NamedRoutes, make(map[invocation]*passage)
		begin := routePlace{server: name, knowledge: knowledge{names: []string{userPlaceholders}}}
		w.routes(server.Routes, begin)
		if server.Errors != nil {
			begin.user, begin.roots = userPossible, []string{unknownRoot}
			w.routes(server.Errors.Routes, begin)
		}
	}
	return w
}

// routeGroup is what the routes of a group leave behind that were walked through.
// Of a group, a request takes one route.
type routeGroup struct {
	knowledge
	early      *useSet
	allEnd     bool // the request is answered in each
	isComplete bool // each request takes one
}

// maxOpenGroups keeps the work for a list in proportion to its length. Of more
// groups it is not known which of them a request can't have taken.
const maxOpenGroups = 16

// routes walks through a list of routes.
func (w *siteWalk) routes(list caddyhttp.RouteList, at routePlace) passage {
	matchers := make([][]caddy.ModuleMap, len(list))
	exactPaths := make(map[string]int)
	last := make(map[string]int) // of each group
	for i := range list {
		matchers[i] = matchersOf(&list[i])
		exactPaths[exactPathOf(matchers[i])]++
		last[list[i].Group] = i
	}

	all := passage{knowledge: at.knowledge}
	open := make(map[string]routeGroup) // of which more routes follow; seldom more than a few
	var grouped routeGroup              // all of them together
	var sides []sideRoute
	for i := range list {
		route := &list[i]
		here := at.without(sides, route.Group)
		here.knowledge, here.early = all.knowledge, at.early.with(all.early)
		if len(open) > maxOpenGroups {
			here.knowledge, here.early = here.or(grouped.knowledge), here.early.with(grouped.early.inRoute(mayEnd))
		} else {
			for name, other := range open {
				if name != route.Group {
					here.knowledge, here.early = here.or(other.knowledge), here.early.with(other.early)
				}
			}
		}
		if all.rewrites {
			here.paths = nil
		}
		asked := newUses(here.usesInMatchers(matchers[i]))
		all.early, here.early = all.early.with(asked), here.early.with(asked)
		out := w.route(route, matchers[i], here, exactPaths)
		out.early = out.early.inRoute(out.end)
		if route.Terminal {
			out.early, out.end = nil, ends
		}
		if len(sides) < maxSideRoutes && (out.end == ends || route.Group != "") && !isForHosts(matchers[i]) {
			sides = append(sides, sideRoute{route.Group, out.end, isForAll(matchers[i]), describeSets(matchers[i])})
		}
		all.hasLogin, all.rewrites = all.hasLogin || out.hasLogin, all.rewrites || out.rewrites && out.end != ends
		if route.Group != "" {
			group, isKnown := open[route.Group]
			group.allEnd = (group.allEnd || !isKnown) && out.end == ends || group.allEnd && group.isComplete
			group.isComplete = group.isComplete || isForAll(matchers[i])
			if out.end > goesOn {
				all.end = max(all.end, mayEnd)
			}
			group.early, grouped.early = group.early.with(out.early), grouped.early.with(out.early)
			if out.end != ends {
				out.user = min(out.user, max(all.user, userPossible))
				group.knowledge, grouped.knowledge = group.or(out.knowledge), grouped.or(out.knowledge)
			}
			open[route.Group] = group
			if last[route.Group] == i {
				delete(open, route.Group)
				all.knowledge, all.early = all.or(group.knowledge), all.early.with(group.early)
				if group.allEnd && group.isComplete {
					all.end = ends
				}
			}
			continue
		}
		all.follow(out, !isForAll(matchers[i]))
	}
	return all
}

// follow adds a route to those before it.
func (p *passage) follow(out passage, isConditional bool) {
	p.early = p.early.with(out.early)
	switch {
	case out.end == ends && isConditional:
		p.end = max(p.end, mayEnd)
	case out.end == ends: // no request gets from there to the next
		p.end = ends
	case isConditional:
		p.end = max(p.end, out.end)
		out.user = min(out.user, max(p.user, userPossible))
		p.knowledge = p.or(out.knowledge)
	default:
		p.end = max(p.end, out.end)
		out.user = max(p.user, out.user)
		p.knowledge = out.knowledge
	}
}

// isForAll reports whether a route with these matchers is for every request,
// encrypted or not.
func isForAll(sets []caddy.ModuleMap) bool {
	return len(sets) == 0 || slices.ContainsFunc(sets, func(set caddy.ModuleMap) bool { return set["protocol"] == nil && matchesAll(set) })
}

// route walks through the handlers of a route. What it returns has what was
// known before in it.
func (w *siteWalk) route(route *caddyhttp.Route, sets []caddy.ModuleMap, at routePlace, exactPaths map[string]int) passage {
	at.narrow(sets)
	steps := stepsOf(route)
	exactPath := exactPathOf(sets)
	if exactPaths[exactPath] > 1 || slices.ContainsFunc(steps, func(s routeStep) bool { return s.name != "htpasswd" }) {
		exactPath = "" // what it protects is for that path only, too
	}
	var all passage
	for i := range steps {
		at.isUnreached = at.isUnreached || all.end == ends
		out := w.step(&steps[i], at, exactPath)
		at.add(out)
		all.early, all.end = all.early.with(out.early), max(all.end, out.end)
		all.hasLogin, all.rewrites = all.hasLogin || out.hasLogin, all.rewrites || out.rewrites
	}
	all.knowledge = at.knowledge
	return all
}

// add is for the place behind a handler.
func (p *routePlace) add(out passage) {
	p.knowledge, p.early = out.knowledge, p.early.with(out.early)
	if out.rewrites {
		p.paths = nil
	}
}

// step walks through one handler.
func (w *siteWalk) step(step *routeStep, at routePlace, exactPath string) passage {
	out := passage{knowledge: at.knowledge, end: step.end()}
	switch step.name {
	case "htpasswd":
		out.hasLogin, out.user = true, w.htpasswd(step.config, &at, exactPath)
		return out
	case "authentication":
		out.user = userVerified
		return out
	case "subroute":
		out = w.routes(step.routes, at)
		out.user = max(out.user, at.user)
		if len(step.errors) > 0 {
			after := at
			after.user, after.early, after.paths = userPossible, nil, nil
			w.routes(step.errors, after)
			out.rewrites = true
			if out.end == ends {
				out.end = mayEnd // they go on to what comes after
			}
		}
		return out
	case "invoke":
		return w.invoke(step, &at)
	}
	out.early = newUses(at.usesIn(step))
	at.early = at.early.with(out.early)
	for _, routes := range step.responses { // only some answers lead there
		after := at
		if step.name == "intercept" { // the answer of what comes after
			after.user, after.early, after.paths = userPossible, nil, nil
			out.hasLogin = w.routes(routes, after).hasLogin || out.hasLogin
			continue
		}
		more := w.routes(routes, after)
		more.user, more.roots = min(more.user, max(out.user, userPossible)), nil
		out.knowledge, out.early = out.or(more.knowledge), out.early.with(more.early)
		out.hasLogin, out.rewrites = out.hasLogin || more.hasLogin, out.rewrites || more.rewrites
	}
	switch {
	case step.name == "vars":
		out.setVars(step)
	case step.name == "map":
		out.addMapped(step)
	case step.name == "rewrite":
		out.rewrites = true
	case step.name == "file_server":
		w.addFileServer(step, &at)
	case !slices.Contains(caddysHandlers, step.name):
		w.tunnels[at.server] = w.tunnels[at.server] || step.name == forwardProxy
		out.user, out.rewrites = max(out.user, userPossible), true
		out.hasLogin = w.unknownHandler(step, at) || out.hasLogin
	}
	return out
}

// end says whether a handler passes requests on.
func (s *routeStep) end() routeEnd {
	switch s.name {
	case "error", "metrics", "copy_response":
		return ends
	case "static_response":
		switch status := strings.Trim(string(s.field("status_code")), `"`); {
		case status == "103": // early hints
			return goesOn
		case strings.Contains(status, "{"):
			return mayEnd
		}
		return ends
	case "reverse_proxy":
		if len(s.responses) == 0 {
			return ends
		}
		return mayEnd
	case "file_server":
		if string(s.field("pass_thru")) == "true" {
			return mayEnd
		}
		return ends
	case "acme_server":
		return mayEnd
	case "htpasswd", "authentication", "subroute", "invoke":
		return goesOn
	}
	if slices.Contains(caddysHandlers, s.name) {
		return goesOn
	}
	return mayEnd
}

// caddysHandlers are those that come with Caddy and can't say who a user is.
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

// unknownHandler is for a handler that does not come with Caddy. It may say
// who the user is, and there may be an htpasswd in it.
func (w *siteWalk) unknownHandler(step *routeStep, at routePlace) bool {
	at.user = max(at.user, userPossible)
	if step.config == nil { // it says nothing of itself
		w.hasLogin[at.server] = true
	}
	if !strings.Contains(string(step.config), `"htpasswd"`) {
		return false
	}
	var v any
	_ = json.Unmarshal(step.config, &v)
	found := handlersIn(v, "htpasswd")
	for _, config := range found {
		w.htpasswd(config, &at, "")
	}
	return len(found) > 0
}

// htpasswd notes an htpasswd, and which placeholders were used on the way to
// it. It returns what is known of the user behind it.
func (w *siteWalk) htpasswd(config json.RawMessage, at *routePlace, exactPath string) userKnowledge {
	h := new(Handler)
	_ = json.Unmarshal(config, h)
	w.findings = append(w.findings, htpasswdFinding{Handler: h, routePlace: *at, exactPath: exactPath})
	inside := *at
	if found := placeholderIn(config, at.names); found != "" && at.user != userVerified {
		inside.early = inside.early.with(newUses([]*earlyUse{at.use(found, "htpasswd", "")}))
	}
	if len(h.ExemptRaw) > 0 { // a condition of its own
		inside.matchers = append(slices.Clip(inside.matchers), "none of "+string(jsonOf(h.ExemptRaw)))
	}
	w.hasLogin[at.server] = true
	w.reportUses(&inside)
	if len(h.ExemptRaw) > 0 {
		return max(at.user, userPossible)
	}
	return userVerified
}

// invoke walks through a named route. The second time it is known what is in it.
func (w *siteWalk) invoke(step *routeStep, at *routePlace) passage {
	name := stringIn(step.field("name"))
	route := w.named[name]
	key := invocation{name, at.user, len(at.names), len(at.doubtful)}
	out, isKnown := w.invoked[key]
	switch {
	case route == nil:
		return passage{knowledge: at.knowledge}
	case !isKnown:
		out = &passage{rewrites: true, end: mayEnd}
		out.user = at.user
		w.invoked[key] = out // it may invoke itself
		*out = w.routes(caddyhttp.RouteList{*route}, *at)
	case out.hasLogin:
		w.reportUses(at)
	}
	result := *out
	result.knowledge = at.or(out.knowledge)
	return result
}

// use notes a placeholder that is used here.
func (p *routePlace) use(placeholder, directive, matcher string) *earlyUse {
	return &earlyUse{
		placeholder: placeholder,
		directive:   directive,
		matcher:     matcher,
		certain:     p.user == userUnknown && !slices.Contains(p.doubtful, placeholder),
		place:       p.requestPlace,
	}
}

// usesInMatchers returns where matchers ask who the user is, too early.
func (p *routePlace) usesInMatchers(sets []caddy.ModuleMap) []*earlyUse {
	if p.user == userVerified {
		return nil
	}
	var uses []*earlyUse
	for _, set := range sets {
		for name, config := range set {
			found := placeholderIn(config, p.names)
			if found == "" && name == "expression" { // a call in it
				found = placeholderIn(config, []string{strings.TrimPrefix(userPlaceholders, "{")})
			}
			if found != "" {
				uses = append(uses, p.use(found, "", name))
			}
		}
	}
	return uses
}

// usesIn returns where a handler asks who the user is, too early.
func (p *routePlace) usesIn(step *routeStep) []*earlyUse {
	if p.user == userVerified || placeholderIn(step.config, p.names) == "" || slices.Contains(lazyHandlers, step.name) {
		return nil
	}
	config := step.config
	switch step.name {
	case "reverse_proxy":
		config = step.without("handle_response")
	case "headers":
		config = step.eagerHeaders()
	case "log_append":
		if string(step.field("early")) != "true" {
			return nil
		}
	}
	found := placeholderIn(config, p.names)
	if found == "" {
		return nil
	}
	use := p.use(found, step.directive(), "")
	use.certain = use.certain && slices.Contains(caddysHandlers, step.name)
	return []*earlyUse{use}
}

// eagerHeaders is what the handler headers changes before it passes a request on.
func (s *routeStep) eagerHeaders() json.RawMessage {
	response := s.field("response")
	var later struct {
		Deferred bool            `json:"deferred"`
		Require  json.RawMessage `json:"require"`
	}
	_ = json.Unmarshal(response, &later)
	if later.Deferred || later.Require != nil && string(later.Require) != "null" {
		return s.without("response")
	}
	return s.config
}

// directive is what a handler most likely is in a Caddyfile.
func (s *routeStep) directive() string {
	switch s.name {
	case "vars":
		switch {
		case s.field("root") != nil:
			return "root"
		case s.field(caddyhttp.AccessLoggerNameVarKey) != nil:
			return "log_name"
		}
	case "headers":
		if s.field("response") == nil {
			return "request_header"
		}
		return "header"
	case "static_response":
		if fieldOf(s.field("headers"), "Location") != nil {
			return "redir"
		}
		return "respond"
	}
	return s.name
}

// setVars follows the root of a site; a variable can also say who the user is.
func (k *knowledge) setVars(step *routeStep) {
	if root := stringIn(step.field("root")); root != "" {
		k.roots = []string{root}
	}
	if step.field(userPlaceholder) != nil {
		k.user = max(k.user, userPossible)
	}
}

// addMapped takes the results of a map for what they are made of: all of what
// it asks for, and each of what stands in its own column.
func (k *knowledge) addMapped(step *routeStep) {
	source := placeholderIn(step.field("source"), k.names)
	columns := mapColumns(step)
	for i, name := range stringsIn(step.field("destinations")) {
		name = "{" + strings.Trim(name, "{}") + "}"
		isOfUser := source != "" || i < len(columns) && placeholderIn(columns[i], k.names) != ""
		if !isOfUser {
			continue
		}
		isNew := !slices.Contains(k.names, name)
		k.names = union(k.names, []string{name})
		if isNew && (source == "" || slices.Contains(k.doubtful, source)) {
			k.doubtful = union(k.doubtful, []string{name})
		}
	}
}

// mapColumns returns what a map has for each destination.
func mapColumns(step *routeStep) []json.RawMessage {
	var rows [][]json.RawMessage
	var mappings []struct {
		Outputs []json.RawMessage `json:"outputs"`
	}
	_ = json.Unmarshal(step.field("mappings"), &mappings)
	for _, mapping := range mappings {
		rows = append(rows, mapping.Outputs)
	}
	var defaults []json.RawMessage
	_ = json.Unmarshal(step.field("defaults"), &defaults)
	var columns []json.RawMessage
	for _, row := range append(rows, defaults) {
		for i, cell := range row {
			if i == len(columns) {
				columns = append(columns, nil)
			}
			columns[i] = append(columns[i], cell...)
		}
	}
	return columns
}

// servedFiles is what a file server hands out from its root.
type servedFiles struct {
	hide  []string
	paths []string // patterns, one of which the path fits; none for any path
}

// addFileServer notes where a file server takes its files from.
func (w *siteWalk) addFileServer(step *routeStep, at *routePlace) {
	roots := at.roots
	if fs := stringIn(step.field("fs")); fs != "" && fs != "{http.vars.fs}" {
		return // not the files of this machine
	}
	if own := stringIn(step.field("root")); own != "" && own != "{http.vars.root}" {
		roots = []string{own}
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	files := servedFiles{stringsIn(step.field("hide")), at.paths}
	for _, root := range roots {
		if root == unknownRoot {
			continue
		}
		w.served[root] = append(w.served[root], files)
	}
}

// narrow adds the matchers of a route to what is known of the requests.
func (p *routePlace) narrow(sets []caddy.ModuleMap) {
	if isForAll(sets) {
		return
	}
	if isForHosts(sets) && len(p.hosts) == 0 {
		p.hosts = stringsIn(sets[0]["host"])
		return
	}
	p.requests = append(slices.Clip(p.requests), describeSets(sets))
	p.matchers = append(slices.Clip(p.matchers), string(jsonOf(sets)))
	var paths []string
	for _, set := range sets {
		patterns := stringsIn(set["path"])
		if len(patterns) == 0 {
			return // one that is for other paths, too
		}
		paths = append(paths, patterns...)
	}
	p.paths = paths
}

// exactPathOf returns the path that is the only one to match, "" if there are
// others or it ends in the name of a file.
func exactPathOf(sets []caddy.ModuleMap) string {
	if len(sets) != 1 {
		return ""
	}
	paths := stringsIn(sets[0]["path"])
	if len(paths) != 1 || strings.ContainsAny(paths[0], "*?[{%") || strings.Contains(paths[0][strings.LastIndexByte(paths[0], '/')+1:], ".") {
		return ""
	}
	return paths[0]
}

// unknownRoot stands for a root that was set by whatever came before an error.
const unknownRoot = ""

// maxUnion keeps the work for a configuration in proportion to its size.
const maxUnion = 64

func union(a, b []string) []string {
	for _, text := range b {
		if len(a) < maxUnion && !slices.Contains(a, text) {
			a = append(slices.Clip(a), text)
		}
	}
	return a
}
