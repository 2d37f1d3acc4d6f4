package matchers

import (
	"regexp/syntax"
	"slices"
)

// isEveryPathRegexp reports whether a regular expression certainly matches every
// path: it begins with nothing, or with a part that matches the slash at the beginning
// of every path, and the rest may be empty.
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

// concatenated returns the parts of an expression that have to match one after the
// other.
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

// takesSlash reports whether a part matches a slash.
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

// takesAnything reports whether a part matches the rest of any line.
func takesAnything(re *syntax.Regexp) bool {
	return (re.Op == syntax.OpStar || re.Op == syntax.OpPlus) && (re.Sub[0].Op == syntax.OpAnyChar || re.Sub[0].Op == syntax.OpAnyCharNotNL)
}

// mayBeEmpty reports whether a part matches the empty text.
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
