package caddyhtpasswd

import (
	"crypto/subtle"
	"fmt"
	"hash/maphash"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// maxUserLen is how many bytes a user name can have, as for Apache's htpasswd.
const maxUserLen = 255

// minLineLen is how many bytes a line of a user has at least: enough to tell
// how many there can be in a file that is full of line ends.
const minLineLen = 32

// userTable is one version of an htpasswd file. It is parsed once and swapped
// whole; all that changes in it afterwards is what its entries remember.
type userTable struct {
	index   map[string]uint32 // position in entries
	entries []entry
	classes []hashClass
	decoys  rendezvous.Table
	findings
}

// entry is one user's line. Its strings are parts of the text of the file.
type entry struct {
	user     string
	hash     string
	class    uint32 // position in classes; without meaning unless usable
	state    entryState
	verified atomic.Pointer[verification]
	clients  atomic.Pointer[recognizedClients]
}

// entryState says whether an entry can match at all. One that can't stays in
// the table all the same: its user is denied, whatever stands further down.
type entryState uint8

const (
	bad entryState = iota
	locked
	usable
)

// hashClass is a class of hashes that cost the same, how many entries have
// it, and the position of one of them.
type hashClass struct {
	crypt.Class
	count  int
	sample uint32
}

// verification is what an entry remembers of the last password that matched it.
type verification struct {
	digest digest
	at     time.Time
	user   any // the user's name, a string of its own; an any already, which spares each request an allocation
}

// recognizedClients are the clients from which the current password of an entry
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

// userLine is what one line of an htpasswd file says.
type userLine struct {
	number     int
	user, hash string
	problem    string // why it is a bad line
	duplicate  bool   // an earlier line decides
	state      entryState
	class      crypt.Class
}

// parseUsers reads an htpasswd file. Lines are "user:hash" or
// "user:hash:comment"; the first line of a user decides. A bad line is noted,
// and its user, where it names one, denied. A file with lines none of which
// is good is an error.
func parseUsers(text string) (*userTable, error) {
	return parseUserLines(text, func(*userLine) {})
}

// parseUserLines is parseUsers for who wants to see each line, too.
func parseUserLines(text string, see func(*userLine)) (*userTable, error) {
	n := min(strings.Count(text, "\n")+1, len(text)/minLineLen+1)
	t := &userTable{index: make(map[string]uint32, n), entries: make([]entry, 0, n)}
	classes := make(map[crypt.Class]uint32)
	var l userLine // one for all lines: it would be allocated anew for each
	for number, text := range lines(text) {
		l = userLine{number: number}
		l.user, l.hash, l.problem = splitUserLine(text)
		_, l.duplicate = t.index[l.user]
		if l.problem == "" && !l.duplicate {
			l.judge()
		}
		t.add(&l, classes)
		see(&l)
	}
	t.decoys = newDecoyTable(t.classes)
	return t, t.verdict("user:hash")
}

// judge says what the hash is.
func (l *userLine) judge() {
	if isLocked(l.hash) {
		l.state = locked
		return
	}
	class, err := crypt.Parse(l.hash)
	if err != nil {
		l.problem = err.Error() + hintAt(l.hash)
		return
	}
	l.state, l.class = usable, class
}

// add makes a line an entry, if it is the first one of its user.
func (t *userTable) add(l *userLine, classes map[crypt.Class]uint32) {
	if l.problem != "" {
		t.badLine(l.number, l.problem)
	}
	if l.user == "" {
		return
	}
	if l.duplicate {
		t.duplicate(l.number)
		return
	}
	position := uint32(len(t.entries)) //nolint:gosec // a file of the largest size has fewer lines
	t.index[l.user] = position
	t.entries = append(t.entries, entry{user: l.user, hash: l.hash, state: l.state})
	switch l.state {
	case locked:
		if l.hash != "" { // a text that is no htpasswd file at all can have a colon at the end of a line
			t.good++
		}
	case usable:
		t.good++
		t.entries[position].class = t.classify(classes, l.class, position)
	case bad:
	}
}

// splitUserLine takes a line apart. Where there is a problem, user is whom
// the line means, and "" if that can't be told or can't be a user's name.
func splitUserLine(line string) (user, hash, problem string) {
	user, rest, found := strings.Cut(line, ":")
	switch {
	case user == "":
		return "", "", "no user name before the colon"
	case len(user) > maxUserLen:
		return "", "", fmt.Sprintf("user name longer than %d bytes", maxUserLen)
	case hasControl(user):
		return "", "", "control character in the user name"
	case user[len(user)-1] == ' ':
		return user, "", "blank at the end of the user name" // a header field would lose it, and mean another user
	case !found:
		return user, "", "no colon between user name and hash"
	case len(line) > maxLineLen:
		return user, "", fmt.Sprintf("longer than %d bytes", maxLineLen)
	}
	hash, _, _ = strings.Cut(rest, ":")
	return user, strings.Trim(hash, blanks), ""
}

// isLocked reports whether hash is one of the marks of an account without
// log-in, as in /etc/shadow: "*", "!", "!!", "x", nothing, a hash behind "!".
// It is strict: a text that is no htpasswd file must not pass for one.
func isLocked(hash string) bool {
	switch rest := strings.TrimLeft(hash, "!"); rest {
	case "", "*", "*LK*", "*NP*":
		return true
	case hash:
		return hash == "x"
	default:
		_, err := crypt.Parse(rest)
		return err == nil
	}
}

// classify counts an entry to its class and returns the position of the class.
func (t *userTable) classify(known map[crypt.Class]uint32, class crypt.Class, entry uint32) uint32 {
	i, ok := known[class]
	if !ok {
		i = uint32(len(t.classes)) //nolint:gosec // at most one for each entry
		known[class] = i
		t.classes = append(t.classes, hashClass{Class: class, sample: entry})
	}
	t.classes[i].count++
	return i
}

// find returns the entry of user, or nil.
func (t *userTable) find(user []byte) *entry {
	if i, ok := t.index[string(user)]; ok {
		return &t.entries[i]
	}
	return nil
}

// inherit takes over what entries of old remember, where user and hash are
// still the same.
func (t *userTable) inherit(old *userTable) {
	for i := range old.entries {
		e := &old.entries[i]
		v, clients := e.verified.Load(), e.clients.Load()
		if v == nil && clients == nil {
			continue
		}
		if j, ok := t.index[e.user]; ok && t.entries[j].sameAs(e) {
			t.entries[j].verified.CompareAndSwap(nil, v)
			t.entries[j].clients.CompareAndSwap(nil, clients)
		}
	}
}

// sameAs reports whether e is still what other is: a password that is right
// for the one is right for the other.
func (e *entry) sameAs(other *entry) bool {
	return e.state == usable && other.state == usable && e.hash == other.hash
}

// is reports whether sum is of the password that matched.
func (v *verification) is(sum *digest) bool {
	return subtle.ConstantTimeCompare(v.digest[:], sum[:]) == 1
}

// recognized returns the clients from which the current password was verified,
// nil for none.
func (e *entry) recognized() *recognizedClients {
	if e == nil {
		return nil
	}
	return e.clients.Load()
}

// recognize notes that a client has verified the current password.
func (e *entry) recognize(client uint64, g *guard, name uint64) {
	known := e.clients.Load()
	if known == nil {
		known = &recognizedClients{guard: g, name: name}
		if !e.clients.CompareAndSwap(nil, known) {
			known = e.clients.Load()
		}
	}
	if known.place(client) < 0 {
		known.clients[(known.added.Add(1)-1)%recognizedPlaces].Store(client)
	}
}

// cache caches the current password.
func (e *entry) cache(sum *digest, at time.Time) {
	e.verified.Store(&verification{*sum, at, strings.Clone(e.user)})
}

// userStore is the live user table of one file: its last good version.
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

// load parses text and swaps it in. After an error the old version stays.
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
	next.log(logger, s.path, "bad line skipped; whom it names is denied")
	next.warnOfWeak(logger, s.path, old)
	next.warnOfNobody(logger, s.path)
	return nil
}

// count returns how many users can log in, and how many of them by a hash that
// is quickly undone.
func (t *userTable) count() (users, weak int) {
	for _, c := range t.classes {
		users += c.count
		if c.Format.Weak {
			weak += c.count
		}
	}
	return users, weak
}

// weak returns how many entries have a hash that is quickly undone, by format.
// A table that is nil has none.
func (t *userTable) weak() map[string]int {
	weak := make(map[string]int)
	if t == nil {
		return weak
	}
	for _, c := range t.classes {
		if c.Format.Weak {
			weak[c.Format.Name] += c.count
		}
	}
	return weak
}

// warnOfWeak says how many entries have a weak hash, unless that was said of the
// previous version already.
func (t *userTable) warnOfWeak(logger *zap.Logger, path string, previous *userTable) {
	if weak := t.weak(); len(weak) > 0 && !maps.Equal(weak, previous.weak()) {
		logger.Warn("weak password hashes: they work, but whoever gets hold of the file can quickly find the passwords; set these anew with: caddy htpasswd",
			zap.String("file", path), zap.Any("entries", weak))
	}
}
