package routes

import (
	"bytes"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// earlyUse is a placeholder that is used before a user is verified.
type earlyUse struct {
	placeholder string
	directive   string
	matcher     string // "" if the directive itself uses it
	isCertain   bool   // no handler before can have set it
	place       Place
}

// useSet is a set of early uses. It is made of other sets, so that it costs the
// same to add to one whatever is in it, and sets have parts in common. A nil set
// is empty.
type useSet struct {
	uses       []*earlyUse
	parts      [2]*useSet
	end        routeEnd // of the route in which they are
	isReported bool     // with all that is in it
}

func newUses(uses ...*earlyUse) *useSet {
	if len(uses) == 0 {
		return nil
	}
	return &useSet{uses: uses}
}

// with returns both sets as one.
func (s *useSet) with(other *useSet) *useSet {
	switch {
	case s == nil:
		return other
	case other == nil || s == other:
		return s
	}
	return &useSet{parts: [2]*useSet{s, other}}
}

// inRoute returns the set as it is for what comes after a route.
func (s *useSet) inRoute(end routeEnd) *useSet {
	if s == nil || end == endGoesOn {
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
	for left := []part{{s, endGoesOn}}; len(left) > 0; {
		next := left[len(left)-1]
		left = left[:len(left)-1]
		if next.useSet == nil || next.isReported {
			continue
		}
		next.isReported = true
		end := max(next.end, next.useSet.end)
		for _, use := range next.uses {
			f(use, end)
		}
		left = append(left, part{next.parts[1], end}, part{next.parts[0], end})
	}
}

// reportUses adds to the report the placeholders that were used on the way to an
// htpasswd.
func (w *walk) reportUses(login *position) {
	login.early.report(func(use *earlyUse, end routeEnd) {
		if use.place.isApart(&login.Place) {
			return
		}
		w.report.EarlyUses = append(w.report.EarlyUses, EarlyUse{
			Placeholder: use.placeholder,
			Directive:   use.directive,
			Matcher:     use.matcher,
			Login:       login.Place,
			Verdict:     use.verdict(end, &login.Place),
		})
	})
}

// verdict judges a use on the way to an htpasswd, in a route with that end.
func (u *earlyUse) verdict(end routeEnd, login *Place) UseVerdict {
	switch {
	case u.isCertain && end == endAlways:
		return UseOnOpenPage
	case !u.isCertain || end != endGoesOn || u.place.mayBeApart(login):
		return UseMayNameUser
	}
	return UseNeverNamesUser
}

// isApart reports whether no request can be for both places: they are in sites
// of different names.
func (p *Place) isApart(other *Place) bool {
	if len(p.Hosts) == 0 || len(other.Hosts) == 0 {
		return false
	}
	isPattern := func(host string) bool { return strings.ContainsAny(host, "*{") }
	if slices.ContainsFunc(p.Hosts, isPattern) || slices.ContainsFunc(other.Hosts, isPattern) {
		return false
	}
	return !slices.ContainsFunc(p.Hosts, func(host string) bool {
		return slices.ContainsFunc(other.Hosts, func(name string) bool { return strings.EqualFold(host, name) })
	})
}

// mayBeApart reports whether each of two places has a condition of its own, so
// that perhaps no request is for both.
func (p *Place) mayBeApart(other *Place) bool {
	if len(p.Hosts) > 0 && len(other.Hosts) > 0 && !slices.Equal(p.Hosts, other.Hosts) {
		return true
	}
	n := 0
	for n < len(p.matchers) && n < len(other.matchers) && p.matchers[n] == other.matchers[n] {
		n++
	}
	return n < len(p.matchers) && n < len(other.matchers)
}

// use returns a use of a placeholder at the position.
func (p *position) use(placeholder, directive, matcher string) *earlyUse {
	return &earlyUse{
		placeholder: placeholder,
		directive:   directive,
		matcher:     matcher,
		isCertain:   p.user == userUnknown && !slices.Contains(p.doubtful, placeholder),
		place:       p.Place,
	}
}

// usesInMatchers returns where the matchers of a route use placeholders early.
func (p *position) usesInMatchers(sets matchers.Sets) *useSet {
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
	return newUses(uses...)
}

// usesInStep returns where a handler uses placeholders early. A handler that
// looks at them only after the next one returned does not.
func (p *position) usesInStep(step *Step) *useSet {
	if p.user == userVerified || placeholderIn(step.Config, p.names) == "" || slices.Contains(lazyHandlers, step.Name) {
		return nil
	}
	config := step.Config
	switch step.Name {
	case "reverse_proxy":
		config = laxjson.Without(config, "handle_response")
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
	use.isCertain = use.isCertain && step.isCaddys()
	return newUses(use)
}

// placeholderIn returns the first placeholder in a JSON text that begins as one
// of the given ones, "" for none. `\{` does not begin a placeholder.
func placeholderIn(text []byte, beginnings []string) string {
	for _, beginning := range beginnings {
		for rest := text; ; {
			i := bytes.Index(rest, []byte(beginning))
			if i < 0 {
				break
			}
			if i == 0 || rest[i-1] != '\\' {
				found := string(rest[i:])
				if end := strings.IndexByte(found, '}'); end >= 0 {
					found = found[:end+1]
				}
				return found
			}
			rest = rest[i+len(beginning):]
		}
	}
	return ""
}
