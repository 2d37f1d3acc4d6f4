// Package keyring has the keys that the servers of a fleet share.
//
// There is one [Secret], a random text. It is used through subkeys only, one for
// each [Purpose], so that what a use of one of them gives away says nothing of
// another. [NewKeys] derives them all. The secret comes from the configuration, or
// from a [Storage] that the servers share, in which the first server creates it
// ([Stored]).
//
// A configuration has a [Ring], which always has keys: a storage that does not
// answer must not stop logins. While a configuration has no keys of its own, those
// of the [Fallback] of the process stand in. Servers then agree on less for a while.
// So no key may decide who gets in: only things like what unknown users cost, which
// server a client stays with, or which limit holds.
//
// # How to add a purpose
//
// Servers of a fleet can run different versions of this program. So the text of a
// purpose is a part of the key forever. It is never changed, and never used again
// for anything else.
//
//  1. Add a constant of type Purpose, with a text that was never used before.
//  2. Add the subkey to [Keys].
//  3. Derive it in NewKeys, and say there what holds while there is an old secret:
//     servers that have the new one already work beside servers that do not.
//  4. Pin the subkey of a known secret in TestSubkey.
package keyring

import (
	"sync"
	"sync/atomic"
)

// Keys are the subkeys of a secret, for each purpose one. They are not changed
// after they are made.
type Keys struct {
	Decoys []byte // for DecoysPurpose
}

// NewKeys derives the keys of the current secret, and of the old one that it
// replaces, "" for none.
//
// Decoys follow the old secret while there is one. Servers that have the new
// secret already then agree with those that do not, and what unknown users cost
// changes only once, when the old secret is removed.
func NewKeys(current, old Secret) *Keys {
	if old == "" {
		old = current
	}
	return &Keys{Decoys: old.Subkey(DecoysPurpose)}
}

// Ring holds the keys of a configuration. With a secret in a storage, they may be
// found only after the configuration has started. It is safe for concurrent use.
type Ring struct {
	fallback *Fallback
	own      atomic.Pointer[Keys] // nil until Set
}

// NewRing returns a ring without keys of its own.
func NewRing(fallback *Fallback) *Ring { return &Ring{fallback: fallback} }

// Set gives the ring its own keys.
func (r *Ring) Set(k *Keys) { r.own.Store(k) }

// Keys returns the keys of the ring, or those of its fallback. It never waits.
func (r *Ring) Keys() *Keys {
	if own := r.own.Load(); own != nil {
		return own
	}
	return r.fallback.Keys()
}

// Fallback has the keys that stand in for missing ones. There is one for a process,
// which outlives its configurations: so a reload while the storage is down changes
// no keys. The zero value is ready to use, also concurrently. It must not be copied.
type Fallback struct {
	stored atomic.Pointer[Keys] // of the secret last found in a storage; nil for none

	makeLocal sync.Once
	local     *Keys // of a random secret: others after a restart
}

// Keys returns the keys of the secret that was last found in a storage. If there
// was none, it returns random keys, the same until the process ends.
func (f *Fallback) Keys() *Keys {
	if stored := f.stored.Load(); stored != nil {
		return stored
	}
	f.makeLocal.Do(func() { f.local = NewKeys(NewSecret(), "") })
	return f.local
}
