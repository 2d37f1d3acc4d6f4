package caddyhtpasswd

import (
	"crypto/subtle"
	"hash/maphash"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// userTable is one version of an htpasswd file as it is served: what its text
// says, and what the process has learned of each user. It is made once and swapped
// whole; only the memories in it change afterwards.
type userTable struct {
	file     *htfile.Users
	memories []userMemory // of each of file.All, by the same position
	decoys   rendezvous.Table
}

// parseUsers makes a table of the text of an htpasswd file. No password is cached
// yet, and no client is recognized.
func parseUsers(text string) (*userTable, error) {
	file, err := htfile.Parse(text)
	if err != nil {
		return nil, err
	}
	return &userTable{file, make([]userMemory, len(file.All)), newDecoyTable(file.Classes)}, nil
}

// entry is a user of a table: the user's line in the file, and the user's memory.
// The zero entry is of no user.
type entry struct {
	*htfile.User
	*userMemory
}

// exists reports whether e is the entry of a user.
func (e entry) exists() bool { return e.User != nil }

// userMemory is what the process has learned of a user: the cached password and
// the recognized clients. Both are for the hash of the user's line, and nil at
// first. There is one for every user of a file, so it must stay small.
type userMemory struct {
	verified atomic.Pointer[verification]
	clients  atomic.Pointer[recognizedClients]
}

// verification is the cached password of a user: the last one that matched.
type verification struct {
	digest digest
	at     time.Time
	user   any // the user's name, a string of its own; an any already, which spares each request an allocation
}

// recognizedClients are the clients from which the current password of a user
// was verified, the last eight of them, and the guesses at it that are open.
type recognizedClients struct {
	clients [recognizedPlaces]atomic.Uint64 // their keys
	added   atomic.Uint32
	// Comparisons with the password whose result is not counted yet, by the
	// client's place; the last one is of those without an address.
	guesses [recognizedPlaces + 1]atomic.Int32

	guard *guard // that name is a key of
	name  uint64 // kept, since all but the first requests of a user need it
}

const recognizedPlaces = 8

// nameKey returns the key of the name in a guard, 0 if it is not kept.
func (k *recognizedClients) nameKey(g *guard) uint64 {
	if k == nil || k.guard != g {
		return 0
	}
	return k.name
}

// place returns the place of a client, -1 if it is not recognized.
func (k *recognizedClients) place(client uint64) int {
	switch {
	case k == nil:
		return -1
	case client == noClient:
		return recognizedPlaces
	}
	for i := range k.clients {
		if k.clients[i].Load() == client {
			return i
		}
	}
	return -1
}

// at returns the entry at a position in the file.
func (t *userTable) at(position uint32) entry {
	return entry{&t.file.All[position], &t.memories[position]}
}

// find returns the entry of user, the zero entry if the file has no such user.
func (t *userTable) find(user []byte) entry {
	i := t.file.Index(user)
	if i < 0 {
		return entry{}
	}
	return entry{&t.file.All[i], &t.memories[i]}
}

// inherit takes over the cached passwords and recognized clients of users whose
// name and hash are the same in the old table.
func (t *userTable) inherit(old *userTable) {
	for i := range old.memories {
		v, clients := old.memories[i].verified.Load(), old.memories[i].clients.Load()
		if v == nil && clients == nil {
			continue
		}
		before := old.at(uint32(i))
		if e := t.find([]byte(before.Name)); e.exists() && e.sameAs(before) {
			e.verified.CompareAndSwap(nil, v)
			e.clients.CompareAndSwap(nil, clients)
		}
	}
}

// sameAs reports whether e is still what other is: a password that is right
// for the one is right for the other.
func (e entry) sameAs(other entry) bool {
	return e.State == htfile.StateUsable && other.State == htfile.StateUsable && e.Hash == other.Hash
}

// is reports whether sum is of the password that matched.
func (v *verification) is(sum *digest) bool {
	return subtle.ConstantTimeCompare(v.digest[:], sum[:]) == 1
}

// recognized returns the clients from which the current password was verified,
// nil for none. An unknown user has none.
func (m *userMemory) recognized() *recognizedClients {
	if m == nil {
		return nil
	}
	return m.clients.Load()
}

// recognize notes that a client has verified the current password.
func (m *userMemory) recognize(client uint64, g *guard, name uint64) {
	recognized := m.clients.Load()
	if recognized == nil {
		recognized = &recognizedClients{guard: g, name: name}
		if !m.clients.CompareAndSwap(nil, recognized) {
			recognized = m.clients.Load()
		}
	}
	if recognized.place(client) < 0 {
		recognized.clients[(recognized.added.Add(1)-1)%recognizedPlaces].Store(client)
	}
}

// cache caches the password that matched.
func (e entry) cache(sum *digest, at time.Time) {
	e.verified.Store(&verification{*sum, at, strings.Clone(e.Name)})
}

// userStore is the live user table of one file: the version that was loaded last.
type userStore struct {
	path    string
	key     uint64 // tells this file's users from those of others, in this process
	name    sourceName
	current atomic.Pointer[userTable]
	followed
}

func newUserStore(path string) *userStore {
	s := &userStore{path: path, key: maphash.String(storeSeed, path)}
	s.name.init(path)
	return s
}

// storeSeed is for the keys of files.
var storeSeed = maphash.MakeSeed()

// load parses text and swaps the table in. After an error the previous version
// stays active.
func (s *userStore) load(text string, logger *zap.Logger) error {
	next, err := parseUsers(text)
	if err != nil {
		return err
	}
	old := s.current.Load()
	if old != nil {
		next.inherit(old)
	}
	s.current.Store(next)
	if old != nil {
		next.inherit(old) // what was verified in the meantime
	}
	logFindings(&next.file.Findings, logger, s.path, "invalid line skipped; its user cannot log in")
	next.warnOfWeak(logger, s.path, old)
	next.warnOfNobody(logger, s.path)
	return nil
}

// warnOfWeak says how many users have a weak hash, unless that was said of the
// previous version already.
func (t *userTable) warnOfWeak(logger *zap.Logger, path string, previous *userTable) {
	weak, before := t.file.WeakByFormat(), map[string]int(nil)
	if previous != nil {
		before = previous.file.WeakByFormat()
	}
	if len(weak) > 0 && !maps.Equal(weak, before) {
		logger.Warn("file contains weak password hashes; reset these passwords with: caddy htpasswd",
			zap.String("file", path), zap.Any("entries", weak))
	}
}

// warnOfNobody warns of a version with which nobody can log in.
func (t *userTable) warnOfNobody(logger *zap.Logger, path string) {
	switch {
	case len(t.file.All) == 0:
		logger.Warn("file contains no users", zap.String("file", path))
	case len(t.file.Classes) == 0:
		logger.Warn("no user in the file can log in", zap.String("file", path))
	}
}
