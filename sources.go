package caddyhtpasswd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// sources holds the followed files, patterns and texts of all configurations that run or
// are being loaded.
type sources struct {
	pool   *caddy.UsagePool
	active *activeSettings
}

// poolKey is the key of a file in the pool. A file that is used as a password file and as
// a group file has two keys.
type poolKey[S store] struct{ path string }

// pooledFile is a value in the pool: a file, or a text of users.
type pooledFile[S store] struct {
	*follow.Follower
	store  S
	use    fileUse
	mirror *mirror.Mirror // of a shared file; otherwise nil
	leave  func() error   // what the mirror needs; may be nil
}

// Destruct closes the store, which may still write to the file, and stops following the
// file. It implements caddy.Destructor.
func (f *pooledFile[S]) Destruct() error {
	f.store.close()
	errs := []error{f.Close()}
	if f.mirror != nil {
		errs = append(errs, f.mirror.Close())
	}
	if f.leave != nil {
		errs = append(errs, f.leave())
	}
	return errors.Join(errs...)
}

// pooledList is a value in the pool: the files that match a pattern.
type pooledList interface {
	follower() *follow.Follower
	stores() userStores
}

// followSettings returns the active settings for followed files, and a channel that is
// closed when they change.
func (s *sources) followSettings() (follow.Settings, <-chan struct{}) {
	active, changed := s.active.watch()
	return follow.Settings{Poll: active.poll, Logger: active.logger}, changed
}

// followOptions returns the options for following any source.
func (s *sources) followOptions(load func(text string, logger *zap.Logger) error) follow.Options {
	return follow.Options{
		Load:     load,
		IsEmpty:  func(text string) bool { return !htfile.HasLines(text) },
		Settings: s.followSettings,
	}
}

// fileInUse is a loaded file, with its current users or groups.
type fileInUse struct {
	*follow.Follower
	status follow.Status
	store  *userStore // nil for a group file and a pattern
	users  *userTable
	groups *htfile.Groups // nil for a password file and a pattern
	list   pooledList     // nil for a file
	mirror *mirror.Mirror // nil for a file on disk and a pattern
}

// inUse returns all files and patterns that are loaded, sorted by name and kind. While a
// configuration is replaced, there can be two texts of users with one name, of which the
// newest is returned.
func (s *sources) inUse() []fileInUse {
	var files []fileInUse
	s.pool.Range(func(_, value any) bool {
		var f fileInUse
		// The status is read first: if it says that a file is loaded, the table is there.
		switch file := value.(type) {
		case *pooledFile[*userStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.store, f.users, f.mirror = file.store, file.store.current.Load(), file.mirror
			}
		case *pooledFile[*groupStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.groups, f.mirror = file.store.current.Load(), file.mirror
			}
		case pooledList:
			if f.Follower = file.follower(); f.isLoaded() {
				f.list = file
			}
		}
		if f.users != nil || f.groups != nil || f.list != nil {
			files = append(files, f)
		}
		return true
	})
	slices.SortFunc(files, func(a, b fileInUse) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.kind(), b.kind()), b.status.LoadedAt.Compare(a.status.LoadedAt))
	})
	return slices.CompactFunc(files, func(a, b fileInUse) bool { return a.Name() == b.Name() && a.kind() == b.kind() })
}

// isLoaded sets status, and reports whether the file was ever loaded, or failed to load
// while it is in use.
func (f *fileInUse) isLoaded() bool {
	f.status = f.Status()
	return !f.status.LoadedAt.IsZero() || f.status.Failure != ""
}

func (f *fileInUse) kind() string {
	switch {
	case f.list != nil:
		return "pattern"
	case f.store != nil:
		return "users"
	}
	return "groups"
}

// findings returns the findings in a file. A pattern has none.
func (f *fileInUse) findings() *htfile.Findings {
	switch {
	case f.list != nil:
		return new(htfile.Findings)
	case f.store != nil:
		return &f.users.file.Findings
	}
	return &f.groups.Findings
}

// acquired is a file that a handler uses.
type acquired[S store] struct {
	store   S
	name    string       // as configured, with placeholders replaced
	release func() error // nil: there is nothing to release
}

// fileName returns the configured name of a file with its placeholders replaced.
func fileName(configured string) (string, error) {
	name, err := caddy.NewReplacer().ReplaceOrErr(configured, true, true)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	return name, nil
}

// acquire returns the file with a name, and has just read it. Handlers with the same path
// share the file, also across reloads, which keeps verified passwords cached. If release
// is not nil, the caller must call it, even after an error.
func acquire[S store](s *sources, name string, newStore func(path string) S, logger *zap.Logger) (acquired[S], error) {
	a, err := acquirePath(s, name, newStore, logger)
	if err != nil && htfile.IsTextNotPath(name) {
		err = errTextAsPath
	}
	a.name = name
	return a, err
}

func acquirePath[S store](s *sources, name string, newStore func(path string) S, logger *zap.Logger) (acquired[S], error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return acquired[S]{}, err
	}
	key := poolKey[S]{path}
	file, err := pooled(s, key, newStore)
	if err != nil {
		return acquired[S]{}, err
	}
	file.use.addHandler(1)
	release := func() error {
		file.use.addHandler(-1)
		_, err := s.pool.Delete(key)
		return err
	}
	return acquired[S]{store: file.store, release: release}, file.Reload(logger)
}

// pooled returns the file with a key from the pool. The caller must release it.
func pooled[S store](s *sources, key poolKey[S], newStore func(path string) S) (*pooledFile[S], error) {
	value, _, err := s.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		file := &pooledFile[S]{store: newStore(key.path)}
		options := s.followOptions(file.store.load)
		options.IsListed = file.use.isListed
		file.Follower = follow.New(follow.NewFile(key.path), options)
		file.store.follow(file.Follower)
		return file, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*pooledFile[S]), nil
}

// errTextAsPath is the error for a path that looks like a line of a password file.
var errTextAsPath = errors.New("value looks like the text of a password file (not shown here); expected the path of a file with this text, such as /etc/caddy/.htpasswd")

// howToCreate returns what to do if the error is a missing password file, or "". The text
// has no angle brackets, which "caddy reload" would print as \u003c and \u003e.
func (a *acquired[S]) howToCreate(err error) string {
	path, absErr := filepath.Abs(a.name)
	if absErr != nil || !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return "; create it with: caddy htpasswd -c " + shown.Argument(path) + " USER"
}
