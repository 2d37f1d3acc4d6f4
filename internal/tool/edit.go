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
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// runPrint writes the line of a user to standard output.
func (t *tool) runPrint(ctx context.Context, name string, args []string) error {
	hash, err := t.newHash(ctx, args)
	if err != nil {
		return err
	}
	return t.write(name + ":" + hash + "\n")
}

// runSet adds a user to a file or changes the password of one.
func (t *tool) runSet(ctx context.Context, path, name string, args []string) error {
	if err := t.precheck(path, name); err != nil { // before anybody types a password
		return err
	}
	hash, err := t.newHash(ctx, args)
	if err != nil {
		return err
	}
	verb, note := "Adding", ""
	err = t.change(ctx, path, name, func(text string) (string, error) {
		if t.create {
			if users, _ := htfile.Parse(text); len(users.All) > 0 {
				note = fmt.Sprintf("%s is made anew; users in it before: %d", shown.Text(path), len(users.All))
			}
			text = ""
		}
		text, found := htfile.SetUser(text, name, hash)
		if found > 0 {
			verb = "Updating"
		}
		if found > 1 {
			note = fmt.Sprintf("user %s has %d lines, which all say the same now", name, found)
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
	return nil
}

// checkSet makes sure that a server reads what is meant.
func checkSet(text, name, hash string) error {
	users, err := htfile.Parse(text)
	if err != nil {
		return failed(ExitNotAFile, "%s", err)
	}
	if u := users.Find(name); u == nil || u.State != htfile.StateUsable || u.Hash != hash {
		return failed(ExitIllegal, "a server would not read this line as it is meant")
	}
	return nil
}

// runRemove takes a user out of a file.
func (t *tool) runRemove(ctx context.Context, path, name string) error {
	found := 0
	err := t.change(ctx, path, name, func(text string) (string, error) {
		text, found = htfile.RemoveUser(text, name)
		if _, err := htfile.Parse(text); err != nil {
			return "", failed(ExitNotAFile, "%s is not removed: after that, a server would refuse the file and keep the old version, with %[1]s in it: %s", name, err)
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

// change replaces a file by what edit makes of its text. It calls edit while it
// holds the lock of the file's directory, so that no change of another is lost.
func (t *tool) change(ctx context.Context, path, name string, edit func(text string) (string, error)) error {
	file, err := atomicfile.Open(ctx, path, func() { t.say("waiting for others who change files in the directory of %s", shown.Text(path)) })
	if errors.Is(err, context.Canceled) {
		return errInterrupted
	}
	if err != nil {
		return denied(err)
	}
	defer file.Close() //nolint:errcheck // the end of the process does it, too
	text, err := t.read(file, path, name)
	if err != nil {
		return err
	}
	isNew := !file.Exists()
	edited, err := edit(text)
	if err != nil {
		return err
	}
	if edited == text && !isNew {
		return nil
	}
	group, advice := newFileGroup(user.LookupGroup, os.Geteuid())
	if err := file.Replace(edited, group); err != nil {
		return failed(ExitFile, "%s", err)
	}
	if isNew {
		t.say("New file %s%s", shown.Text(path), advice(path, atomicfile.IsFixed(path)))
	}
	return nil
}

// precheck returns the error that change would, as far as that can be told
// without waiting for others.
func (t *tool) precheck(path, name string) error {
	file, err := atomicfile.Look(path)
	if err != nil {
		return denied(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	if _, err := t.read(file, path, name); err != nil {
		return err
	}
	if err := file.Check(); err != nil {
		return failed(ExitFile, "%s", err)
	}
	return nil
}

// read returns the text of an open file, and "" if there is none but one is to
// be created.
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

// missing says that there is no file, and what to do.
func (t *tool) missing(path string) error {
	if t.remove || t.verify {
		return failed(ExitFile, "%s is not there", shown.Text(path))
	}
	return failed(ExitFile, "%s is not there; use -c to make it", shown.Text(path))
}

// denied adds to an error, which names the path, what to do.
func denied(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return failed(ExitFile, "%s; run this with sudo, or as the user it belongs to", err)
	}
	return failed(ExitFile, "%s", err)
}

// isPasswordFile refuses a text that has lines but is none of a password file:
// most likely another file was meant. One without a valid line is taken if it
// names the user: then this is how to fix it.
func isPasswordFile(path, name, text string) error {
	if users, err := htfile.Parse(text); err != nil && users.Find(name) == nil {
		return failed(ExitNotAFile, "%s is not an htpasswd file: %s", shown.Text(path), err)
	}
	return nil
}

// serverGroup is the group of Caddy in the packages for Linux.
const serverGroup = "caddy"

// newFileGroup returns the group that a new file is to have, and what to say
// about it behind the path. A command is part of that only if nobody can
// exchange the file before it is run.
func newFileGroup(lookup func(name string) (*user.Group, error), euid int) (group int, advice func(path string, isFixed bool) string) {
	advise := func(command string) func(string, bool) string {
		return func(path string, isFixed bool) string {
			if !isFixed {
				return "; give it to the group of the server, but not as root: others can put another file in its place"
			}
			return "; let the server read it: " + command + " " + shown.Argument(path)
		}
	}
	found, err := lookup(serverGroup)
	if err != nil {
		return atomicfile.KeepGroup, advise("chgrp <its group>")
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil || euid != 0 {
		return atomicfile.KeepGroup, advise("sudo chgrp " + serverGroup)
	}
	return gid, func(string, bool) string { return ", which the group " + serverGroup + " can read" }
}
