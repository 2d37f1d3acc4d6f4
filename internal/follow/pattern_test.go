//go:build unix

package follow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

// tree creates files and directories in a new directory. A name that ends in "/" is a
// directory, and "a->b" is a symlink a to b.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		if link, target, ok := strings.Cut(name, "->"); ok {
			must(t, os.Symlink(target, filepath.Join(dir, link)))
		} else if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o755))
		} else {
			must(t, os.WriteFile(path, nil, 0o600))
		}
	}
	return dir
}

// matchesOf returns the paths that match a pattern, relative to a directory.
func matchesOf(t *testing.T, dir, pattern string) ([]string, error) {
	t.Helper()
	p, err := NewPattern(filepath.Join(dir, pattern))
	if err != nil {
		return nil, err
	}
	text, _, err := p.Fetch()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range p.Matches(text) {
		name, err := filepath.Rel(dir, m.Path)
		must(t, err)
		if m.Name != m.Path {
			t.Errorf("got the name %s, want %s", m.Name, m.Path)
		}
		names = append(names, name)
	}
	return names, nil
}

// TestPatternMatches lists what patterns match, in the order of the paths.
func TestPatternMatches(t *testing.T) {
	t.Parallel()
	backups := []string{
		"a~", "#a#", "a.bak", "a.BAK", "a.backup", "a.old", "a.orig", "a.save", "a.swp", "a.swo", "a.tmp", "a.new", "a.rej", "a.lock", "a.part",
		"a.dpkg-old", "a.dpkg-dist", "a.ucf-dist", "a.rpmsave", "a.rpmnew", "a.pacnew", "a.apk-new", ".a.swp", ".#a",
	}
	for _, test := range []struct {
		name    string
		tree    []string
		pattern string
		want    []string // nil: an error that no file matches
	}{
		{"an ending", []string{"b.htpasswd", "a.htpasswd", "c.txt"}, "*.htpasswd", []string{"a.htpasswd", "b.htpasswd"}},
		{"a range", []string{"1", "2", "a"}, "[0-9]", []string{"1", "2"}},
		{"a question mark", []string{"a1", "a12", "b1"}, "a?", []string{"a1"}},
		{"a wildcard in a directory, sorted by the whole path", []string{"b/users", "a/users", "a.b/users", "c/none", "d"}, "*/users", []string{"a.b/users", "a/users", "b/users"}},
		{"wildcards in several directories", []string{"a/x/1.u", "a/y/2.u", "b/x/3.u", "b/1.u"}, "*/*/*.u", []string{"a/x/1.u", "a/y/2.u", "b/x/3.u"}},
		{"an escaped character", []string{"[x]/u", "x/u"}, `\[x\]/u`, []string{"[x]/u"}},
		{"a symlink to a directory on the way", []string{"real/u", "link->real"}, "*/u", []string{"link/u", "real/u"}},
		{"no directories", []string{"a/", "b"}, "*", []string{"b"}},
		{"symlinks to files only", []string{"f", "a->f", "b->.", "c->none"}, "*", []string{"a", "f"}},
		{"no hidden files", []string{".a", "b"}, "*", []string{"b"}},
		{"no files in hidden directories", []string{".a/u", "b/u"}, "*/u", []string{"b/u"}},
		{"hidden files if the pattern has the dot", []string{".a", ".b.bak", "c"}, ".*", []string{".a"}},
		{"no backups", append([]string{"a", "b.dpkg", "c.newest"}, backups...), "*", []string{"a", "b.dpkg", "c.newest"}},
		{"backups if the pattern ends so", []string{"a", "a.old", "b.old"}, "*.old", []string{"a.old", "b.old"}},
		{"backups with a tilde if the pattern ends so", []string{"a", "a~"}, "*~", []string{"a~"}},
		{"never our own temporary files", []string{".f", ".f.caddy-htpasswd-new-ABCDEFGHIJKLM"}, ".*", []string{".f"}},
		{"Kubernetes", []string{"..data->..1", "..1/a", "..1/b", "a->..data/a", "b->..data/b", "c->..data/c"}, "*", []string{"a", "b"}},
		{"names with spaces and line ends", []string{"a b", "c\nd"}, "*", []string{"a b", "c\nd"}},
		{"nothing", []string{"a.txt"}, "*.htpasswd", nil},
		{"an empty directory", []string{"d/"}, "d/*", nil},
		{"no directory", []string{"a"}, "d/*", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := matchesOf(t, tree(t, test.tree...), test.pattern)
			if test.want == nil {
				if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "no file matches the pattern") {
					t.Errorf("got %q and error %v, want that no file matches", got, err)
				}
			} else if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %q and error %v, want %q", got, err, test.want)
			}
		})
	}
}

// TestPatternOfOtherFiles has what is no regular file where files are expected.
func TestPatternOfOtherFiles(t *testing.T) {
	t.Parallel()
	dir := tree(t, "a", "loop->loop")
	must(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	got, err := matchesOf(t, dir, "*")
	if want := []string{"a", "loop"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q and error %v, want %q: a FIFO is skipped, and a loop of symlinks is reported when it is read", got, err, want)
	}
	if _, err = matchesOf(t, dir, "a/*"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "cannot list directory") {
		t.Errorf("got error %v, want one that a file is no directory", err)
	}
	if os.Getuid() == 0 {
		return // root can list every directory
	}
	must(t, os.Mkdir(dir+"/closed", 0))
	if _, err = matchesOf(t, dir, "closed/*"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got error %v, want a lack of permission", err)
	}
	if _, err = matchesOf(t, dir, "*/*"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got error %v, want a lack of permission: the files of one directory must not disappear", err)
	}
}

// TestPatternLimit has one file too many.
func TestPatternLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range MaxMatches {
		must(t, os.WriteFile(fmt.Sprintf("%s/%04d", dir, i), nil, 0o600))
	}
	if got, err := matchesOf(t, dir, "*"); err != nil || len(got) != MaxMatches {
		t.Errorf("got %d files and error %v, want %d", len(got), err, MaxMatches)
	}
	must(t, os.WriteFile(dir+"/more", nil, 0o600))
	if _, err := matchesOf(t, dir, "*"); err == nil || !strings.Contains(err.Error(), "more than 1000 files match the pattern") {
		t.Errorf("got error %v, want one about the number of files", err)
	}
}

// TestPatternRefused has patterns that filepath.Match refuses, or reads differently than
// most people expect.
func TestPatternRefused(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"/a/[", "/a/[b", "/[/b", "/a/[]", "/a/[b-]", "/a/**", "/a/**/b"} {
		if _, err := NewPattern(pattern); err == nil || !strings.Contains(err.Error(), "expected a pattern such as") {
			t.Errorf("%s: got error %v, want one that says what is expected", pattern, err)
		}
	}
	for path, want := range map[string]bool{"/a/b": false, "/a/*": true, "/a?/b": true, "/[a]/b": true, `/a\b`: false, "": false} {
		if got := IsPattern(path); got != want {
			t.Errorf("IsPattern(%q): got %v, want %v", path, got, want)
		}
	}
}

// TestPatternNames has a relative pattern in a directory whose own name has wildcards.
func TestPatternNames(t *testing.T) {
	dir := tree(t, "[d]*/users.d/a")
	t.Chdir(dir + "/[d]*")
	p, err := NewPattern("./users.d/*")
	must(t, err)
	text, v, err := p.Fetch()
	must(t, err)
	want := Match{Name: "users.d/a", Path: filepath.Join(dir, "[d]*", "users.d", "a")}
	if got := p.Matches(text); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := filepath.Join(dir, "[d]*", "users.d", "*"); p.Name() != want || p.Base() != filepath.Dir(want) {
		t.Errorf("got the name %s and the base %s, want %s", p.Name(), p.Base(), want)
	}
	if v.IsRacy(time.Now()) {
		t.Error("a list is racy, but lists differ whenever their files do")
	}
	must(t, os.WriteFile("users.d/b", nil, 0o600))
	if again, err := p.Version(); err != nil || again == v {
		t.Errorf("got the version %v and error %v, want another one: there is one more file", again, err)
	}
}

// TestPatternNotices checks which changes of the directory wake a pattern up.
func TestPatternNotices(t *testing.T) {
	t.Parallel()
	dir := tree(t, "a.u")
	p, err := NewPattern(dir + "/*.u")
	must(t, err)
	p.Renew(zap.NewNop())
	defer func() { must(t, p.Close()) }()
	must(t, os.WriteFile(dir+"/other", nil, 0o600))
	must(t, os.WriteFile(dir+"/b.u~", nil, 0o600))
	must(t, os.WriteFile(dir+"/b.u", nil, 0o600))
	<-p.Changed()

	deep, err := NewPattern(dir + "/*/*.u")
	must(t, err)
	deep.Renew(zap.NewNop())
	if deep.Changed() != nil || deep.Close() != nil {
		t.Error("a pattern with wildcards in its directories has notifications")
	}
}

// TestText follows a text, which never changes.
func TestText(t *testing.T) {
	t.Parallel()
	s := new(store)
	f := New(NewText("users", fileA), s.options(time.Hour, zap.NewNop()))
	must(t, f.Reload(zap.NewNop()))
	must(t, f.Reload(zap.NewNop()))
	f.Await(t.Context())
	if got := s.firstUser(); got != "alice" || s.loads.Load() != 1 || f.Name() != "users" {
		t.Errorf("got the user %s, %d loads and the name %s, want alice, one load and users", got, s.loads.Load(), f.Name())
	}
	must(t, f.Close())
	f = New(NewText("users", "rubbish"), s.options(time.Hour, zap.NewNop()))
	if err := f.Reload(zap.NewNop()); err == nil || !strings.HasPrefix(err.Error(), "users: ") {
		t.Errorf("got error %v, want one that begins with the name", err)
	}
	must(t, f.Close())
}

// beginNew begins to follow a file that may not be valid, until the end of the test.
func beginNew(t *testing.T, path string, isListed func() bool) *followed {
	t.Helper()
	logger, logs := observed()
	f := &followed{store: new(store), running: &running{settings: Settings{Poll: 2 * SettleTime, Logger: logger}}, t: t, logs: logs}
	f.current.Store(&[]string{})
	options := f.store.options(0, nil)
	options.Settings, options.IsListed = f.active, isListed
	f.Follower = New(NewFile(path), options)
	f.Follow()
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// TestFollowNewFile follows files that have just appeared.
func TestFollowNewFile(t *testing.T) {
	t.Parallel()
	t.Run("one that is older than the settling time is loaded at once", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, fileA)
		eventually(t, "the file is no longer racy", func() bool {
			sig, err := sign(path)
			return err == nil && !sig.IsRacy(time.Now())
		})
		f := beginNew(t, path, nil)
		if f.firstUser() != "alice" || f.Status().LoadedAt.IsZero() {
			t.Error("not loaded when Follow returns")
		}
	})
	t.Run("one that is being written is loaded when it is complete", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, fileHalf)
		f := beginNew(t, path, nil)
		if !f.Status().LoadedAt.IsZero() {
			t.Error("loaded at once")
		}
		overwrite(t, path, fileA)
		f.Await(t.Context())
		f.knows("ann")
		if f.loads.Load() > 2 { // twice while it is racy
			t.Errorf("got %d loads, want at most two of the complete text", f.loads.Load())
		}
	})
	t.Run("one that is broken is reported once, and loaded when it is fixed", func(t *testing.T) {
		t.Parallel()
		path := writeFile(t, "<html>")
		f := beginNew(t, path, nil)
		eventually(t, "the error is known", func() bool { return f.Status().Failure != "" })
		f.Await(t.Context())
		f.Await(t.Context())
		if !f.Status().LoadedAt.IsZero() || f.Status().Failures != 1 || f.logs.FilterMessage("cannot load new file; its users cannot log in").Len() != 1 {
			t.Errorf("got %+v and the log %v, want one error", f.Status(), f.logs.All())
		}
		replace(t, path, fileB)
		f.knows("bob")
		eventually(t, "the error is gone", func() bool { return f.Status().Failure == "" })
	})
	t.Run("one that disappears is reported by its list", func(t *testing.T) {
		t.Parallel()
		asked := make(chan bool, 1000)
		path := writeFile(t, fileA)
		f := beginNew(t, path, func() bool { asked <- true; return true })
		f.knows("alice")
		must(t, os.Remove(path))
		<-asked
		<-asked
		f.Await(t.Context()) // does not wait for a file that is gone
		if f.Status().Failure != "" || f.firstUser() != "alice" {
			t.Errorf("got %+v, want no error, and the users of the previous version", f.Status())
		}
		must(t, os.WriteFile(path, []byte(fileB), 0o600))
		f.knows("bob")
	})
}
