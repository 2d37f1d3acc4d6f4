package caddyhtpasswd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openDirectories lets everybody enter the directories of a test that lead to a
// file. Go makes them for the user of the test alone.
func openDirectories(t *testing.T, path string) {
	t.Helper()
	temporary, err := filepath.EvalSymlinks(os.TempDir())
	must(t, err)
	for dir := temporary; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			t.Skipf("other users cannot enter %s: nothing can be readable by everybody in the directory for temporary files", dir)
		}
	}
	path, err = filepath.EvalSymlinks(filepath.Dir(path))
	must(t, err)
	for dir := path; dir != temporary; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755))
	}
}

// TestWorldReadable looks at files that everybody could read by their mode. The
// password files of the examples are such, since git keeps no mode: in a home
// directory that nobody else can enter there is nothing to warn of.
func TestWorldReadable(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "open", "closed"), 0o755))
	for _, name := range []string{"open/users", "open/closed/users"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(fileA), 0o600))
	}
	openDirectories(t, filepath.Join(dir, "users"))
	must(t, os.Symlink(filepath.Join(dir, "open", "closed", "users"), filepath.Join(dir, "to-closed")))
	must(t, os.Symlink(filepath.Join(dir, "open", "users"), filepath.Join(dir, "open", "closed", "to-open")))
	must(t, os.Chmod(filepath.Join(dir, "open", "closed"), 0o750))
	t.Chdir(dir)
	for _, test := range []struct {
		name, path string
		mode       os.FileMode
		want       bool
	}{
		{"nobody else may read the file", "open/users", 0o640, false},
		{"everybody may read the file and enter the directories", "open/users", 0o644, true},
		{"everybody may read the file, but not enter its directory", "open/closed/users", 0o644, false},
		{"a symlink into a directory that nobody else can enter", "to-closed", 0o644, false},
		{"a symlink from there to a file that is open", "open/closed/to-open", 0o644, true},
		{"a file that is gone meanwhile", "open/none", 0o644, true},
	} {
		if got := isWorldReadable(test.path, test.mode); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
		if got := isWorldReadable(filepath.Join(dir, test.path), test.mode); got != test.want {
			t.Errorf("%s, absolute: got %t, want %t", test.name, got, test.want)
		}
	}
}

func TestToolCheckWorldReadable(t *testing.T) {
	path := writeFile(t, fileA)
	must(t, os.Chmod(path, 0o604))
	const message = "can be read by every user of this machine"
	if got := tool(t, "", "--check", path); got.code != 0 || strings.Contains(got.out, message) {
		t.Errorf("in a directory that nobody else can enter: %d %s%s", got.code, got.out, got.err)
	}
	openDirectories(t, path)
	if got := tool(t, "", "--check", path); got.code != 0 || !strings.Contains(got.out, message) {
		t.Errorf("in a directory that everybody can enter: %d %s%s", got.code, got.out, got.err)
	}
}
