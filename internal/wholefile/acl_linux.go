package wholefile

import (
	"bytes"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// aclAttribute holds who may read a file beside what its mode says.
const aclAttribute = "system.posix_acl_access"

// maxAttribute is how long an attribute, or the list of their names, can be.
const maxAttribute = 64 << 10

// copyAttributes gives file the extended attributes of the file at path: the
// access control list, or none if it has none (a new file can get one from its
// folder), and of others, such as SELinux's label, what the system allows.
func copyAttributes(path string, file *os.File) error {
	fd := int(file.Fd())
	names, buffer := make([]byte, maxAttribute), make([]byte, maxAttribute)
	n, err := unix.Listxattr(path, names)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return err
	}
	hasACL := false
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		n, err := unix.Getxattr(path, string(name), buffer)
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
