package htfile

import (
	"slices"
	"strings"
)

// Groups is the content of one Apache group file. It is immutable.
type Groups struct {
	// Of maps each user to the user's groups, sorted and without duplicates.
	Of map[string][]string

	Findings
}

// ParseGroups parses the text of a group file. Lines have the form
// "group: user user ..."; a group can have more than one line. Invalid lines are
// skipped. A file that has lines other than comments, but no valid one, is an error.
func ParseGroups(text string) (*Groups, error) {
	g := &Groups{Of: make(map[string][]string)}
	for number, line := range lines(text) {
		group, members, found := strings.Cut(line, ":")
		group = strings.Trim(group, Whitespace)
		switch {
		case !found:
			g.addInvalid(number, "no colon between group and users")
		case group == "":
			g.addInvalid(number, "no group name before the colon")
		case HasControl(group) || strings.ContainsAny(group, ", "):
			g.addInvalid(number, "group name contains a space, comma or control character")
		default:
			g.Valid++
			for user := range strings.FieldsFuncSeq(members, isWhitespace) {
				g.Of[user] = append(g.Of[user], group)
			}
		}
	}
	for user, groups := range g.Of {
		slices.Sort(groups)
		g.Of[user] = slices.Compact(groups)
	}
	return g, g.err("group: user user ...")
}
