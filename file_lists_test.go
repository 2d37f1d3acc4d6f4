//go:build unix

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// patternSite is a handler whose sources are patterns, called without a server.
type patternSite struct {
	*Handler
	t    *testing.T
	dir  string
	logs *observer.ObservedLogs
}

// startPatterns writes files and provisions a handler. DIR in a source is the directory of
// the files.
func startPatterns(t *testing.T, files map[string]string, sources ...string) *patternSite {
	t.Helper()
	s := &patternSite{t: t, dir: t.TempDir()}
	s.activate(minPoll)
	for name, text := range files {
		s.write(name, text)
	}
	s.Handler = provision(t, s.handler(sources...))
	return s
}

// activate activates settings with a log and enough worker slots.
func (s *patternSite) activate(poll time.Duration) {
	active := &settings{poll: poll, keys: keyring.NewRing(&process.keys), maxHashes: 8}
	active.logger, s.logs = observed()
	process.active.start(active)
	process.guard.queue.WorkersChanged()
	s.t.Cleanup(func() { process.active.stop(active) })
}

// settle waits until changes are loaded: a failed login waits for them. A login with a
// cached password does not.
func (s *patternSite) settle() {
	s.t.Helper()
	s.wants(resultUnknownUser, "nobody")
}

func (s *patternSite) handler(sources ...string) *Handler {
	h := new(Handler)
	for _, source := range sources {
		h.Files = append(h.Files, strings.ReplaceAll(source, "DIR", s.dir))
	}
	return h
}

func (s *patternSite) path(name string) string { return filepath.Join(s.dir, name) }

func (s *patternSite) write(name, text string) {
	s.t.Helper()
	must(s.t, os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	must(s.t, os.WriteFile(s.path(name), []byte(text), 0o600))
}

func (s *patternSite) remove(name string) {
	s.t.Helper()
	must(s.t, os.Remove(s.path(name)))
}

// login returns the result of one login, which waits for files that are changing.
func (s *patternSite) login(user, password string) result {
	s.t.Helper()
	c := credentialsOf(user, password)
	defer c.release()
	v, err := s.check(s.t.Context(), origin{}, c)
	must(s.t, err)
	return v.result
}

// wants checks the result of one login with the password secret1.
func (s *patternSite) wants(want result, users ...string) {
	s.t.Helper()
	for _, user := range users {
		if got := s.login(user, "secret1"); got != want {
			s.t.Errorf("%s: got %s, want %s", user, got, want)
		}
	}
}

// logged checks which messages were logged since the last call. "quiet" messages of the
// loading of valid files are left out.
func (s *patternSite) logged(want ...string) {
	s.t.Helper()
	var got []string
	for _, entry := range s.logs.TakeAll() {
		message := entry.Level.String() + " " + entry.Message
		switch file, _ := entry.ContextMap()["file"].(string); {
		case strings.Contains(entry.Message, "weak"), entry.Message == "login failed":
		default:
			got = append(got, message+": "+strings.TrimPrefix(file, s.dir+"/"))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		s.t.Errorf("got the messages\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const (
	msgFiles  = "info files of the pattern changed: *.u"
	msgNoFile = "error cannot load file; keeping the previous version: *.u"
	shaLine   = ":" + shaSecret1 + "\n"
)

// TestPatternFollowsFiles adds, removes, breaks and renames files of a pattern, one after
// the other. Every login is right at the first attempt.
func TestPatternFollowsFiles(t *testing.T) {
	s := startPatterns(t, map[string]string{"b.u": "bob" + shaLine, "c.u": "carol" + shaLine, "x.txt": "xavier" + shaLine}, "DIR/*.u")
	s.wants(resultPassed, "bob", "carol")
	s.wants(resultUnknownUser, "xavier", "alice")
	s.logged()

	s.write("a.u", "alice"+shaLine)
	s.wants(resultPassed, "alice", "bob", "carol")
	s.logged(msgFiles)

	s.remove("c.u")
	s.settle()
	s.wants(resultUnknownUser, "carol")
	s.wants(resultPassed, "alice", "bob")
	s.logged(msgFiles)
	if n := references(s.path("c.u")); n != [2]int{} {
		t.Errorf("a removed file is held %v times", n)
	}

	s.write("b.u", "<html>") // keeps its own previous version
	s.wants(resultPassed, "alice", "bob")
	s.settle()
	s.logged("error cannot load file; keeping the previous version: b.u")

	s.write("d.u", "<html>") // has no previous version
	s.wants(resultUnknownUser, "dave")
	s.wants(resultPassed, "alice", "bob")
	s.logged("error cannot load new file; its users cannot log in: d.u", msgFiles)
	for _, f := range process.sources.inUse() {
		name := filepath.Base(f.Name())
		if isFailing, want := f.status.Failure != "", name == "b.u" || name == "d.u"; isFailing != want {
			t.Errorf("%s fails in the admin API: %v, want %v", name, isFailing, want)
		}
	}
	if got := gathered(t); got["caddy_htpasswd_file_last_load_successful"] != 4 || got["caddy_htpasswd_file_users"] != 3 {
		t.Errorf("got the metrics %v, want those of three files and of the pattern", got)
	}
	for _, f := range process.sources.inUse() {
		file := newAdminFile(&f)
		if text, err := json.Marshal(file); err != nil || file.Kind == "pattern" && (file.Files != 3 || file.Users != 2) || strings.Contains(string(text), "0001-01-01") {
			t.Errorf("got %s in the admin API and error %v, want a pattern with 3 files and 2 users, and no time for a file that was never loaded", text, err)
		}
	}
	s.write("d.u", "dave"+shaLine)
	s.wants(resultPassed, "dave")
	s.logged("info file loaded again after earlier errors: d.u")

	s.write("b.u", "bob"+shaLine)
	must(t, os.Rename(s.path("b.u"), s.path("0.u")))
	s.settle()
	s.wants(resultPassed, "alice", "bob", "dave")
	s.logged(msgFiles)

	for _, name := range []string{"0.u", "a.u", "d.u"} { // the last ones stay
		s.remove(name)
	}
	s.settle()
	s.wants(resultPassed, "alice", "bob", "dave")
	s.logged(msgNoFile)
	s.settle()
	must(t, os.RemoveAll(s.dir))
	s.settle()
	s.wants(resultPassed, "alice", "bob", "dave")
	s.logged(msgNoFile)

	next := s.dir + ".next" // the directory appears with its file
	must(t, os.Mkdir(next, 0o755))
	must(t, os.WriteFile(next+"/e.u", []byte("erin"+shaLine), 0o600))
	must(t, os.Rename(next, s.dir))
	s.settle()
	s.wants(resultPassed, "erin")
	s.wants(resultUnknownUser, "alice", "bob", "dave")
	s.logged(msgFiles, "info file loaded again after earlier errors: *.u")
}

// TestPatternDeleteAndCreate replaces a file as some editors do. Nobody is locked out, and
// nothing is logged but the new version.
func TestPatternDeleteAndCreate(t *testing.T) {
	s := startPatterns(t, map[string]string{"a.u": "alice" + shaLine, "b.u": "bob" + shaLine}, "DIR/*.u")
	s.wants(resultPassed, "alice")
	s.remove("a.u")
	s.wants(resultPassed, "alice") // cached
	s.write("a.u", "alice"+shaLine+"ann"+shaLine)
	s.wants(resultPassed, "alice", "ann", "bob")
	s.logged("info file reloaded: a.u")
}

// TestPatternOrder has a user in several sources. The first one decides, in the order in
// which sources are written, and of paths within a pattern.
func TestPatternOrder(t *testing.T) {
	s := startPatterns(t, map[string]string{"first": "bob:!\n", "b.u": "alice" + shaLine + "bob" + shaLine, "last": "carol:!\n"}, "DIR/first", "DIR/*.u", "DIR/last")
	s.wants(resultPassed, "alice")
	s.wants(resultLockedUser, "bob", "carol")
	s.write("a.u", "alice:!\n")
	s.settle()
	s.wants(resultLockedUser, "alice")
	s.write("c.u", "carol"+shaLine)
	s.wants(resultPassed, "carol")
	s.remove("a.u")
	s.settle()
	s.wants(resultLockedUser, "bob")
	s.wants(resultPassed, "alice")
}

// TestPatternWarnsOfShadowed logs users of an earlier file when the files change, and does
// not repeat it for others.
func TestPatternWarnsOfShadowed(t *testing.T) {
	s := startPatterns(t, map[string]string{"a.u": "alice" + shaLine}, "DIR/*.u")
	s.users.listed.logger, s.logs = observed()
	message := "users already defined in an earlier file; those entries take precedence"
	for _, step := range []struct {
		name, text string
		want       int // messages
	}{{"b.u", "alice" + shaLine, 1}, {"c.u", "carol" + shaLine, 0}, {"d.u", "carol" + shaLine + "alice" + shaLine, 1}, {"e.u", "erin" + shaLine, 0}} {
		s.write(step.name, step.text)
		eventually(t, step.name+" is loaded", func() bool {
			s.users.await(t.Context())
			return len(s.users.now()) > 0 && s.users.now()[len(s.users.now())-1].path == s.path(step.name) && s.users.now()[len(s.users.now())-1].current.Load().file.Valid > 0
		})
		eventually(t, step.name+": it is logged", func() bool { return s.logs.FilterMessage(message).Len() >= step.want })
		if got := s.logs.FilterMessage(message).Len(); got != step.want {
			t.Errorf("%s: got %d warnings, want %d", step.name, got, step.want)
		}
		s.logs.TakeAll()
	}
}

// TestPatternRefusesConfiguration has patterns and files that a start or a reload refuses.
// The running configuration stays as it was.
func TestPatternRefusesConfiguration(t *testing.T) {
	s := startPatterns(t, map[string]string{"a.u": "alice" + shaLine, "broken/a.u": "alice" + shaLine, "broken/b.u": "<html>", "broken/c.u": "<html>"}, "DIR/*.u")
	for _, test := range []struct{ source, want string }{
		{"DIR/none/*.u", "file " + s.dir + "/none/*.u: no file matches the pattern: directory '" + s.dir + "/none' does not exist"},
		{"DIR/*.none", "file " + s.dir + "/*.none: no file matches the pattern"},
		{"DIR/[", "file " + s.dir + "/[: expected a pattern such as users.d/*.htpasswd, found the invalid element '['"},
		{"DIR/**/*.u", "file " + s.dir + "/**/*.u: expected a pattern such as users.d/*.htpasswd, found '**'"},
		{"DIR/broken/*.u", s.dir + "/broken/b.u: no valid user:hash line"},
		{"{env.HTPASSWD_UNSET}/*.u", "file path: evaluated placeholder {env.HTPASSWD_UNSET}"},
	} {
		for _, sources := range [][]string{{test.source}, {"DIR/*.u", test.source}, {test.source, "DIR/*.u"}} {
			h := s.handler(sources...)
			err := h.Provision(configContext(t))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got error %v, want %s", sources, err, test.want)
			}
			must(t, h.Cleanup())
		}
	}
	for _, name := range []string{"broken/a.u", "broken/b.u", "broken/c.u"} {
		if n := references(s.path(name)); n != [2]int{} {
			t.Errorf("%s is held %v times, want none", name, n)
		}
	}

	s.write("b.u", "<html>") // of the pattern that runs
	h := s.handler("DIR/*.u")
	if err := h.Provision(configContext(t)); err == nil || !strings.Contains(err.Error(), s.path("b.u")+": no valid user:hash line") {
		t.Errorf("got error %v, want one about b.u", err)
	}
	must(t, h.Cleanup())
	s.wants(resultPassed, "alice")
	s.write("b.u", "bob"+shaLine)
	s.wants(resultPassed, "bob")

	s.remove("a.u") // and another file is broken: the configuration is still refused
	s.write("b.u", "<html>")
	list := s.users.listed.parts[0].list
	if err := list.reloadFiles(zap.NewNop()); err == nil || !strings.Contains(err.Error(), s.path("b.u")) {
		t.Errorf("got error %v, want one about b.u", err)
	}
	s.write("a.u", "alice"+shaLine)
	s.write("b.u", "bob"+shaLine)
	s.wants(resultPassed, "alice", "bob")

	h = &Handler{Files: []string{s.path("a.u")}, GroupFiles: []string{s.path("*.groups")}}
	if err := h.Provision(configContext(t)); err == nil || !strings.Contains(err.Error(), "group_file") || !strings.Contains(err.Error(), "expected the path of one file") {
		t.Errorf("got error %v, want one that group_file takes no pattern", err)
	}
	must(t, h.Cleanup())
}

// TestPatternIsShared has handlers with the same pattern, and with one of its files. All
// share the files, and nothing is left when the last one is gone.
func TestPatternIsShared(t *testing.T) {
	nobodyFollows(t) // no file of another test
	s := &patternSite{t: t, dir: t.TempDir()}
	s.activate(time.Hour)
	s.write("a.u", "alice"+shaLine)
	s.write("b.u", "bob"+shaLine)
	one, two, direct := s.handler("DIR/*.u"), s.handler("DIR/*.u", "DIR/a.*"), s.handler("DIR/b.u")
	for _, h := range []*Handler{one, two, direct} {
		must(t, h.Provision(configContext(t)))
	}
	if a, b := one.users.now(), two.users.now(); len(a) != 2 || len(b) != 2 || a[0] != b[0] || a[1] != b[1] || a[1] != direct.users.now()[0] {
		t.Errorf("got the stores %v and %v, want the same two", a, b)
	}
	s.remove("b.u") // an error only for the handler that names it
	eventually(t, "the patterns have dropped it", func() bool { return len(one.users.now()) == 1 && len(two.users.now()) == 1 })
	eventually(t, "the other handler reports it", func() bool {
		for _, f := range process.sources.inUse() {
			if f.store == direct.users.now()[0] {
				return strings.Contains(f.status.Failure, "no such file")
			}
		}
		return false
	})
	s.Handler = direct
	s.wants(resultPassed, "bob")
	must(t, direct.Cleanup())
	must(t, one.Cleanup())
	s.Handler = two
	s.write("c.u", "carol"+shaLine)
	s.wants(resultPassed, "alice", "carol")
	must(t, two.Cleanup())
	must(t, two.Cleanup())
	nobodyFollows(t)
	if files := process.sources.inUse(); len(files) != 0 {
		t.Errorf("got %d files in use, want none", len(files))
	}
}

// TestPatternInherits renames a file, and counts hashes: the cached password is still
// known.
func TestPatternInherits(t *testing.T) {
	s := startPatterns(t, map[string]string{"a.u": "alice" + shaLine, "z.u": "zoe" + shaLine}, "DIR/*.u")
	s.wants(resultPassed, "alice")
	before := s.users.now().find([]byte("alice"))
	eventually(t, "the file is no longer racy", func() bool { return time.Since(before.store.file.Status().LoadedAt) > 2*follow.SettleTime })
	must(t, os.Rename(s.path("a.u"), s.path("b.u")))
	eventually(t, "the name is known", func() bool { return s.users.now().find([]byte("alice")).store.path == s.path("b.u") })
	after := s.users.now().find([]byte("alice"))
	if v := after.entry.verified.Load(); v == nil || v != before.entry.verified.Load() {
		t.Error("the cached password is lost")
	}
}

// TestPatternUnderLoad renames, replaces and adds files while people log in, of whom each
// is in some file in every version. No login fails.
func TestPatternUnderLoad(t *testing.T) {
	s := startPatterns(t, map[string]string{"a.u": "alice" + shaLine, "b.u": "bob" + shaLine}, "DIR/*.u")
	var stop atomic.Bool
	done := make(chan int, 3)
	for _, user := range []string{"alice", "bob", "alice"} {
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				c := credentialsOf(user, "secret1")
				if v, err := s.check(t.Context(), origin{}, c); err != nil || v.result != resultPassed {
					t.Errorf("%s: got %v and error %v, want a login", user, v.result, err)
				}
				c.release()
			}
			done <- n
		}()
	}
	for round := range 6 {
		from, to := s.path("a.u"), s.path(fmt.Sprintf("c%d.u", round))
		if round > 0 {
			from = s.path(fmt.Sprintf("c%d.u", round-1))
		}
		must(t, os.Rename(from, to))
		replace(t, s.path("b.u"), "bob"+shaLine+strings.Repeat("#\n", round+1))
		s.write(fmt.Sprintf("d%d.u", round), "dave"+shaLine)
		s.wants(resultUnknownUser, "nobody") // waits for the change
	}
	stop.Store(true)
	for range cap(done) {
		if <-done == 0 {
			t.Error("nobody has logged in")
		}
	}
}

// TestPatternOfKubernetes swaps the directory of a mounted secret with several keys, as
// the kubelet does, and adds and removes keys.
func TestPatternOfKubernetes(t *testing.T) {
	s := startPatterns(t, map[string]string{"..1/web": "alice" + shaLine, "..1/api": "bob" + shaLine, "other": ""}, "DIR/other")
	must(t, os.Remove(s.path("other")))
	must(t, os.Symlink("..1", s.path("..data")))
	for _, key := range []string{"web", "api"} {
		must(t, os.Symlink("..data/"+key, s.path(key)))
	}
	must(t, s.Cleanup())
	s.Handler = provision(t, s.handler("DIR/*"))
	s.wants(resultPassed, "alice", "bob")
	s.wants(resultUnknownUser, "carol")

	s.write("..2/web", "alice"+shaLine+"ann"+shaLine)
	s.write("..2/shop", "carol"+shaLine)
	must(t, os.Symlink("..2", s.path("..tmp")))
	must(t, os.Rename(s.path("..tmp"), s.path("..data")))
	must(t, os.Symlink("..data/shop", s.path("shop")))
	must(t, os.Remove(s.path("api")))
	must(t, os.RemoveAll(s.path("..1")))
	s.settle()
	s.wants(resultPassed, "alice", "ann", "carol")
	s.wants(resultUnknownUser, "bob")
	for _, entry := range s.logs.All() {
		if entry.Level >= zap.ErrorLevel {
			t.Errorf("got the error %s %v, want none", entry.Message, entry.ContextMap())
		}
	}
}

// TestPatternOfThousandFiles has as many files as a pattern can have.
func TestPatternOfThousandFiles(t *testing.T) {
	files := make(map[string]string)
	for i := range follow.MaxMatches {
		files[fmt.Sprintf("%04d.u", i)] = fmt.Sprintf("user%d", i) + shaLine
	}
	s := startPatterns(t, files, "DIR/*.u")
	s.wants(resultPassed, "user0", "user500", "user999")
	s.wants(resultUnknownUser, "user1000")
	s.remove("0000.u")
	s.write("new.u", "carol"+shaLine)
	s.settle()
	s.wants(resultPassed, "carol", "user999")
	s.wants(resultUnknownUser, "user0")
	s.write("toomany.u", "dave"+shaLine)
	s.wants(resultUnknownUser, "dave")
	s.wants(resultPassed, "carol")
	h := s.handler("DIR/*.u")
	if err := h.Provision(configContext(t)); err == nil || !strings.Contains(err.Error(), "more than 1000 files") {
		t.Errorf("got error %v, want one about the number of files", err)
	}
	must(t, h.Cleanup())
}
