package atomicfile

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// aclAttribute holds who may read a file beside what its mode says.
const aclAttribute = "system.posix_acl_access"

// maxAttribute is how long an attribute, or the list of their names, can be.
const maxAttribute = 64 << 10

// labels are the attributes of security modules that say who may read a file.
// Others of theirs are not copied: they are rights of a program, as setuid bits
// are (capabilities), or signatures of the old content.
var labels = []string{"security.selinux", "security.SMACK64"}

func isCopied(name string) bool {
	switch namespace, _, _ := strings.Cut(name, "."); namespace {
	case "", "trusted": // file systems keep the latter for themselves
		return false
	case "security":
		return slices.Contains(labels, name)
	}
	return true
}

// copyAttributes gives file the extended attributes of old: the access control
// list, or none if it has none (a new file can get one from its directory), and
// of others, such as SELinux's label, what the system allows.
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
