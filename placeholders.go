package caddyhtpasswd

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// isPlaceholder reports whether a setting is a single placeholder for an environment
// variable or a file.
func isPlaceholder(setting string) bool {
	return (strings.HasPrefix(setting, "{env.") || strings.HasPrefix(setting, "{file.")) &&
		strings.IndexByte(setting, '}') == len(setting)-1
}

// textLabel is the label of the first literal text of users of a configuration.
const textLabel = "users"

// isOnePlaceholder reports whether the text of users is one placeholder. No line of a
// password file looks like one: it has a colon after the name, and no brace at the end.
func isOnePlaceholder(text string) bool {
	return len(text) > 2 && text[0] == '{' && strings.IndexAny(text, "}\n") == len(text)-1 && strings.LastIndexByte(text, '{') == 0
}

// placeholderOr returns the text of users if it is a placeholder, and otherwise a label
// for a literal text.
func placeholderOr(text, label string) string {
	if isOnePlaceholder(text) {
		return quotedPlaceholder(text)
	}
	return label
}

// quotedPlaceholder returns a placeholder for messages. Only those that cannot be anything
// else are shown.
func quotedPlaceholder(placeholder string) string {
	if isPlaceholder(placeholder) {
		return placeholder
	}
	return "{...}"
}

// textLabels numbers the literal texts of users of one configuration.
type textLabels struct {
	labels  map[[sha256.Size]byte]string
	isKnown bool // the texts of all sites have labels
}

// add returns the label of a literal text. Equal texts have the same one.
func (l *textLabels) add(text string) string {
	sum := sha256.Sum256([]byte(text))
	if label, ok := l.labels[sum]; ok {
		return label
	}
	label := textLabel
	if n := len(l.labels); n > 0 {
		label = fmt.Sprintf("%s %d", textLabel, n+1)
	}
	if l.labels == nil {
		l.labels = make(map[[sha256.Size]byte]string)
	}
	l.labels[sum] = label
	return label
}
