//go:build linux

package tool

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// TestToolAsRoot checks that the tool, run by root, changes nothing where another
// user can replace files, fails before it asks for a password, and prints what to
// run instead.
func TestToolAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as other users")
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
	must(t, os.Chmod(filepath.Join(theirs, "own"), 0o755|os.ModeSetuid)) // chown has cleared it
	const byPath, another = "use that path", "runuser -u nobody -- caddy htpasswd -c ..."
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
		if got.code != ExitFile || !strings.Contains(got.err, "refused as root") || !strings.Contains(got.err, test.want) {
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
	if owner, _ := follow.OwnerOf(own); info.Mode() != 0o755 || owner != "nobody" {
		t.Errorf("got mode %s and owner %s", info.Mode(), owner)
	}
}

// TestToolInStickyDirectory checks that root does not write a password into a file
// that another user has created at the path.
func TestToolInStickyDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as other users")
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

// TestCheckAdvice checks that commands for root are printed only where nobody else
// can replace the file before they are run, and that every name is quoted.
func TestCheckAdvice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to act as other users")
	}
	for name, argument := range map[string]string{"users": "users", "x;touch y;": "'x;touch y;'", "-x": "./-x", "a\nb": `$'a\012b'`} {
		dir := t.TempDir()
		must(t, os.Chmod(filepath.Dir(dir), 0o755))
		must(t, os.Chmod(dir, 0o755))
		t.Chdir(dir)
		must(t, os.WriteFile(name, []byte("bob:"+toolSHA+"\n"), 0o600))
		must(t, os.Chmod(name, 0o644))
		command := "chmod o= " + argument
		if _, err := user.Lookup(serverUser); err == nil {
			command = "chgrp caddy " + argument + " && chmod g=r,o= " + argument
		}
		if got, want := runTool(t, "", "--check", "--", name), shown.Text(name)+": is world-readable; run: "+command+"\n"; !strings.Contains(got.out, want) {
			t.Errorf("got %q, want %q in it", got.out, want)
		}
		must(t, os.Chown(dir, 65534, 65534))
		got := runTool(t, "", "--check", "--", name)
		if !strings.Contains(got.out, "its owner has to change its permissions, not root") || strings.Contains(got.out, "chmod") {
			t.Errorf("in a directory of another user: got %q", got.out)
		}
		for _, test := range []struct {
			group, want string
			mode        os.FileMode
		}{
			{"root", "(group root); run: chgrp caddy " + argument + " && chmod g=r " + argument + "\n", 0o640},
			{"www-data", "(group www-data); run: chgrp caddy " + argument + " && chmod g=r " + argument + "\n", 0o600},
			{"www-data", "(group www-data); run: setfacl -m u:caddy:r " + argument + ", or add the user caddy to the group www-data and restart the server\n", 0o640},
		} {
			report := fileReport{Path: name, Group: test.group, mode: test.mode, Unreadable: true, isTamperProof: true}
			if got, want := report.String(), shown.Text(name)+": the user caddy cannot read it "+test.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			report.isTamperProof = false
			if got := report.String(); strings.Contains(got, "chgrp") || strings.Contains(got, "setfacl") || !strings.Contains(got, "its owner has to") {
				t.Errorf("where others can replace the file: got %q", got)
			}
		}
		for _, test := range []struct {
			group, want string
			needsOthers bool
		}{
			{"caddy", "chmod o= " + argument, false},
			{"root", "chgrp caddy " + argument + " && chmod g=r,o= " + argument, true},
			{"www-data", "setfacl -m u:caddy:r " + argument + " && chmod o= " + argument, true},
		} {
			report := fileReport{Path: name, Group: test.group, mode: 0o644, WorldReadable: true, needsOthers: test.needsOthers, isTamperProof: true}
			if got, want := report.String(), shown.Text(name)+": is world-readable; run: "+test.want+"\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			report.isTamperProof = false
			if got := report.String(); strings.Contains(got, "chmod") || !strings.Contains(got, "its owner has to") {
				t.Errorf("world-readable, where others can replace the file: got %q", got)
			}
		}
	}
}
