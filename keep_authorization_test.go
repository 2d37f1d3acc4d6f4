package caddyhtpasswd

import (
	"net/http"
	"slices"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestAuthorizationHeader checks which handlers and upstreams get the password.
func TestAuthorizationHeader(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{"users": alice + bob}, httpsSite(`
	handle_errors {
		reverse_proxy {app}
	}
	handle /keep {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
			keep_authorization
			require user alice
		}
		reverse_proxy {app}
	}
	handle /echo {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
		}
		respond "[{http.request.header.Authorization}]"
	}
	handle /own {
		htpasswd {
			file {dir}/users
		}
		reverse_proxy {app} {
			header_up Authorization "Basic b3du"
		}
	}
	handle {
		htpasswd {
			file {dir}/users
			exempt header X-Exempt yes
			require user alice
		}
		reverse_proxy {app}
	}`))
	good, bad := basic("alice", "secret"), basic("alice", "wrong")
	for _, row := range []struct {
		name, path string
		exempt     bool
		header     []string
		status     int
		want       []string // what the application gets
	}{
		{"removed", "/", false, []string{good}, 200, nil},
		{"removed, other case", "/", false, []string{"bASIC" + good[5:]}, 200, nil},
		{"kept", "/keep", false, []string{good}, 200, []string{good}},
		{"failing, wrong password", "/", false, []string{bad}, 401, nil},
		{"failing, malformed", "/", false, []string{"Basic !!"}, 401, nil},
		{"failing, Basic alone", "/", false, []string{"Basic"}, 401, nil},
		{"failing, no TAB is a way round", "/", false, []string{"Basic\t\t" + bad[6:]}, 401, nil},
		{"failing, wrong password, keep_authorization", "/keep", false, []string{bad}, 401, nil},
		{"failing, two headers", "/", false, []string{good, bad}, 400, nil},
		{"failing, two headers, keep_authorization", "/keep", false, []string{good, bad}, 400, nil},
		{"failing, Basic and Bearer", "/", false, []string{good, "Bearer t"}, 400, []string{"Bearer t"}},
		{"failing, not required", "/", false, []string{basic("bob", "hunter2")}, 403, nil},
		{"failing, not required, keep_authorization", "/keep", false, []string{basic("bob", "hunter2")}, 403, nil},
		{"exempt: Bearer untouched", "/", true, []string{"Bearer t"}, 200, []string{"Bearer t"}},
		{"exempt: two Bearers untouched", "/", true, []string{"Bearer t", "Bearer u"}, 200, []string{"Bearer t", "Bearer u"}},
		{"exempt: Basic removed", "/", true, []string{good}, 200, nil},
		{"exempt: wrong Basic removed", "/", true, []string{bad}, 200, nil},
		{"exempt: Bearer stays, Basic is removed", "/", true, []string{"Bearer t", good}, 200, []string{"Bearer t"}},
		{"exempt: Basic kept", "/keep", true, []string{good}, 200, []string{good}},
		{"exempt: both kept", "/keep", true, []string{"Bearer t", good}, 200, []string{"Bearer t", good}},
		{"the proxy's own", "/own", false, []string{good}, 200, []string{"Basic b3du"}},
	} {
		for version, client := range s.clients() {
			t.Run(row.name+", "+version, func(t *testing.T) {
				app.Taken()
				header := authorization(row.header...)
				if row.exempt {
					header.Set("X-Exempt", "yes")
				}
				a := s.in(t, client).send(row.path, header)
				if row.status == 200 && a.status != 200 {
					t.Errorf("got status %d, want 200", a.status)
				}
				if got := app.One(t); !slices.Equal(got.Header["Authorization"], row.want) {
					t.Errorf("the application got %q, not %q", got.Header["Authorization"], row.want)
				}
			})
		}
	}
	t.Run("no placeholder", func(t *testing.T) {
		s := s.in(t)
		for _, exempt := range []string{"", "yes"} {
			if a := s.send("/echo", http.Header{"Authorization": {good}, "X-Exempt": {exempt}}); a.body != "[]" || a.status != 200 {
				t.Errorf("got %+v, want status 200 and %q", a, "[]")
			}
		}
	})
	// Over HTTP/2, whitespace stays. A proxy that sends the request over HTTP/1.1 removes it.
	t.Run("whitespace before the scheme, HTTP/2", func(t *testing.T) {
		s := s.in(t)
		for _, row := range []struct {
			path, exempt string
		}{{"/", ""}, {"/", "yes"}} {
			app.Taken()
			a := s.send(row.path, http.Header{"Authorization": {" " + good}, "X-Exempt": {row.exempt}})
			if got := app.One(t); got.Header["Authorization"] != nil {
				t.Errorf("got status %d, and the application got Authorization %q, want none", a.status, got.Header["Authorization"])
			}
		}
	})
}
