package caddyhtpasswd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// These tests change a file and send a request immediately afterwards, with a real
// Caddy.

// failedLogins returns how many requests were answered as failed logins.
func failedLogins() (n uint64) {
	for _, r := range []result{resultWrongPassword, resultUnknownUser, resultLockedUser, resultInvalidLine, resultThrottled, resultOverloaded, resultForbidden} {
		n += process.guard.results[r].Load()
	}
	return n
}

// TestAddAndLogIn adds many users, and each logs in immediately. No login may be refused,
// or pass and be logged as failed.
func TestAddAndLogIn(t *testing.T) {
	for _, test := range []struct {
		name  string
		times int
		write func(t *testing.T, path, text string)
	}{
		{"a file renamed over the old one", 50, func(t *testing.T, path, text string) { replace(t, path, text) }},
		{"a file written in place", 5, func(t *testing.T, path, text string) {
			must(t, os.WriteFile(path, []byte(text), 0o640))
		}},
		{"a symlink pointed to another file", 5, func(t *testing.T, path, text string) {
			dir, err := os.MkdirTemp(filepath.Dir(path), "")
			must(t, err)
			must(t, os.WriteFile(dir+"/f", []byte(text), 0o640))
			must(t, os.Symlink(dir+"/f", path+".new"))
			must(t, os.Rename(path+".new", path))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startSiteWith(t, testkit.ServerOptions{DefaultLimits: true}, nil, map[string]string{"users": alice}, httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t}\n\trespond ok"))
			var text strings.Builder
			text.WriteString(alice)
			for i := range test.times {
				user := fmt.Sprint("user", i)
				text.WriteString(user + ":" + bcrypt4Secret1 + "\n")
				test.write(t, filepath.Join(s.dir, "users"), text.String())
				if a := s.get("/", user, "secret1"); a.status != 200 {
					t.Fatalf("login %d: status %d, want 200", i+1, a.status)
				}
			}
			if n := failedLogins(); n != 0 {
				t.Errorf("got %d failed logins, want none", n)
			}
			if strings.Contains(s.log(), "login failed") {
				t.Error("got a failed login in the log, want none")
			}
			if counts := process.guard.counts(); counts != [scopeCount]int{} {
				t.Errorf("got failed logins counted %v, want none", counts)
			}
		})
	}
}

// TestJoinGroupAndPass adds a user to the required group, and the user sends a request
// immediately.
func TestJoinGroupAndPass(t *testing.T) {
	s := startSite(t, nil, map[string]string{"users": alice + bob, "groups": "staff: bob\n"},
		httpsSite("\thtpasswd {\n\t\tfile {dir}/users\n\t\tgroup_file {dir}/groups\n\t\trequire group staff\n\t}\n\trespond ok"))
	checkStatus(t, s.get("/", "alice", "secret"), 403, "")
	before := strings.Count(s.log(), "login failed")
	replace(t, filepath.Join(s.dir, "groups"), "staff: bob alice\n")
	checkStatus(t, s.get("/", "alice", "secret"), 200, "")
	if n := strings.Count(s.log(), "login failed"); n != before {
		t.Errorf("%d lines more, want none", n-before)
	}
}
