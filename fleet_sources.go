package caddyhtpasswd

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/seed10b5b978/caddy-htpasswd/internal/fileapi"
	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
)

// A shared file is a password or group file that is not on disk, but in the store of the
// fleet or in Caddy's storage: fleet://<name>, storage://<name>. A mirror.Mirror stands
// between the store and the Follower.

// sharedTimeout is how long a call of a store for a shared file may take.
const sharedTimeout = 5 * time.Second

// isSharedName reports whether a configured name is a URL, and not a path. Names have no
// placeholders any more.
func isSharedName(name string) bool { return fileapi.IsURL(name) }

// parseSharedName parses the URL of a shared file.
func parseSharedName(name string) (fileapi.Source, error) {
	source, isSource, err := fileapi.ParseURL(name)
	switch {
	case !isSource: // not shown: it may have a password in it
		return source, errors.New("has a URL of an unknown kind; expected a path, fleet://<name> for a file in the store of the fleet, or storage://<name> for one in Caddy's storage")
	case err != nil && follow.IsPattern(name):
		return source, fmt.Errorf("has an invalid URL: %w; patterns are for files on disk: write each file", err)
	}
	if err != nil {
		return source, fmt.Errorf("has an invalid URL: %w", err)
	}
	return source, nil
}

// sharedKind is what a shared file is used as.
type sharedKind[S store] struct {
	newStore func(name string) S
	validate func(text string) error
	advice   string // how to write it for the first time; %s is the URL
}

var (
	sharedUsers = sharedKind[*userStore]{
		newUserStore,
		func(text string) error { _, err := htfile.Parse(text); return err },
		"create a user with: caddy htpasswd %s USER",
	}
	sharedGroups = sharedKind[*groupStore]{
		newGroupStore,
		func(text string) error { _, err := htfile.ParseGroups(text); return err },
		"write it with: caddy htpasswd --import %s FILE",
	}
)

// sharedKey is the key of a shared file in the pool of sources.
type sharedKey[S store] struct {
	url      string
	store    string // which store it is in
	maxStale time.Duration
}

// acquireShared is acquire for a shared file. The name is a URL.
func acquireShared[S store](h *Handler, name string, kind sharedKind[S]) (acquired[S], error) {
	source, err := parseSharedName(name)
	if err != nil {
		return acquired[S]{}, err
	}
	app, sources := h.app, &h.shared.sources
	key := sharedKey[S]{url: name}
	var remote mirror.Config
	if source.Scheme == fileapi.SchemeFleet {
		if app.fleet == nil {
			return acquired[S]{}, fmt.Errorf("%s: expected the global option 'fleet <engine>' in 'htpasswd { }' (JSON: apps.htpasswd.fleet), found none", name)
		}
		key.store, key.maxStale = app.fleetInPool, time.Duration(app.MaxStale)
		remote = app.fleet.mirrorConfig(source.Name)
		remote.MaxStale = key.maxStale
	} else {
		storage := h.ctx.Storage()
		app.settings.storage = storage
		key.store = storageIdentity(storage)
		remote = sources.storageConfig(source.Name, storage)
	}
	if remote.Path, err = localCopy(source); err != nil {
		return acquired[S]{}, fmt.Errorf("%s: %w", name, err)
	}
	value, isShared, err := sources.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		remote.Name, remote.Validate, remote.Advice = name, kind.validate, fmt.Sprintf(kind.advice, name)
		remote.Timeout = sharedTimeout
		remote.Poll = func() (time.Duration, <-chan struct{}) {
			settings, changed := sources.active.watch()
			return settings.poll, changed
		}
		remote.Logger = func() *zap.Logger { return sources.active.get().logger }
		file := &pooledFile[S]{store: kind.newStore(name), mirror: mirror.New(remote)}
		if source.Scheme == fileapi.SchemeFleet {
			file.leave = app.keepFleet(source.Name, file.mirror)
		}
		file.Follower = follow.New(file.mirror, sources.followOptions(file.store.load))
		file.store.follow(file.Follower)
		file.store.useMirror(file.mirror)
		return file, nil
	})
	if err != nil {
		return acquired[S]{}, err
	}
	file := value.(*pooledFile[S])
	a := acquired[S]{store: file.store, name: name, release: func() error { _, err := sources.pool.Delete(key); return err }}
	if !isShared || file.mirror.Check() == nil { // a store that is down is looked at in the background
		_ = file.mirror.Refresh(h.ctx) // Fetch has the problem
	}
	app.onStart(func() {
		file.mirror.Start()
		file.mirror.Wake() // the storage may be another one
	})
	previous := sources.tableInUse(name, any(file.store))
	if err := file.Reload(h.logger); err != nil {
		return a, err
	}
	if users, ok := any(file.store).(*userStore); ok && previous != nil {
		users.current.Load().inherit(previous)
	}
	return a, nil
}

// localCopy returns the absolute path of the local copy of a shared file. Caddy's data
// directory is a relative path if there is no home directory.
func localCopy(source fileapi.Source) (string, error) {
	return filepath.Abs(filepath.Join(caddy.AppDataDir(), "htpasswd", source.Scheme, source.Name))
}

// keepFleet keeps the connection of the fleet until the returned function is called: the
// mirror of a file may outlive the configuration that has created it. The mirror is woken
// when another server has changed the file.
func (a *App) keepFleet(name string, m *mirror.Mirror) (leave func() error) {
	fleets, key, state := a.shared.fleets, a.fleetInPool, a.fleet
	_, _, _ = fleets.LoadOrNew(key, func() (caddy.Destructor, error) { return state, nil }) // it is there
	remove := state.onChanged(name, m.Wake)
	return func() error {
		remove()
		_, err := fleets.Delete(key)
		return err
	}
}

// storageIdentity tells storages apart, as far as they say what they are.
func storageIdentity(storage certmagic.Storage) string {
	if s, ok := storage.(fmt.Stringer); ok {
		return fmt.Sprintf("%T %s", storage, s)
	}
	return fmt.Sprintf("%T", storage)
}

// tableInUse returns the users of the newest other source with a name, or nil.
func (s *sources) tableInUse(name string, except any) *userTable {
	for _, f := range s.inUse() {
		if f.store != nil && any(f.store) != except && f.mirror != nil && f.Name() == name {
			return f.users
		}
	}
	return nil
}

// editable returns the shared file with a URL, and whether it is one of "users" or
// "groups", if a loaded configuration uses it.
func (s *sources) editable(url string) (target htedit.Target, kind string, ok bool) {
	for _, f := range s.inUse() {
		if f.mirror != nil && f.Name() == url {
			target, kind, ok = f.mirror, f.kind(), true // users come last
		}
	}
	return target, kind, ok
}
