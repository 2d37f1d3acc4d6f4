package matchers

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// Reach tells which requests a matcher or a matcher set can match. The reach of a set
// is the smallest reach of its matchers.
type Reach int

const (
	// ReachLimited means that the match depends on something that a client cannot
	// choose freely, such as the path, the method or the client's address.
	ReachLimited Reach = iota

	// ReachChosen means that a client can make every request match, for example by
	// a header field or the query, or that the matcher is unknown.
	ReachChosen

	// ReachEverything means that every request certainly matches.
	ReachEverything
)

// String returns the name of the constant.
func (r Reach) String() string {
	switch r {
	case ReachLimited:
		return "ReachLimited"
	case ReachChosen:
		return "ReachChosen"
	case ReachEverything:
		return "ReachEverything"
	}
	return "Reach(" + strconv.Itoa(int(r)) + ")"
}

// Reach returns the reach of the set. It considers only requests that can log in:
// encrypted requests, or all requests with allowHTTP.
//
// A host matcher has ReachLimited, although every client of a site can send the host
// name. A caller that knows the host names of the site can compare them with
// [Set.Hosts].
func (s Set) Reach(allowHTTP bool) Reach {
	reach := ReachEverything
	for name, config := range s {
		reach = min(reach, reachOfMatcher(name, config, allowHTTP))
	}
	return reach
}

// WithoutHosts returns the set without its host matcher.
func (s Set) WithoutHosts() Set {
	rest := maps.Clone(s)
	delete(rest, "host")
	return rest
}

// reachOfMatcher returns the reach of one matcher. An invalid matcher is limited:
// Caddy refuses to load it.
func reachOfMatcher(name string, config json.RawMessage, allowHTTP bool) Reach {
	switch name {
	case "path":
		if slices.ContainsFunc(laxjson.Strings(config), isEveryPath) {
			return ReachEverything
		}
		return ReachLimited
	case "path_regexp":
		if isEveryPathRegexp(laxjson.String(laxjson.Field(config, "pattern"))) {
			return ReachEverything
		}
		return ReachLimited
	case "method", "host", "url_pattern":
		return ReachLimited
	case "remote_ip", "client_ip":
		return reachOfRanges(laxjson.Strings(laxjson.Field(config, "ranges")))
	case "protocol":
		return reachOfProtocol(laxjson.String(config), allowHTTP)
	case "expression":
		return reachOfExpression(config)
	case "not":
		return reachOfNot(config, allowHTTP)
	case "header", "header_regexp", "vars", "vars_regexp":
		if laxjson.IsEmptyObject(config) {
			return ReachEverything
		}
	}
	return ReachChosen
}

// isEveryPath reports whether a pattern of Caddy's path matcher matches every path.
func isEveryPath(pattern string) bool {
	return slices.Contains([]string{"*", "/*", "**", "*/*"}, pattern)
}

// reachOfProtocol returns the reach of a protocol matcher. Without allowHTTP only
// encrypted requests are considered, so "https" matches everything.
func reachOfProtocol(protocol string, allowHTTP bool) Reach {
	if protocol == "https" && !allowHTTP || protocol == "http/1.0+" {
		return ReachEverything
	}
	return ReachChosen
}

// reachOfRanges returns the reach of a list of address ranges. It is everything if it
// contains all of IPv4 and all of IPv6.
func reachOfRanges(ranges []string) Reach {
	var all4, all6 bool
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Bits() > 0 {
			continue
		}
		all4, all6 = all4 || prefix.Addr().Is4(), all6 || prefix.Addr().Is6()
	}
	switch {
	case all4 && all6:
		return ReachEverything
	case all4 || all6:
		return ReachChosen
	}
	return ReachLimited
}

// limitingTerms are the parts of expressions that limit the requests: a client cannot
// choose their values freely.
var limitingTerms = []string{
	"path(", "path_regexp(", "method(", "remote_ip(", "client_ip(", "host(",
	"{http.request.uri", "{http.request.orig_uri", "{http.request.method", "{http.request.orig_method", "{http.request.remote",
	"{http.request.tls.client", "{http.vars.client_ip", "{http.request.host", "{http.request.client_ip",
}

// reachOfExpression returns the reach of an expression by its text: whether it is
// `true`, or contains one of the limiting terms.
func reachOfExpression(config json.RawMessage) Reach {
	text := laxjson.String(config)
	if text == "" {
		text = laxjson.String(laxjson.Field(config, "expr"))
	}
	if strings.Trim(text, " \t\n()") == "true" {
		return ReachEverything
	}
	if slices.ContainsFunc(limitingTerms, func(term string) bool { return strings.Contains(text, term) }) {
		return ReachLimited
	}
	return ReachChosen
}

// reachOfNot returns the reach of a `not` matcher, which matches if none of its sets
// matches.
func reachOfNot(config json.RawMessage, allowHTTP bool) Reach {
	var sets Sets
	if json.Unmarshal(config, &sets) != nil {
		return ReachLimited
	}
	reach := ReachEverything
	for _, set := range sets {
		reach = min(reach, reachOfNotSet(set, allowHTTP))
	}
	return reach
}

// reachOfNotSet returns the reach of the requests that a set does not match. A client
// that can choose one part of the set can always make it not match. Each matcher is
// visited only once, since it may contain another `not`.
func reachOfNotSet(set Set, allowHTTP bool) Reach {
	ofSet, isUnmatchable, isChosen := ReachEverything, false, false
	for name, config := range set {
		reach := reachOfMatcher(name, config, allowHTTP)
		ofSet = min(ofSet, reach)
		isUnmatchable = isUnmatchable || matchesNothing(name, config, allowHTTP)
		isChosen = isChosen || reach == ReachChosen
	}
	switch {
	case ofSet == ReachEverything: // no request is left
		return ReachLimited
	case isUnmatchable:
		return ReachEverything
	case isChosen:
		return ReachChosen
	}
	return ReachLimited
}

// matchesNothing reports whether certainly no request matches: the list to compare
// with is empty, or the matcher is for requests that cannot log in.
func matchesNothing(name string, config json.RawMessage, allowHTTP bool) bool {
	switch name {
	case "path", "method":
		var list []string
		return json.Unmarshal(config, &list) == nil && len(list) == 0
	case "protocol":
		return laxjson.String(config) == "http" && !allowHTTP
	}
	return false
}
