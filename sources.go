package caddyhtpasswd

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// sources holds the followed files of all configurations, running or about to.
type sources struct {
	pool   *caddy.UsagePool
	active *activeSettings
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
func (s *sources) followSettings() (follow.Settings, <-chan struct{}) {
	active, changed := s.active.watch()
	return follow.Settings{Poll: active.poll, Logger: active.logger}, changed
}

// followOptions returns the options of what is followed, whatever its source is.
func (s *sources) followOptions(load func(text string, logger *zap.Logger) error) follow.Options {
	return follow.Options{
		Load:     load,
		IsEmpty:  func(text string) bool { return !htfile.HasLines(text) },
		Settings: s.followSettings,
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

// inUse returns all files that were loaded, by path and kind.
func (s *sources) inUse() []fileInUse {
	var files []fileInUse
	s.pool.Range(func(_, value any) bool {
		var f fileInUse
		// The status comes first: a file that is loaded according to it is.
		switch file := value.(type) {
		case *pooledFile[*userStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.store, f.users = file.store, file.store.current.Load()
				files = append(files, f)
			}
		case *pooledFile[*groupStore]:
			if f.Follower = file.Follower; f.isLoaded() {
				f.groups = file.store.current.Load()
				files = append(files, f)
			}
		}
		return true
	})
	slices.SortFunc(files, func(a, b fileInUse) int {
		return cmp.Or(strings.Compare(a.Name(), b.Name()), strings.Compare(a.kind(), b.kind()))
	})
	return files
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

// acquired is a file in use by a handler.
type acquired[S store] struct {
	store S
	name  string // as configured, with placeholders replaced
	key   any    // to release it with
}

// acquire returns the file of a name in the configuration, read a moment ago.
// Handlers that name the same path share one, across reloads too: that is how
// verified passwords outlive them. Unless key is nil, the file must be released,
// also after an error.
func acquire[S store](s *sources, name string, newStore func(path string) S, logger *zap.Logger) (acquired[S], error) {
	name, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
	if err != nil {
		return acquired[S]{}, err
	}
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
	value, _, err := s.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		store := newStore(path)
		file := follow.New(follow.NewFile(path), s.followOptions(store.load))
		store.follow(file)
		return &pooledFile[S]{file, store}, nil
	})
	if err != nil {
		return acquired[S]{}, err
	}
	file := value.(*pooledFile[S])
	return acquired[S]{store: file.store, key: key}, file.Reload(logger)
}

// errTextAsPath is for a value of 'file' that must not be shown.
var errTextAsPath = errors.New("value looks like the text of a password file (not shown here); expected the path of a file with that text, such as /etc/caddy/.htpasswd")

// howToCreate says what to do about a password file that does not exist.
func howToCreate(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "; create it with: caddy htpasswd -c <file> <user>"
	}
	return ""
}
