package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

// OpenDirectories lets everybody enter the directories of a test that lead to a
// file. Go creates them for the user of the test alone.
func OpenDirectories(t testing.TB, path string) {
	t.Helper()
	temporary, err := filepath.EvalSymlinks(os.TempDir())
	Must(t, err)
	for dir := temporary; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			t.Skipf("other users cannot enter %s: nothing can be readable by everybody in the directory for temporary files", dir)
		}
	}
	path, err = filepath.EvalSymlinks(filepath.Dir(path))
	Must(t, err)
	for dir := path; dir != temporary; dir = filepath.Dir(dir) {
		Must(t, os.Chmod(dir, 0o755)) //nolint:gosec // that is the point
	}
}
