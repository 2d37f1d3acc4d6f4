package caddyhtpasswd

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPatternSite has two sites with one pattern and a text of users before it, and sends
// real requests while files come and go, and while the configuration is reloaded.
func TestPatternSite(t *testing.T) {
	caddyfile := func(realm string) string {
		block := "\n\thtpasswd {\n\t\tusers \"first:!\"\n\t\tfile {dir}/users.d/*.htpasswd\n\t\trealm " + realm + "\n\t\tallow_http\n\t}\n\trespond \"{http.auth.user.id}\""
		return "{\n\tadmin localhost:{admin}\n\thtpasswd {\n\t\tpoll 1h\n\t}\n}\n" + httpsSite(block) + "http://localhost:{http} {" + block + "\n}\n"
	}
	s := startServer(t, "")
	must(t, os.Mkdir(filepath.Join(s.dir, "users.d"), 0o755))
	path := func(name string) string { return filepath.Join(s.dir, "users.d", name+".htpasswd") }
	write := func(name, text string) { t.Helper(); s.write("users.d/"+name+".htpasswd", text) }
	answers := func(when, user string, want int) {
		t.Helper()
		header := http.Header{"Authorization": {basic(user, "secret1")}}
		for site, a := range map[string]answer{"HTTPS": s.get("/", user, "secret1"), "HTTP": s.plain("/", header)} {
			if a.status != want || want == 200 && a.body != user {
				t.Errorf("%s: %s over %s: got %d %q, want %d", when, user, site, a.status, a.body, want)
			}
		}
	}
	reloadFiles := func(want int, results string) {
		t.Helper()
		response, err := http.Post(fmt.Sprintf("http://localhost:%d/htpasswd/reload", s.admin), "", nil)
		must(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		must(t, err)
		if response.StatusCode != want || !strings.Contains(string(text), results) {
			t.Errorf("POST /htpasswd/reload: got %d %s, want %d and %s", response.StatusCode, text, want, results)
		}
	}

	if err := s.reload(caddyfile("a")); err == nil || !strings.Contains(err.Error(), "no file matches the pattern") {
		t.Errorf("got error %v, want one that no file matches", err)
	}
	write("web", "alice"+siteLine+"first"+siteLine)
	must(t, s.reload(caddyfile("a")))
	answers("at first", "alice", 200)
	answers("locked in an earlier source", "first", 401)
	answers("at first", "bob", 401)

	write("api", "bob"+siteLine)
	answers("added", "bob", 200)
	reloadFiles(200, `"kind":"pattern","result":"unchanged"`)
	write("api", "<html>")
	reloadFiles(500, `"result":"failed"`)
	answers("broken", "bob", 200)
	if err := s.reload(caddyfile("b")); err == nil || !strings.Contains(err.Error(), path("api")+": no valid user:hash line") {
		t.Errorf("got error %v, want one about the broken file", err)
	}
	answers("after a refused reload", "alice", 200)
	answers("after a refused reload", "bob", 200)

	must(t, os.Remove(path("api")))
	reloadFiles(200, `"kind":"pattern","result":"reloaded"`)
	answers("removed", "bob", 401)
	must(t, s.reload(caddyfile("b")))
	answers("reloaded", "alice", 200)
	must(t, os.Remove(path("web")))
	reloadFiles(500, "no file matches the pattern")
	answers("nothing is left", "alice", 200)
	if err := s.reload(caddyfile("c")); err == nil {
		t.Error("got no error without a file, want one")
	}
	answers("nothing is left, after a refused reload", "alice", 200)
}

const siteLine = ":" + shaSecret1 + "\n"
