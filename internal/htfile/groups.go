package htfile

import (
	"slices"
	"strings"
)

// Groups is the table of one Apache group file. It is never changed after it
// was made.
type Groups struct {
	// Of has the groups of each user, sorted, each once.
	Of map[string][]string

	Findings
}

// ParseGroups reads the text of a group file. Lines are "group: user user ...";
// a group can have more than one. An invalid line puts nobody into a group. A
// file with lines of which none is valid is an error.
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
			g.addInvalid(number, "blank, comma or control character in the group name")
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
