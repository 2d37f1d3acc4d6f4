package matchers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// maxDescription is the maximum length of the description of a set in bytes. It is
// for log entries.
const maxDescription = 500

// String describes in one line which requests the sets match. It omits possible
// secrets, such as the values of header fields.
func (s Sets) String() string {
	texts := make([]string, 0, len(s))
	for _, set := range s {
		texts = append(texts, set.String())
	}
	return strings.Join(texts, " or ")
}

// String describes the set like [Sets.String], in at most 500 bytes and "...".
func (s Set) String() string {
	var texts []string
	for name, config := range s {
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
		return strings.Join(laxjson.Strings(config), " ")
	case "remote_ip", "client_ip":
		return strings.Join(laxjson.Strings(laxjson.Field(config, "ranges")), " ")
	case "path_regexp":
		return laxjson.String(laxjson.Field(config, "pattern"))
	case "protocol":
		return laxjson.String(config)
	case "header", "header_regexp", "query":
		return strings.Join(slices.Sorted(maps.Keys(laxjson.Fields(config))), " ")
	case "not":
		var sets Sets
		_ = json.Unmarshal(config, &sets)
		return "(" + sets.String() + ")"
	}
	return ""
}

func shortened(text string) string {
	if len(text) <= maxDescription {
		return text
	}
	return strings.ToValidUTF8(text[:maxDescription], "") + "..."
}
