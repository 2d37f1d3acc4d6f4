package wholefile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// aclAttribute holds who may read a file beside what its mode says.
const aclAttribute = "system.posix_acl_access"

// copyACL gives file the access control list of the file at path, or none if
// it has none: a new file can get one from its folder.
func copyACL(path string, file *os.File) error {
	acl := make([]byte, 64<<10) // as long as an attribute can be
	n, err := unix.Getxattr(path, aclAttribute, acl)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil
	case errors.Is(err, unix.ENODATA):
		err := unix.Fremovexattr(int(file.Fd()), aclAttribute)
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		return err
	case err != nil:
		return err
	}
	return unix.Fsetxattr(int(file.Fd()), aclAttribute, acl[:n], 0)
}
