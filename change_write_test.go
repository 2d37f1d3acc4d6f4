package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestChangePasswordFix(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{fs.ErrPermission, "own the file"},
		{syscall.EACCES, "own the file"},
		{syscall.EROFS, "make the directory writable"},
		{errNotAFile, "move the users"},
		{fs.ErrNotExist, "restore the file"},
		{syscall.ENOSPC, "free space"},
		{syscall.EDQUOT, "free space"},
		{errors.New("a mount point"), "what the error says"},
	} {
		if got := fixOf(fmt.Errorf("file: %w", test.err)); !strings.Contains(got, test.want) {
			t.Errorf("%v: got %q, want %q", test.err, got, test.want)
		}
	}
}

// TestChangePasswordOfAClientThatHasGone closes the connection while the new hash is
// computed. Nothing is written: the user does not know whether the password has changed.
func TestChangePasswordOfAClientThatHasGone(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	s.get("/", "alice", "secret")
	ctx, cancel := context.WithCancel(t.Context())
	hasGone, made := make(chan struct{}), make(chan struct{})
	makeHash := process.guard.makeHash
	process.guard.makeHash = func(format string, cost int, password []byte) (string, error) {
		defer close(made)
		cancel()
		<-hasGone
		return makeHash(format, cost, password)
	}
	if _, err := testkit.Send(s.client, s.formRequest("/account/password", "alice", "secret", passwordForm("secret", newPassword)).WithContext(ctx)); err == nil {
		t.Error("got an answer, want none")
	}
	eventually(t, "the form has ended", func() bool { return process.guard.changes[changeFailed].Load() == 1 })
	close(hasGone)
	<-made
	if a := s.get("/", "alice", "secret"); a.status != 200 || readText(t, filepath.Join(s.dir, "users")) != alice {
		t.Errorf("the old password: got %d, want 200 and an unchanged file", a.status)
	}
}

// TestChangePasswordWhenOverloaded finds no room in the hash queue.
func TestChangePasswordWhenOverloaded(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice + bobSecret}, "{\nhtpasswd {\nmax_hashes 1\n}\n}\n"+changeSite(""))
	s.get("/", "alice", "secret")
	process.guard.queue = process.guard.newQueue(100 * time.Millisecond)
	begun, release := make(chan struct{}), make(chan struct{})
	verify := process.guard.verify
	process.guard.verify = func(class crypt.Class, hash string, password []byte) bool {
		close(begun)
		<-release
		return verify(class, hash, password)
	}
	var group sync.WaitGroup
	group.Go(func() { s.get("/", "bob", "secret") })
	<-begun
	a := s.changePassword("alice", "secret", newPassword)
	checkPage(t, "the change", a, 503, "The server has too many logins to check. Nothing was changed. Try again in 10 seconds.")
	if a.header.Get("Retry-After") != "10" {
		t.Errorf("got Retry-After %q, want 10", a.header.Get("Retry-After"))
	}
	close(release)
	group.Wait()
	if readText(t, filepath.Join(s.dir, "users")) != alice+bobSecret {
		t.Error("the file has changed")
	}
	if got := process.guard.changes[changeOverloaded].Load(); got != 1 {
		t.Errorf("got %d forms that were counted as overloaded, want 1", got)
	}
}

// TestChangePasswordPanics fails while the hash is computed. The answer and the log
// contain nothing of the password.
func TestChangePasswordPanics(t *testing.T) {
	s := startSite(t, testkit.NewWitness(t), map[string]string{"users": alice}, changeSite(""))
	process.guard.makeHash = func(_ string, _ int, password []byte) (string, error) { panic(string(password)) }
	checkPage(t, "the change", s.changePassword("alice", "secret", newPassword), 500, "Nothing was changed.")
	if log := s.log(); strings.Contains(log, newPassword) || !strings.Contains(log, `"msg":"password check failed"`) {
		t.Error("the log contains the password, or does not say what has failed")
	}
	if readText(t, filepath.Join(s.dir, "users")) != alice {
		t.Error("the file has changed")
	}
}
