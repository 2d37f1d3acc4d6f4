package caddyhtpasswd

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestTwoHandlers sends requests through more than one htpasswd.
func TestTwoHandlers(t *testing.T) {
	app, auth := testkit.NewWitness(t), testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{
		"site":   alice + bobSecret + carol,
		"admins": aliceOther + bobSecret,
		"same":   alice,
	}, strings.ReplaceAll(httpsSite(`
	handle_errors {
		reverse_proxy {app}
	}
	htpasswd {
		file {dir}/site
		user_header X-User
		realm Site
	}
	handle /admin/* {
		htpasswd {
			file {dir}/admins
			user_header X-User
			realm Admins
		}
		reverse_proxy {app}
	}
	htpasswd /overlap/* {
		file {dir}/admins
		realm Admins
	}
	handle /overlap/* {
		reverse_proxy {app}
	}
	handle /samefile/* {
		htpasswd {
			file {dir}/site
			require user alice
			user_header X-Admin
		}
		reverse_proxy {app}
	}
	handle /keepinner/* {
		htpasswd {
			file {dir}/site
			keep_authorization
		}
		reverse_proxy {app}
	}
	handle /exemptinner/* {
		htpasswd {
			file {dir}/admins
			exempt path_regexp ^/exempt
			user_header X-User
		}
		reverse_proxy {app}
	}
	handle /three/* {
		route {
			htpasswd {
				file {dir}/site
			}
			htpasswd {
				file {dir}/site
				exempt path_regexp ^/exempt
				user_header X-User
			}
			reverse_proxy {app}
		}
	}
	handle /exemptother/* {
		htpasswd {
			file {dir}/admins
			exempt path_regexp ^/exempt
			user_header X-Admin
		}
		reverse_proxy {app}
	}
	handle /between/* {
		route {
			request_header Authorization "Basic dXA6c3RyZWFt"
			request_header X-Other "other"
			htpasswd {
				file {dir}/site
				user_header X-Admin
			}
			reverse_proxy {app}
		}
	}
	handle /changed/* {
		route {
			request_header X-User "somebody else"
			htpasswd {
				file {dir}/site
				user_header X-User
			}
			reverse_proxy {app}
		}
	}
	handle /vars/* {
		route {
			vars htpasswd.login "Basic Ym9iOnNlY3JldA=="
			htpasswd {
				file {dir}/admins
				realm Admins
			}
			reverse_proxy {app}
		}
	}
	handle /forward/* {
		forward_auth {auth} {
			uri /check
			copy_headers X-Role
		}
		reverse_proxy {app}
	}
	handle {
		reverse_proxy {app}
	}`), "{auth}", auth.Listener.Addr().String()))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		realm                      string
		want                       http.Header // these headers, as the application gets them
	}{
		{"site only", "/", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"nobody", "/admin/x", "", "", 401, "Site", nil},
		{"valid for both", "/admin/x", "bob", "secret", 200, "", http.Header{"X-User": {"bob"}}},
		{"valid for the site only", "/admin/x", "carol", "carols", 401, "Admins", nil},
		{"same name, password of the site", "/admin/x", "alice", "secret", 401, "Admins", nil},
		{"same name, password of the admins", "/admin/x", "alice", "other", 401, "Site", nil},
		{"overlapping: valid for both", "/overlap/x", "bob", "secret", 200, "", http.Header{"X-User": {"bob"}}},
		{"overlapping: valid for one only", "/overlap/x", "alice", "other", 401, "", nil},
		{"same file twice, required", "/samefile/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}, "X-Admin": {"alice"}}},
		{"same file twice, not required", "/samefile/x", "bob", "secret", 403, "", nil},
		{"keep_authorization in the inner one only", "/keepinner/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"the inner one exempt: the outer one's user", "/exemptinner/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"the inner one exempt, with a field of its own", "/exemptother/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"one without user_header between", "/three/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"credentials for the application set between", "/between/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}, "X-Admin": {"alice"}, "Authorization": {"Basic dXA6c3RyZWFt"}}},
		{"forged between: the inner handler sets the user again", "/changed/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
		{"variable overwritten: fails closed", "/vars/x", "bob", "secret", 401, "Admins", nil},
		{"forward_auth after htpasswd", "/forward/x", "alice", "secret", 200, "", http.Header{"X-User": {"alice"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			app.Taken()
			auth.Taken()
			r := s.request("GET", row.path, nil)
			r.Header["X-User"] = []string{"root"}
			switch row.path {
			case "/samefile/x", "/between/x", "/exemptother/x":
				r.Header["X-Admin"] = []string{"root"}
			}
			if row.user != "" {
				r.SetBasicAuth(row.user, row.password)
			}
			a := s.do(r)
			got := app.One(t) // for errors, too, because of handle_errors
			if row.status == 200 {
				checkStatus(t, a, 200, "")
			}
			if row.status != 200 {
				if got.Header["Authorization"] != nil {
					t.Errorf("the application got Authorization %q, want none", got.Header["Authorization"])
				}
				if slices.Contains(got.Header["X-User"], "root") {
					t.Errorf("the application got X-User %q, want nothing forged", got.Header["X-User"])
				}
				if row.realm != "" && a.header.Get("Www-Authenticate") != `Basic realm="`+row.realm+`", charset="UTF-8"` {
					t.Errorf("got challenges %q, want one with the realm %s", a.header.Values("Www-Authenticate"), row.realm)
				}
				if row.status == 403 && a.header.Get("Www-Authenticate") != "" {
					t.Errorf("got challenges %q, want none with 403", a.header.Values("Www-Authenticate"))
				}
				return
			}
			for _, field := range []string{"X-User", "X-Admin", "Authorization"} {
				if !slices.Equal(got.Header[field], row.want[field]) {
					t.Errorf("the application got %s: %q, not %q", field, got.Header[field], row.want[field])
				}
			}
			if strings.HasPrefix(row.path, "/forward/") {
				if asked := auth.One(t); asked.Header.Get("X-User") != "alice" || asked.Header["Authorization"] != nil {
					t.Errorf("forward_auth got %v, want X-User: alice and no Authorization", asked.Header)
				}
			}
		})
	}
	t.Run("keep_authorization in both, and in the outer one only", func(t *testing.T) {
		s := startSite(t, app, map[string]string{"site": alice}, httpsSite(`
	htpasswd {
		file {dir}/site
		keep_authorization
	}
	handle /both {
		htpasswd {
			file {dir}/site
			keep_authorization
		}
		reverse_proxy {app}
	}
	handle /outer {
		htpasswd {
			file {dir}/site
		}
		reverse_proxy {app}
	}`))
		app.Taken()
		checkStatus(t, s.get("/both", "alice", "secret"), 200, "")
		if got := app.One(t); got.Header.Get("Authorization") != basic("alice", "secret") {
			t.Errorf("in both: the application got %q, want the credentials of alice", got.Header)
		}
		checkStatus(t, s.get("/outer", "alice", "secret"), 200, "")
		if got := app.One(t); got.Header["Authorization"] != nil {
			t.Errorf("in the outer one only: the application got %q, want no Authorization", got.Header)
		}
	})
}

// TestTwoFiles checks that a user in two files counts as two users.
func TestTwoFiles(t *testing.T) {
	s := startSite(t, nil, map[string]string{"one": alice, "two": aliceOther + carol}, httpsSite(`
	handle /one {
		htpasswd {
			file {dir}/one
		}
		respond one
	}
	handle /two {
		htpasswd {
			file {dir}/two
		}
		respond two
	}
	handle /onetwo {
		htpasswd {
			file {dir}/one {dir}/two
		}
		respond onetwo
	}
	handle /off {
		htpasswd {
			file {dir}/one
			cache off
		}
		respond off
	}`))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		hashes                     int64
	}{
		{"one", "/one", "alice", "secret", 200, 1},
		{"one, cached", "/one", "alice", "secret", 200, 0},
		{"the password of one in two", "/two", "alice", "secret", 401, 1},
		{"two", "/two", "alice", "other", 200, 1},
		{"two, cached", "/two", "alice", "other", 200, 0},
		{"the password of two in one", "/one", "alice", "other", 401, 1},
		{"both files: the first decides, as before", "/onetwo", "alice", "other", 401, 0},
		{"both files: cached with the file", "/onetwo", "alice", "secret", 200, 0},
		{"both files: user of the second", "/onetwo", "carol", "carols", 200, 1},
		{"user of the second in the first", "/one", "carol", "carols", 401, 1},
		{"cache off: computed though cached", "/off", "alice", "secret", 200, 1},
		{"cache off: computed again", "/off", "alice", "secret", 200, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			var a answer
			if n := hashes(func() { a = s.get(row.path, row.user, row.password) }); n != row.hashes {
				t.Errorf("got %d hashes, want %d", n, row.hashes)
			}
			checkStatus(t, a, row.status, restricted)
		})
	}
}
