//go:build unix

package caddyhtpasswd

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// Files of the same length.
const (
	fileA = "alice:" + shaSecret1 + "\nann:" + shaSecret1 + "\n"
	fileB = "alice:" + shaSecret1 + "\nbob:" + shaSecret1 + "\n"
)

// activate activates settings until the end of a test.
func activate(t *testing.T, poll time.Duration) *settings {
	t.Helper()
	active := &settings{poll: poll, keys: keyring.NewRing(&process.keys), logger: zap.NewNop()}
	process.active.start(active)
	t.Cleanup(func() { process.active.stop(active) })
	return active
}

// TestFollowSettings activates other settings. Followers of a file get them.
func TestFollowSettings(t *testing.T) {
	one := activate(t, time.Hour)
	settings, changed := process.sources.followSettings()
	if settings.Poll != time.Hour || settings.Logger != one.logger {
		t.Errorf("got a poll of %s, want %s, and the logger of the app", settings.Poll, time.Hour)
	}
	select {
	case <-changed:
		t.Error("got a notice of a change, want none: nothing has changed")
	default:
	}
	two := activate(t, time.Minute)
	<-changed
	if settings, _ := process.sources.followSettings(); settings.Poll != time.Minute || settings.Logger != two.logger {
		t.Errorf("got a poll of %s, want %s, and the logger of the other app", settings.Poll, time.Minute)
	}
}

// followers returns how many goroutines follow files.
func followers() int {
	var stacks bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&stacks, 2) //nolint:errcheck // to memory
	return strings.Count(stacks.String(), "follow.(*Follower).run(") + strings.Count(stacks.String(), "(*inotify).await(") + strings.Count(stacks.String(), "(*notifier).forward(")
}

// nobodyFollows waits until no goroutine follows a file. A goroutine that has signaled its
// end may still be running.
func nobodyFollows(t *testing.T) {
	t.Helper()
	eventually(t, "no goroutine follows a file", func() bool { return followers() == 0 })
}

// awaitKnows waits until a handler has, or no longer has, a user.
func awaitKnows(t *testing.T, h *Handler, user string, want result) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %s", user, want), func() bool {
		f := h.users.now().find([]byte(user)) // a login would check the file
		if f.isUsable() {
			return want == resultPassed && f.class().Verify(f.entry.Hash, []byte("secret1"))
		}
		return f.failure() == want
	})
}

// TestFilesAreShared checks what handlers of one path share, and that nothing is left when
// the last handler is gone.
func TestFilesAreShared(t *testing.T) {
	activate(t, time.Hour)
	nobodyFollows(t) // no file of another test
	path := writeFile(t, fileA)
	groups := writeFile(t, "admins: alice\n")
	one, two := &Handler{Files: []string{path, path}, GroupFiles: []string{groups}}, &Handler{Files: []string{path}}
	must(t, one.Provision(configContext(t)))
	must(t, two.Provision(configContext(t)))
	if one.users.fixed[0] != two.users.fixed[0] || one.users.fixed[0] != one.users.fixed[1] {
		t.Error("got two stores of the same file, want one")
	}
	eventually(t, "two files are followed", func() bool { return followers() == 4 }) // each with its notifications

	replace(t, path, "rubbish")
	three := &Handler{Files: []string{path}} // invalid, although the file is in use
	if err := three.Provision(configContext(t)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names the file", err)
	}
	must(t, three.Cleanup())
	if got, _ := checkLogin(t, one.users.fixed, "ann", "secret1", &cachePolicy{now: clock}); got != resultPassed {
		t.Errorf("a user of the previous version: got %s, want %s", got, resultPassed)
	}

	// A path used as a password file and as a group file counts as two files.
	mixed := &Handler{Files: []string{path}, GroupFiles: []string{path}}
	replace(t, path, fileA)
	must(t, mixed.Provision(configContext(t)))
	eventually(t, "three files are followed", func() bool { return followers() == 5 }) // two of them share the watch of their directory
	must(t, mixed.Cleanup())

	must(t, one.Cleanup())
	must(t, one.Cleanup()) // a second call does not affect others
	replace(t, path, fileB)
	awaitKnows(t, two, "bob", resultPassed)
	must(t, two.Cleanup())
	nobodyFollows(t)

	// A file that cannot be read leaves nothing either.
	four := &Handler{Files: []string{path, path + ".none"}}
	if err := four.Provision(configContext(t)); err == nil {
		t.Error("got no error for a file that is missing, want one")
	}
	must(t, four.Cleanup())
	nobodyFollows(t)
}
