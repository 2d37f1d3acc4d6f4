//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
)

// notOurs is the error for a file whose owner this user cannot give to the new
// version.
func (f *File) notOurs(err error) error {
	advice := f.insteadOfSudo(f.seen.Uid)
	if advice == "" {
		advice = "run this with sudo, or as that user who is in that group"
	}
	return fmt.Errorf("%s belongs to user %d and group %d, and would not any more; %s: %w",
		f.shown, f.seen.Uid, f.seen.Gid, advice, cause(err))
}

// insteadOfSudo returns what to do about the file of an owner where root would
// refuse to change it too, and "" where root would change it.
func (f *File) insteadOfSudo(owner uint32) string {
	switch {
	case f.distrust(owner) == nil:
		return ""
	case owner != root && (f.inode.Uid == owner || isShared(&f.inode)):
		return "run this as that user, not with sudo"
	}
	return "sudo does not help, since others than root can exchange it there; create another file and name it in the configuration"
}

// mounted is the error for a file that cannot be renamed.
func (f *File) mounted() error {
	return fmt.Errorf("%s is a mount of its own, as in containers, and can't be replaced; mount its directory instead", f.shown)
}

// changed is the error for a file that is not the one that was opened any more.
func (f *File) changed() error {
	return fmt.Errorf("%s was changed by somebody else at the same time; try again", f.shown)
}

// failed is the error of a system call, with the path as messages show it.
func (f *File) failed(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", f.shown, what, cause(err))
}

// cause returns an error without the operation and the path that package os adds:
// the messages here have both already.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
