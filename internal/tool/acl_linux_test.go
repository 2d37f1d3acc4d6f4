package tool

import (
	"encoding/binary"
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHasACL checks that a file is known to be readable by more users than its mode
// tells, as after setfacl -m u:990:r.
func TestHasACL(t *testing.T) {
	path := writeFile(t, "")
	if hasACL(path) || hasACL(path+"none") {
		t.Error("got an access control list, want none")
	}
	list := binary.LittleEndian.AppendUint32(nil, 2) // the version; entries are tag, permissions and ID
	for _, entry := range [][3]uint32{{1, 6, math.MaxUint32}, {2, 4, 990}, {4, 4, math.MaxUint32}, {16, 4, math.MaxUint32}, {32, 0, math.MaxUint32}} {
		list = binary.LittleEndian.AppendUint32(list, entry[0]|entry[1]<<16)
		list = binary.LittleEndian.AppendUint32(list, entry[2])
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", list, 0); err != nil {
		t.Skipf("no access control lists: %v", err)
	}
	if !hasACL(path) {
		t.Error("got no access control list, want one")
	}
}
