package tool

import (
	"context"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// runVerify verifies a password as a server would.
func (t *tool) runVerify(ctx context.Context, path, name string, args []string) error {
	text, err := t.readText(ctx, path)
	if err != nil {
		return err
	}
	if err := isPasswordFile(path, name, text); err != nil {
		return err
	}
	users, err := htfile.Parse(text)
	if err != nil {
		return failed(ExitNotAFile, "%s: a server would refuse this file: %s", shown.Text(path), err)
	}
	found := users.Find(name)
	switch {
	case found == nil:
		return failed(ExitIllegal, "User %s not found", name)
	case found.State == htfile.StateLocked:
		return failed(ExitWrong, "user %s is locked", name)
	case found.State == htfile.StateInvalid:
		return failed(ExitWrong, "the line of user %s is invalid; for the reason, run: caddy htpasswd --check %s", shown.Text(name), shown.Argument(path))
	}
	password, err := t.password(ctx, args)
	if err != nil {
		return err
	}
	matches, err := interruptible(ctx, func() (bool, error) {
		return !htfile.HasControl(password) && users.Classes[found.Class].Verify(found.Hash, password), nil
	})
	if err != nil {
		return err
	}
	if !matches {
		return failed(ExitWrong, "password verification failed")
	}
	t.say("Password for user %s correct.", name)
	return nil
}
