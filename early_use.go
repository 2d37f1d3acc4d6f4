package caddyhtpasswd

import (
	"fmt"
	"slices"
	"strings"
)

// earlyUse is a placeholder that is used before a user is verified.
type earlyUse struct {
	placeholder string
	directive   string
	matcher     string // "" if the directive itself uses it
	certain     bool   // no handler before can have set it
	place       requestPlace
}

// requestPlace says which requests come to a place.
type requestPlace struct {
	hosts    []string // of the site; none for any
	requests []string // one description for each level of matchers
	matchers []string // the same as JSON
}

// routeEnd says whether a request that takes a route gets to what comes after.
type routeEnd int

const (
	goesOn routeEnd = iota
	mayEnd          // some requests, or a handler that is not known
	ends            // never
)

// useSet is a set of early uses. It is made of other sets, so that it costs the
// same to add to one whatever is in it, and sets have parts in common.
type useSet struct {
	uses     []*earlyUse
	parts    [2]*useSet
	end      routeEnd // of the route in which they are
	reported bool     // with all that is in it
}

func newUses(uses []*earlyUse) *useSet {
	if len(uses) == 0 {
		return nil
	}
	return &useSet{uses: uses}
}

func (s *useSet) with(other *useSet) *useSet {
	switch {
	case s == nil:
		return other
	case other == nil || s == other:
		return s
	}
	return &useSet{parts: [2]*useSet{s, other}}
}

// inRoute is for what comes after a route.
func (s *useSet) inRoute(end routeEnd) *useSet {
	if s == nil || end == goesOn {
		return s
	}
	return &useSet{parts: [2]*useSet{s}, end: end}
}

// report calls f in order for each use that it was not called for before. What
// was reported is never looked at again: all parts of it were reported, too.
func (s *useSet) report(f func(use *earlyUse, end routeEnd)) {
	type part struct {
		*useSet
		end routeEnd
	}
	for left := []part{{s, goesOn}}; len(left) > 0; {
		next := left[len(left)-1]
		left = left[:len(left)-1]
		if next.useSet == nil || next.reported {
			continue
		}
		next.reported = true
		end := max(next.end, next.useSet.end)
		for _, use := range next.uses {
			f(use, end)
		}
		left = append(left, part{next.parts[1], end}, part{next.parts[0], end})
	}
}

// isApart reports whether no request can be for both places: they are in sites
// of different names.
func (p *requestPlace) isApart(other *requestPlace) bool {
	if len(p.hosts) == 0 || len(other.hosts) == 0 {
		return false
	}
	isPattern := func(host string) bool { return strings.ContainsAny(host, "*{") }
	if slices.ContainsFunc(p.hosts, isPattern) || slices.ContainsFunc(other.hosts, isPattern) {
		return false
	}
	return !slices.ContainsFunc(p.hosts, func(host string) bool {
		return slices.ContainsFunc(other.hosts, func(name string) bool { return strings.EqualFold(host, name) })
	})
}

// mayBeApart reports whether each of two places has a condition of its own, so
// that perhaps no request is for both.
func (p *requestPlace) mayBeApart(other *requestPlace) bool {
	if len(p.hosts) > 0 && len(other.hosts) > 0 && !slices.Equal(p.hosts, other.hosts) {
		return true
	}
	n := 0
	for n < len(p.matchers) && n < len(other.matchers) && p.matchers[n] == other.matchers[n] {
		n++
	}
	return n < len(p.matchers) && n < len(other.matchers)
}

// reportedUse is a use that may be all right.
type reportedUse struct {
	*earlyUse
	at  routePlace
	end routeEnd
}

// reportUses notes the placeholders that were used on the way to an htpasswd.
func (w *siteWalk) reportUses(at *routePlace) {
	at.early.report(func(use *earlyUse, end routeEnd) {
		switch {
		case use.place.isApart(&at.requestPlace):
		case !use.certain || end != goesOn || use.place.mayBeApart(&at.requestPlace):
			w.uncertain = append(w.uncertain, reportedUse{use, *at, end})
		case w.refusal == nil:
			w.refusal = use.refusal(at.hosts)
		}
	})
}

// warning is what to say of a use that is not certain to be wrong.
func (u *reportedUse) warning() string {
	if u.certain && u.end == ends {
		return "placeholder is empty here, where nobody has logged in; use it after htpasswd, or ignore this if the page is meant to be open"
	}
	return "placeholder used where perhaps no user is verified yet; use it after htpasswd in a route block"
}

// refusal is the error for a placeholder that never names a user.
func (u *earlyUse) refusal(hosts []string) error {
	site := ""
	if len(hosts) > 0 {
		site = " (site " + strings.Join(hosts, " ") + ")"
	}
	return fmt.Errorf("'%s' is used in %s before 'htpasswd' has verified a user, so it never names one%s: %s", u.placeholder, u.usedIn(), site, u.remedy())
}

func (u *earlyUse) usedIn() string {
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
