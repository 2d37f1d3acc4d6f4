package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

const adminSite = `{
	admin localhost:{admin}
	htpasswd {
		throttle login 2 1m
		throttle client off
		throttle user 3 1h
		max_hashes 2
	}
}
https://localhost:{https} {
	htpasswd {
		file {dir}/users {dir}/more
		group_file {dir}/groups
	}
	respond ok
}`

// ask sends a request to the admin API.
func (s *server) ask(method, path string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequest(method, fmt.Sprintf("http://localhost:%d%s", s.admin, path), nil)
	must(s.t, err)
	a := s.do(r)
	return a.status, a.body
}

func newAdminSite(t *testing.T) *server {
	t.Helper()
	s := startServer(t, "")
	s.write("users", metricsUsers)
	s.write("more", "al/ice%:"+shaSecret1+"\n127.0.0.1:"+shaSecret1+"\n")
	s.write("groups", "staff: ann bob\nnobody\n")
	must(t, s.reload(adminSite))
	return s
}

func TestAdminStatus(t *testing.T) {
	const day = "2006-01-02T"
	started := time.Now().Format(day)
	s := newAdminSite(t)
	for i, user := range []string{"ann", "bob", "bob", "bob", "nobody"} {
		s.get("/", user, fmt.Sprint("canary", i))
	}
	status, body := s.ask("GET", "/htpasswd")
	if status != 200 {
		t.Fatalf("got status %d, want 200: %s", status, body)
	}
	if !regexp.MustCompile(`"last_load":"(` + started + "|" + time.Now().Format(day) + `)`).MatchString(body) {
		t.Errorf("got no time of today as last_load, want one: %s", body)
	}
	body = regexp.MustCompile(`"(last_load|until)":"[^"]*"`).ReplaceAllString(body, `"$1":"T"`)
	want := `{"files":[` +
		`{"path":"/groups","kind":"groups","users":2,"invalid_lines":[{"line":2,"reason":"no colon between group and users"}],"invalid_line_count":1,"last_load":"T","load_failures":0},` +
		`{"path":"/more","kind":"users","users":2,"formats":[{"format":"sha1","weak":true,"users":2}],"invalid_lines":[],"invalid_line_count":0,"last_load":"T","load_failures":0},` +
		`{"path":"/users","kind":"users","users":2,"formats":[{"format":"bcrypt","cost":"04","weak":false,"users":1},{"format":"sha1","weak":true,"users":1}],` +
		`"invalid_lines":[{"line":4,"reason":"no colon between user name and hash"}],"invalid_line_count":1,"last_load":"T","load_failures":0}],` +
		`"limits":{"client":{"off":true,"exceeded":0},"login":{"failures":2,"window":"1m0s","exceeded":1},"user":{"failures":3,"window":"1h0m0s","exceeded":0}},` +
		`"exceeded":[{"limit":"login","client_ip":"127.0.0.1","user":"bob","file":"/users","until":"T"}],"exceeded_not_listed":0,` +
		`"hash_queue":{"workers":2,"busy":0,"waiting":0}}` + "\n"
	if got := strings.ReplaceAll(body, s.dir, ""); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAdminMethods(t *testing.T) {
	s := newAdminSite(t)
	for path, methods := range map[string]string{"/htpasswd": "GET HEAD", "/htpasswd/reload": "POST", "/htpasswd/files/fleet/staff": "POST", "/htpasswd/throttle": "DELETE GET HEAD", "/htpasswd/throttle/ann": "DELETE GET HEAD"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
			allowed := slices.Contains(strings.Fields(methods), method)
			if status, body := s.ask(method, path); (status == http.StatusMethodNotAllowed) == allowed {
				t.Errorf("%s %s: got %d %s, want it allowed: %t", method, path, status, body, allowed)
			}
		}
	}
}

// TestAdminReload checks the result of POST /htpasswd/reload for each file: whether the
// file is valid, and whether it has changed.
func TestAdminReload(t *testing.T) {
	s := newAdminSite(t)
	for _, test := range []struct {
		name    string
		change  func()
		status  int
		results string // of groups, more, users
		error   string // the end of the last file's
		user    string // a user who can log in after the reload
	}{
		{"nothing has changed", func() {}, 200, "unchanged unchanged unchanged", "", "bob"},
		{"a file has changed", func() { s.write("users", "zoe:"+shaSecret1+"\n") }, 200, "unchanged unchanged reloaded", "", "zoe"},
		{"the same again", func() {}, 200, "unchanged unchanged unchanged", "", "zoe"},
		{"a group file has changed", func() { s.write("groups", "staff: zoe\n") }, 200, "reloaded unchanged unchanged", "", "zoe"},
		{
			"one is invalid, one is gone", func() {
				s.write("users", "<html>canary\n")
				must(t, os.Remove(s.dir+"/more"))
			}, 500, "unchanged failed failed", "line 1: no colon between user name and hash", "zoe",
		},
		{"one is empty", func() { s.write("users", "") }, 500, "unchanged failed pending", "", "zoe"},
		{"invalid again", func() { s.write("users", "<html>canary\n") }, 500, "unchanged failed failed", "line 1: no colon between user name and hash", "zoe"},
		{
			"the previous version again", func() {
				s.write("users", "zoe:"+shaSecret1+"\n")
				s.write("more", "al/ice%:"+shaSecret1+"\n127.0.0.1:"+shaSecret1+"\n")
			}, 200, "unchanged unchanged unchanged", "", "zoe",
		},
	} {
		before := process.sources.inUse()
		test.change()
		status, body := s.ask("POST", "/htpasswd/reload")
		var answer struct{ Files []adminReload }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Files) != 3 {
			t.Fatalf("%s: got error %v and %s, want three files", test.name, err, body)
		}
		for i := range before { // the server may have noticed the change itself
			if strings.Fields(test.results)[i] == "reloaded" {
				answer.Files[i] = reloadFile(&before[i], zap.NewNop())
			}
		}
		var results []string
		for i, f := range answer.Files {
			results = append(results, string(f.Result))
			if f.Path != s.dir+[]string{"/groups", "/more", "/users"}[i] || f.LastLoad.IsZero() ||
				(f.Result == "failed") != (f.Error != "") || (f.Result == "pending") != strings.HasPrefix(f.Pending, "the file is empty; keeping the previous version for 3s") {
				t.Errorf("%s: got file %d %+v, want the files in order, each with a time, and an error or what is pending if there is one", test.name, i, f)
			}
		}
		if got := strings.Join(results, " "); status != test.status || got != test.results || !strings.HasSuffix(answer.Files[2].Error, test.error) || strings.Contains(body, "canary") {
			t.Errorf("%s: got %d %s, want %d %s: %s", test.name, status, got, test.status, test.results, body)
		}
		if a := s.get("/", test.user, "secret1"); a.status != 200 {
			t.Errorf("%s: %s gets %d, want 200", test.name, test.user, a.status)
		}
	}
}

func TestAdminClear(t *testing.T) {
	for _, test := range []struct {
		name, user, password string
		path                 string
		cleared              int
		after                int // status of the right password
	}{
		{"all", "bob", "secret1", "/htpasswd/throttle", 3, 200},
		{"the client", "bob", "secret1", "/htpasswd/throttle/127.0.0.1", 2, 200},
		{"the client, as IPv6", "bob", "secret1", "/htpasswd/throttle/::ffff:127.0.0.1", 2, 200},
		{"the user", "bob", "secret1", "/htpasswd/throttle/bob", 2, 200},
		{"a user with odd characters", "al/ice%", "secret1", "/htpasswd/throttle/al%2Fice%25", 2, 200},
		{"a user like an address", "127.0.0.1", "secret1", "/htpasswd/throttle/127.0.0.1", 3, 200},
		{"an unknown user", "nobody", "secret1", "/htpasswd/throttle/nobody", 2, 401},
		{"another client", "bob", "secret1", "/htpasswd/throttle/192.0.2.1", 0, 429},
		{"another user", "bob", "secret1", "/htpasswd/throttle/ann", 0, 429},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newAdminSite(t)
			for i := range 2 { // exceeds the login limit
				if a := s.get("/", test.user, fmt.Sprint("wrong", i)); a.status != 401 {
					t.Fatalf("failed login %d: got status %d, want 401", i, a.status)
				}
			}
			if a := s.get("/", test.user, test.password); a.status != 429 {
				t.Fatalf("after 2 failed logins: got status %d, want 429", a.status)
			}
			status, body := s.ask("DELETE", test.path)
			if want := fmt.Sprintf("{\"cleared\":%d}\n", test.cleared); status != 200 || body != want {
				t.Errorf("got %d %s, want 200 %s", status, body, want)
			}
			if a := s.get("/", test.user, test.password); a.status != test.after {
				t.Errorf("afterwards: got status %d, want %d", a.status, test.after)
			}
		})
	}
	t.Run("a missing name", func(t *testing.T) {
		s := newAdminSite(t)
		s.get("/", "bob", "wrong")
		if status, body := s.ask("DELETE", "/htpasswd/throttle/"); status != 400 || !strings.Contains(body, "expected a client address or user name after the slash") {
			t.Errorf("no client or user: got %d %s, want 400 that says so", status, body)
		}
		if status, body := s.ask("DELETE", "/htpasswd/throttle/bob"); status != 200 || body != "{\"cleared\":2}\n" {
			t.Errorf("bob: got %d %s, want 200 and 2 cleared", status, body)
		}
	})
}

// TestFilesInUse lists the files in use while other files come and go.
func TestFilesInUse(t *testing.T) {
	path, groups := writeFile(t, metricsUsers), writeFile(t, "staff: ann\n")
	ctx := configContext(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			h := &Handler{Files: []string{path}, GroupFiles: []string{groups}}
			if err := h.Provision(ctx); err != nil {
				t.Error(err)
			}
			if err := h.Cleanup(); err != nil {
				t.Error(err)
			}
		}
	}()
	seen := 0
	for {
		for _, f := range process.sources.inUse() {
			seen++
			newAdminFile(&f)
			if (f.kind() == "users") != (f.Name() == path) {
				t.Errorf("%s: got kind %s, want users for %s and groups for others", f.Name(), f.kind(), path)
			}
		}
		select {
		case <-done:
			if seen == 0 {
				t.Error("got no file in use, want some")
			}
			return
		default:
		}
	}
}
