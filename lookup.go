package caddyhtpasswd

import (
	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// userStores are the files of one handler, in the order in which they decide.
type userStores []*userStore

// lookup is what the files say about a user name. For a name in none of them,
// there is no entry, and store and table are those of any file.
type lookup struct {
	store *userStore
	table *userTable
	entry entry
}

// find looks a user up: the first file that names the user decides.
func (s userStores) find(user []byte) lookup {
	for _, store := range s {
		table := store.current.Load()
		if e := table.find(user); e.exists() {
			return lookup{store, table, e}
		}
	}
	return lookup{store: s[0], table: s[0].current.Load()}
}

func (l lookup) class() crypt.Class { return l.table.file.Classes[l.entry.Class].Class }

// isUsable reports whether there is a password that would be right.
func (l lookup) isUsable() bool { return l.entry.exists() && l.entry.State == htfile.StateUsable }

// failure is the result if no password is right.
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

// equals reports whether l says what other says: of no user, or of the same one
// in the same file.
func (l lookup) equals(other lookup) bool {
	if !l.entry.exists() || !other.entry.exists() {
		return l.entry.exists() == other.entry.exists()
	}
	return l.store == other.store && l.entry.State == other.entry.State && l.entry.Hash == other.entry.Hash
}

// warnOfShadowed warns of users in a file whom an earlier file has already.
func (s userStores) warnOfShadowed(logger *zap.Logger) {
	for i := 1; i < len(s); i++ {
		shadowed := 0
		users := s[i].current.Load().file.All
		for j := range users {
			if s[:i].find([]byte(users[j].Name)).entry.exists() {
				shadowed++
			}
		}
		if shadowed > 0 {
			logger.Warn("users already defined in an earlier file; those entries take precedence",
				zap.String("file", s[i].path), zap.Int("users", shadowed))
		}
	}
}
