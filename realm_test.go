package caddyhtpasswd

import (
	"net/http"
	"testing"
)

// TestRealm checks that the realm that a browser shows cannot be forged.
func TestRealm(t *testing.T) {
	files := map[string]string{"users": alice}
	s := startSite(t, nil, files, httpsSite(`
	route /quotes {
		htpasswd {
			file {dir}/users
			realm "The \"good\" C:\dir"
		}
	}
	route /host {
		htpasswd {
			file {dir}/users
			realm "Area of {host}"
		}
	}
	route /header {
		htpasswd {
			file {dir}/users
			realm "{header.X-Realm}"
		}
	}
	route /query {
		htpasswd {
			file {dir}/users
			realm "{query.q}"
		}
	}
	route /unknown {
		htpasswd {
			file {dir}/users
			realm "a{no.such}b {51"
		}
	}
	route /utf8 {
		htpasswd {
			file {dir}/users
			realm "Geschützt"
		}
	}`))
	for _, row := range []struct {
		name, path, header, realm string
	}{
		{"quotes and backslashes", "/quotes", "", `The \"good\" C:\\dir`},
		{"placeholder", "/host", "", "Area of localhost"},
		{"header with quotes", "/header", `x", error="\`, `x\", error=\"\\`},
		{"header with a tab", "/header", "a\tb", `ab`},
		{"header absent", "/header", "", ``},
		{"header with a placeholder", "/header", "{host}", `{host}`},
		{"query with control bytes", "/query?q=a%00b%0d%0aX-Evil:%201%7f%1b%22", "", `abX-Evil: 1\"`},
		{"query with UTF-8", "/query?q=%C3%BC", "", "ü"},
		{"unknown placeholder and a lone brace", "/unknown", "", "ab {51"},
		{"UTF-8", "/utf8", "", "Geschützt"},
	} {
		for version, client := range s.clients() {
			t.Run(row.name+", "+version, func(t *testing.T) {
				header := http.Header{}
				if row.header != "" {
					header.Set("X-Realm", row.header)
				}
				a := s.in(t, client).send(row.path, header)
				checkStatus(t, a, 401, `Basic realm="`+row.realm+`", charset="UTF-8"`)
				if a.header["X-Evil"] != nil {
					t.Errorf("got X-Evil %q, want none", a.header["X-Evil"])
				}
			})
		}
	}
}
