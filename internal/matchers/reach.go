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

// Reach says which requests a matcher or a set of them can let through. The
// smallest reach of the matchers of a set is the set's.
type Reach int

const (
	// ReachLimited means that something limits the requests that a client cannot
	// choose without asking for something else. Such are the path, the method and
	// the client's address.
	ReachLimited Reach = iota

	// ReachChosen means that a client can make any request match, or that the
	// matcher is not known. Such are header fields and the query.
	ReachChosen

	// ReachEverything means that every request surely matches.
	ReachEverything
)

// String returns the constant's name.
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

// Reach says what the set can let through. Only requests that can log in count:
// those are encrypted, or with allowHTTP all requests.
//
// A matcher of hosts has ReachLimited, although every client of a site can give
// the names. A caller that knows the names of the site can compare them: see [Set.Hosts].
func (s Set) Reach(allowHTTP bool) Reach {
	reach := ReachEverything
	for name, config := range s {
		reach = min(reach, reachOfMatcher(name, config, allowHTTP))
	}
	return reach
}

// WithoutHosts returns the set without its matcher host.
func (s Set) WithoutHosts() Set {
	rest := maps.Clone(s)
	delete(rest, "host")
	return rest
}

// reachOfMatcher judges one matcher. One that cannot be read is limited: Caddy
// refuses it when it loads it.
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

// isEveryPath reports whether Caddy finds that a pattern matches every path.
func isEveryPath(pattern string) bool {
	return slices.Contains([]string{"*", "/*", "**", "*/*"}, pattern)
}

// reachOfProtocol judges the matcher protocol. Without allowHTTP only encrypted
// requests count, so the matcher for them matches everything.
func reachOfProtocol(protocol string, allowHTTP bool) Reach {
	if protocol == "https" && !allowHTTP || protocol == "http/1.0+" {
		return ReachEverything
	}
	return ReachChosen
}

// reachOfRanges judges a list of addresses. It is everything if it has all of
// IPv4 and all of IPv6.
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

// limitingTerms are what an expression can ask for that a client cannot choose
// without asking for something else.
var limitingTerms = []string{
	"path(", "path_regexp(", "method(", "remote_ip(", "client_ip(", "host(",
	"{http.request.uri", "{http.request.orig_uri", "{http.request.method", "{http.request.orig_method", "{http.request.remote",
	"{http.request.tls.client", "{http.vars.client_ip", "{http.request.host", "{http.request.client_ip",
}

// reachOfExpression judges an expression by its text: it is `true`, or has one
// of the limiting terms in it.
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

// reachOfNot judges a `not`, which matches if none of its sets does.
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

// reachOfNotSet judges the requests that a set does not match. A client can
// always leave a set unmatched of which it chooses a part. Each matcher is
// judged once, since there may be another `not` in it.
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

// matchesNothing reports whether no request surely matches: the list to compare
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
