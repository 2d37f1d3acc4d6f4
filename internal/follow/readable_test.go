//go:build unix

package follow

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestWorldReadable checks files whose mode lets everybody read them, such as the
// password files of the examples: git keeps no mode. In a home directory that
// nobody else can enter, they are not world-readable.
func TestWorldReadable(t *testing.T) {
	dir := t.TempDir()
	testkit.Must(t, os.MkdirAll(filepath.Join(dir, "open", "closed"), 0o755))
	for _, name := range []string{"open/users", "open/closed/users"} {
		testkit.Must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	testkit.OpenDirectories(t, filepath.Join(dir, "users"))
	testkit.Must(t, os.Symlink(filepath.Join(dir, "open", "closed", "users"), filepath.Join(dir, "to-closed")))
	testkit.Must(t, os.Symlink(filepath.Join(dir, "open", "users"), filepath.Join(dir, "open", "closed", "to-open")))
	testkit.Must(t, os.Chmod(filepath.Join(dir, "open", "closed"), 0o750))
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
		if got := IsWorldReadable(test.path, test.mode); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
		if got := IsWorldReadable(filepath.Join(dir, test.path), test.mode); got != test.want {
			t.Errorf("%s, absolute: got %t, want %t", test.name, got, test.want)
		}
	}
}
