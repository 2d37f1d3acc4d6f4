package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

// OpenDirectories lets everybody enter the test's directories on the path of a file. Go
// creates them for the user of the test only.
func OpenDirectories(t testing.TB, path string) {
	t.Helper()
	temporary, err := filepath.EvalSymlinks(os.TempDir())
	Must(t, err)
	for dir := temporary; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o001 == 0 {
			t.Skipf("other users cannot enter %s, so no temporary file can be world-readable", dir)
		}
	}
	path, err = filepath.EvalSymlinks(filepath.Dir(path))
	Must(t, err)
	for dir := path; dir != temporary; dir = filepath.Dir(dir) {
		Must(t, os.Chmod(dir, 0o755)) //nolint:gosec // on purpose
	}
}
