package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// aclAttribute is the extended attribute of a POSIX access control list.
const aclAttribute = "system.posix_acl_access"

// maxAttribute is the maximum length of an attribute, and of the list of names.
const maxAttribute = 64 << 10

// labels are the attributes of security modules that control access to a file.
// Their other attributes are not copied: they grant privileges to a program
// (capabilities), or are signatures of the old content.
var labels = []string{"security.selinux", "security.SMACK64"}

func isCopied(name string) bool {
	switch namespace, _, _ := strings.Cut(name, "."); namespace {
	case "", "trusted": // the latter are internal to file systems
		return false
	case "security":
		return slices.Contains(labels, name)
	}
	return true
}

// copyAttributes copies the extended attributes of old to file: the access control
// list, and others, such as the SELinux label, as far as the system allows. If old
// has no access control list, file gets none from its directory either.
func copyAttributes(old, file *os.File) error {
	from, fd := int(old.Fd()), int(file.Fd())
	names, buffer := make([]byte, maxAttribute), make([]byte, maxAttribute)
	n, err := unix.Flistxattr(from, names)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	hasACL := false
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		if !isCopied(string(name)) {
			continue
		}
		n, err := unix.Fgetxattr(from, string(name), buffer)
		if err == nil {
			err = unix.Fsetxattr(fd, string(name), buffer[:n], 0)
		}
		if string(name) == aclAttribute {
			if hasACL = true; err != nil {
				return err
			}
		}
	}
	if hasACL {
		return nil
	}
	err = unix.Fremovexattr(fd, aclAttribute)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
