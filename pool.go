package caddyhtpasswd

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// files holds the followed files of all configurations, running or about to.
// Who names the same path shares one, across reloads too: that is how
// verified passwords outlive them.
var files = caddy.NewUsagePool()

// store is what a file means: it gets the text of each new version.
type store interface {
	*userStore | *groupStore
	load(text string, logger *zap.Logger) error
	follow(f *follow.Follower)
}

// followed is the part of a store that knows its file.
type followed struct {
	file *follow.Follower // nil for none
}

func (s *followed) follow(f *follow.Follower) { s.file = f }

// awaitCurrent waits until the file is read, if it has changed.
func (s *followed) awaitCurrent(ctx context.Context) {
	if s.file != nil {
		s.file.Await(ctx)
	}
}

// poolKey is the key of a file in the pool. A file read as users and as
// groups is two.
type poolKey[S store] struct{ path string }

// pooledFile is a value in the pool.
type pooledFile[S store] struct {
	*follow.Follower
	store S
}

// Destruct ends following. It implements caddy.Destructor.
func (f *pooledFile[S]) Destruct() error { return f.Close() }

// followSettings returns the settings that are active for all followed files,
// and a channel that is closed when others are.
func followSettings() (follow.Settings, <-chan struct{}) {
	active, changed := running.watch()
	return follow.Settings{Poll: active.poll, Logger: active.logger}, changed
}

// followOptions returns the options of what is followed, whatever its source is.
func followOptions(load func(text string, logger *zap.Logger) error) follow.Options {
	return follow.Options{
		Load:     load,
		IsEmpty:  func(text string) bool { return !htfile.HasLines(text) },
		Settings: followSettings,
	}
}

// fileInUse is a file that was loaded, with what it means at the moment: the
// users or the groups.
type fileInUse struct {
	*follow.Follower
	status follow.Status
	store  *userStore // nil for a group file
	users  *userTable
	groups *htfile.Groups
}

// filesInUse returns all files that were loaded, by path and kind.
func filesInUse() []fileInUse {
	var inUse []fileInUse
	files.Range(func(_, value any) bool {
		var f fileInUse
		// The status comes first: a file that is loaded according to it is.
		switch file := value.(type) {
		case *pooledFile[*userStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.store, f.users = file.store, file.store.current.Load()
				inUse = append(inUse, f)
			}
		case *pooledFile[*groupStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.groups = file.store.current.Load()
				inUse = append(inUse, f)
			}
		}
		return true
	})
	slices.SortFunc(inUse, func(a, b fileInUse) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.kind(), b.kind()))
	})
	return inUse
}

// isLoaded takes the status, and reports whether the file was ever loaded.
func (f *fileInUse) isLoaded() bool {
	f.status = f.Status()
	return !f.status.LoadedAt.IsZero()
}

func (f *fileInUse) kind() string {
	if f.store != nil {
		return "users"
	}
	return "groups"
}

func (f *fileInUse) findings() *htfile.Findings {
	if f.store != nil {
		return &f.users.file.Findings
	}
	return &f.groups.Findings
}

// acquire returns what the file of that name means for h, read a moment ago, and
// the name with its placeholders replaced.
func acquire[S store](h *Handler, name string, newStore func(path string) S) (S, string, error) {
	name, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
	if err != nil {
		return nil, "", err
	}
	s, err := acquirePath(h, name, newStore)
	if err != nil && htfile.IsTextNotPath(name) {
		return nil, "", errTextAsPath
	}
	return s, name, err
}

func acquirePath[S store](h *Handler, name string, newStore func(path string) S) (S, error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	key := poolKey[S]{path}
	value, _, err := files.LoadOrNew(key, func() (caddy.Destructor, error) {
		s := newStore(path)
		file := follow.New(follow.NewFile(path), followOptions(s.load))
		s.follow(file)
		return &pooledFile[S]{file, s}, nil
	})
	if err != nil {
		return nil, err
	}
	h.acquired = append(h.acquired, key) // from here on there is something to clean up
	file := value.(*pooledFile[S])
	return file.store, file.Reload(h.logger)
}
