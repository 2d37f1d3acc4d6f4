package follow

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// IsWorldReadable reports whether every user of the machine can read a file: its
// mode allows it, and every directory on the path can be entered by everybody. If
// the path cannot be resolved, the mode decides.
func IsWorldReadable(path string, mode fs.FileMode) bool {
	if mode.Perm()&0o004 == 0 || runtime.GOOS == "windows" {
		return false
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return true
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return true
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
