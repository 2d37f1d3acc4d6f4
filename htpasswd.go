package caddyhtpasswd

import (
	"crypto/subtle"
	"hash/maphash"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// userTable is one version of an htpasswd file: the users in its text, and what the
// process has learned about each user. A new version replaces the whole table. Only the
// memories in a table change.
type userTable struct {
	file     *htfile.Users
	memories []userMemory // of the users in file.All, at the same positions
	decoys   rendezvous.Table
	rehash   []uint8 // for each of file.Classes: see rehashFrom
}

// parseUsers makes a table from the text of an htpasswd file, without cached passwords
// and recognized clients.
func parseUsers(text string) (*userTable, error) {
	file, err := htfile.Parse(text)
	if err != nil {
		return nil, err
	}
	return &userTable{file, make([]userMemory, len(file.All)), newDecoyTable(file.Classes), rehashCosts(file.Classes)}, nil
}

// entry is a user in a table: the user's line in the file, and the user's memory. The
// zero entry has no user.
type entry struct {
	*htfile.User
	*userMemory
}

// exists reports whether e has a user.
func (e entry) exists() bool { return e.User != nil }

// userMemory is what the process has learned about a user: the cached password and the
// recognized clients. Both belong to the hash of the user's line, and are nil at first.
// Every user of a file has a userMemory, so it must stay small.
type userMemory struct {
	verified atomic.Pointer[verification]
	clients  atomic.Pointer[recognizedClients]
}

// verification is the cached password of a user: the last password that matched.
type verification struct {
	digest digest
	at     time.Time
	user   any // the user name, a string; stored as any, which saves each request an allocation
}

// recognizedClients holds the last eight clients that have verified the current
// password of a user, and the open guesses at this password.
type recognizedClients struct {
	clients [recognizedPlaces]atomic.Uint64 // their keys
	added   atomic.Uint32
	// The number of comparisons whose result is not yet counted, by the place of the
	// client. The last place is for clients without an address.
	guesses [recognizedPlaces + 1]atomic.Int32

	name atomic.Pointer[keptName] // never nil

	rehash  rehashClaim // of the user
	devices deviceMemories
}

const recognizedPlaces = 8

// keptName is the key of a user name, kept because most requests need it, and the keyer
// that has made it and the keys of all recognized clients.
type keptName struct {
	keyer *keyer
	key   uint64

	// What else the key is made of can change only with a shared keyer: the names of
	// files are configured, and a hash that replaces a weak one inherits the clients.
	source uint64
	hash   string
}

// nameKey returns the key of the user name that l was looked up with, or 0 if the key is
// not kept.
func (k *recognizedClients) nameKey(keyer *keyer, l *lookup) uint64 {
	if k == nil {
		return 0
	}
	kept := k.name.Load()
	if kept.keyer != keyer || keyer.isShared() && (kept.source != keyer.source(l.store) || kept.hash != l.entry.Hash) {
		return 0
	}
	return kept.key
}

// keepName replaces the key of the user name, unless it belongs to another keyer.
func (k *recognizedClients) keepName(keyer *keyer, l *lookup, key uint64) {
	if k == nil {
		return
	}
	if before := k.name.Load(); before.keyer == keyer {
		k.name.CompareAndSwap(before, l.entry.keptName(keyer, keyer.source(l.store), key))
	}
}

// place returns the place of a client, or -1 if the client is not recognized. The keys of
// another keyer are those of unknown clients.
func (k *recognizedClients) place(keyer *keyer, client uint64) int {
	switch {
	case k == nil || k.name.Load().keyer != keyer:
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

// find returns the entry of a user, or the zero entry if the user is not in the file.
func (t *userTable) find(user []byte) entry {
	i := t.file.Index(user)
	if i < 0 {
		return entry{}
	}
	return entry{&t.file.All[i], &t.memories[i]}
}

// inherit copies the cached passwords and recognized clients of users who have the same
// name and hash in the old table.
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

// sameAs reports whether the same password is right for e and for other.
func (e entry) sameAs(other entry) bool {
	return e.State == htfile.StateUsable && other.State == htfile.StateUsable && e.Hash == other.Hash
}

// is reports whether sum is the digest of the cached password.
func (v *verification) is(sum *digest) bool {
	return subtle.ConstantTimeCompare(v.digest[:], sum[:]) == 1
}

// recognized returns the clients that have verified the current password, or nil. An
// unknown user has none.
func (m *userMemory) recognized() *recognizedClients {
	if m == nil {
		return nil
	}
	return m.clients.Load()
}

// recognize records that a client has verified the current password. It reports whether the
// client was not recognized before. name is the key of the user name, by a keyer with that
// source.
func (e entry) recognize(client uint64, keyer *keyer, source, name uint64) (isNew bool) {
	recognized := e.clients.Load()
	if recognized == nil {
		recognized = new(recognizedClients)
		recognized.name.Store(e.keptName(keyer, source, name))
		if !e.clients.CompareAndSwap(nil, recognized) {
			recognized = e.clients.Load()
		}
	}
	if recognized.name.Load().keyer != keyer { // a reload has begun or ended the use of a fleet
		for i := range recognized.clients {
			recognized.clients[i].Store(noClient)
		}
		recognized.name.Store(e.keptName(keyer, source, name))
	}
	if isNew = recognized.place(keyer, client) < 0; isNew {
		recognized.clients[(recognized.added.Add(1)-1)%recognizedPlaces].Store(client)
	}
	return isNew
}

func (e entry) keptName(keyer *keyer, source, key uint64) *keptName {
	return &keptName{keyer, key, source, strings.Clone(e.Hash)}
}

// cache caches a password that has matched.
func (e entry) cache(sum *digest, at time.Time) {
	e.verified.Store(&verification{*sum, at, strings.Clone(e.Name)})
}

// userStore holds the users of one file, or of a text in the configuration, in the version
// that was loaded last.
type userStore struct {
	path    string // of the file, its URL, or the label of the text
	isText  bool   // there is no file
	key     uint64 // distinguishes the users of this file from those of others
	name    sourceName
	current atomic.Pointer[userTable]
	pending replacements
	rehash  storeRehash
	followed
}

func newUserStore(path string) *userStore {
	s := &userStore{path: path, key: maphash.String(storeSeed, path)}
	s.name.init(path)
	return s
}

// storeSeed is the seed of the keys of files.
var storeSeed = maphash.MakeSeed()

// target returns where a change of the users is written to, or false if they are a text in
// the configuration, which cannot be written.
func (s *userStore) target() (target htedit.Target, ok bool) {
	switch {
	case s.isText:
		return nil, false
	case s.mirror != nil:
		return s.mirror, true
	}
	return htedit.File(s.path), true
}

// beginEmpty makes the store empty until its first version is loaded.
func (s *userStore) beginEmpty() {
	if s.current.Load() == nil {
		empty, _ := parseUsers("") // no error: an empty file is valid
		s.current.CompareAndSwap(nil, empty)
	}
}

// load parses a new version of the file and makes it the active one. After an error,
// the previous version stays active.
func (s *userStore) load(text string, logger *zap.Logger) error {
	next, err := parseUsers(text)
	if err != nil {
		return err
	}
	old := s.current.Load()
	if old != nil {
		s.inherit(next, old)
	}
	s.current.Store(next)
	if old != nil {
		s.inherit(next, old) // what was verified since the first call
	}
	s.pending.loaded(next)
	s.rehash.retry()
	logFindings(&next.file.Findings, logger, s.path, "invalid line skipped; its user cannot log in")
	if !s.rehash.isUsed() || !next.isAsStrongAs(old) { // rehash writes many versions, each stronger than the previous one
		next.warnOfWeak(logger, s.path, old)
	}
	if s.mirror == nil || !s.mirror.IsAbsent() { // otherwise the mirror warns
		next.warnOfNobody(logger, s.path)
	}
	return nil
}

// inherit copies what next may inherit from the previous version.
func (s *userStore) inherit(next, old *userTable) {
	next.inherit(old)
	s.pending.apply(old, next)
}

// isAsStrongAs reports whether no format has more weak hashes than in the previous version.
func (t *userTable) isAsStrongAs(previous *userTable) bool {
	if previous == nil {
		return false
	}
	before := previous.file.WeakByFormat()
	for format, n := range t.file.WeakByFormat() {
		if n > before[format] {
			return false
		}
	}
	return true
}

// warnOfWeak warns about users with a weak hash, unless the previous version has had
// the same number of them.
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

// warnOfNobody warns about a version with which no user can log in.
func (t *userTable) warnOfNobody(logger *zap.Logger, path string) {
	switch {
	case len(t.file.All) == 0:
		logger.Warn("file contains no users", zap.String("file", path))
	case len(t.file.Classes) == 0:
		logger.Warn("no user in the file can log in", zap.String("file", path))
	}
}
