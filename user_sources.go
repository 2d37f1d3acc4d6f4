package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// Source is where users come from: exactly one of its settings.
type Source struct {
	// The path of an htpasswd file, as in `files`, or a pattern for several paths.
	File string `json:"file,omitempty"`

	// The text of an htpasswd file, or one global placeholder that stands for it, such
	// as `{env.HTPASSWD}`. This module shows it nowhere. A literal text is part of the
	// configuration, which Caddy's admin API and its debug log show.
	Users string `json:"users,omitempty"`
}

// sourceList returns the sources of users in their order.
func (h *Handler) sourceList() []Source {
	if len(h.Files) == 0 {
		return h.Sources
	}
	list := make([]Source, len(h.Files))
	for i, file := range h.Files {
		list[i].File = file
	}
	return list
}

// validateSources ensures that there are sources, each with one setting. Names of files
// are checked when they are loaded.
func (h *Handler) validateSources() error {
	switch {
	case len(h.Files) > 0 && len(h.Sources) > 0:
		return errors.New("sources: expected either files or sources, found both; write each file as {\"file\": \"<path>\"} in sources")
	case len(h.Files)+len(h.Sources) == 0:
		return errors.New("files: expected at least one password file, found none; write files, or sources with a file or the text of users")
	}
	for i, s := range h.Sources {
		if s.File == "" && s.Users == "" {
			return fmt.Errorf("sources: expected a file or users in entry %d, found neither", i+1)
		}
		if s.File != "" && s.Users != "" {
			return fmt.Errorf("sources: expected either a file or users in entry %d, found both", i+1)
		}
	}
	return nil
}

// sourceNames returns the names of the sources for messages, without any text of users.
func sourceNames(list []Source) []string {
	names := make([]string, 0, len(list))
	for _, s := range list {
		if s.File != "" {
			names = append(names, s.File)
		} else {
			names = append(names, placeholderOr(s.Users, textLabel))
		}
	}
	return names
}

// userSources are the sources of one handler.
type userSources struct {
	fixed  userStores   // if no source is a pattern
	listed *listedUsers // otherwise; nil without a pattern
}

// now returns the stores of the sources, in order of precedence.
func (s *userSources) now() userStores {
	if s.listed == nil {
		return s.fixed
	}
	return *s.listed.current.Load()
}

// await waits until patterns and files that have changed are read.
func (s *userSources) await(ctx context.Context) {
	if s.listed != nil {
		s.listed.await(ctx)
		return
	}
	awaitCurrent(ctx, s.fixed)
}

// listedUsers are the stores of a handler with patterns. They change as files appear and
// disappear.
type listedUsers struct {
	parts   []userPart
	logger  *zap.Logger
	current atomic.Pointer[userStores]

	mu       sync.Mutex
	shadowed map[string]int // as logged last

	awaitMu sync.Mutex
	next    *awaitRound // the round that callers of await can join; nil: none
	running bool
}

// userPart is one source: a store, or a pattern.
type userPart struct {
	store *userStore
	list  *fileList
}

// update takes over the current files of the patterns.
func (u *listedUsers) update() {
	u.mu.Lock()
	defer u.mu.Unlock()
	var stores userStores
	for _, p := range u.parts {
		if p.store != nil {
			stores = append(stores, p.store)
			continue
		}
		for _, s := range p.list.stores() {
			if !slices.Contains(stores, s) { // two patterns can match one file
				stores = append(stores, s)
			}
		}
	}
	u.current.Store(&stores)
	u.shadowed = stores.warnOfShadowed(u.logger, u.shadowed)
}

// observe begins to take over the files of the patterns.
func (u *listedUsers) observe() {
	for _, p := range u.parts {
		if p.list != nil {
			p.list.addObserver(u)
		}
	}
	u.update()
}

// close ends what observe has begun.
func (u *listedUsers) close() {
	for _, p := range u.parts {
		if p.list != nil {
			p.list.removeObserver(u)
		}
	}
}

// awaitRound is one wait for all sources, which several logins share.
type awaitRound struct{ done chan struct{} }

// await waits until the patterns and then their files are read, if they have changed.
// Logins that wait at the same time share the work, because there can be many files. The
// wait is bounded as that of Follower.Await.
func (u *listedUsers) await(ctx context.Context) {
	u.awaitMu.Lock()
	round := u.next
	if round == nil {
		round = &awaitRound{make(chan struct{})}
		u.next = round
	}
	if !u.running {
		u.running = true
		go u.runRounds()
	}
	u.awaitMu.Unlock()
	select {
	case <-round.done:
	case <-ctx.Done():
	}
}

// runRounds runs rounds until nobody waits. A login joins a round that has not begun.
func (u *listedUsers) runRounds() {
	for {
		u.awaitMu.Lock()
		round := u.next
		u.next, u.running = nil, round != nil
		u.awaitMu.Unlock()
		if round == nil {
			return
		}
		var waits sync.WaitGroup
		for _, p := range u.parts {
			if p.list != nil {
				waits.Go(func() { p.list.Await(context.Background()) })
			}
		}
		waits.Wait()
		for _, store := range *u.current.Load() {
			waits.Go(func() { store.awaitCurrent(context.Background()) })
		}
		waits.Wait()
		close(round.done)
	}
}

// warnOfShadowed warns about users who are already in an earlier source, unless the number
// is as known. It returns the numbers by the path of the source.
func (s userStores) warnOfShadowed(logger *zap.Logger, known map[string]int) map[string]int {
	numbers := make(map[string]int)
	for i, n := range s.shadowed() {
		path := s[i].path
		if numbers[path] = n; n > 0 && n != known[path] {
			logger.Warn("users already defined in an earlier file; those entries take precedence",
				zap.String("file", path), zap.Int("users", n))
		}
	}
	return numbers
}

// shadowed returns how many users of each source are already in an earlier one.
func (s userStores) shadowed() []int {
	const few = 4 // sources, for which no index is needed
	shadowed := make([]int, len(s))
	seen := make(map[string]bool) // users of earlier sources
	for i, store := range s {
		users := store.current.Load().file.All
		for j := range users {
			name := users[j].Name
			switch {
			case len(s) <= few:
				if s[:i].has(name) {
					shadowed[i]++
				}
			case seen[name]:
				shadowed[i]++
			default:
				seen[name] = true
			}
		}
	}
	return shadowed
}

// has reports whether any source has the user.
func (s userStores) has(user string) bool {
	return slices.ContainsFunc(s, func(store *userStore) bool { return store.current.Load().file.Find(user) != nil })
}

// provisionSources loads all sources of users and all group files, including those that
// are already in use: a reload of the configuration must not accept a broken file. label
// returns the label of a text of users.
func (h *Handler) provisionSources(label func(text string) string) error {
	var parts []userPart
	hasList := false
	for _, source := range h.sourceList() {
		part, err := h.provisionSource(source, label)
		if err != nil {
			return err
		}
		if part.list != nil {
			hasList = true
		} else {
			h.users.fixed = append(h.users.fixed, part.store)
		}
		parts = append(parts, part)
	}
	if hasList {
		h.users.listed = &listedUsers{parts: parts, logger: h.logger}
		h.users.listed.observe()
		h.toRelease(func() error { h.users.listed.close(); return nil })
	} else {
		h.users.fixed.warnOfShadowed(h.logger, nil)
	}
	for _, configured := range h.GroupFiles {
		store, err := h.provisionGroups(configured)
		if err != nil {
			return fmt.Errorf("group_file %w", err)
		}
		h.groups = append(h.groups, store)
	}
	return nil
}

func (h *Handler) provisionSource(source Source, label func(text string) string) (userPart, error) {
	s := &h.shared.sources
	if source.Users != "" {
		text, err := usersText(source.Users)
		if err != nil {
			return userPart{}, fmt.Errorf("users: %w", err)
		}
		a, err := s.acquireText(label(source.Users), text, h.logger)
		return userPart{store: a.store}, h.took(&a, err)
	}
	name, err := fileName(source.File)
	if err != nil {
		return userPart{}, fmt.Errorf("file %w", err)
	}
	if follow.IsPattern(name) && !htfile.IsTextNotPath(name) {
		list, release, err := s.acquireList(name, h.logger)
		h.toRelease(release)
		if err != nil {
			return userPart{}, fmt.Errorf("file %w", err)
		}
		return userPart{list: list}, nil
	}
	a, err := acquire(s, name, newUserStore, h.logger)
	switch {
	case errors.Is(err, errTextAsPath):
		err = fmt.Errorf("file %w; for the text itself, write 'users' instead of 'file'", err)
	case err != nil:
		err = fmt.Errorf("file %w%s", err, a.howToCreate(err))
	}
	return userPart{store: a.store}, h.took(&a, err)
}

// took records a source that Cleanup has to release. If it was loaded without an error, it
// counts for the choice of decoys by its configured name.
func (h *Handler) took(a *acquired[*userStore], err error) error {
	h.toRelease(a.release)
	if err == nil {
		store, name := a.store, a.name
		store.name.add(name)
		h.toRelease(func() error { store.name.remove(name); return nil })
	}
	return err
}

func (h *Handler) provisionGroups(configured string) (*groupStore, error) {
	name, err := fileName(configured)
	if err != nil {
		return nil, err
	}
	file, err := acquire(&h.shared.sources, name, newGroupStore, h.logger)
	h.toRelease(file.release)
	if errors.Is(err, fs.ErrNotExist) && follow.IsPattern(name) {
		err = fmt.Errorf("%w; expected the path of one file: patterns such as *.groups are for 'file' only", err)
	}
	return file.store, err
}

// toRelease records what Cleanup has to release.
func (h *Handler) toRelease(release func() error) {
	if release != nil {
		h.releases = append(h.releases, release)
	}
}
