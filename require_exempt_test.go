package caddyhtpasswd

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestRequireAndExempt has a row for each status that require can lead to, and for
// attempts to bypass the password.
func TestRequireAndExempt(t *testing.T) {
	app := testkit.NewWitness(t)
	s := startSite(t, app, map[string]string{
		"users":  alice + bob + carol,
		"admins": "# admins\nadmins: alice\nstaff: alice bob\n",
		"more":   "audit: carol\n",
	}, "{\n\tservers {\n\t\ttrusted_proxies static 192.0.2.0/24\n\t}\n}\n"+httpsSite(`
	log
	@health path /health /ready
	@internal {
		remote_ip 127.0.0.1 ::1
		header X-Internal yes
	}
	@broken expression `+"`"+`1 / int({http.request.header.X-Number}) == 1`+"`"+`
	handle /user {
		htpasswd {
			file {dir}/users
			require user alice
			user_header X-User
		}
		reverse_proxy {app}
	}
	handle /group {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins {dir}/more
			require group admins audit
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /either {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins
			require user carol
			require group admins
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /any {
		htpasswd {
			file {dir}/users
			group_file {dir}/admins {dir}/more
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /nogroups {
		htpasswd {
			file {dir}/users
		}
		respond "{http.auth.user.id}|{http.auth.user.groups}"
	}
	handle /broken {
		htpasswd {
			file {dir}/users
			exempt @broken
		}
		reverse_proxy {app}
	}
	handle {
		htpasswd {
			file {dir}/users
			exempt @health /public/* /favicon.ico
			exempt @internal
			exempt remote_ip 198.51.100.0/24
			exempt {
				path /both/*
				method GET
			}
			user_header X-User
		}
		reverse_proxy {app}
	}`))
	for _, row := range []struct {
		name, path, user, password string
		status                     int
		body                       string
	}{
		{"require user: named", "/user", "alice", "secret", 200, "application"},
		{"require user: another", "/user", "bob", "hunter2", 403, ""},
		{"require user: another, wrong password", "/user", "bob", "no", 401, ""},
		{"require user: no such user", "/user", "", "", 401, ""},
		{"require group: member", "/group", "alice", "secret", 200, "alice|admins,staff"},
		{"require group: member by the second file", "/group", "carol", "carols", 200, "carol|audit"},
		{"require group: of another one", "/group", "bob", "hunter2", 403, ""},
		{"require user and group: user", "/either", "carol", "carols", 200, "carol|"},
		{"require user and group: group", "/either", "alice", "secret", 200, "alice|admins,staff"},
		{"require user and group: neither", "/either", "bob", "hunter2", 403, ""},
		{"no require: groups are told", "/any", "bob", "hunter2", 200, "bob|staff"},
		{"no group files: an empty placeholder", "/nogroups", "bob", "hunter2", 200, "bob|"},
		{"no exempt matches", "/", "", "", 401, ""},
		{"no exempt matches, valid user", "/", "alice", "secret", 200, "application"},
		{"exempt: named", "/health", "", "", 200, "application"},
		{"exempt: named, wrong password", "/health", "alice", "no", 200, "application"},
		{"exempt: path", "/public/x", "", "", 200, "application"},
		{"exempt: path, exactly", "/favicon.ico", "", "", 200, "application"},
		{"exempt: path, not quite", "/favicon.icon", "", "", 401, ""},
		{"exempt: block", "/both/x", "", "", 200, "application"},
		{"exempt: way back out of it", "/public/../secret", "", "", 401, ""},
		{"exempt: way back out of it, escaped", "/public/%2e%2e/secret", "", "", 401, ""},
		{"exempt: way back out of it, slash escaped", "/public%2f..%2fsecret", "", "", 401, ""},
		{"exempt: only the beginning", "/publicity", "", "", 401, ""},
		{"exempt: as a parameter", "/secret?/public/", "", "", 401, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := s.in(t)
			app.Taken()
			a := s.get(row.path, row.user, row.password)
			checkStatus(t, a, row.status, restricted)
			if row.status == 200 && a.body != row.body {
				t.Errorf("got %q, want %q", a.body, row.body)
			}
			if row.status != 200 {
				app.None(t)
			}
		})
	}
	t.Run("exempt block: all of its matchers", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.do(s.request("DELETE", "/both/x", nil)), 401, restricted)
	})
	t.Run("exempt: a header in a named matcher", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.send("/", http.Header{"X-Internal": {"yes"}}), 200, "")
		checkStatus(t, s.send("/", http.Header{"X-Internal": {"no"}}), 401, restricted)
	})
	t.Run("exempt: remote_ip isn't what a stranger says", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.send("/", http.Header{"X-Forwarded-For": {"198.51.100.7"}}), 401, restricted)
	})
	t.Run("exempt: a matcher that fails", func(t *testing.T) {
		s := s.in(t)
		for header, status := range map[string]int{"1": 200, "2": 401, "0": 500, "x": 500, "": 500} {
			for _, user := range []string{"", "alice"} {
				app.Taken()
				r := s.request("GET", "/broken", nil)
				r.Header.Set("X-Number", header)
				want := status
				if user != "" {
					r.SetBasicAuth(user, "secret")
					want = map[int]int{200: 200, 401: 200, 500: 500}[status]
				}
				a := s.do(r)
				checkStatus(t, a, want, restricted)
				if want != 200 {
					app.None(t)
				}
			}
		}
	})
	t.Run("user_id in the access log", func(t *testing.T) {
		s := s.in(t)
		before := len(s.log())
		s.get("/?log", "alice", "secret")
		s.get("/health?log", "alice", "secret")
		s.get("/user?log", "bob", "hunter2")
		var got []string
		eventually(t, "three lines", func() bool {
			got = nil
			for line := range strings.Lines(s.log()[before:]) {
				if strings.Contains(line, "handled request") {
					_, user, _ := strings.Cut(line, `"user_id":"`)
					user, _, _ = strings.Cut(user, `"`)
					got = append(got, user)
				}
			}
			return len(got) == 3
		})
		if want := []string{"alice", "", ""}; !slices.Equal(got, want) {
			t.Errorf("got users %q, want %q", got, want)
		}
	})
	t.Run("group file followed", func(t *testing.T) {
		s := s.in(t)
		checkStatus(t, s.get("/group", "bob", "hunter2"), 403, "")
		computed := hashes(func() {
			s.write("admins", "admins: bob\n")
			eventually(t, "bob is an admin", func() bool { return s.get("/group", "bob", "hunter2").status == 200 })
			checkStatus(t, s.get("/group", "alice", "secret"), 403, "")
		})
		if computed != 0 {
			t.Errorf("got %d hashes, want none", computed)
		}
	})
}

// TestExemptPlaceholders checks that a request without a login has no user, not even in a
// placeholder, unless another handler has verified one.
func TestExemptPlaceholders(t *testing.T) {
	s := startServer(t, "")
	s.write("users", "bob:"+shaSecret1+"\n")
	s.write("groups", "staff: bob\n")
	must(t, s.reload(`https://localhost:{https} {
	htpasswd /both/* {
		file {dir}/users
		group_file {dir}/groups
	}
	htpasswd {
		file {dir}/users
		exempt /open /both/open
	}
	respond "<{http.auth.user.id}> <{http.auth.user.groups}>"
}`))
	for _, test := range []struct{ path, user, want string }{
		{"/open", "", "<> <>"},
		{"/open", "bob", "<> <>"},
		{"/both/open", "bob", "<bob> <staff>"},
		{"/both/closed", "bob", "<bob> <staff>"},
	} {
		if a := s.get(test.path, test.user, "secret1"); a.status != 200 || a.body != test.want {
			t.Errorf("%s as %q: got %d %s, want 200 %s", test.path, test.user, a.status, a.body, test.want)
		}
	}
}
