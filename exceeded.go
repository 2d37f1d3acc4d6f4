package caddyhtpasswd

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// notedLimits is for how many of the limits exceeded last the client address and the
// user name are kept, for each scope.
const notedLimits = 100

// exceededNotes keeps the client addresses and user names of the limits exceeded last.
// The counters contain only keyed hashes, which do not show who is refused. A note
// maps a key of the counters to its client and user. Only the counters say whether a
// limit is still exceeded, and until when. A note without a count is never shown.
type exceededNotes struct {
	mu    sync.Mutex
	notes []exceededNote // oldest first, at most notedLimits
}

// exceededNote is the client and the user of a key of the counters.
type exceededNote struct {
	key  uint64
	ip   string // as in the log; "" for a user limit
	user string // "" for a client limit
	file string // the path of the user's file; "" for an unknown user

	deviceOf uint64 // for a limit of a device cookie: the key of the user; else 0
}

// add adds the note of a limit that was just exceeded. If there is no room, the note
// replaces one whose key is no longer exceeded, or else the oldest one.
func (n *exceededNotes) add(note exceededNote, isExceeded func(key uint64) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	stale := slices.IndexFunc(n.notes, func(old exceededNote) bool { return old.key == note.key })
	if stale < 0 && len(n.notes) == notedLimits {
		stale = max(slices.IndexFunc(n.notes, func(old exceededNote) bool { return !isExceeded(old.key) }), 0)
	}
	if stale >= 0 {
		n.notes = slices.Delete(n.notes, stale, stale+1)
	}
	n.notes = append(n.notes, note)
}

// byKey returns a copy of the notes.
func (n *exceededNotes) byKey() map[uint64]exceededNote {
	n.mu.Lock()
	defer n.mu.Unlock()
	notes := make(map[uint64]exceededNote, len(n.notes))
	for _, note := range n.notes {
		notes[note.key] = note
	}
	return notes
}

// noteExceeded notes the client and the user of a limit that was just exceeded, with
// the same name and address as in the log.
func (g *guard) noteExceeded(s scope, key uint64, ip string, user []byte, l *lookup) {
	note := exceededNote{key: key}
	if s != scopeUser {
		note.ip = ip
	}
	if s != scopeClient {
		note.user = string(user)
		if l.entry.exists() {
			note.file = l.store.path
		}
	}
	g.exceeded[s].add(note, func(key uint64) bool { return g.exceededFor(s, key) > 0 })
}

// exceededFor returns for how long the limit of a key is still exceeded, or 0.
func (g *guard) exceededFor(s scope, key uint64) time.Duration {
	return g.failures[s].Wait(key, g.now(), g.settings().limits[s], 0)
}

// exceededLimit is a limit that is exceeded now.
type exceededLimit struct {
	Limit scope `json:"limit"` // login, client or user
	// ClientIP is the address that is refused, or another address of its /64; absent
	// for a user limit.
	ClientIP string `json:"client_ip,omitempty"`
	// User is the name as the log shows it; absent for a client limit. The name is
	// empty if the client sent an empty name.
	User *string `json:"user,omitempty"`
	// DeviceCookie says that the limit is that of a device cookie of the user. While it is
	// exceeded, the cookie is ignored.
	DeviceCookie bool `json:"device_cookie,omitempty"`
	// File is the password file of the user; absent for an unknown user.
	File  string    `json:"file,omitempty"`
	Until time.Time `json:"until"`
}

// adminExceeded is the part of responses that says who is refused.
type adminExceeded struct {
	Exceeded []exceededLimit `json:"exceeded"`
	// NotListed is the number of other exceeded limits, whose clients and users are no
	// longer known.
	NotListed int `json:"exceeded_not_listed"`

	counts [scopeCount]int // of all exceeded limits, listed or not
}

// exceededNow returns all exceeded limits.
func (g *guard) exceededNow() adminExceeded { return g.exceededOf(g.notes(), g.allKeys) }

// exceededBy returns the exceeded limits of a client, given by its address, or of a
// user. The limits of the client or the user alone are listed even without a note.
func (g *guard) exceededBy(name string) adminExceeded {
	notes := g.notes()
	for key, file := range g.userKeys(name) {
		if _, isNoted := notes[scopeUser][key]; !isNoted {
			notes[scopeUser][key] = exceededNote{key: key, user: name, file: file}
		}
	}
	if client := g.clientNamed(name); client != noClient {
		if _, isNoted := notes[scopeClient][client]; !isNoted {
			notes[scopeClient][client] = exceededNote{key: client, ip: name}
		}
	}
	return g.exceededOf(notes, g.keysOf(name))
}

// notes returns a copy of all notes, by scope and key.
func (g *guard) notes() (notes [scopeCount]map[uint64]exceededNote) {
	for s := range g.exceeded {
		notes[s] = g.exceeded[s].byKey()
	}
	return notes
}

// exceededOf returns the exceeded limits among those whose keys are given.
func (g *guard) exceededOf(notes [scopeCount]map[uint64]exceededNote, keys iter.Seq2[scope, uint64]) adminExceeded {
	found := adminExceeded{Exceeded: []exceededLimit{}}
	now := g.now()
	var seen [scopeCount]map[uint64]bool
	for s := range seen {
		seen[s] = make(map[uint64]bool)
	}
	for s, key := range keys {
		left := g.exceededFor(s, key)
		note, isNoted := notes[s][key]
		if left == 0 || seen[s][key] || isNoted && !g.isCurrentNote(s, note) {
			continue
		}
		seen[s][key] = true
		found.counts[s]++
		if !isNoted {
			found.NotListed++
			continue
		}
		limit := exceededLimit{
			Limit: s, ClientIP: note.ip, File: shown.Label(note.file), DeviceCookie: note.deviceOf != 0,
			Until: now.Add(left + time.Second - 1).Truncate(time.Second), // rounded up
		}
		if s != scopeClient || limit.DeviceCookie {
			limit.User = new(shown.Short(note.user))
		}
		found.Exceeded = append(found.Exceeded, limit)
	}
	slices.SortFunc(found.Exceeded, func(a, b exceededLimit) int {
		return cmp.Or(cmp.Compare(a.Limit, b.Limit), b.Until.Compare(a.Until), strings.Compare(a.name(), b.name()), strings.Compare(a.ClientIP, b.ClientIP))
	})
	return found
}

// name returns the name of the user, or "".
func (l *exceededLimit) name() string {
	if l.User == nil {
		return ""
	}
	return *l.User
}

// isCurrentNote reports whether the key of a note is still the key of its client and
// user. A user whose line changes gets another key, and a reload that begins or ends the use
// of a fleet changes all keys. The old key then refuses nobody, although its window has not
// ended.
func (g *guard) isCurrentNote(s scope, note exceededNote) bool {
	keyer := g.keyer()
	if s == scopeClient && note.deviceOf == 0 {
		return keyer.client(note.ip) == note.key
	}
	want := cmp.Or(note.deviceOf, note.key)
	for key := range g.userKeys(note.user) {
		if s == scopeLogin && note.deviceOf == 0 {
			key = loginKey(key, keyer.client(note.ip))
		}
		if key == want {
			return true
		}
	}
	return false
}

// allKeys yields the keys of all counters, including those whose window has ended.
func (g *guard) allKeys(yield func(scope, uint64) bool) {
	for s := range scopeCount {
		for key := range g.failures[s].Keys {
			if !yield(s, key) {
				return
			}
		}
	}
}

// keysOf yields the keys of a client, given by its address, or of a user in all files,
// and the keys of their logins. For a user, it also yields the keys of device cookies whose
// limits are exceeded. If the name of a user is an address, keysOf yields the keys of the
// client and the user, and the key of their login twice.
func (g *guard) keysOf(name string) iter.Seq2[scope, uint64] {
	return g.baseKeys(name).keys(g)
}

// forgotten are the base keys of failed logins: those of a user in each file, of a client,
// and of device cookies. From them, each server of a fleet derives the keys of logins, with
// the clients and users that it knows. Logins are those that another server has derived.
type forgotten struct {
	Users   []uint64 `json:"users,omitempty"`
	Clients []uint64 `json:"clients,omitempty"`
	Devices []uint64 `json:"devices,omitempty"`
	Logins  []uint64 `json:"logins,omitempty"`
}

// baseKeys returns the base keys of a client or a user.
func (g *guard) baseKeys(name string) *forgotten {
	f := new(forgotten)
	for _, notes := range g.notes() {
		for key, note := range notes {
			if note.deviceOf != 0 && note.user == name && !slices.Contains(f.Devices, key) {
				f.Devices = append(f.Devices, key)
			}
		}
	}
	for user := range g.userKeys(name) {
		f.Users = append(f.Users, user)
	}
	if client := g.clientNamed(name); client != noClient {
		f.Clients = append(f.Clients, client)
	}
	return f
}

// keys yields all keys, and those that are derived from them.
func (f *forgotten) keys(g *guard) iter.Seq2[scope, uint64] {
	return func(yield func(scope, uint64) bool) {
		for _, login := range f.Logins {
			if !yield(scopeLogin, login) {
				return
			}
		}
		for _, device := range f.Devices {
			for s := range scopeCount {
				if !yield(s, device) {
					return
				}
			}
		}
		for _, user := range f.Users {
			if !yield(scopeUser, user) {
				return
			}
			for client := range g.failures[scopeClient].Keys {
				if !yield(scopeLogin, loginKey(user, client)) {
					return
				}
			}
		}
		for _, client := range f.Clients {
			if !yield(scopeClient, client) {
				return
			}
			for user := range g.failures[scopeUser].Keys {
				if !yield(scopeLogin, loginKey(user, client)) {
					return
				}
			}
		}
	}
}

// userKeys yields the keys of a user name, one for each file, with the path of the
// file if the user is in it, else "".
func (g *guard) userKeys(name string) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		for _, f := range g.files() {
			if f.store == nil {
				continue
			}
			entry, path := f.users.find([]byte(name)), ""
			if entry.exists() {
				path = f.Name()
			}
			var keys limitKeys
			keys.set(g.keyer(), noClient, &lookup{f.store, f.users, entry}, []byte(name))
			if !yield(keys[scopeUser], path) {
				return
			}
		}
	}
}

// clientNamed returns the key of the client whose address is name, or noClient if name
// is no address.
func (g *guard) clientNamed(name string) uint64 {
	address, err := netip.ParseAddr(name)
	if err != nil {
		return noClient
	}
	return g.keyer().client(address.String())
}

// scopedKey is a key of the counters of a scope.
type scopedKey struct {
	scope      scope
	key        uint64
	isExceeded bool // the limit, before the failed logins were cleared
}

// clearFailures clears the failed logins of the keys, and returns those that had any.
func (g *guard) clearFailures(keys iter.Seq2[scope, uint64]) (cleared []scopedKey) {
	for s, key := range keys {
		isExceeded := g.exceededFor(s, key) > 0
		if g.failures[s].Forget(key) {
			cleared = append(cleared, scopedKey{s, key, isExceeded})
		}
	}
	return cleared
}
