// Package matchers says which requests the matcher sets of a route match, by their
// JSON in a configuration of Caddy's HTTP server.
//
// No matcher is loaded, and no request is needed. So the package can judge a
// configuration before it is used, and matchers that it does not know.
//
// It promises that [ReachEverything] is certain: every request matches such a set.
// The reverse does not hold. A set that matches every request can have a smaller
// [Reach], where the package cannot tell.
//
// JSON that Caddy will refuse is no error here. It reads as limited or empty.
package matchers

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// Set is a matcher set: the configuration of each matcher, by the matcher's
// name. A request matches if all matchers match, so an empty set is for every
// request.
//
// The methods expect letters and braces that stand for themselves, see
// [laxjson.Unescape].
type Set map[string]json.RawMessage

// Sets are the matcher sets of a route. A request matches if one of the sets
// matches, or if there are none.
type Sets []Set

// MatchEverything reports whether the sets surely match every request,
// encrypted or not.
func (s Sets) MatchEverything() bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(set Set) bool { return set["protocol"] == nil && set.Reach(false) == ReachEverything })
}

// AreOfSite reports whether the sets look at nothing but the name of the host,
// as the routes do that tell sites apart.
func (s Sets) AreOfSite() bool {
	return len(s) == 1 && len(s[0]) == 1 && s[0]["host"] != nil
}

// Hosts returns the names of the hosts that the set is for, none if it is for
// any.
func (s Set) Hosts() []string { return laxjson.Strings(s["host"]) }

// Paths returns the patterns of which the path of a request has to match one,
// none if the path can be any.
func (s Sets) Paths() []string {
	var paths []string
	for _, set := range s {
		patterns := laxjson.Strings(set["path"])
		if len(patterns) == 0 {
			return nil // a set for other paths, too
		}
		paths = append(paths, patterns...)
	}
	return paths
}

// ExactPath returns the path that is the only one to match. It is "" if there
// are others, or if the path ends in the name of a file.
func (s Sets) ExactPath() string {
	if len(s) != 1 {
		return ""
	}
	paths := laxjson.Strings(s[0]["path"])
	if len(paths) != 1 || strings.ContainsAny(paths[0], "*?[{%") || strings.Contains(paths[0][strings.LastIndexByte(paths[0], '/')+1:], ".") {
		return ""
	}
	return paths[0]
}
