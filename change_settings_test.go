package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestChangePasswordInCaddyfiles reads the subdirective, with and without its block.
func TestChangePasswordInCaddyfiles(t *testing.T) {
	for _, test := range []struct {
		name, text, want string // want is JSON, or a part of the error
	}{
		{"a path", "change_password /account/password", `{"path":"/account/password"}`},
		{"a path with a slash at the end", "change_password /password/", `{"path":"/password/"}`},
		{"a path in quotes", `change_password "/my password"`, `{"path":"/my password"}`},
		{"a minimum length", "change_password /p {\nmin_length 8\n}", `{"min_length":8,"path":"/p"}`},
		{"the highest minimum length", "change_password /p {\nmin_length 64\n}\nallow_http", `{"min_length":64,"path":"/p"}`},
		{"an empty block", "change_password /p {\n}\nallow_http", `{"path":"/p"}`},
		{"nothing", "change_password", "change_password: expected the path of the page, such as /account/password, found nothing, at Caddyfile:4"},
		{"only a block", "change_password {\nmin_length 8\n}", "change_password: expected the path of the page, such as /account/password, found nothing, at Caddyfile:4"},
		{"an empty path", `change_password ""`, "change_password: expected the path of the page, such as /account/password, found nothing: write one that begins with '/'"},
		{"a path without a slash", "change_password account", "found 'account': write '/account'"},
		{"a placeholder", "change_password /{vars.x}", "found '/{http.vars.x}': write it without placeholders"},
		{"a wildcard", "change_password /account*", "found '/account*': write one path without '*'"},
		{"a matcher", "change_password *", "found '*': write one path without '*'"},
		{"a query", "change_password /account?x", "found '/account?x': write it without a query or fragment"},
		{"a fragment", "change_password /account#x", "found '/account#x': write it without a query or fragment"},
		{"an escape", "change_password /my%20password", "found '/my%20password': write the characters themselves instead of '%' and their codes"},
		{"two slashes", "change_password /account//password", "found '/account//password': write '/account/password'"},
		{"a parent", "change_password /account/../password", "found '/account/../password': write '/password'"},
		{"a semicolon", "change_password /account;", "unexpected semicolon in '/account;'"},
		{"two paths", "change_password /a /b", "change_password: unexpected argument '/b': expected one path"},
		{"twice", "change_password /a\nchange_password /b", "duplicate subdirective 'change_password' (first used on line 4), at Caddyfile:5"},
		{"an unknown line", "change_password /a {\nmax_length 8\n}", "change_password: unrecognized subdirective 'max_length'; expected one of: min_length; did you mean 'min_length'?, at Caddyfile:5"},
		{"min_length twice", "change_password /a {\nmin_length 8\nmin_length 9\n}", "duplicate subdirective 'min_length'"},
		{"no number", "change_password /a {\nmin_length\n}", "change_password: min_length: expected a number of characters, 8 to 64, found nothing"},
		{"a word", "change_password /a {\nmin_length ten\n}", "min_length: expected a number of characters, 8 to 64, found 'ten', at Caddyfile:5"},
		{"0", "change_password /a {\nmin_length 0\n}", "found '0'"},
		{"7", "change_password /a {\nmin_length 7\n}", "found '7'"},
		{"65", "change_password /a {\nmin_length 65\n}", "found '65'"},
		{"two numbers", "change_password /a {\nmin_length 8 9\n}", "unexpected argument '9'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := adapted("example.com {\nhtpasswd {\nfile x\n" + test.text + "\n}\n}\n")
			if !strings.HasPrefix(test.want, "{") {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got error %v, want %q", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if text := jsonText(t, got); !strings.Contains(text, `"change_password":`+test.want) {
				t.Errorf("got %s, want %s", text, test.want)
			}
		})
	}
}

// TestChangePasswordInJSON provisions settings that a Caddyfile cannot have.
func TestChangePasswordInJSON(t *testing.T) {
	ctx := emptyContext(t)
	for json, want := range map[string]string{
		`{}`:                               "change_password: path: expected the path of the page, such as /account/password, found nothing: write one that begins with '/'",
		`{"path": "account"}`:              "change_password: path: expected the path of the page, such as /account/password, found 'account': write '/account'",
		`{"path": "/a\nb"}`:                `change_password: path: expected the path of the page, such as /account/password, found '/a\nb': write one that begins with '/'`,
		`{"path": "/a", "min_length": 7}`:  "change_password: min_length: expected a number of characters, 8 to 64, found 7",
		`{"path": "/a", "min_length": -1}`: "change_password: min_length: expected a number of characters, 8 to 64, found -1",
		`{"path": "/a", "min_length": 65}`: "change_password: min_length: expected a number of characters, 8 to 64, found 65",
	} {
		_, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(`{"files": ["missing"], "change_password": `+json+`}`))
		if err == nil || err.Error() != "provision http.handlers.htpasswd: "+want {
			t.Errorf("%s: got error %v, want %s", json, err, want)
		}
	}
}

// TestUnreachedPasswordPage warns about a page that no request reaches.
func TestUnreachedPasswordPage(t *testing.T) {
	s := startServer(t, "")
	s.write("users", alice)
	const page = "htpasswd {\nfile {dir}/users\nchange_password /account/password\nEXEMPT}\n"
	for _, test := range []struct{ name, site, exempt, reason string }{
		{"all requests", page, "", ""},
		{"its path", "handle /account/* {\n" + page + "}", "", ""},
		{"its path in another case", "handle /ACCOUNT/* {\n" + page + "}", "", ""},
		{"one of several paths", "@p path /x /account/password\nhandle @p {\n" + page + "}", "", ""},
		{"a path that is stripped", "handle_path /x/* {\n" + page + "}", "", ""},
		{"a path that is rewritten", "handle /x/* {\nuri strip_prefix /x\n" + page + "}", "", ""},
		{"a path of a placeholder", "@p path {vars.x}\nhandle @p {\n" + page + "}", "", ""},
		{"another path", "handle /admin/* {\n" + page + "}", "", "does not get requests for this path"},
		{"a path of the directive", strings.Replace(page, "htpasswd", "htpasswd /admin/*", 1), "", "does not get requests for this path"},
		{"an exemption of another path", page, "exempt /public/*\n", ""},
		{"an exemption of its path for some clients", page, "exempt {\npath /account/*\nremote_ip 192.0.2.0/24\n}\n", ""},
		{"an exemption of its path", page, "exempt /health /account/*\n", "exempt matches the path"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := validated(t, s, "https://localhost:{https} {\ntls internal\n"+strings.Replace(test.site, "EXEMPT", test.exempt, 1)+"\n}\n")
			must(t, v.err)
			warnings := strings.Join(v.warnings(), "\n")
			if want := "the page of change_password is never reached"; strings.Contains(warnings, want) != (test.reason != "") || !strings.Contains(warnings, test.reason) {
				t.Errorf("got the warnings %q, want %q", warnings, test.reason)
			}
		})
	}
}

// TestChangePasswordMetrics counts each form once.
func TestChangePasswordMetrics(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite("")+"http://localhost:{http} {\nmetrics\n}\n")
	s.get("/account/password", "alice", "secret")
	s.changePassword("alice", "secret", "short")
	s.do(s.formRequest("/account/password", "alice", "secret", passwordForm("wrong", newPassword)))
	s.changePassword("alice", "secret", newPassword)
	body := s.plain("/", nil).body
	for result, n := range map[string]int{"changed": 1, "new_password_refused": 1, "wrong_password": 1, "other_origin": 0, "error": 0} {
		if want := fmt.Sprintf("caddy_htpasswd_password_changes_total{result=%q} %d\n", result, n); !strings.Contains(body, want) {
			t.Errorf("the metrics do not contain %s", want)
		}
	}
}

func jsonText(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	must(t, err)
	return string(text)
}
