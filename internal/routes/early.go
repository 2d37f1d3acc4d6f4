package routes

import (
	"bytes"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// earlyUse is a use of a placeholder before a user is verified.
type earlyUse struct {
	placeholder string
	directive   string
	matcher     string // "" if the directive itself uses it
	isCertain   bool   // no earlier handler can have set the placeholder
	place       Place
}

// useSet is an immutable set of early uses. It refers to other sets, so that adding
// takes constant time and sets can share parts. A nil set is empty.
type useSet struct {
	uses       []*earlyUse
	parts      [2]*useSet
	end        routeEnd // of the route that contains the uses
	isReported bool     // including all parts
}

func newUses(uses ...*earlyUse) *useSet {
	if len(uses) == 0 {
		return nil
	}
	return &useSet{uses: uses}
}

// with returns the union of both sets.
func (s *useSet) with(other *useSet) *useSet {
	switch {
	case s == nil:
		return other
	case other == nil || s == other:
		return s
	}
	return &useSet{parts: [2]*useSet{s, other}}
}

// inRoute returns the set of uses in a route with the given end.
func (s *useSet) inRoute(end routeEnd) *useSet {
	if s == nil || end == endGoesOn {
		return s
	}
	return &useSet{parts: [2]*useSet{s}, end: end}
}

// report calls f, in order, for each use that was not reported before. It skips sets
// that were reported, since all their parts were reported, too.
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

// reportUses adds the early uses on the way to an htpasswd handler to the report.
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

// verdict judges a use on the way to an htpasswd handler, in a route with that end.
func (u *earlyUse) verdict(end routeEnd, login *Place) UseVerdict {
	switch {
	case u.isCertain && end == endAlways:
		return UseOnOpenPage
	case !u.isCertain || end != endGoesOn || u.place.mayBeApart(login):
		return UseMayNameUser
	}
	return UseNeverNamesUser
}

// isApart reports whether no request can reach both places: they are in sites with
// different host names.
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

// mayBeApart reports whether both places have different conditions, so that possibly
// no request reaches both.
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

// use returns an early use of a placeholder at the position.
func (p *position) use(placeholder, directive, matcher string) *earlyUse {
	return &earlyUse{
		placeholder: placeholder,
		directive:   directive,
		matcher:     matcher,
		isCertain:   p.user == userUnknown && !slices.Contains(p.doubtful, placeholder),
		place:       p.Place,
	}
}

// usesInMatchers returns the early uses in the matchers of a route.
func (p *position) usesInMatchers(sets matchers.Sets) *useSet {
	if p.user == userVerified {
		return nil
	}
	var uses []*earlyUse
	for _, set := range sets {
		for name, config := range set {
			found := placeholderIn(config, p.names)
			if found == "" && name == "expression" { // expressions can contain the name without braces
				found = placeholderIn(config, []string{strings.TrimPrefix(userPlaceholders, "{")})
			}
			if found != "" {
				uses = append(uses, p.use(found, "", name))
			}
		}
	}
	return newUses(uses...)
}

// usesInStep returns the early uses in a handler. A handler that evaluates
// placeholders only after the next handler has returned has none.
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

// placeholderIn returns the first placeholder in a JSON text with one of the given
// prefixes, or "" for none. `\{` does not begin a placeholder.
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
