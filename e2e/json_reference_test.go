package e2e

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// jsonPage is the reference of the JSON configuration.
const jsonPage = "../docs/reference/json.md"

// jsonHeadings has the heading of each struct that can be configured.
var jsonHeadings = map[string]string{
	"App":            "App",
	"Throttle":       "throttle",
	"Limit":          "limit",
	"Handler":        "Handler",
	"Source":         "source",
	"Require":        "require",
	"Cache":          "cache",
	"Rehash":         "rehash",
	"ChangePassword": "change_password",
	"DeviceCookie":   "device_cookie",
	"ProxyPass":      "proxy_pass",
	"UpstreamGroup":  "Policy",
	"UpstreamServer": "server",
	"Sticky":         "sticky",
	"StickyCookie":   "cookie",
	"UpstreamNames":  "upstream_groups",
}

// jsonTypes has the words for the types of fields.
var jsonTypes = map[string]string{
	"bool":                     "boolean",
	"int":                      "number",
	"string":                   "string",
	"[]string":                 "list of strings",
	"[]Source":                 "list of objects",
	"caddy.Duration":           "duration",
	"caddyhttp.RawMatcherSets": "list of matcher sets",
	"json.RawMessage":          "object",
}

// configurable returns the types of the JSON fields of the exported structs of the
// plugin, by struct and field.
func configurable(t *testing.T) map[string]map[string]string {
	t.Helper()
	structs := make(map[string]map[string]string)
	files, err := filepath.Glob("../*.go")
	must(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			body, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range body.Fields.List {
				if field.Tag == nil {
					continue
				}
				tag, err := strconv.Unquote(field.Tag.Value)
				must(t, err)
				key, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
				if key == "" || key == "-" {
					continue
				}
				if structs[spec.Name.Name] == nil {
					structs[spec.Name.Name] = make(map[string]string)
				}
				text := types.ExprString(field.Type)
				kind, ok := jsonTypes[text]
				if !ok && (strings.HasPrefix(text, "*") || strings.HasPrefix(text, "map[string]")) {
					kind = "object"
				}
				structs[spec.Name.Name][key] = kind
			}
			return false
		})
	}
	return structs
}

// TestJSONReference compares the tables of docs/reference/json.md with the structs
// that Caddy reads, and validates the example on it.
func TestJSONReference(t *testing.T) {
	parallel(t)
	structs := configurable(t)
	headings := make(map[string]map[string]string) // what each heading has to have
	for name, fields := range structs {
		heading, ok := jsonHeadings[name]
		if !ok {
			t.Errorf("%s has the JSON fields %q and no heading", name, slices.Sorted(maps.Keys(fields)))
		}
		headings[heading] = fields
	}
	if len(structs) != len(jsonHeadings) {
		t.Errorf("got the structs %q, want those with a heading", slices.Sorted(maps.Keys(structs)))
	}
	rows := 0
	row := regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\| [^|]+ \\| [^|]+ \\|$")
	for _, part := range regexp.MustCompile(`(?m)^##+ `).Split(readText(t, jsonPage), -1)[1:] {
		heading, text, _ := strings.Cut(part, "\n")
		documented := make(map[string]string)
		for _, m := range row.FindAllStringSubmatch(text, -1) {
			documented[m[1]] = m[2]
			rows++
		}
		if !maps.Equal(documented, headings[heading]) {
			t.Errorf("%s: got the rows %v, want %v", heading, documented, headings[heading])
		}
	}
	if all := len(regexp.MustCompile("(?m)^\\| `").FindAllString(readText(t, jsonPage), -1)); rows != all || rows < 30 {
		t.Errorf("got %d rows with a type, a default and values, want all %d, at least 30", rows, all)
	}

	s := startServer(t, "")
	names := docsNames(t, s)
	example := block(t, jsonPage, "json", `"apps"`)
	var config any
	must(t, json.Unmarshal([]byte(example), &config))
	used := make(map[string]bool)
	collectKeys(config, used)
	for _, fields := range structs {
		for key := range fields {
			if optional := []string{"old_secret", "hash_key", "down", "fleet"}; !used[key] && !slices.Contains(optional, key) {
				t.Errorf("the example has no %s", key)
			}
		}
	}
	s.validateJSON(strings.NewReplacer("/etc/caddy/.htpasswd", names["/etc/caddy/.htpasswd"], "/etc/caddy/groups", names["/etc/caddy/groups"]).Replace(example))
}

// collectKeys notes all keys of objects in a JSON value.
func collectKeys(v any, keys map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, element := range v {
			collectKeys(element, keys)
		}
	case map[string]any:
		for key, element := range v {
			keys[key] = true
			collectKeys(element, keys)
		}
	}
}
