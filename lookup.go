package caddyhtpasswd

import (
	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// userStores are the files and texts of one handler, in order of precedence.
type userStores []*userStore

// lookup is the result of looking up a user name in the files. For an unknown user,
// entry is the zero entry, and store and table belong to an arbitrary file.
type lookup struct {
	store *userStore
	table *userTable
	entry entry
}

// fewStores is up to how many files a user is looked up in only until found. Each takes
// nanoseconds.
const fewStores = 4

// find looks up a user. The first file with an entry for the user takes precedence. Of many
// files, all are looked up. Otherwise the time would tell known users from unknown ones.
func (s userStores) find(user []byte) lookup {
	found := lookup{store: s[0]}
	for _, store := range s {
		table := store.current.Load()
		if e := table.find(user); e.exists() && !found.entry.exists() {
			found = lookup{store, table, e}
			if len(s) <= fewStores {
				break
			}
		}
	}
	if found.table == nil {
		found.table = s[0].current.Load()
	}
	return found
}

func (l lookup) class() crypt.Class { return l.table.file.Classes[l.entry.Class].Class }

// needsRehash reports whether the hash of a usable entry is to be replaced by bcrypt of
// that cost.
func (l *lookup) needsRehash(cost int) bool { return cost >= int(l.table.rehash[l.entry.Class]) }

// isUsable reports whether the user can log in.
func (l lookup) isUsable() bool { return l.entry.exists() && l.entry.State == htfile.StateUsable }

// failure returns the result for a password that does not match.
func (l lookup) failure() result {
	switch {
	case !l.entry.exists():
		return resultUnknownUser
	case l.entry.State == htfile.StateLocked:
		return resultLockedUser
	case l.entry.State == htfile.StateInvalid:
		return resultInvalidLine
	}
	return resultWrongPassword
}

// equals reports whether l and other have the same result: both no user, or the same
// user in the same file.
func (l lookup) equals(other lookup) bool {
	if !l.entry.exists() || !other.entry.exists() {
		return l.entry.exists() == other.entry.exists()
	}
	return l.store == other.store && l.entry.State == other.entry.State && l.entry.Hash == other.entry.Hash
}
