package wholefile

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

// notCopied are attributes that are rights or signatures of the old content, as
// setuid bits are, or that file systems keep for themselves.
var notCopied = []string{"security.capability", "security.ima", "security.evm"}

const ownAttributes = "trusted."

func isCopied(name string) bool {
	return name != "" && !strings.HasPrefix(name, ownAttributes) && !slices.Contains(notCopied, name)
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
