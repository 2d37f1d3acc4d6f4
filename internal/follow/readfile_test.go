//go:build unix

package follow

import (
	"os"
	"syscall"
	"testing"
)

// TestReadFileNeverBlocks reads what is no regular file.
func TestReadFileNeverBlocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, syscall.Mkfifo(dir+"/fifo", 0o640))
	for _, path := range []string{dir + "/fifo", dir, "/dev/zero", "/dev/null", dir + "/none", ""} {
		within(t, "readFile of "+path, func() {
			if text, _, _, err := readFile(path); err == nil || text != "" {
				t.Errorf("%s: got %q, want an error", path, text)
			}
		})
	}
	must(t, os.WriteFile(dir+"/f", []byte("x"), 0o640))
	text, sig, mode, err := readFile(dir + "/f")
	if err != nil || text != "x" || sig == (signature{}) || mode.Perm() != 0o640 {
		t.Errorf("got %q, %v, %v, %v, want x, a signature, -rw-r----- and no error", text, sig, mode, err)
	}
	if text, mode, err := ReadFile(dir + "/f"); err != nil || text != "x" || mode.Perm() != 0o640 {
		t.Errorf("ReadFile: got %q, %v, %v, want x, -rw-r----- and no error", text, mode, err)
	}
}
