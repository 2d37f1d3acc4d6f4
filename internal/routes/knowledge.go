package routes

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

const (
	// userPlaceholders is the prefix of the placeholders of the user.
	userPlaceholders = "{http.auth.user."

	// userVar is the variable with the user name.
	userVar = "http.auth.user.id"
)

// knowledge is what is known about requests at a position.
type knowledge struct {
	user     userKnowledge
	roots    []string // possible values of the site's root
	names    []string // prefixes of placeholders that may contain the user
	doubtful []string // those of names that contain it for some requests only
}

// userKnowledge tells whether the placeholders of the user are set.
type userKnowledge int

const (
	userUnknown  userKnowledge = iota // no earlier handler has verified a user
	userPossible                      // an earlier handler may have verified a user
	userVerified                      // an earlier handler has verified a user, for all requests
)

// unknownRoot stands for a root that was set before an error.
const unknownRoot = ""

// or combines the knowledge of two possible ways of a request.
func (k knowledge) or(other knowledge) knowledge {
	return knowledge{
		user:     max(k.user, other.user),
		roots:    union(k.roots, other.roots),
		names:    union(k.names, other.names),
		doubtful: union(k.doubtful, other.doubtful),
	}
}

// maxUnion keeps the work proportional to the size of the configuration.
const maxUnion = 64

// union returns the elements of both lists without duplicates, limited to maxUnion.
// It changes neither list.
func union(a, b []string) []string {
	for _, text := range b {
		if len(a) < maxUnion && !slices.Contains(a, text) {
			a = append(slices.Clip(a), text)
		}
	}
	return a
}

// setVars handles the variables for the root of a site and for the user.
func (k *knowledge) setVars(step *Step) {
	if root := laxjson.String(step.field("root")); root != "" {
		k.roots = []string{root}
	}
	if step.field(userVar) != nil {
		k.user = max(k.user, userPossible)
	}
}

// addMapped adds the destinations of a map that contain the user: all of them if the
// source does, and those with an output that does.
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

// mapColumns returns the outputs of a map for each destination.
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
