package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/fleetclient"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
)

// fleetRemote is a file in the store of a fleet. Its text is sealed: the store can neither
// read nor change it. Which of two versions is the newer one is part of what is sealed.
type fleetRemote struct {
	name  string
	fleet *fleetState
}

// mirrorConfig returns what a mirror of a file in the store needs to know of the fleet.
func (f *fleetState) mirrorConfig(name string) mirror.Config {
	return mirror.Config{Remote: &fleetRemote{name: name, fleet: f}, IsOrdered: true, Authenticator: f.files}
}

// do calls the store. The mirror says that it cannot be reached, so the error only says why.
func (r *fleetRemote) do(ctx context.Context, call func(context.Context, fleet.Store) error) error {
	err := r.fleet.client.Do(ctx, call)
	if errors.Is(err, fleetclient.ErrDown) {
		return errors.New(strings.TrimPrefix(err.Error(), fleetclient.ErrDown.Error()+": "))
	}
	return err
}

// Revision implements mirror.Remote.
func (r *fleetRemote) Revision(ctx context.Context) (revision mirror.Revision, err error) {
	err = r.do(ctx, func(ctx context.Context, store fleet.Store) error {
		found, err := store.Revision(ctx, r.name)
		revision = mirror.Revision(found)
		return err
	})
	if err == nil && len(revision) > fleet.MaxRevision {
		err = fleet.ErrTooLarge
	}
	return revision, unusable(err)
}

// Load implements mirror.Remote.
func (r *fleetRemote) Load(ctx context.Context) (mirror.Copy, error) {
	var text fleet.Text
	err := r.do(ctx, func(ctx context.Context, store fleet.Store) (err error) {
		text, err = store.Load(ctx, r.name)
		return err
	})
	if err != nil {
		return mirror.Copy{}, unusable(err)
	}
	return r.open(text)
}

// unusable returns the error for a text that no server has written.
func unusable(err error) error {
	if errors.Is(err, fleet.ErrTooLarge) {
		return fmt.Errorf("%w: it is %w; find out who else can write to the store, and delete it there: a server writes back the newest version", mirror.ErrInvalid, err)
	}
	return err
}

// open opens a sealed text.
func (r *fleetRemote) open(text fleet.Text) (mirror.Copy, error) {
	h, body, isCurrent, err := r.fleet.files.OpenText(r.name, text.Data)
	if err == nil && h.Revision() != text.Revision {
		err = fmt.Errorf("%w: it is of another version than the store says", sealed.ErrForged)
	}
	switch {
	case errors.Is(err, sealed.ErrOtherSecret):
		err = fmt.Errorf("%w: it is %w; write the same secret on all servers of the fleet", mirror.ErrInvalid, err)
	case errors.Is(err, sealed.ErrForged):
		err = fmt.Errorf("%w: it is %w; find out who else can write to the store; then delete the text there, and a server writes back the newest version", mirror.ErrInvalid, err)
	case errors.Is(err, sealed.ErrFormat):
		err = fmt.Errorf("%w: it is %w; update the module on this server", mirror.ErrInvalid, err)
	case err != nil:
		err = fmt.Errorf("%w: it is %w", mirror.ErrInvalid, err)
	}
	if err != nil {
		return mirror.Copy{}, err
	}
	return mirror.Copy{Text: body, Revision: mirror.Revision(text.Revision), Version: h.Version, Time: h.Time, IsDue: !isCurrent}, nil
}

// Replace implements mirror.Remote.
func (r *fleetRemote) Replace(ctx context.Context, old *mirror.Copy, text string) (mirror.Copy, error) {
	version, revision := uint64(1), mirror.Revision("")
	if old != nil {
		version, revision = old.Version+1, old.Revision
	}
	h, data, err := r.fleet.files.SealText(r.name, text, version, r.fleet.reach.now())
	if err != nil {
		return mirror.Copy{}, r.tooLarge(err)
	}
	next := mirror.Copy{Text: text, Revision: mirror.Revision(h.Revision()), Version: h.Version, Time: h.Time}
	return next, r.replace(ctx, revision, next, data)
}

// Restore implements mirror.Remote: it seals the text again with the header that it had.
func (r *fleetRemote) Restore(ctx context.Context, lost mirror.Revision, c mirror.Copy) (mirror.Copy, error) {
	h, err := sealed.ParseRevision(string(c.Revision))
	if err != nil {
		return mirror.Copy{}, err
	}
	data, err := r.fleet.files.SealTextAs(r.name, c.Text, h)
	if err != nil {
		return mirror.Copy{}, r.tooLarge(err)
	}
	c.IsDue = false
	return c, r.replace(ctx, lost, c, data)
}

// replace replaces the text, and tells the other servers.
func (r *fleetRemote) replace(ctx context.Context, old mirror.Revision, next mirror.Copy, data []byte) error {
	err := r.do(ctx, func(ctx context.Context, store fleet.Store) error {
		return store.Replace(ctx, r.name, string(old), fleet.Text{Revision: string(next.Revision), Data: data})
	})
	switch {
	case errors.Is(err, fleet.ErrConflict):
		return mirror.ErrConflict
	case err != nil:
		return err
	}
	r.fleet.publishChanged(r.name)
	return nil
}

func (r *fleetRemote) tooLarge(err error) error {
	if errors.Is(err, sealed.ErrTooLarge) {
		return fmt.Errorf("the text is %w, the maximum of a file in a fleet; divide the users among several files", err)
	}
	return err
}
