package caddyhtpasswd

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// fileList is a pattern in the pool of sources: the files that match it now. Handlers with
// the same pattern share it, and a file belongs to all lists and handlers that use it.
type fileList struct {
	*follow.Follower
	pattern *follow.Pattern
	sources *sources

	mu        sync.Mutex
	files     []listedFile // in the order of their paths
	observers []listObserver

	current atomic.Pointer[userStores] // of files
}

// listObserver takes over the files of a list. It must be comparable.
type listObserver interface{ update() }

// listKey is the key of a pattern in the pool. The pattern as configured is part of it,
// because the names of its files begin with it.
type listKey struct{ configured, absolute string }

// listedFile is a file of a list.
type listedFile struct {
	match follow.Match
	key   poolKey[*userStore]
	file  *pooledFile[*userStore]
}

// acquireList returns the list of a pattern, and has just read all its files. The caller
// must release it if release is not nil.
func (s *sources) acquireList(pattern string, logger *zap.Logger) (list *fileList, release func() error, err error) {
	source, err := follow.NewPattern(pattern)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", shown.Text(pattern), err)
	}
	key := listKey{pattern, source.Name()}
	value, isShared, err := s.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		l := &fileList{pattern: source, sources: s}
		l.Follower = follow.New(source, follow.Options{Load: l.load, LogsChanges: true, Settings: s.followSettings})
		return l, nil
	})
	if err != nil {
		return nil, nil, err
	}
	list = value.(*fileList)
	release = func() error { _, err := s.pool.Delete(key); return err }
	if err := list.Reload(logger); err != nil || !isShared {
		return list, release, err
	}
	return list, release, list.reloadFiles(logger)
}

// follower implements pooledList.
func (l *fileList) follower() *follow.Follower { return l.Follower }

// stores returns the stores of the files, in the order of their paths.
func (l *fileList) stores() userStores { return *l.current.Load() }

// load takes over a new list of files. Until the first one is complete, a file that cannot
// be loaded is an error, because a configuration must not start with it. Later, such a
// file has no users until it is fixed.
func (l *fileList) load(text string, logger *zap.Logger) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	matches := l.pattern.Matches(text)
	isFirst := l.current.Load() == nil
	files := make([]listedFile, 0, len(matches))
	var added []listedFile
	for _, match := range matches {
		i, isKnown := l.index(match)
		if isKnown {
			files = append(files, l.files[i])
			continue
		}
		f, err := l.add(match, isFirst, logger)
		added = append(added, f)
		if err != nil {
			l.drop(added)
			return err
		}
		files = append(files, f)
	}
	var removed []listedFile
	for _, f := range l.files {
		if !slices.ContainsFunc(matches, func(m follow.Match) bool { return m == f.match }) {
			removed = append(removed, f)
		}
	}
	inheritRenamed(added, removed)
	stores := make(userStores, 0, len(files))
	for _, f := range files {
		stores = append(stores, f.file.store)
	}
	l.files = files
	l.current.Store(&stores)
	for _, o := range l.observers {
		o.update()
	}
	l.drop(removed)
	if !isFirst {
		logger.Info("files of the pattern changed", zap.String("file", l.Name()), zap.Int("files", len(files)),
			zap.Strings("added", namesOf(added)), zap.Strings("removed", namesOf(removed)))
	}
	return nil
}

// index returns the position of a match in the current list.
func (l *fileList) index(match follow.Match) (int, bool) {
	return slices.BinarySearchFunc(l.files, match, func(f listedFile, m follow.Match) int {
		return strings.Compare(f.match.Path, m.Path)
	})
}

// add adds a file to the list. If isStrict, it must be valid. Otherwise it is empty until
// its first version is loaded.
func (l *fileList) add(match follow.Match, isStrict bool, logger *zap.Logger) (listedFile, error) {
	f := listedFile{match: match, key: poolKey[*userStore]{match.Path}}
	var err error
	if f.file, err = pooled(l.sources, f.key, newUserStore); err != nil {
		return f, err
	}
	f.file.use.join(l.Follower)
	f.file.store.name.add(match.Name)
	if isStrict {
		return f, f.file.Reload(logger)
	}
	f.file.store.beginEmpty()
	f.file.Follow()
	return f, nil
}

// drop releases files that are no longer in the list.
func (l *fileList) drop(files []listedFile) {
	for _, f := range files {
		if f.file == nil {
			continue
		}
		f.file.store.name.remove(f.match.Name)
		_, _ = l.sources.pool.Delete(f.key)
		f.file.use.leave(l.Follower) // after its follower has ended, which would report the file as missing
	}
}

// inheritRenamed passes on the cached passwords and recognized clients of users whose
// lines are unchanged in a file of another name.
func inheritRenamed(added, removed []listedFile) {
	for _, f := range added {
		users := f.file.store.current.Load()
		for _, old := range removed {
			users.inherit(old.file.store.current.Load())
		}
	}
}

// namesOf returns the names of the first ten files, for the log.
func namesOf(files []listedFile) []string {
	names := make([]string, 0, min(len(files), 10))
	for _, f := range files[:min(len(files), 10)] {
		names = append(names, f.match.Name)
	}
	return names
}

// parallelReloads is how many files of a list are read at the same time. A file that has
// just changed takes SettleTime.
const parallelReloads = 64

// reloadFiles reads all files again. It returns the error of the first one that cannot be
// loaded and still matches.
func (l *fileList) reloadFiles(logger *zap.Logger) error {
	l.mu.Lock()
	files := slices.Clone(l.files)
	l.mu.Unlock()
	errs := make([]error, len(files))
	var reloads sync.WaitGroup
	slots := make(chan struct{}, parallelReloads)
	for i, f := range files {
		reloads.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = f.file.Reload(logger)
		})
	}
	reloads.Wait()
	for i, err := range errs {
		isListed := true
		if errors.Is(err, fs.ErrNotExist) { // removed since it was listed
			if err := l.Reload(logger); err != nil {
				return err
			}
			l.mu.Lock()
			_, isListed = l.index(files[i].match)
			l.mu.Unlock()
		}
		if err != nil && isListed {
			return err
		}
	}
	return nil
}

func (l *fileList) addObserver(o listObserver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.observers = append(l.observers, o)
}

func (l *fileList) removeObserver(o listObserver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.observers = slices.DeleteFunc(l.observers, func(other listObserver) bool { return other == o })
}

// Destruct stops following the pattern and releases its files. It implements
// caddy.Destructor.
func (l *fileList) Destruct() error {
	err := l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(l.files)
	l.files = nil
	return err
}
