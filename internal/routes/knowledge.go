package routes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

const (
	// userPlaceholders is how the placeholders begin that say who the user is.
	userPlaceholders = "{http.auth.user."

	// userVar is the one that has the user's name, as a variable.
	userVar = "http.auth.user.id"
)

// knowledge is what is known of a request at a place.
type knowledge struct {
	user     userKnowledge
	roots    []string // where files may be looked for
	names    []string // beginnings of the placeholders that say who the user is
	doubtful []string // those of names that say it for some requests only
}

// userKnowledge says whether placeholders name a user that was verified.
type userKnowledge int

const (
	userUnknown  userKnowledge = iota // no handler before has asked
	userPossible                      // one may have asked
	userVerified                      // one has asked, whatever the request
)

// unknownRoot stands for a root that was set by whatever came before an error.
const unknownRoot = ""

// or returns what is known if a request may have come another way.
func (k knowledge) or(other knowledge) knowledge {
	return knowledge{
		user:     max(k.user, other.user),
		roots:    union(k.roots, other.roots),
		names:    union(k.names, other.names),
		doubtful: union(k.doubtful, other.doubtful),
	}
}

// maxUnion keeps the work for a configuration in proportion to its size.
const maxUnion = 64

// union returns the elements of both lists once, maxUnion of them if there are
// more in b. It changes neither list.
func union(a, b []string) []string {
	for _, text := range b {
		if len(a) < maxUnion && !slices.Contains(a, text) {
			a = append(slices.Clip(a), text)
		}
	}
	return a
}

// setVars follows the root of a site. A variable can also say who the user is.
func (k *knowledge) setVars(step *Step) {
	if root := laxjson.String(step.field("root")); root != "" {
		k.roots = []string{root}
	}
	if step.field(userVar) != nil {
		k.user = max(k.user, userPossible)
	}
}

// addMapped takes the results of a map for what they are made of: all of what
// it asks for, and each of what stands in its own column.
func (k *knowledge) addMapped(step *Step) {
	source := placeholderIn(step.field("source"), k.names)
	columns := mapColumns(step)
	for i, name := range laxjson.Strings(step.field("destinations")) {
		name = "{" + strings.Trim(name, "{}") + "}"
		isOfUser := source != "" || i < len(columns) && placeholderIn(columns[i], k.names) != ""
		if !isOfUser {
			continue
		}
		isNew := !slices.Contains(k.names, name)
		k.names = union(k.names, []string{name})
		if isNew && (source == "" || slices.Contains(k.doubtful, source)) {
			k.doubtful = union(k.doubtful, []string{name})
		}
	}
}

// mapColumns returns what a map has for each destination.
func mapColumns(step *Step) []json.RawMessage {
	var rows [][]json.RawMessage
	var mappings []struct {
		Outputs []json.RawMessage `json:"outputs"`
	}
	_ = json.Unmarshal(step.field("mappings"), &mappings)
	for _, mapping := range mappings {
		rows = append(rows, mapping.Outputs)
	}
	var defaults []json.RawMessage
	_ = json.Unmarshal(step.field("defaults"), &defaults)
	var columns []json.RawMessage
	for _, row := range append(rows, defaults) {
		for i, cell := range row {
			if i == len(columns) {
				columns = append(columns, nil)
			}
			columns[i] = append(columns[i], cell...)
		}
	}
	return columns
}
