package matchers

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/laxjson"
)

// maxDescription is how long the description of a set can be, in bytes. It
// stands in a log line.
const maxDescription = 500

// String describes in one line which requests the sets are for. What may be as
// good as a password, such as the value of a header field, is left out.
func (s Sets) String() string {
	texts := make([]string, 0, len(s))
	for _, set := range s {
		texts = append(texts, set.String())
	}
	return strings.Join(texts, " or ")
}

// String describes the set as [Sets.String] does, in 500 bytes and "..." at most.
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
