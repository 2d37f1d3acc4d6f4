//go:build unix

package follow

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

// TestReadFileNeverBlocks reads files that are not regular.
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

// TestUnreadable checks that the error for a file that the server may not read
// names the group of the file, and does not take the file away from that group.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("this test needs to change groups (root)")
	}
	path := writeFile(t, "x")
	for _, test := range []struct {
		name     string
		mode     os.FileMode
		uid, gid int
		want     string
	}{
		{"its group can read it", 0o640, 54320, 54321, "permission denied (owner '54320', group '54321', mode 0640): add the user that the server runs as to this group and restart the server, or run setfacl -m u:USER:r on the file for it"},
		{"its group cannot read it", 0o600, 54320, 54321, "permission denied (owner '54320', group '54321', mode 0600): run chgrp to the server's group and chmod g+r on it, or setfacl -m u:USER:r for the user that the server runs as"},
		{"its group is root's", 0o640, 54320, 0, "permission denied (owner '54320', group 'root', mode 0640): run chgrp to the server's group and chmod g+r on it, or setfacl -m u:USER:r for the user that the server runs as"},
		{"its mode lets the owner read it", 0o600, 0, 54321, "permission denied (owner 'root', group '54321', mode 0600): its mode lets the server read it; check access control lists (getfacl), SELinux and AppArmor"},
		{"its mode lets everybody read it", 0o644, 54320, 54321, "permission denied (owner '54320', group '54321', mode 0644): its mode lets the server read it; check access control lists (getfacl), SELinux and AppArmor"},
		{"its owner cannot read it", 0o040, 0, 54321, "permission denied (owner 'root', group '54321', mode 0040): run chmod u+r on it"},
	} {
		must(t, os.Chown(path, test.uid, test.gid))
		must(t, os.Chmod(path, test.mode))
		if got := unreadable(path); got.Error() != test.want || !errors.Is(got, fs.ErrPermission) {
			t.Errorf("%s: got\n%v\nwant\n%s", test.name, got, test.want)
		}
	}
}
