package caddyhtpasswd

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestWrongSettingsOfHandler provisions handlers with invalid settings, and with files
// that cannot be read. The error is about the settings, because no file is read, and
// contains Caddy's prefix once.
func TestWrongSettingsOfHandler(t *testing.T) {
	ctx := emptyContext(t)
	missing := t.TempDir() + "/missing"
	for name, row := range map[string]struct{ json, want string }{
		"no file":                        {`{"group_files": ["MISSING"]}`, "files: expected at least one password file, found none; write files, or sources with a file or the text of users"},
		"a realm with a line end":        {`{"files": ["MISSING"], "realm": "a\nb"}`, "realm: expected a text, found control characters"},
		"a reserved user_header":         {`{"files": ["MISSING"], "user_header": "Cookie"}`, "user_header: expected the name of a header field such as X-User, found 'Cookie', which is not valid or is reserved"},
		"a user_header with a line end":  {`{"files": ["MISSING"], "user_header": "X\r\nY"}`, `user_header: expected the name of a header field such as X-User, found 'X\r\nY', which is not valid or is reserved`},
		"require without anybody":        {`{"files": ["MISSING"], "require": {}}`, "require: expected users or groups, found neither"},
		"require groups without a file":  {`{"files": ["MISSING"], "require": {"groups": ["g"]}}`, "require: groups: expected group_files that define the groups, found none"},
		"cache off and with a max_age":   {`{"files": ["MISSING"], "cache": {"off": true, "max_age": "1m"}}`, "cache: expected either 'off' or a max_age, found both"},
		"cache off and below zero":       {`{"files": ["MISSING"], "cache": {"off": true, "max_age": "-1m"}}`, "cache: expected either 'off' or a max_age, found both"},
		"rehash with too low a cost":     {`{"files": ["MISSING"], "rehash": {"cost": 9}}`, "rehash: cost: expected 10 to 14, found 9"},
		"rehash with too high a cost":    {`{"files": ["MISSING"], "rehash": {"cost": 15}}`, "rehash: cost: expected 10 to 14, found 15"},
		"rehash with a negative cost":    {`{"files": ["MISSING"], "rehash": {"cost": -1}}`, "rehash: cost: expected 10 to 14, found -1"},
		"device_cookie with a bad name":  {`{"files": ["MISSING"], "device_cookie": {"name": "a b"}}`, "device_cookie: name: expected the name of a cookie, such as __Host-htpasswd-device, found 'a b'"},
		"device_cookie below a minute":   {`{"files": ["MISSING"], "device_cookie": {"max_age": "59s"}}`, "device_cookie: max_age: expected a maximum age of 1m to 400d, such as 90d, found 59s"},
		"device_cookie over 400 days":    {`{"files": ["MISSING"], "device_cookie": {"max_age": "9601h"}}`, "device_cookie: max_age: expected a maximum age of 1m to 400d, such as 90d, found 9601h0m0s"},
		"cache with a max_age below 0":   {`{"files": ["MISSING"], "cache": {"max_age": "-1m"}}`, "cache: max_age: expected a duration above zero, found -1m0s"},
		"files and sources":              {`{"files": ["a"], "sources": [{"file": "b"}]}`, `sources: expected either files or sources, found both; write each file as {"file": "<path>"} in sources`},
		"a source of nothing":            {`{"sources": [{"file": "a"}, {}]}`, "sources: expected a file or users in entry 2, found neither"},
		"a source of two kinds":          {`{"sources": [{"file": "a", "users": "alice:canary"}]}`, "sources: expected either a file or users in entry 1, found both"},
		"right settings, a file missing": {`{"files": ["MISSING"]}`, "file " + missing + ": no such file or directory; create it with: caddy htpasswd -c " + missing + " USER"},
		"a name that needs quotes":       {`{"files": ["MISSING 'a'; b"]}`, "file " + missing + " 'a'; b: no such file or directory; create it with: caddy htpasswd -c '" + missing + ` '\''a'\''; b' USER`},
		"a placeholder without a value":  {`{"files": ["{env.HTPASSWD_UNSET}"]}`, "file path: evaluated placeholder {env.HTPASSWD_UNSET} is empty"},
		"an unknown placeholder":         {`{"files": ["{http.request.host}"]}`, "file path: unrecognized placeholder {http.request.host}"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(strings.ReplaceAll(row.json, "MISSING", missing)))
			if want := "provision http.handlers.htpasswd: " + row.want; err == nil || err.Error() != want {
				t.Errorf("got error %v, want %s", err, want)
			}
			if n := references(missing); n != [2]int{} {
				t.Errorf("the file is held %v times, want none", n)
			}
		})
	}
}

// TestValidateAfterProvision calls Validate after Provision, as Caddy does. The defaults
// are valid.
func TestValidateAfterProvision(t *testing.T) {
	h := &Handler{Files: []string{"users"}, UserHeader: "x-user", Cache: &Cache{Off: true}, Require: &Require{Users: []string{"alice"}}}
	for range 2 {
		if err := h.Validate(); err != nil {
			t.Fatalf("got error %v, want none", err)
		}
		h.provisionSettings()
	}
	for _, module := range []caddy.Module{h, new(App), new(UpstreamGroup), new(UpstreamNames)} {
		if _, ok := module.(caddy.Validator); !ok {
			t.Errorf("%T: got no Validate, want one", module)
		}
	}
}

func TestUpstreamNamesValidate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		groups []string
		want   string
	}{
		{"no group", nil, ""},
		{"groups with names", []string{"web", "api"}, ""},
		{"a group without a name, which every address would have", []string{"web", ""}, "groups: expected the names of groups, found an empty name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := (&UpstreamNames{Groups: row.groups}).Validate()
			if (err == nil) != (row.want == "") || err != nil && err.Error() != row.want {
				t.Errorf("got error %v, want %q", err, row.want)
			}
		})
	}
}
