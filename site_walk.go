package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteWalk goes through all routes of a configuration once, in the order in
// which requests pass them, and notes what is to be said about each htpasswd.
// It takes time in proportion to the size of the configuration.
type siteWalk struct {
	named    map[string]*caddyhttp.Route // of the server
	invoked  map[invocation]*passage
	findings []htpasswdFinding
	served   map[string][][]string // by root of a file server: what each hides
	tunnels  map[string]bool       // servers with a forward proxy
	hasLogin map[string]bool       // servers with an htpasswd
	refusal  error
}

// invocation is a named route, with what is known of the user when it begins.
type invocation struct {
	name  string
	user  userKnowledge
	names int // of placeholders
}

// htpasswdFinding is one htpasswd with what stands around it.
type htpasswdFinding struct {
	*Handler
	routePlace
	uncertain []*earlyUse
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

// earlyUse is a placeholder that is used before a user is verified.
type earlyUse struct {
	placeholder string
	directive   string
	matcher     string // "" if the directive itself uses it
	certain     bool   // no handler before can have set it
	reported    bool
}

// routePlace is a place on the way of a request.
type routePlace struct {
	server   string
	hosts    []string // of the site; none for any
	requests []string // one for each level of matchers
	user     userKnowledge
	early    []*earlyUse // on the way to here; grows only
	roots    []string    // where files may be looked for
	names    []string    // beginnings of the placeholders that say who the user is
}

// passage is what is different behind a list of routes.
type passage struct {
	user     userKnowledge
	early    []*earlyUse
	roots    []string
	names    []string
	hasLogin bool
}

// walkSites goes through the servers by name.
func walkSites(app *caddyhttp.App) *siteWalk {
	w := &siteWalk{served: make(map[string][][]string), tunnels: make(map[string]bool), hasLogin: make(map[string]bool)}
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		server := app.Servers[name]
		if server == nil {
			continue
		}
		w.named, w.invoked = server.NamedRoutes, make(map[invocation]*passage)
		begin := routePlace{server: name, names: []string{userPlaceholders}}
		w.routes(server.Routes, begin)
		if server.Errors != nil {
			begin.user, begin.roots = userPossible, []string{unknownRoot}
			w.routes(server.Errors.Routes, begin)
		}
	}
	return w
}

// routes walks through a list of routes.
func (w *siteWalk) routes(list caddyhttp.RouteList, at routePlace) passage {
	matchers := make([][]caddy.ModuleMap, len(list))
	exactPaths := make(map[string]int)
	for i := range list {
		matchers[i] = matchersOf(&list[i])
		exactPaths[exactPathOf(matchers[i])]++
	}

	all := passage{user: at.user, roots: at.roots, names: at.names, early: slices.Clip(at.early)}
	groups := make(map[string]passage) // of those that leave something behind
	for i := range list {
		route := &list[i]
		all.early = append(all.early, usesInMatchers(matchers[i], all.user, all.names)...)
		here := at
		here.user, here.early, here.roots, here.names = all.user, all.early, all.roots, all.names
		for name, other := range groups {
			if name != route.Group { // of a group, a request takes one
				here.user = max(here.user, min(other.user, userPossible))
				here.early = slices.Concat(here.early, other.early)
				here.roots, here.names = union(here.roots, other.roots), union(here.names, other.names)
			}
		}
		begin := len(here.early)
		out := w.route(route, matchers[i], here, exactPaths)
		out.early = unreported(out.early[begin:])
		all.hasLogin = all.hasLogin || out.hasLogin
		if route.Terminal {
			continue // no request gets from there to the next
		}
		if isConditional(route, matchers[i]) {
			out.user = min(out.user, userPossible)
			out.roots = union(all.roots, out.roots)
		}
		if route.Group != "" {
			if out.user > all.user || len(out.early) > 0 || len(out.names) > len(all.names) || !slices.Equal(out.roots, all.roots) {
				before := groups[route.Group]
				groups[route.Group] = passage{
					user:  max(before.user, out.user),
					early: append(before.early, out.early...),
					roots: union(before.roots, out.roots),
					names: union(before.names, out.names),
				}
			}
			continue
		}
		all.user, all.roots, all.names = max(all.user, out.user), out.roots, out.names
		all.early = append(all.early, out.early...)
	}
	for _, group := range groups {
		all.user = max(all.user, group.user)
		all.early = append(all.early, group.early...)
		all.roots, all.names = union(all.roots, group.roots), union(all.names, group.names)
	}
	all.early = unreported(all.early[len(at.early):])
	return all
}

// isConditional reports whether there are requests that pass a route by.
func isConditional(route *caddyhttp.Route, sets []caddy.ModuleMap) bool {
	return route.Group != "" || !isForAll(sets)
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
	var hasLogin bool
	steps := stepsOf(route)
	exactPath := exactPathOf(sets)
	if exactPaths[exactPath] > 1 || slices.ContainsFunc(steps, func(s routeStep) bool { return s.name != "htpasswd" }) {
		exactPath = "" // what it protects is for that path only, too
	}
	for i := range steps {
		hasLogin = w.step(&steps[i], &at, exactPath) || hasLogin
	}
	return passage{user: at.user, early: at.early, roots: at.roots, names: at.names, hasLogin: hasLogin}
}

// step walks through one handler, and reports whether there is an htpasswd in it.
func (w *siteWalk) step(step *routeStep, at *routePlace, exactPath string) bool {
	switch step.name {
	case "htpasswd":
		w.htpasswd(step.config, at, exactPath)
		return true
	case "authentication":
		at.user = userVerified
		return false
	case "subroute":
		out := w.routes(step.routes, *at)
		at.add(out)
		after := *at
		after.user, after.early = userPossible, nil
		w.routes(step.errors, after)
		return out.hasLogin
	case "invoke":
		out := w.invoke(step, at)
		at.add(out)
		return out.hasLogin
	}
	at.early = append(at.early, usesIn(step, at.user, at.names)...)
	hasLogin := false
	for _, routes := range step.responses { // only some answers lead there
		if step.name == "intercept" { // the answer of what comes after
			after := *at
			after.user, after.early = userPossible, nil
			hasLogin = w.routes(routes, after).hasLogin || hasLogin
			continue
		}
		out := w.routes(routes, *at)
		out.user = min(out.user, userPossible)
		at.add(passage{user: out.user, early: out.early, roots: at.roots, names: out.names})
		hasLogin = hasLogin || out.hasLogin
	}
	switch {
	case step.name == "vars":
		at.setVars(step)
	case step.name == "map":
		at.addMapped(step)
	case step.name == "file_server":
		w.addFileServer(step, at.roots)
	case !slices.Contains(caddysHandlers, step.name):
		w.tunnels[at.server] = w.tunnels[at.server] || step.name == forwardProxy
		hasLogin = w.unknownHandler(step, at)
	}
	return hasLogin
}

func (p *routePlace) add(out passage) {
	p.user, p.roots, p.names = max(p.user, out.user), out.roots, out.names
	p.early = append(slices.Clip(p.early), out.early...)
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
func (w *siteWalk) unknownHandler(step *routeStep, at *routePlace) bool {
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
		inside := *at
		w.htpasswd(config, &inside, "")
	}
	return len(found) > 0
}

// htpasswd notes an htpasswd, and which placeholders were used on the way to it.
func (w *siteWalk) htpasswd(config json.RawMessage, at *routePlace, exactPath string) {
	h := new(Handler)
	_ = json.Unmarshal(config, h)
	finding := htpasswdFinding{Handler: h, routePlace: *at, exactPath: exactPath}
	if found := placeholderIn(config, at.names); found != "" && at.user != userVerified {
		finding.early = append(slices.Clip(finding.early), &earlyUse{placeholder: found, directive: "htpasswd", certain: at.user == userUnknown})
	}
	for _, use := range finding.early {
		switch {
		case use.reported:
			continue
		case use.certain && w.refusal == nil:
			w.refusal = use.refusal(at.hosts)
		case !use.certain:
			finding.uncertain = append(finding.uncertain, use)
		}
		use.reported = true
	}
	w.hasLogin[at.server] = true
	w.findings = append(w.findings, finding)
	if len(h.ExemptRaw) > 0 {
		at.user = max(at.user, userPossible)
	} else {
		at.user = userVerified
	}
}

// invoke walks through a named route. The second time it is known what is in it.
func (w *siteWalk) invoke(step *routeStep, at *routePlace) passage {
	name := stringIn(step.field("name"))
	route := w.named[name]
	key := invocation{name, at.user, len(at.names)}
	out, isKnown := w.invoked[key]
	switch {
	case route == nil:
		return passage{user: at.user, roots: at.roots, names: at.names}
	case !isKnown:
		out = &passage{user: at.user}
		w.invoked[key] = out // it may invoke itself
		result := w.routes(caddyhttp.RouteList{*route}, *at)
		*out = result
	case out.hasLogin:
		w.reportAgain(at)
	}
	return passage{user: out.user, early: out.early, roots: union(at.roots, out.roots), names: union(at.names, out.names), hasLogin: out.hasLogin}
}

// reportAgain is for another way to an htpasswd that was noted already.
func (w *siteWalk) reportAgain(at *routePlace) {
	for _, use := range at.early {
		if use.certain && !use.reported && w.refusal == nil {
			w.refusal = use.refusal(at.hosts)
		}
	}
}

// usesInMatchers returns where matchers ask who the user is, too early.
func usesInMatchers(sets []caddy.ModuleMap, user userKnowledge, names []string) []*earlyUse {
	if user == userVerified {
		return nil
	}
	var uses []*earlyUse
	for _, set := range sets {
		for name, config := range set {
			found := placeholderIn(config, names)
			if found == "" { // a map of placeholders, or a call in an expression
				found = placeholderIn(config, []string{strings.TrimPrefix(userPlaceholders, "{")})
				if name != "expression" {
					found = ""
				}
			}
			if found != "" {
				uses = append(uses, &earlyUse{placeholder: found, matcher: name, certain: user == userUnknown})
			}
		}
	}
	return uses
}

// usesIn returns where a handler asks who the user is, too early.
func usesIn(step *routeStep, user userKnowledge, names []string) []*earlyUse {
	if user == userVerified || placeholderIn(step.config, names) == "" || slices.Contains(lazyHandlers, step.name) {
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
	found := placeholderIn(config, names)
	if found == "" {
		return nil
	}
	certain := user == userUnknown && slices.Contains(caddysHandlers, step.name)
	return []*earlyUse{{placeholder: found, directive: step.directive(), certain: certain}}
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
		if s.field("root") != nil {
			return "root"
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
func (p *routePlace) setVars(step *routeStep) {
	if root := stringIn(step.field("root")); root != "" {
		p.roots = []string{root}
	}
	if step.field(userPlaceholder) != nil {
		p.user = max(p.user, userPossible)
	}
}

// addMapped takes the results of a map for what they are made of.
func (p *routePlace) addMapped(step *routeStep) {
	if placeholderIn(step.config, p.names) == "" {
		return
	}
	for _, name := range stringsIn(step.field("destinations")) {
		p.names = union(p.names, []string{"{" + strings.Trim(name, "{}") + "}"})
	}
}

// addFileServer notes where a file server takes its files from.
func (w *siteWalk) addFileServer(step *routeStep, roots []string) {
	if fs := stringIn(step.field("fs")); fs != "" && fs != "{http.vars.fs}" {
		return // not the files of this machine
	}
	if own := stringIn(step.field("root")); own != "" && own != "{http.vars.root}" {
		roots = []string{own}
	}
	if len(roots) == 0 {
		roots = []string{"."}
	}
	hide := stringsIn(step.field("hide"))
	for _, root := range roots {
		if root == unknownRoot {
			continue
		}
		w.served[root] = append(w.served[root], hide)
	}
}

// narrow adds the matchers of a route to what is known of the requests.
func (p *routePlace) narrow(sets []caddy.ModuleMap) {
	if isForAll(sets) {
		return
	}
	if len(sets) == 1 && len(sets[0]) == 1 && len(p.hosts) == 0 && sets[0]["host"] != nil {
		p.hosts = stringsIn(sets[0]["host"])
		return
	}
	p.requests = append(slices.Clip(p.requests), describeSets(sets))
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

func unreported(uses []*earlyUse) []*earlyUse {
	return slices.DeleteFunc(slices.Clone(uses), func(use *earlyUse) bool { return use.reported })
}

// refusal is the error for a placeholder that never names a user.
func (u *earlyUse) refusal(hosts []string) error {
	site := ""
	if len(hosts) > 0 {
		site = " (site " + strings.Join(hosts, " ") + ")"
	}
	return fmt.Errorf("'%s' is used in %s before 'htpasswd' has verified a user, so it never names one%s: %s", u.placeholder, u.place(), site, u.remedy())
}

func (u *earlyUse) place() string {
	if u.matcher != "" {
		return "the matcher '" + u.matcher + "'"
	}
	return "'" + u.directive + "'"
}

// remedy says what to write instead.
func (u *earlyUse) remedy() string {
	switch u.directive {
	case "root":
		return "write 'root' after 'htpasswd' in a 'route' block, where directives run as they are written, or into the block of 'file_server'"
	case "header":
		return "write 'header >Field', which sets the field when the response is written"
	case "htpasswd":
		return "use it in directives after 'htpasswd', not in its own block"
	}
	return "write it after 'htpasswd' in a 'route' block, where directives run as they are written"
}
