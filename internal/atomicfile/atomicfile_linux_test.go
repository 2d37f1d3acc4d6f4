package atomicfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullDisk returns a file on a full disk.
func fullDisk(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	path := filepath.Join(dir, "f")
	write(t, path, text, 0o600)
	filler, err := os.Create(filepath.Join(dir, "filler"))
	must(t, err)
	defer filler.Close()
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	return path
}

func TestFullDisk(t *testing.T) {
	path := fullDisk(t, "old")
	err := replace(t, path, strings.Repeat("new", 10_000))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path+": write: no space left") {
		t.Error(err)
	}
	must(t, os.Remove(filepath.Join(filepath.Dir(path), "filler")))
	unchanged(t, path, "old")
}

// TestMountPoint replaces a file that is a mount point, as in a container.
func TestMountPoint(t *testing.T) {
	dir := t.TempDir()
	path, source := filepath.Join(dir, "f"), filepath.Join(t.TempDir(), "source")
	write(t, path, "", 0o600)
	write(t, source, "old", 0o600)
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount: %v", err)
	}
	defer func() { must(t, unix.Unmount(path, 0)) }()
	errs := []error{replace(t, path, "new")}
	if f, err := os.Open(path); err == nil && isMount(f) { // Linux 5.8
		errs = append(errs, check(path))
		must(t, f.Close())
	}
	for _, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "mount the directory instead") {
			t.Error(err)
		}
	}
	unchanged(t, path, "old")
}

// acl returns an access control list that lets one more user read, as in acl(5) and
// linux/posix_acl_xattr.h.
func acl(uid uint32) []byte {
	const owner, user, group, mask, other, nobody = 1, 2, 4, 16, 32, math.MaxUint32
	var b bytes.Buffer
	for _, field := range []any{uint32(2),
		uint16(owner), uint16(6), uint32(nobody),
		uint16(user), uint16(4), uid,
		uint16(group), uint16(0), uint32(nobody),
		uint16(mask), uint16(4), uint32(nobody),
		uint16(other), uint16(0), uint32(nobody),
	} {
		_ = binary.Write(&b, binary.LittleEndian, field)
	}
	return b.Bytes()
}

// TestACL checks that the access control list of a file is kept, and that the
// default list of its directory does not apply.
func TestACL(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	get := func() []byte {
		value := make([]byte, 1000)
		n, err := unix.Getxattr(path, aclAttribute, value)
		if errors.Is(err, unix.ENODATA) {
			return nil
		}
		must(t, err)
		return value[:n]
	}
	write(t, path, "old", 0o600)
	want := acl(4711)
	if err := unix.Setxattr(path, aclAttribute, want, 0); err != nil {
		t.Skipf("no access control lists: %v", err)
	}
	note := unix.Setxattr(path, "user.note", []byte("kept"), 0)
	must(t, replace(t, path, "new"))
	value := make([]byte, 10)
	if n, err := unix.Getxattr(path, "user.note", value); note == nil && (err != nil || string(value[:n]) != "kept") {
		t.Errorf("the note is %q, %v", value, err)
	}
	if got := get(); !bytes.Equal(got, want) {
		t.Errorf("%x, before %x", got, want)
	}

	must(t, os.Remove(path))
	write(t, path, "old", 0o600)
	must(t, unix.Setxattr(dir, "system.posix_acl_default", acl(4712), 0))
	must(t, replace(t, path, "new"))
	if got := get(); got != nil {
		t.Errorf("a new list: %x", got)
	}
}
