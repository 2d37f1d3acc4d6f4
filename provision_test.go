package caddyhtpasswd

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// nextHandler is the next handler for a handler that is called without a server.
type nextHandler struct{ calls int }

func (n *nextHandler) ServeHTTP(http.ResponseWriter, *http.Request) error {
	n.calls++
	return nil
}

// handlerRequest returns a request as Caddy passes it to handlers.
func handlerRequest(encrypted bool, header http.Header) *http.Request {
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	r.Header = header
	if encrypted {
		r.TLS = new(tls.ConnectionState)
	}
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	return r.WithContext(context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{}))
}

// emptyContext returns the context of an empty configuration.
func emptyContext(t testing.TB) caddy.Context {
	t.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		Logging: &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "FATAL"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// references returns how many references the pool has to a file, as a password file and as
// a group file.
func references(path string) [2]int {
	users, _ := process.sources.pool.References(poolKey[*userStore]{path})
	groups, _ := process.sources.pool.References(poolKey[*groupStore]{path})
	return [2]int{users, groups}
}

// TestProvisionRefuses checks that a handler with invalid settings or files is not
// provisioned, and releases everything.
func TestProvisionRefuses(t *testing.T) {
	ctx := emptyContext(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir + "/" + name
	}
	good, good2, broken, groups := write("good", alice), write("good2", bob), write("broken", "<html>\n"), write("groups", "g: alice\n")
	missing := dir + "/missing"
	text, err := filepath.Abs("alice:secret")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTPASSWD_TEST", good)
	for _, row := range []struct {
		name, json, want string
	}{
		{"no file", `{}`, "files: expected at least one password file, found none"},
		{"no file but others", `{"realm": "x", "group_files": ["GROUPS"]}`, "files: expected at least one password file, found none"},
		{"missing file", `{"files": ["MISSING"]}`, missing + ": no such file"},
		{"second file missing", `{"files": ["GOOD", "MISSING"]}`, missing + ": no such file"},
		{"first file missing", `{"files": ["MISSING", "GOOD"]}`, missing + ": no such file"},
		{"directory", `{"files": ["DIR"]}`, "is a directory, not a file"},
		{"empty name", `{"files": [""]}`, "is a directory, not a file"},
		{"text in place of a path", `{"files": ["GOOD", "alice:secret"]}`, "looks like the text of a password file"},
		{"text in place of the path of a group file", `{"files": ["GOOD"], "group_files": ["alice:secret"]}`, "looks like the text of a password file"},
		{"broken file", `{"files": ["GOOD", "GOOD2", "BROKEN"]}`, broken + ": no valid user:hash line (invalid lines: 1)"},
		{"missing group file", `{"files": ["GOOD", "GOOD2"], "group_files": ["GROUPS", "MISSING"]}`, missing + ": no such file"},
		{"broken group file", `{"files": ["GOOD"], "group_files": ["BROKEN"]}`, broken + ": no valid group: user user ... line (invalid lines: 1)"},
		{"group file as a password file", `{"files": ["GOOD"], "group_files": ["GOOD"], "user_header": "Host"}`, "user_header"},
		{"unknown placeholder", `{"files": ["{env.HTPASSWD_NO_SUCH}/x"]}`, "env.HTPASSWD_NO_SUCH"},
		{"realm with a line end", `{"files": ["GOOD"], "realm": "a\nb"}`, "realm"},
		{"realm with a NUL", `{"files": ["GOOD"], "realm": "a\u0000{host}"}`, "realm"},
		{"realm with DEL", `{"files": ["GOOD"], "realm": "\u007f"}`, "realm"},
		{"user_header Authorization", `{"files": ["GOOD"], "user_header": "AUTHORIZATION"}`, "user_header"},
		{"user_header with an underscore for a field of its own", `{"files": ["GOOD"], "user_header": "Content_Length"}`, "user_header"},
		{"user_header with a space", `{"files": ["GOOD"], "user_header": "X User"}`, "user_header"},
		{"user_header with a line end", `{"files": ["GOOD"], "user_header": "X-User\r\nX-Evil: 1"}`, "user_header"},
		{"user_header with a colon", `{"files": ["GOOD"], "user_header": "X-User:"}`, "user_header"},
		{"require nothing", `{"files": ["GOOD"], "require": {}}`, "require"},
		{"require empty lists", `{"files": ["GOOD"], "require": {"users": [], "groups": []}}`, "require"},
		{"require group without a group file", `{"files": ["GOOD"], "require": {"groups": ["g"]}}`, "group_file"},
		{"cache off and max_age", `{"files": ["GOOD"], "cache": {"off": true, "max_age": "5m"}}`, "cache"},
		{"cache below zero", `{"files": ["GOOD"], "cache": {"max_age": "-1s"}}`, "cache"},
		{"exempt everything", `{"files": ["GOOD"], "exempt": [{}]}`, "exempt"},
		{"exempt everything, after another", `{"files": ["GOOD"], "exempt": [{"path": ["/x"]}, {}]}`, "exempt"},
		{"exempt null", `{"files": ["GOOD"], "exempt": [null]}`, "exempt"},
		{"exempt unknown matcher", `{"files": ["GOOD"], "exempt": [{"no_such": 1}]}`, "exempt"},
		{"exempt invalid matcher", `{"files": ["GOOD"], "exempt": [{"remote_ip": {"ranges": ["nonsense"]}}]}`, "exempt"},
		{"unknown setting", `{"files": ["GOOD"], "exemptions": []}`, "exemptions"},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := strings.NewReplacer("GOOD2", good2, "GOOD", good, "BROKEN", broken, "MISSING", missing, "GROUPS", groups, "DIR", dir).Replace(row.json)
			_, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(config))
			if err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "htpasswd") {
				t.Errorf("%v, not an error about %q", err, row.want)
			}
			for _, path := range []string{good, good2, broken, groups, missing, dir, text} {
				if n := references(path); n != [2]int{} {
					t.Errorf("%s is held %v times, want none", path, n)
				}
			}
		})
	}

	// A valid handler keeps its files when another handler fails.
	h := &Handler{Files: []string{"{env.HTPASSWD_TEST}", good2}, GroupFiles: []string{groups}}
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	check := func(want int) {
		t.Helper()
		for _, path := range []string{good, good2} {
			if n := references(path); n != [2]int{want, 0} {
				t.Errorf("%s is held %v times, not %d", path, n, want)
			}
		}
		if n := references(groups); n != [2]int{0, want} {
			t.Errorf("%s is held %v times, not %d", groups, n, want)
		}
	}
	check(1)
	t.Run("Cleanup after a Provision that failed halfway, twice", func(t *testing.T) {
		failing := &Handler{Files: []string{good, missing, good2}}
		err := failing.Provision(ctx)
		if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		for range 2 {
			if err := failing.Cleanup(); err != nil {
				t.Error(err)
			}
			check(1)
		}
		next := new(nextHandler)
		if err := failing.ServeHTTP(httptest.NewRecorder(), handlerRequest(true, authorization(basic("nobody", "x"))), next); err == nil || next.calls > 0 {
			t.Errorf("got error %v and %d calls of the next handler, want an error and none", err, next.calls)
		}
	})
	t.Run("Cleanup without Provision", func(t *testing.T) {
		if err := new(Handler).Cleanup(); err != nil {
			t.Error(err)
		}
		check(1)
	})
	t.Run("the same file twice in one handler", func(t *testing.T) {
		twice := &Handler{Files: []string{good, good}, GroupFiles: []string{groups, groups}}
		if err := twice.Provision(ctx); err != nil {
			t.Error(err)
		}
		if n := references(good); n != [2]int{3, 0} {
			t.Errorf("%s is held %v times, want %v", good, n, [2]int{3, 0})
		}
		for range 2 {
			if err := twice.Cleanup(); err != nil {
				t.Error(err)
			}
			check(1)
		}
	})
	t.Run("broken while in use", func(t *testing.T) {
		write("good2", "<html>\n")
		failing := &Handler{Files: []string{good2}}
		if err := failing.Provision(ctx); err == nil {
			t.Error("got no error for a broken file, want one")
		}
		if err := failing.Cleanup(); err != nil {
			t.Error(err)
		}
		check(1)
		next := new(nextHandler)
		if err := h.ServeHTTP(httptest.NewRecorder(), handlerRequest(true, authorization(basic("bob", "hunter2"))), next); err != nil || next.calls != 1 {
			t.Errorf("got error %v and %d calls of the next handler, want none and one: the previous version serves on", err, next.calls)
		}
	})
	t.Run("called without a server", func(t *testing.T) {
		for _, row := range []struct {
			name      string
			encrypted bool
			header    http.Header
			status    int
		}{
			{"nothing", true, http.Header{}, 401},
			{"no header map", true, nil, 401},
			{"not encrypted", false, authorization(basic("alice", "secret")), 403},
			{"wrong", true, authorization(basic("alice", "no")), 401},
			{"two", true, authorization(basic("alice", "secret"), "x"), 400},
			{"right", true, authorization(basic("alice", "secret")), 200},
		} {
			next := new(nextHandler)
			err := h.ServeHTTP(httptest.NewRecorder(), handlerRequest(row.encrypted, row.header), next)
			status := 200
			if failure, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
				status = failure.StatusCode
			} else if err != nil {
				t.Errorf("%s: got error %v, want one with a status", row.name, err)
			}
			if status != row.status || (next.calls == 1) != (status == 200) || next.calls > 1 {
				t.Errorf("%s: got status %d and %d calls of the next handler, want %d, and one call only with 200", row.name, status, next.calls, row.status)
			}
		}
	})
	t.Run("no exempt exempts nothing", func(t *testing.T) {
		for _, exempt := range []string{"", `, "exempt": []`, `, "exempt": null`} {
			module, err := ctx.LoadModuleByID("http.handlers.htpasswd", []byte(`{"files": ["`+good+`"]`+exempt+`}`))
			if err != nil {
				t.Fatal(err)
			}
			next := new(nextHandler)
			if err := module.(*Handler).ServeHTTP(httptest.NewRecorder(), handlerRequest(true, http.Header{}), next); err == nil || next.calls > 0 {
				t.Errorf("%q: got error %v and %d calls of the next handler, want an error and none", exempt, err, next.calls)
			}
			if err := module.(*Handler).Cleanup(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
	check(0)
}
