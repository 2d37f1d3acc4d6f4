package caddyhtpasswd

import (
	"encoding/json"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// matcherReach says which requests a matcher can let through.
type matcherReach int

const (
	reachLimited    matcherReach = iota // by something that the client can't choose without asking for something else
	reachChosen                         // any request can be made to match: the client chooses
	reachEverything                     // every request matches
)

// matchesAll reports whether a matcher set surely matches every request that
// could log in.
func matchesAll(set caddy.ModuleMap) bool { return reachOf(set, false) == reachEverything }

// reachOf says what a matcher set can let through: all its matchers have to
// match. With allowHTTP, requests that are not encrypted can log in, too.
func reachOf(set caddy.ModuleMap, allowHTTP bool) matcherReach {
	reach := reachEverything
	for name, config := range set {
		reach = min(reach, reachOfMatcher(name, config, allowHTTP))
	}
	return reach
}

// reachOfMatcher judges a matcher by its JSON. One that can't be read is
// limited: Caddy refuses it when it is loaded.
func reachOfMatcher(name string, config json.RawMessage, allowHTTP bool) matcherReach {
	switch name {
	case "path":
		if slices.ContainsFunc(stringsIn(config), isEveryPath) {
			return reachEverything
		}
		return reachLimited
	case "path_regexp":
		if isEveryPathRegexp(stringIn(fieldOf(config, "pattern"))) {
			return reachEverything
		}
		return reachLimited
	case "method", "host", "url_pattern":
		return reachLimited // hosts are compared with those of the site elsewhere
	case "remote_ip", "client_ip":
		return reachOfRanges(stringsIn(fieldOf(config, "ranges")))
	case "protocol":
		return reachOfProtocol(stringIn(config), allowHTTP)
	case "expression":
		return reachOfExpression(config)
	case "not":
		return reachOfNot(config, allowHTTP)
	case "header", "header_regexp", "vars", "vars_regexp":
		if isEmptyObject(config) {
			return reachEverything
		}
	}
	return reachChosen
}

// isEveryPath knows the patterns that Caddy compares with the whole path.
func isEveryPath(pattern string) bool {
	return slices.Contains([]string{"*", "/*", "**", "*/*"}, pattern)
}

// reachOfProtocol knows that a password is only ever asked for over TLS, or
// where somebody wants it to be otherwise.
func reachOfProtocol(protocol string, allowHTTP bool) matcherReach {
	if protocol == "https" && !allowHTTP || protocol == "http/1.0+" {
		return reachEverything
	}
	return reachChosen
}

// reachOfRanges looks for all addresses of IPv4, and of IPv6.
func reachOfRanges(ranges []string) matcherReach {
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
		return reachEverything
	case all4 || all6:
		return reachChosen
	}
	return reachLimited
}

// limitingTerms are what an expression can ask for that the client can't
// choose freely.
var limitingTerms = []string{
	"path(", "path_regexp(", "method(", "remote_ip(", "client_ip(", "host(",
	"{http.request.uri", "{http.request.orig_uri", "{http.request.method", "{http.request.orig_method", "{http.request.remote",
	"{http.request.tls.client", "{http.vars.client_ip", "{http.request.host", "{http.request.client_ip",
}

// reachOfExpression knows `true`, and looks whether anything in an expression
// could limit it.
func reachOfExpression(config json.RawMessage) matcherReach {
	text := stringIn(config)
	if text == "" {
		text = stringIn(fieldOf(config, "expr"))
	}
	if strings.Trim(text, " \t\n()") == "true" {
		return reachEverything
	}
	if slices.ContainsFunc(limitingTerms, func(term string) bool { return strings.Contains(text, term) }) {
		return reachLimited
	}
	return reachChosen
}

// reachOfNot turns the sets of a `not` around: none of them may match. One in
// which the client chooses a part can always be left unmatched.
func reachOfNot(config json.RawMessage, allowHTTP bool) matcherReach {
	var sets []caddy.ModuleMap
	if json.Unmarshal(config, &sets) != nil {
		return reachLimited
	}
	reach := reachEverything
	for _, set := range sets {
		reach = min(reach, reachOfNotSet(set, allowHTTP))
	}
	return reach
}

func reachOfNotSet(set caddy.ModuleMap, allowHTTP bool) matcherReach {
	if reachOf(set, allowHTTP) == reachEverything {
		return reachLimited // matches nothing
	}
	reach := reachLimited
	for name, config := range set {
		switch {
		case matchesNothing(name, config, allowHTTP):
			return reachEverything
		case reachOfMatcher(name, config, allowHTTP) == reachChosen:
			reach = reachChosen
		}
	}
	return reach
}

// matchesNothing knows matchers that compare with a list which is empty, and
// the one for requests that bring no password.
func matchesNothing(name string, config json.RawMessage, allowHTTP bool) bool {
	switch name {
	case "path", "method":
		var list []string
		return json.Unmarshal(config, &list) == nil && len(list) == 0
	case "protocol":
		return stringIn(config) == "http" && !allowHTTP
	}
	return false
}

// isEveryPathRegexp reports whether a regular expression surely matches every
// path: at its beginning stands nothing, or what fits the slash that every path
// begins with, and all the rest may be empty.
func isEveryPathRegexp(pattern string) bool {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return false
	}
	parts := concatenated(re)
	if n := len(parts); n > 0 && parts[n-1].Op == syntax.OpEndText {
		if n < 2 || !takesAnything(parts[n-2]) {
			return false
		}
		parts = parts[:n-1]
	}
	if len(parts) > 0 && parts[0].Op == syntax.OpBeginText {
		parts = parts[1:]
	}
	if len(parts) > 0 && takesSlash(parts[0]) {
		parts = parts[1:]
	}
	return !slices.ContainsFunc(parts, func(part *syntax.Regexp) bool { return !mayBeEmpty(part) })
}

// concatenated returns the parts that have to follow each other.
func concatenated(re *syntax.Regexp) []*syntax.Regexp {
	switch re.Op { // the others are one part
	case syntax.OpConcat:
		var parts []*syntax.Regexp
		for _, sub := range re.Sub {
			parts = append(parts, concatenated(sub)...)
		}
		return parts
	case syntax.OpCapture:
		return concatenated(re.Sub[0])
	}
	return []*syntax.Regexp{re}
}

func takesSlash(re *syntax.Regexp) bool {
	switch re.Op { // the others do not
	case syntax.OpLiteral:
		return string(re.Rune) == "/"
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpPlus:
		return takesSlash(re.Sub[0])
	}
	return false
}

func takesAnything(re *syntax.Regexp) bool {
	return (re.Op == syntax.OpStar || re.Op == syntax.OpPlus) && (re.Sub[0].Op == syntax.OpAnyChar || re.Sub[0].Op == syntax.OpAnyCharNotNL)
}

func mayBeEmpty(re *syntax.Regexp) bool {
	switch re.Op { // the others may not
	case syntax.OpStar, syntax.OpQuest, syntax.OpEmptyMatch:
		return true
	case syntax.OpRepeat:
		return re.Min == 0 || mayBeEmpty(re.Sub[0])
	case syntax.OpPlus, syntax.OpCapture:
		return mayBeEmpty(re.Sub[0])
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, mayBeEmpty)
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !mayBeEmpty(sub) })
	}
	return false
}

// stringIn returns a JSON string, "" for anything else.
func stringIn(config json.RawMessage) (text string) {
	_ = json.Unmarshal(config, &text)
	return text
}

// stringsIn returns a JSON list of strings, none for anything else.
func stringsIn(config json.RawMessage) (list []string) {
	if json.Unmarshal(config, &list) != nil {
		return nil
	}
	return list
}

func isEmptyObject(config json.RawMessage) bool {
	var fields map[string]json.RawMessage
	return json.Unmarshal(config, &fields) == nil && len(fields) == 0
}

// describeSets says in one line which requests matcher sets are for. What may
// be as good as a password, such as the value of a header field, is left out.
func describeSets(sets []caddy.ModuleMap) string {
	texts := make([]string, 0, len(sets))
	for _, set := range sets {
		texts = append(texts, describeSet(set))
	}
	return strings.Join(texts, " or ")
}

func describeSet(set caddy.ModuleMap) string {
	var texts []string
	for name, config := range set {
		text := name
		if value := describeMatcher(name, config); value != "" {
			text += " " + value
		}
		texts = append(texts, text)
	}
	slices.Sort(texts)
	return shortened(strings.Join(texts, " and "))
}

func describeMatcher(name string, config json.RawMessage) string {
	switch name {
	case "path", "method", "host":
		return strings.Join(stringsIn(config), " ")
	case "remote_ip", "client_ip":
		return strings.Join(stringsIn(fieldOf(config, "ranges")), " ")
	case "path_regexp":
		return stringIn(fieldOf(config, "pattern"))
	case "protocol":
		return stringIn(config)
	case "header", "header_regexp", "query":
		var fields map[string]json.RawMessage
		_ = json.Unmarshal(config, &fields)
		names := make([]string, 0, len(fields))
		for field := range fields {
			names = append(names, field)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	case "not":
		var sets []caddy.ModuleMap
		_ = json.Unmarshal(config, &sets)
		return "(" + describeSets(sets) + ")"
	}
	return ""
}

// maxDescription is how long the description of a matcher set can be in a log
// line, in bytes.
const maxDescription = 500

func shortened(text string) string {
	if len(text) <= maxDescription {
		return text
	}
	return strings.ToValidUTF8(text[:maxDescription], "") + "..."
}
