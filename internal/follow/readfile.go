package follow

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// MaxFileSize is how many bytes a file may have: enough for two million users.
const MaxFileSize = 256 << 20

var errTooLarge = fmt.Errorf("larger than %d MiB", MaxFileSize>>20)

// ReadFile returns the text and the mode of a regular file. It refuses a FIFO
// or a device instead of blocking, and a file larger than MaxFileSize. Errors
// do not contain the path. They say what to do where that is known.
func ReadFile(path string) (text string, mode fs.FileMode, err error) {
	text, _, mode, err = readFile(path)
	return text, mode, err
}

// readFile is ReadFile with the signature of the file. The signature is zero
// if the file changed while it was read.
func readFile(path string) (string, signature, fs.FileMode, error) {
	if err := checkRegular(os.Stat(path)); err != nil {
		return "", signature{}, 0, err // before opening it does something
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the administrator names it
	if err != nil {
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

// checkRegular returns why a file cannot be read as a regular one.
func checkRegular(info fs.FileInfo, err error) error {
	switch {
	case err != nil:
		return withAdvice(err)
	case info.IsDir():
		return errors.New("is a folder, not a file")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	case info.Size() > MaxFileSize:
		return errTooLarge
	}
	return nil
}

// withAdvice takes the path off an error of the file system, since logs and
// errors name it anyway, and adds what to do.
func withAdvice(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: let the user that the server runs as read it, e.g. chgrp caddy and chmod 640, and enter its folders", err)
	}
	if errors.Is(err, syscall.ESTALE) {
		return fmt.Errorf("%w: mount the file system again", err)
	}
	return err
}

// settleTime is how long a text must have stood still before it is read.
const settleTime = 200 * time.Millisecond

// isRacy reports whether a change, in nanoseconds since 1970, was so shortly
// before now that another one can have the same time.
func isRacy(changed int64, now time.Time) bool {
	limit := settleTime
	if changed%int64(time.Second) == 0 {
		limit += 2 * time.Second // most likely the file system knows no parts of a second
	}
	age := now.Sub(time.Unix(0, changed))
	return -limit < age && age < limit
}
