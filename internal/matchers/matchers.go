// Package matchers determines which requests the matcher sets of a route can match,
// from their JSON in a configuration of Caddy's HTTP server.
//
// Unmarshal the JSON into [Sets], and use its methods. No matcher module is loaded, so
// a configuration can be checked before it is loaded, even with unknown matchers.
//
// The package promises that [ReachEverything] is certain: every request matches such
// a set. The reverse does not hold: a set that matches every request can have a
// smaller [Reach].
//
// Invalid JSON is not an error: it is treated as limited or empty. Caddy reports it.
package matchers

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// Set is a matcher set: the configuration of each matcher, by the name of the
// matcher. A request matches if all matchers match, so every request matches an empty
// set.
//
// The methods expect JSON without needless escapes, see [laxjson.Unescape].
type Set map[string]json.RawMessage

// Sets are the matcher sets of a route. A request matches if one of the sets
// matches, or if there are none.
type Sets []Set

// MatchEverything reports whether every request matches, encrypted or not. False
// means that it is not certain.
func (s Sets) MatchEverything() bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(set Set) bool { return set["protocol"] == nil && set.Reach(false) == ReachEverything })
}

// AreOfSite reports whether the sets match by host name only, like the routes of
// sites.
func (s Sets) AreOfSite() bool {
	return len(s) == 1 && len(s[0]) == 1 && s[0]["host"] != nil
}

// Hosts returns the host names that the set matches, or none if it matches any.
func (s Set) Hosts() []string { return laxjson.Strings(s["host"]) }

// Paths returns path patterns of which a request must match one, or none if the path
// can be any.
func (s Sets) Paths() []string {
	var paths []string
	for _, set := range s {
		patterns := laxjson.Strings(set["path"])
		if len(patterns) == 0 {
			return nil // this set matches any path
		}
		paths = append(paths, patterns...)
	}
	return paths
}

// ExactPath returns a path that the sets match without the paths below it: the only
// path of the sets, or the path of a PHP file, since "/login.php/x" runs the same file.
// It returns "" if there is none. For other file names it returns "", too: nothing is
// below a file.
func (s Sets) ExactPath() string {
	if len(s) != 1 {
		return ""
	}
	paths := laxjson.Strings(s[0]["path"])
	if len(paths) == 1 && !isPattern(paths[0]) && !strings.Contains(paths[0][strings.LastIndexByte(paths[0], '/')+1:], ".") {
		return paths[0]
	}
	for _, file := range paths {
		if !isPattern(file) && strings.HasSuffix(strings.ToLower(file), ".php") && !matchBelow(paths, file) {
			return file
		}
	}
	return ""
}

// isPattern reports whether a path of a matcher may match more than one path.
func isPattern(path string) bool { return strings.ContainsAny(path, "*?[{%") }

// matchBelow reports whether patterns may match a path below file.
func matchBelow(patterns []string, file string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, isPrefix := strings.CutSuffix(pattern, "*")
		if !isPrefix || isPattern(prefix) {
			return isPattern(pattern)
		}
		return strings.HasPrefix(strings.ToLower(file+"/"), strings.ToLower(prefix))
	})
}
