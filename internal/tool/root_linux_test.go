//go:build linux

package tool

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// TestToolAsRoot: root's tool changes nothing where somebody else can exchange
// files, says so before it asks for a password, and says what to run instead.
func TestToolAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: no other users to try")
	}
	const mallory = 65534
	const text = "bob:" + toolSHA + "\n"
	dir := t.TempDir()
	theirs, outside := filepath.Join(dir, "theirs"), filepath.Join(dir, "outside")
	must(t, os.Mkdir(theirs, 0o755))
	must(t, os.Mkdir(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "f"), []byte(text), 0o600))
	must(t, os.WriteFile(filepath.Join(theirs, "of-root"), []byte(text), 0o600))
	must(t, os.WriteFile(filepath.Join(theirs, "own"), []byte(text), 0o600))
	must(t, os.Chmod(filepath.Join(theirs, "own"), 0o755|os.ModeSetuid))
	must(t, os.Symlink(outside, filepath.Join(theirs, "link")))
	for _, name := range []string{"", "own", "link"} {
		must(t, os.Lchown(filepath.Join(theirs, name), mallory, mallory))
	}
	must(t, os.Chmod(filepath.Join(theirs, "own"), 0o755|os.ModeSetuid)) // chown has taken it off
	const byPath, another = "name it by that path", "runuser -u nobody -- caddy htpasswd -c ..."
	for _, test := range []struct{ args, want string }{
		{"-i link/f bob", byPath},
		{"-ci link/f bob", byPath},
		{"-ci link/new bob", byPath},
		{"-i of-root bob", another},
		{"-ci of-root bob", another},
		{"-ci new bob", "runuser -u nobody -- caddy htpasswd ..."},
		{"-D of-root bob", another},
		{"-D link/f bob", byPath},
	} {
		args := strings.Fields(test.args)
		args[1] = filepath.Join(theirs, args[1])
		got := runTool(t, "", args...)
		if got.code != ExitFile || !strings.Contains(got.err, "not changed by root") || !strings.Contains(got.err, test.want) {
			t.Errorf("%q: got %+v", args, got)
		}
	}
	for dir, want := range map[string]int{theirs: 3, outside: 1} {
		if names, err := os.ReadDir(dir); err != nil || len(names) != want {
			t.Errorf("got %v, %v", names, err)
		}
	}
	if got := readText(t, filepath.Join(outside, "f")) + readText(t, filepath.Join(theirs, "of-root")); got != text+text {
		t.Errorf("the files are now %q", got)
	}
	own := filepath.Join(theirs, "own")
	if got := runTool(t, "", "-bs", own, "ann", "pw"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(own)
	must(t, err)
	if owner, _ := ownerOf(own); info.Mode() != 0o755 || owner != "nobody" {
		t.Errorf("got mode %s and owner %s", info.Mode(), owner)
	}
}

// TestToolInStickyDirectory: root's new password does not go into a file that
// somebody else has put where root wants to create one.
func TestToolInStickyDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: no other users to try")
	}
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777|os.ModeSticky))
	path := filepath.Join(dir, "users")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Chown(path, 65534, 65534))
	for _, flags := range []string{"-cbs", "-bs"} {
		got := runTool(t, "", flags, path, "ann", "pw")
		if got.code != ExitFile || !strings.Contains(got.err, "it belongs to nobody") {
			t.Errorf("%s: got %+v", flags, got)
		}
	}
	if text := readText(t, path); text != "" {
		t.Errorf("the file is now %q", text)
	}
}

// TestCheckAdvice: a command that root may copy is only given where nobody can
// exchange the file before it is run, and it takes any name for a name.
func TestCheckAdvice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: no other users to try")
	}
	for name, argument := range map[string]string{"users": "users", "x;touch y;": "'x;touch y;'", "-x": "./-x", "a\nb": `$'a\012b'`} {
		dir := t.TempDir()
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		must(t, os.Chmod(dir, 0o755))
		t.Chdir(dir)
		must(t, os.WriteFile(name, []byte("bob:"+toolSHA+"\n"), 0o600))
		must(t, os.Chmod(name, 0o644))
		if got, want := runTool(t, "", "--check", "--", name), shown.Text(name)+": can be read by every user of this machine; run: chmod o= "+argument+"\n"; !strings.Contains(got.out, want) {
			t.Errorf("got %q, want %q in it", got.out, want)
		}
		must(t, os.Chown(dir, 65534, 65534))
		got := runTool(t, "", "--check", "--", name)
		if !strings.Contains(got.out, "its owner has to change that, not root") || strings.Contains(got.out, "chmod") {
			t.Errorf("in a directory of somebody else: got %q", got.out)
		}
		report := fileReport{Path: name, Unreadable: true, isFixed: true}
		if got, want := report.String(), "run: chgrp caddy "+argument+" && chmod g=r "+argument+"\n"; !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q at its end", got, want)
		}
	}
}
