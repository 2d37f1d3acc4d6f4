package follow

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"strings"
	"syscall"
)

// MaxFileSize is the largest accepted size of a file in bytes: enough for two
// million users.
const MaxFileSize = 256 << 20

var errTooLarge = fmt.Errorf("larger than %d MiB", MaxFileSize>>20)

// ReadFile returns the text and the mode of a regular file. It refuses a FIFO
// or a device instead of blocking, and a file larger than MaxFileSize. Errors do
// not contain the path. They say what to do where that is known.
func ReadFile(path string) (text string, mode fs.FileMode, err error) {
	text, _, mode, err = readFile(path)
	return text, mode, err
}

// readFile is ReadFile with the signature of the file. The signature is zero
// if the file changed while it was read.
func readFile(path string) (string, signature, fs.FileMode, error) {
	if err := checkRegular(os.Stat(path)); err != nil {
		return "", signature{}, 0, err // before open: opening a device can have side effects
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the administrator names it
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return "", signature{}, 0, unreadable(path)
		}
		return "", signature{}, 0, withAdvice(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err := checkRegular(info, err); err != nil {
		return "", signature{}, 0, err
	}
	before, err := signOpen(file)
	if err != nil {
		return "", signature{}, 0, err
	}
	var text strings.Builder
	text.Grow(int(info.Size()))
	if n, err := io.Copy(&text, io.LimitReader(file, MaxFileSize+1)); err != nil {
		return "", signature{}, 0, err
	} else if n > MaxFileSize {
		return "", signature{}, 0, errTooLarge
	}
	if after, err := signOpen(file); err != nil || after != before {
		return text.String(), signature{}, info.Mode(), err
	}
	return text.String(), before, info.Mode(), nil
}

// checkRegular returns an error if a file cannot be read as a regular file.
func checkRegular(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return withAdvice(err)
	case info.IsDir():
		return errors.New("is a directory, not a file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case info.Size() > MaxFileSize:
		return errTooLarge
	}
	return nil
}

// unreadable returns the error for a file that this process may not open. It names
// owner and group. What it advises leaves the group its access, because another server
// may read the file as a member of the group.
func unreadable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return withAdvice(err)
	}
	owner, group := OwnerOf(path)
	if owner == "" {
		return fmt.Errorf("%w: let the user that the server runs as read it", fs.ErrPermission)
	}
	self, err := user.Current()
	isOwner := err == nil && (owner == self.Username || owner == self.Uid)
	advice := "run chgrp to the server's group and chmod g+r on it, or setfacl -m u:USER:r for the user that the server runs as"
	switch mode := info.Mode(); {
	case isOwner && mode&0o400 == 0:
		advice = "run chmod u+r on it"
	case isOwner || mode&0o044 == 0o044:
		advice = "its mode lets the server read it; check access control lists (getfacl), SELinux and AppArmor"
	case IsGroupReadable(mode, group):
		advice = "add the user that the server runs as to this group and restart the server, or run setfacl -m u:USER:r on the file for it"
	}
	return fmt.Errorf("%w (owner '%s', group '%s', mode %04o): %s", fs.ErrPermission, owner, group, info.Mode().Perm(), advice)
}

// IsGroupReadable reports whether a group other than root's reads a file by its
// group permission. A chgrp would take the file away from the members.
func IsGroupReadable(mode fs.FileMode, group string) bool {
	return mode&0o040 != 0 && group != "" && group != "root" && group != "wheel"
}

// withAdvice removes the path from an error of the file system, since logs and
// errors name it anyway, and adds what to do.
func withAdvice(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: the user that the server runs as cannot enter one of its directories; run setfacl -m u:USER:x on it, or move the file", err)
	}
	if errors.Is(err, syscall.ESTALE) {
		return fmt.Errorf("%w: mount the file system again", err)
	}
	return err
}
