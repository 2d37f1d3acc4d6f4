package tool

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCheckMount checks that a file that is mounted without its directory, as into
// a container, is reported, and so is its replacement outside.
func TestCheckMount(t *testing.T) {
	outside, inside := writeFile(t, "ann:"+toolSHA+"\n"), writeFile(t, "")
	if got := runTool(t, "", "--check", outside); strings.Contains(got.out, "mount") {
		t.Errorf("no mount: %q", got.out)
	}
	if err := unix.Mount(outside, inside, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer func() { must(t, unix.Unmount(inside, 0)) }()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(inside, link))
	var st unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, inside, 0, 0, &st))
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		t.Skip("this kernel does not report mount points")
	}
	for _, path := range []string{inside, link} {
		if got := runTool(t, "", "--check", path); !strings.Contains(got.out, path+": is mounted as a single file; a server in this container does not see a replacement outside; mount the directory instead of the file\n") || got.code != 0 {
			t.Errorf("got %d, %q", got.code, got.out)
		}
	}
	if got := runTool(t, "", "-bs", inside, "bob", "pw"); got.code != ExitFile || !strings.Contains(got.err, "mount the directory instead") {
		t.Errorf("got %+v", got)
	}
	if got := runTool(t, "", "-bs", outside, "bob", "pw"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	for _, path := range []string{inside, link} {
		if got := runTool(t, "", "--check", path); !strings.Contains(got.out, path+": is an old version; the file was replaced or deleted outside the container") {
			t.Errorf("got %q", got.out)
		}
	}
	if got := runTool(t, "", "--check", "--json", inside); !strings.Contains(got.out, `"mount_point": true`) || !strings.Contains(got.out, `"gone": true`) {
		t.Errorf("got %q", got.out)
	}
}
