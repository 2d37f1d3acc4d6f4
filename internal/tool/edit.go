package tool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"github.com/seed10b5b978/caddy-htpasswd/internal/atomicfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// runPrint writes a line for a user to standard output.
func (t *tool) runPrint(ctx context.Context, name string, args []string) error {
	hash, password, err := t.newHash(ctx, name, args)
	if err != nil {
		return err
	}
	if err := t.write(name + ":" + hash + "\n"); err != nil {
		return err
	}
	return t.printGenerated(t.err, name, password)
}

// runSet adds a user to a file or changes the password of one.
func (t *tool) runSet(ctx context.Context, path, name string, args []string) error {
	if err := t.precheck(path, name); err != nil { // before asking for a password
		return err
	}
	hash, password, err := t.newHash(ctx, name, args)
	if err != nil {
		return err
	}
	verb, note := "Adding", ""
	err = t.change(ctx, path, name, func(text string) (string, error) {
		if t.create {
			if users, _ := htfile.Parse(text); len(users.All) > 0 {
				note = fmt.Sprintf("overwriting %s (had %d users)", shown.Text(path), len(users.All))
			}
			text = ""
		}
		text, found := htfile.SetUser(text, name, hash)
		if found > 0 {
			verb = "Updating"
		}
		if found > 1 {
			note = fmt.Sprintf("user %s has %d lines; all of them have the new password", name, found)
		}
		return text, checkSet(text, name, hash)
	})
	if err != nil {
		return err
	}
	if note != "" {
		t.say("%s", note)
	}
	t.say("%s password for user %s", verb, name)
	return t.printGenerated(t.out, name, password)
}

// checkSet returns an error unless a server would parse the user's line as intended.
func checkSet(text, name, hash string) error {
	users, err := htfile.Parse(text)
	if err != nil {
		return failed(ExitNotAFile, "%s", err)
	}
	if u := users.Find(name); u == nil || u.State != htfile.StateUsable || u.Hash != hash {
		return failed(ExitIllegal, "the resulting line would be parsed differently by a server")
	}
	return nil
}

// runRemove removes a user from a file.
func (t *tool) runRemove(ctx context.Context, path, name string) error {
	found := 0
	err := t.change(ctx, path, name, func(text string) (string, error) {
		text, found = htfile.RemoveUser(text, name)
		if _, err := htfile.Parse(text); err != nil {
			return "", failed(ExitNotAFile, "user %s not removed: a server would refuse the file without this line, and keep the old version, in which %[1]s can log in: %s", name, err)
		}
		return text, nil
	})
	switch {
	case err != nil:
		return err
	case found == 0:
		t.say("User %s not found", name)
	default:
		t.say("Deleting password for user %s", name)
	}
	return nil
}

// change edits the text of a file and replaces the file. It calls edit while it
// holds the lock of the file, so that no concurrent change is lost.
func (t *tool) change(ctx context.Context, path, name string, edit func(text string) (string, error)) error {
	group, advice := newFileGroup(user.LookupGroup, os.Geteuid())
	isNew, err := htedit.Edit(ctx, path, htedit.Options{Create: t.create, Group: group, Waiting: func() {
		t.say("waiting for other processes that are changing files in the directory of %s", shown.Text(path))
	}}, func(text string) (string, error) {
		if err := isPasswordFile(path, name, text); err != nil {
			return "", err
		}
		return edit(text)
	})
	_, isOurs := errors.AsType[*exitError](err)
	switch {
	case isOurs:
		return err
	case errors.Is(err, context.Canceled):
		return errInterrupted
	case errors.Is(err, htedit.ErrNoFile):
		return t.missing(path)
	case errors.Is(err, htedit.ErrReplace):
		return failed(ExitFile, "%s", err)
	case err != nil:
		return denied(err)
	case isNew:
		t.say("New file %s%s", shown.Text(path), advice(path, atomicfile.IsTamperProof(path)))
	}
	return nil
}

// precheck returns the error that change would return, as far as it is known
// without waiting for other processes.
func (t *tool) precheck(path, name string) error {
	file, err := atomicfile.Look(path)
	if err != nil {
		return denied(err)
	}
	defer file.Close() //nolint:errcheck // only read
	if _, err := t.read(file, path, name); err != nil {
		return err
	}
	if err := file.Check(); err != nil {
		return failed(ExitFile, "%s", err)
	}
	return nil
}

// read returns the text of an open file, or "" if it is to be created.
func (t *tool) read(file *atomicfile.File, path, name string) (string, error) {
	if !file.Exists() {
		if t.create {
			return "", nil
		}
		return "", t.missing(path)
	}
	text, err := file.Text(follow.MaxFileSize)
	if err != nil {
		return "", failed(ExitFile, "%s", err)
	}
	return text, isPasswordFile(path, name, text)
}

// missing returns the error for a file that does not exist.
func (t *tool) missing(path string) error {
	if t.remove || t.verify || t.imports {
		return failed(ExitFile, "%s does not exist", shown.Text(path))
	}
	return failed(ExitFile, "%s does not exist; use -c to create it", shown.Text(path))
}

// denied adds advice to a permission error, which names the path.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return failed(ExitFile, "%s; run this with sudo, or as the owner of the file", err)
	}
	return failed(ExitFile, "%s", err)
}

// isPasswordFile returns an error for a text with lines of which none is valid:
// most likely another file was meant. It accepts the text if one of the lines
// names the user: changing the password fixes that line.
func isPasswordFile(path, name, text string) error {
	if users, err := htfile.Parse(text); err != nil && users.Find(name) == nil {
		return failed(ExitNotAFile, "%s is not an htpasswd file: %s", shown.Text(path), err)
	}
	return nil
}

// serverUser and serverGroup are the user and group of Caddy's Linux packages.
const (
	serverUser  = "caddy"
	serverGroup = "caddy"
)

// newFileGroup returns the group of a new file, and the advice to print after the
// path. The advice contains a command only if nobody else can replace the file
// before it is run.
func newFileGroup(lookup func(name string) (*user.Group, error), euid int) (group int, advice func(path string, isTamperProof bool) string) {
	advise := func(command string) func(string, bool) string {
		return func(path string, isTamperProof bool) string {
			if !isTamperProof {
				return "; change its group to the server's group, but not as root: other users can replace the file"
			}
			return "; to let the server read it, run: " + command + " " + shown.Argument(path)
		}
	}
	found, err := lookup(serverGroup)
	if err != nil {
		return atomicfile.KeepGroup, advise("chgrp <group>")
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil || euid != 0 {
		return atomicfile.KeepGroup, advise("sudo chgrp " + serverGroup)
	}
	return gid, func(string, bool) string { return ", readable by the group " + serverGroup }
}
