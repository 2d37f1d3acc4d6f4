// Package htedit changes htpasswd files. The command line tool and the server change files
// only through this package.
//
// A file is a [Target]. [Replace] replaces hashes in it, and [SetPassword] sets a new hash,
// of users whose hash is still the expected one: the change of an administrator wins. A
// mirror.Mirror is a Target, and a [File], which is one on disk.
//
// [Edit] makes any change of a file on disk. It takes the lock of the file, reads the file,
// edits its text and replaces it atomically (see package atomicfile). So no concurrent
// change is lost, and no reader sees half a file.
//
// A new text is written only if a server would parse it as intended.
package htedit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// Target is where the text of a password file is. Its methods are safe for concurrent use.
type Target interface {
	// Name names the target in messages: the path of a file, for example.
	Name() string

	// Edit replaces the text by the result of edit. No change that others make at the
	// same time is lost: edit may be called again with a newer text. If edit returns an
	// error, Edit returns this error, and the text is unchanged. Other errors contain the
	// name, and neither users nor hashes. Edit ends when ctx is done.
	Edit(ctx context.Context, edit func(text string) (string, error)) error

	// Check returns the error with which Edit would fail, as far as it is known without
	// waiting for anybody or changing anything.
	Check() error
}

// File is the path of a file on disk that exists. It is a Target of a server.
type File string

// Name returns the path.
func (f File) Name() string { return string(f) }

// Edit implements Target: see the function Edit.
func (f File) Edit(ctx context.Context, edit func(text string) (string, error)) error {
	_, err := Edit(ctx, string(f), Options{}, edit)
	return forServer(err)
}

// Options configure Edit. The zero value is for files that exist.
type Options struct {
	// Create allows Edit to create a file that does not exist.
	Create bool

	// Group is the group of a created file, or atomicfile.KeepGroup.
	Group int

	// Waiting is called in a separate goroutine after a second of waiting for other
	// writers. It may be nil.
	Waiting func()
}

// ErrNoFile is wrapped by errors for a file that does not exist, in a directory that does.
// It wraps fs.ErrNotExist.
var ErrNoFile = fmt.Errorf("file does not exist: %w", fs.ErrNotExist)

// noFileError is an ErrNoFile that says only what the system would say.
type noFileError struct{ path string }

func (e noFileError) Error() string { return shown.Text(e.path) + ": " + fs.ErrNotExist.Error() }
func (noFileError) Unwrap() error   { return ErrNoFile }

// ErrReplace is wrapped by the error of Edit if the file could be opened and read, and
// edit succeeded, but the file could not be replaced.
var ErrReplace = errors.New("cannot replace the file")

// replaceError is an ErrReplace that shows only its cause, which names the path.
type replaceError struct{ error }

func (e replaceError) Unwrap() []error { return []error{ErrReplace, e.error} }

// Edit replaces the text of a file by the result of edit, which is called with the lock
// held. If edit returns an error, Edit returns this error and the file is unchanged. The
// text of a file that does not exist is "". Without Options.Create, the error for such a
// file is ErrNoFile. isNew reports whether the file was created. Errors contain the
// path, and neither names nor hashes.
//
// Edit waits for other writers for up to a minute, or until ctx is done.
func Edit(ctx context.Context, path string, o Options, edit func(text string) (string, error)) (isNew bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if o.Waiting == nil {
		o.Waiting = func() {}
	}
	file, err := atomicfile.Open(ctx, path, o.Waiting)
	if err != nil {
		return false, err
	}
	defer file.Close() //nolint:errcheck // nothing depends on the lock any more
	if isNew = !file.Exists(); isNew && !o.Create {
		return false, noFileError{path}
	}
	text, err := file.Text(follow.MaxFileSize)
	if err != nil {
		return false, err
	}
	edited, err := edit(text)
	if err != nil || edited == text && !isNew {
		return false, err
	}
	if err := file.Replace(edited, o.Group); err != nil {
		return false, replaceError{err}
	}
	return isNew, nil
}

// Check implements Target.
func (f File) Check() error {
	path := string(f)
	file, err := atomicfile.Look(path)
	if err != nil {
		return forServer(err)
	}
	defer file.Close() //nolint:errcheck // only looked at
	if !file.Exists() {
		return noFileError{path}
	}
	return forServer(file.Check())
}

// forServer replaces advice for a person who runs a command: a server is not run with
// sudo.
func forServer(err error) error {
	if e, ok := errors.AsType[*atomicfile.OwnerError](err); ok {
		return fmt.Errorf("%s: replacing it would change its owner (%d:%d), which is not the user of the server: %w", e.Path, e.UID, e.GID, e.Unwrap())
	}
	return err
}

// ErrChanged is returned if the entry of a user is not the expected one any more.
var ErrChanged = errors.New("the user's entry has changed in the meantime")

// errMisread is returned for a change whose result a server would parse differently.
var errMisread = errors.New("the resulting file would be parsed differently by a server")

// Replace replaces hashes in a text: see htfile.ReplaceHashes. made reports for each
// change whether the file has it now. A change whose user has another hash by now is not
// made, which is no error.
func Replace(ctx context.Context, target Target, changes []htfile.Change) (made []bool, err error) {
	err = target.Edit(ctx, func(text string) (string, error) {
		var edited string
		edited, made = htfile.ReplaceHashes(text, changes)
		users, err := htfile.Parse(edited)
		if err != nil {
			return "", fmt.Errorf("%s: %w", shown.Text(target.Name()), err)
		}
		for i, c := range changes {
			if made[i] && !has(users, c.Name, c.New) {
				return "", fmt.Errorf("%s: %w", shown.Text(target.Name()), errMisread)
			}
		}
		return edited, nil
	})
	if err != nil {
		return make([]bool, len(changes)), err
	}
	return made, nil
}

// SetPassword sets a new hash in all lines of a user, since programs differ in which line
// wins. It returns ErrChanged if the old hash is not the user's hash any more.
func SetPassword(ctx context.Context, target Target, change htfile.Change) error {
	return target.Edit(ctx, func(text string) (string, error) {
		users, _ := htfile.Parse(text) // with the error, no user is usable
		if !has(users, change.Name, change.Old) {
			return "", ErrChanged
		}
		edited, _ := htfile.SetUser(text, change.Name, change.New)
		if users, err := htfile.Parse(edited); err != nil || !has(users, change.Name, change.New) {
			return "", fmt.Errorf("%s: %w", shown.Text(target.Name()), errMisread)
		}
		return edited, nil
	})
}

// has reports whether a user can log in with a hash.
func has(users *htfile.Users, name, hash string) bool {
	u := users.Find(name)
	return u != nil && u.State == htfile.StateUsable && u.Hash == hash
}
