package caddyhtpasswd

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
)

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

// eachVersion calls use with the stores of the sources, now and whenever they change, one
// call at a time. end makes the last call, without stores.
func (s *userSources) eachVersion(use func(userStores)) (end func()) {
	if s.listed == nil {
		use(s.fixed)
		return func() { use(nil) }
	}
	s.listed.eachVersion(use)
	return s.listed.endVersions
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
	use      func(userStores) // is called with each version; may be nil
	shadowed map[string]int   // as logged last

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
	if u.use != nil {
		u.use(stores)
	}
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

func (u *listedUsers) eachVersion(use func(userStores)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.use = use
	use(*u.current.Load())
}

func (u *listedUsers) endVersions() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.use(nil)
	u.use = nil
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
	shadowed := make([]int, len(s))
	seen := make(map[string]bool) // users of earlier sources
	for i, store := range s {
		users := store.current.Load().file.All
		for j := range users {
			name := users[j].Name
			switch {
			case len(s) <= fewStores: // no index is needed
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
