//go:build linux

package caddyhtpasswd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	for _, args := range []string{"-i link/f bob", "-ci link/f bob", "-ci link/new bob", "-i of-root bob", "-ci of-root bob", "-ci new bob", "-D of-root bob", "-D link/f bob"} {
		args := strings.Fields(args)
		args[1] = filepath.Join(theirs, args[1])
		got := tool(t, "", args...)
		if got.code != exitFile || !strings.Contains(got.err, "not changed by root") || !strings.Contains(got.err, "htpasswd ...") {
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
	if got := tool(t, "", "-bs", own, "ann", "pw"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	info, err := os.Stat(own)
	must(t, err)
	if owner, _ := ownerOf(own); info.Mode() != 0o755 || owner != "nobody" {
		t.Errorf("got mode %s and owner %s", info.Mode(), owner)
	}
}
