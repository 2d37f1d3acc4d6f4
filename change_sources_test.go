//go:build unix

package caddyhtpasswd

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestChangePasswordOfAPattern changes passwords in the files of a pattern: in one that is
// there at first, and in one that is added. No other file changes.
func TestChangePasswordOfAPattern(t *testing.T) {
	site := strings.Replace(changeSite(""), "file {dir}/users", "file {dir}/*.u", 1)
	s := startSite(t, testkit.NewWitness(t), map[string]string{"a.u": alice, "c.u": bobSecret}, site)
	path := func(name string) string { return filepath.Join(s.dir, name) }
	checkPage(t, "the first file", s.changePassword("alice", "secret", newPassword), 200, "The password of alice has been changed.")
	replace(t, path("b.u"), bobSecret) // takes precedence over c.u
	s.get("/", "nobody", "secret")     // waits until the file is loaded
	checkPage(t, "the added file", s.changePassword("bob", "secret", newPassword), 200, "The password of bob has been changed.")
	if readText(t, path("c.u")) != bobSecret || !strings.HasPrefix(readText(t, path("b.u")), "bob:$2y$10$") || strings.Contains(readText(t, path("a.u")), "bob") {
		t.Error("the wrong file was changed")
	}
	for _, user := range []string{"alice", "bob"} {
		if a := s.get("/", user, newPassword); a.status != 200 {
			t.Errorf("%s: got %d, want 200", user, a.status)
		}
		if a := s.get("/", user, "secret"); a.status != 401 {
			t.Errorf("%s with the old password: got %d, want 401", user, a.status)
		}
	}
	must(t, os.Remove(path("a.u")))
	s.get("/", "nobody", "secret")
	if a := s.changePassword("alice", newPassword, newPassword+"-2"); a.status != 401 {
		t.Errorf("a user of a removed file: got %d, want 401", a.status)
	}
	if _, err := os.Lstat(path("a.u")); err == nil {
		t.Error("the removed file was created again")
	}
}

// TestChangePasswordOfUsersText has users in the configuration, one of them also in a file.
// The page tells them that it cannot change their passwords, whatever they send.
func TestChangePasswordOfUsersText(t *testing.T) {
	site := strings.Replace(changeSite(""), "file {dir}/users", "users `"+strings.TrimSpace(alice)+"`\nfile {dir}/users", 1)
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": aliceOther + bobSecret}, site)
	before := process.guard.changes[changeNoFile].Load()
	answers := map[string]answer{"the page": s.get("/account/password", "alice", "secret")}
	for name, form := range map[string]url.Values{
		"a change":               passwordForm("secret", newPassword),
		"a weak new password":    passwordForm("secret", "short"),
		"a wrong password":       passwordForm("wrong", newPassword),
		"the password of a file": passwordForm("another", newPassword),
	} {
		answers[name] = s.do(s.formRequest("/account/password", "alice", "secret", form))
	}
	for name, a := range answers {
		checkPage(t, name, a, 403, "part of the server&#39;s configuration")
		if strings.Contains(a.body, "<form") {
			t.Errorf("%s: the page has a form", name)
		}
	}
	if n := process.guard.changes[changeNoFile].Load() - before; n != 4 {
		t.Errorf("%d forms were counted as those of a user in no file, want 4", n)
	}
	if readText(t, filepath.Join(s.dir, "users")) != aliceOther+bobSecret {
		t.Error("the file has changed")
	}
	if a := s.get("/", "alice", "secret"); a.status != 200 {
		t.Errorf("got %d, want 200", a.status)
	}
	for line := range strings.Lines(s.log()) {
		// At the level debug, Caddy logs its whole configuration, including a literal text.
		if !strings.Contains(line, `"msg":"adjusted config"`) && strings.Contains(line, "$2y$") || strings.Contains(line, newPassword) {
			t.Errorf("the log shows a secret: %s", line)
		}
	}
	checkPage(t, "a user of the file", s.changePassword("bob", "secret", newPassword), 200, "The password of bob has been changed.")
}
