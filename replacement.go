package caddyhtpasswd

import (
	"sync"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// replacement is a new hash that this process writes for a user. When the version of the
// file with the new hash is loaded, adopt passes on to the new entry what it may inherit
// from the old one. adopt is called before the version becomes active, and once more
// afterwards, so it must be idempotent.
type replacement struct {
	htfile.Change
	adopt func(before, after entry)
}

// replacements are those of one file that are not loaded yet, by the new hash.
type replacements struct {
	mu    sync.Mutex
	byNew map[string]replacement
}

// expect registers a replacement. It must be called before the file is written.
func (r *replacements) expect(c htfile.Change, adopt func(before, after entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byNew == nil {
		r.byNew = make(map[string]replacement)
	}
	r.byNew[c.New] = replacement{c, adopt}
}

// forget removes a replacement that was not written.
func (r *replacements) forget(c htfile.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byNew, c.New)
}

// apply calls adopt for the replacements that next has, whose users have the old hash in
// the table old.
func (r *replacements) apply(old, next *userTable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.byNew {
		before, after := old.find([]byte(c.Name)), next.find([]byte(c.Name))
		if before.hasHash(c.Old) && after.hasHash(c.New) {
			c.adopt(before, after)
		}
	}
}

// loaded removes the replacements that were loaded, or that a later change has overtaken:
// those whose user no longer has the old hash in the active table.
func (r *replacements) loaded(active *userTable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for hash, c := range r.byNew {
		if !active.find([]byte(c.Name)).hasHash(c.Old) {
			delete(r.byNew, hash)
		}
	}
}

// hasHash reports whether the user can log in with the password of a hash.
func (e entry) hasHash(hash string) bool {
	return e.exists() && e.State == htfile.StateUsable && e.Hash == hash
}
