package tool

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckReplaceable checks what the report says about a user who stands for caddy.
func TestCheckReplaceable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can set owners")
	}
	const uid, gid = 12345, 12346
	server := &user.User{Username: "12345", Uid: "12345", Gid: "12346"} // as OwnerOf names it
	for _, test := range []struct {
		name               string
		owner, group       int
		dirOwner, dirGroup int
		dirMode            os.FileMode
		want               string // "": it can
	}{
		{"everything belongs to it", uid, gid, uid, gid, 0o700, ""},
		{"a directory of its group", uid, gid, 0, gid, 0o770, ""},
		{"of root, as usual", 0, gid, 0, 0, 0o755, "it belongs to root"},
		{"another group", uid, 12399, uid, gid, 0o700, "the user is not in its group 12399"},
		{"a directory of root", uid, gid, 0, 0, 0o755, "the user cannot create files in its directory"},
		{"a directory of its group, which cannot write", uid, gid, 0, gid, 0o750, "the user cannot create files in its directory"},
		{"a directory that it owns, but cannot write", uid, gid, uid, gid, 0o577, "the user cannot create files in its directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeFile(t, toolFile)
			dir := filepath.Dir(path)
			must(t, os.Chown(path, test.owner, test.group))
			must(t, os.Chown(dir, test.dirOwner, test.dirGroup))
			must(t, os.Chmod(dir, test.dirMode))
			r := newFileReport(path)
			r.checkReplaceable(server)
			if r.NotReplaceable != test.want || *r.Replaceable != (test.want == "") {
				t.Errorf("got %q, %t, want %q", r.NotReplaceable, *r.Replaceable, test.want)
			}
			want := "cannot replace it (only rehash and change_password need that): " + test.want + "\n"
			if test.want == "" {
				want = "can replace it, as rehash and change_password need\n"
			}
			if text := r.String(); !strings.Contains(text, path+": the user caddy "+want) {
				t.Errorf("got the text %q, want %q in it", text, want)
			}
			out, err := json.Marshal(r)
			must(t, err)
			if strings.Contains(string(out), `"replaceable_by_caddy":true`) != (test.want == "") || strings.Contains(string(out), "not_replaceable") != (test.want != "") {
				t.Errorf("got %s", out)
			}
		})
	}
	t.Run("a hard link", func(t *testing.T) {
		path := writeFile(t, toolFile)
		must(t, os.Link(path, path+".link"))
		r := newFileReport(path)
		if r.checkReplaceable(server); r.NotReplaceable != "it has hard links" || *r.Replaceable {
			t.Errorf("got %q", r.NotReplaceable)
		}
	})
	t.Run("a read-only directory", func(t *testing.T) {
		path := writeFile(t, toolFile)
		dir := filepath.Dir(path)
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("no mounts: %v", err)
		}
		t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
		must(t, unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		r := newFileReport(path)
		if r.checkReplaceable(server); r.NotReplaceable != "its directory is read-only" || *r.Replaceable {
			t.Errorf("got %q", r.NotReplaceable)
		}
	})
	t.Run("a mount point", func(t *testing.T) {
		r := newFileReport(writeFile(t, toolFile))
		r.MountPoint = true
		if r.checkReplaceable(server); r.NotReplaceable != "it is mounted as a single file" {
			t.Errorf("got %q", r.NotReplaceable)
		}
	})
}
