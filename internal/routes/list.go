package routes

import (
	"slices"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// listWalk is the walk through one list of routes.
type listWalk struct {
	begin      position       // before the list
	after      passage        // after the routes so far, except for routes of open groups
	groups     routeGroups    // of the list
	sides      []sideRoute    // routes so far that take requests away from later routes
	exactPaths map[string]int // number of routes for exactly one path, by path
}

// list walks through a list of routes.
func (w *walk) list(routes []Route, begin position) passage {
	l := newListWalk(routes, begin)
	for i := range routes {
		route := &routes[i]
		at := l.positionOf(route)
		asked := at.usesInMatchers(route.Matchers)
		l.after.early, at.early = l.after.early.with(asked), at.early.with(asked)
		out := w.route(route, at, l.exactPath(route))
		l.add(route, out, l.groups.last[route.Group] == i)
	}
	return l.after
}

func newListWalk(routes []Route, begin position) *listWalk {
	l := &listWalk{
		begin:      begin,
		after:      passage{knowledge: begin.knowledge},
		groups:     routeGroups{last: make(map[string]int), open: make(map[string]*routeGroup)},
		exactPaths: make(map[string]int),
	}
	for i := range routes {
		l.exactPaths[routes[i].Matchers.ExactPath()]++
		l.groups.last[routes[i].Group] = i
	}
	return l
}

// positionOf returns the position before the matchers of the next route.
func (l *listWalk) positionOf(route *Route) position {
	at := l.begin
	at.pass(l.sides, route.Group)
	at.knowledge, at.early = l.after.knowledge, l.begin.early.with(l.after.early)
	l.groups.addOthers(&at, route.Group)
	if l.after.rewrites {
		at.paths = nil
	}
	return at
}

// exactPath returns a path that the route protects without the paths below it. It
// returns "" if another handler is for the same path: then the exact path is intended.
func (l *listWalk) exactPath(route *Route) string {
	path := route.Matchers.ExactPath()
	if l.exactPaths[path] > 1 || slices.ContainsFunc(route.Steps, func(s Step) bool { return s.Name != "htpasswd" }) {
		return ""
	}
	return path
}

// add adds the result of a route. The last route of a group closes the group.
func (l *listWalk) add(route *Route, out passage, isLast bool) {
	out.early = out.early.inRoute(out.end)
	if route.Terminal {
		out.early, out.end = nil, endAlways
	}
	isForAll := route.Matchers.MatchEverything()
	l.addSide(route, out.end, isForAll)
	l.after.hasLogin = l.after.hasLogin || out.hasLogin
	l.after.rewrites = l.after.rewrites || out.rewrites && out.end != endAlways
	if route.Group == "" {
		l.after.follow(out, !isForAll)
		return
	}
	if out.end != endGoesOn {
		l.after.end = max(l.after.end, endMayEnd)
	}
	out.user = min(out.user, max(l.after.user, userPossible)) // the request may take another route
	l.groups.add(route.Group, out, isForAll)
	if isLast {
		l.after.join(l.groups.close(route.Group))
	}
}

// follow adds a route without a group to the previous routes.
func (p *passage) follow(out passage, isConditional bool) {
	p.early = p.early.with(out.early)
	switch {
	case out.end == endAlways && isConditional:
		p.end = max(p.end, endMayEnd)
	case out.end == endAlways: // no request reaches the next route
		p.end = endAlways
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

// join adds a complete group to the previous routes.
func (p *passage) join(group *routeGroup) {
	p.knowledge, p.early = p.or(group.knowledge), p.early.with(group.early)
	if group.allEnd && group.isComplete {
		p.end = endAlways
	}
}

// routeGroups are the groups of a list of routes. A request takes at most one route
// of each group.
type routeGroups struct {
	last map[string]int         // position of the last route of each group
	open map[string]*routeGroup // groups with more routes to come; usually few
	all  routeGroup             // all groups together, including closed ones
}

// routeGroup is the combined result of the routes of a group so far.
type routeGroup struct {
	knowledge
	early      *useSet
	allEnd     bool // all requests that take one of them end
	isComplete bool // each request takes one of them
}

// maxOpenGroups keeps the work proportional to the length of the list. With more
// groups, they are not distinguished.
const maxOpenGroups = 16

// addOthers adds the results of the other open groups to the position of a route. A
// request that reaches the route has taken no earlier route of its own group.
func (g *routeGroups) addOthers(at *position, group string) {
	if len(g.open) > maxOpenGroups {
		at.knowledge, at.early = at.or(g.all.knowledge), at.early.with(g.all.early.inRoute(endMayEnd))
		return
	}
	for name, other := range g.open {
		if name != group {
			at.knowledge, at.early = at.or(other.knowledge), at.early.with(other.early)
		}
	}
}

// add adds the result of a route to its group.
func (g *routeGroups) add(name string, out passage, isForAll bool) {
	group := g.open[name]
	if group == nil {
		group = &routeGroup{allEnd: true}
		g.open[name] = group
	}
	group.allEnd = group.allEnd && (out.end == endAlways || group.isComplete)
	group.isComplete = group.isComplete || isForAll
	group.early, g.all.early = group.early.with(out.early), g.all.early.with(out.early)
	if out.end != endAlways {
		group.knowledge, g.all.knowledge = group.or(out.knowledge), g.all.or(out.knowledge)
	}
}

// close removes and returns a group without further routes.
func (g *routeGroups) close(name string) *routeGroup {
	group := g.open[name]
	delete(g.open, name)
	return group
}

// sideRoute is a route whose requests do not reach later routes, or later routes of
// its group.
type sideRoute struct {
	group    string
	end      routeEnd
	isForAll bool
	requests string
}

// maxSideRoutes is the maximum number of side routes in a list that are named.
const maxSideRoutes = 8

func (l *listWalk) addSide(route *Route, end routeEnd, isForAll bool) {
	if len(l.sides) == maxSideRoutes || end != endAlways && route.Group == "" || route.Matchers.AreOfSite() {
		return
	}
	l.sides = append(l.sides, sideRoute{route.Group, end, isForAll, route.Matchers.String()})
}

// pass removes the requests that earlier routes take from the position.
func (p *position) pass(sides []sideRoute, group string) {
	for _, side := range sides {
		switch {
		case side.end != endAlways && (side.group == "" || side.group != group):
		case side.isForAll:
			p.IsUnreached = true
		default:
			p.Except = append(slices.Clip(p.Except), side.requests)
		}
	}
}

// narrow adds the matchers of a route to the conditions of the position.
func (p *position) narrow(sets matchers.Sets) {
	switch {
	case sets.MatchEverything():
		return
	case sets.AreOfSite() && len(p.Hosts) == 0:
		p.Hosts = sets[0].Hosts()
		return
	}
	p.Requests = append(slices.Clip(p.Requests), sets.String())
	p.matchers = append(slices.Clip(p.matchers), string(laxjson.Encode(sets)))
	if paths := sets.Paths(); len(paths) > 0 {
		p.paths = paths
	}
}
