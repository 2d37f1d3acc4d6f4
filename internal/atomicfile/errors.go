//go:build unix && !aix && !dragonfly && !solaris

package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
)

// OwnerError is the error for a file whose owner or group this user cannot set on the
// new version.
type OwnerError struct {
	Path     string // escaped for messages
	UID, GID uint32 // of the file
	Advice   string // for a person who runs a command
	err      error
}

// Error returns the error with the advice.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("%s: replacing it would change its owner (%d:%d); %s: %s", e.Path, e.UID, e.GID, e.Advice, e.err)
}

// Unwrap returns the cause.
func (e *OwnerError) Unwrap() error { return e.err }

func (f *File) ownerError(err error) error {
	advice := f.insteadOfSudo(f.seen.Uid)
	if advice == "" {
		advice = "run this with sudo, or as its owner, who must be in its group"
	}
	return &OwnerError{f.shown, f.seen.Uid, f.seen.Gid, advice, cause(err)}
}

// insteadOfSudo returns what to do instead of using sudo, for a file that root would
// refuse to change, too. It returns "" if root would change it.
func (f *File) insteadOfSudo(owner uint32) string {
	switch {
	case f.trustError(owner) == nil:
		return ""
	case owner != root && (f.inode.Uid == owner || isShared(&f.inode)):
		return "run this as its owner, not with sudo"
	}
	return "sudo does not help, since other users can replace it there; create another file and name it in the configuration"
}

// mountError is the error for a file that is a mount point.
func (f *File) mountError() error {
	return fmt.Errorf("%s is a mount point, as in containers, and cannot be replaced; mount the directory instead", f.shown)
}

// changedError is the error for a file that was changed or replaced after it was
// opened.
func (f *File) changedError() error {
	return fmt.Errorf("%s was changed by another process at the same time; try again", f.shown)
}

// failed is the error of a system call, with the escaped path.
func (f *File) failed(what string, err error) error {
	return fmt.Errorf("%s: %s: %w", f.shown, what, cause(err))
}

// cause removes the operation and the path that package os adds to an error: the
// messages of this package have both already.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
