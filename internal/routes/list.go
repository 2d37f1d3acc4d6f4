package routes

import (
	"slices"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// listWalk is the walk through one list of routes.
type listWalk struct {
	begin      position       // of the list
	behind     passage        // the routes so far, but for those of groups that are open
	groups     routeGroups    // what the routes of groups leave behind
	sides      []sideRoute    // routes so far from which some requests do not go on
	exactPaths map[string]int // how many routes are for one path only, by path
}

// list walks through a list of routes.
func (w *walk) list(routes []Route, begin position) passage {
	l := newListWalk(routes, begin)
	for i := range routes {
		route := &routes[i]
		at := l.positionOf(route)
		asked := at.usesInMatchers(route.Matchers)
		l.behind.early, at.early = l.behind.early.with(asked), at.early.with(asked)
		out := w.route(route, at, l.exactPath(route))
		l.add(route, out, l.groups.last[route.Group] == i)
	}
	return l.behind
}

func newListWalk(routes []Route, begin position) *listWalk {
	l := &listWalk{
		begin:      begin,
		behind:     passage{knowledge: begin.knowledge},
		groups:     routeGroups{last: make(map[string]int), open: make(map[string]*routeGroup)},
		exactPaths: make(map[string]int),
	}
	for i := range routes {
		l.exactPaths[routes[i].Matchers.ExactPath()]++
		l.groups.last[routes[i].Group] = i
	}
	return l
}

// positionOf returns where requests are before the matchers of the next route.
func (l *listWalk) positionOf(route *Route) position {
	at := l.begin
	at.pass(l.sides, route.Group)
	at.knowledge, at.early = l.behind.knowledge, l.begin.early.with(l.behind.early)
	l.groups.addOthers(&at, route.Group)
	if l.behind.rewrites {
		at.paths = nil
	}
	return at
}

// exactPath returns the path that is the only one for a route to protect. There
// is none if another handler is for the same path: what it does is protected, and
// nobody wants more.
func (l *listWalk) exactPath(route *Route) string {
	path := route.Matchers.ExactPath()
	if l.exactPaths[path] > 1 || slices.ContainsFunc(route.Steps, func(s Step) bool { return s.Name != "htpasswd" }) {
		return ""
	}
	return path
}

// add is for what a route leaves behind. The last route of a group closes it.
func (l *listWalk) add(route *Route, out passage, isLast bool) {
	out.early = out.early.inRoute(out.end)
	if route.Terminal {
		out.early, out.end = nil, endAlways
	}
	isForAll := route.Matchers.MatchEverything()
	l.addSide(route, out.end, isForAll)
	l.behind.hasLogin = l.behind.hasLogin || out.hasLogin
	l.behind.rewrites = l.behind.rewrites || out.rewrites && out.end != endAlways
	if route.Group == "" {
		l.behind.follow(out, !isForAll)
		return
	}
	if out.end != endGoesOn {
		l.behind.end = max(l.behind.end, endMayEnd)
	}
	out.user = min(out.user, max(l.behind.user, userPossible)) // the request may take another route
	l.groups.add(route.Group, out, isForAll)
	if isLast {
		l.behind.join(l.groups.close(route.Group))
	}
}

// follow adds a route, which is in no group, to those before it.
func (p *passage) follow(out passage, isConditional bool) {
	p.early = p.early.with(out.early)
	switch {
	case out.end == endAlways && isConditional:
		p.end = max(p.end, endMayEnd)
	case out.end == endAlways: // no request gets from there to the next
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

// join adds a whole group to the routes before it.
func (p *passage) join(group *routeGroup) {
	p.knowledge, p.early = p.or(group.knowledge), p.early.with(group.early)
	if group.allEnd && group.isComplete {
		p.end = endAlways
	}
}

// routeGroups are the groups of a list of routes. Of a group, a request takes
// one route.
type routeGroups struct {
	last map[string]int         // position of the last route of each
	open map[string]*routeGroup // of which more routes follow; seldom more than a few
	all  routeGroup             // all of them together, also those that are closed
}

// routeGroup is what the routes of a group leave behind that were walked through.
type routeGroup struct {
	knowledge
	early      *useSet
	allEnd     bool // no request goes on that took one of them
	isComplete bool // each request takes one
}

// maxOpenGroups keeps the work for a list in proportion to its length. Of more
// groups it is not known which of them a request cannot have taken.
const maxOpenGroups = 16

// addOthers adds what the routes of open groups leave behind to the position of
// a route. A request that comes there has taken none of its own group.
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

// add is for what a route of a group leaves behind.
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

// close returns a group to which no more routes belong.
func (g *routeGroups) close(name string) *routeGroup {
	group := g.open[name]
	delete(g.open, name)
	return group
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

func (l *listWalk) addSide(route *Route, end routeEnd, isForAll bool) {
	if len(l.sides) == maxSideRoutes || end != endAlways && route.Group == "" || route.Matchers.AreOfSite() {
		return
	}
	l.sides = append(l.sides, sideRoute{route.Group, end, isForAll, route.Matchers.String()})
}

// pass makes the position that of a route after others, which take some requests.
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

// narrow adds the matchers of a route to what is known of the requests.
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
