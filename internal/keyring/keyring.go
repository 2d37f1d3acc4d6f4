// Package keyring manages the keys that the servers of a fleet share.
//
// All keys are derived from one [Secret], a random text: one subkey for each
// [Purpose], so that a leaked subkey reveals nothing about the others. [NewKeys]
// derives them. The secret is in the configuration, or in a [Storage] that the
// servers share, where the first server creates it ([Stored]).
//
// A configuration has a [Ring], which always has keys: logins must work even if the
// storage is down. Until the keys of the configuration are loaded, the keys of the
// [Fallback] are used, which differ between servers. So no key may decide whether a
// login succeeds. Keys are only for choices: the decoy hash of an unknown user, the
// server that a sticky cookie names, and the limits of a login with a device cookie.
// Random keys have none for device cookies: such a cookie lasts longer than they do. Nor
// have they keys of a fleet, which no other server would know. A fleet needs a secret in
// the configuration ([NewExplicitKeys]): its keys do decide which password file is
// accepted, and who can use Caddy's storage need not be trusted with that.
//
// # How to add a purpose
//
// Servers of a fleet can run different versions of this program. So the text of a
// purpose, which is an input of the key, never changes and is never reused.
//
//  1. Add a constant of type Purpose, with a text that was never used before.
//  2. Add the subkey to [Keys].
//  3. Derive it in NewKeys, and document how the old secret is used: servers with
//     the new secret run together with servers that do not have it yet.
//  4. Pin the subkey of a known secret in TestSubkey.
package keyring

import (
	"sync"
	"sync/atomic"
)

// Keys are the subkeys of a secret, one for each purpose. They are immutable.
type Keys struct {
	Decoys     []byte // for DecoysPurpose
	Sticky     []byte // for StickyPurpose
	OldSticky  []byte // for StickyPurpose, of the old secret; nil without one
	Devices    []byte // for DevicesPurpose; nil for the random keys of a Fallback
	OldDevices []byte // for DevicesPurpose, of the old secret; nil without one

	// The keys of a fleet are nil for the random keys of a Fallback.
	FleetCounters  []byte // for FleetCountersPurpose, of the old secret while there is one
	FleetMarks     []byte // for FleetMarksPurpose, of the old secret while there is one
	FleetEvents    []byte // for FleetEventsPurpose
	OldFleetEvents []byte // for FleetEventsPurpose, of the old secret; nil without one
	FleetFiles     []byte // for FleetFilesPurpose
	OldFleetFiles  []byte // for FleetFilesPurpose, of the old secret; nil without one

	// IsExplicit reports that the secret is in the configuration. Otherwise it is in a
	// storage, or random. A fleet needs an explicit secret.
	IsExplicit bool
}

// NewKeys derives the keys from the current secret and the old secret that it
// replaces. old is "" if there is none.
//
// While there is an old secret, decoys are chosen by it. So servers with the new
// secret agree with servers that do not have it yet, and the decoys change only once,
// when the old secret is removed. Sticky cookies have a digest by each of the two keys:
// servers with only one of the secrets know one of the digests. Device cookies are made
// with the current secret, and accepted with both. The failed logins that a fleet counts,
// and its marks of recognized clients, have the old secret, for the same reason as
// decoys. Events and files are sealed for both secrets, and opened with either.
func NewKeys(current, old Secret) *Keys {
	k := &Keys{
		Sticky: current.Subkey(StickyPurpose), Devices: current.Subkey(DevicesPurpose),
		FleetEvents: current.Subkey(FleetEventsPurpose), FleetFiles: current.Subkey(FleetFilesPurpose),
	}
	if old == "" {
		old = current
	} else {
		k.OldSticky, k.OldDevices = old.Subkey(StickyPurpose), old.Subkey(DevicesPurpose)
		k.OldFleetEvents, k.OldFleetFiles = old.Subkey(FleetEventsPurpose), old.Subkey(FleetFilesPurpose)
	}
	k.Decoys = old.Subkey(DecoysPurpose)
	k.FleetCounters, k.FleetMarks = old.Subkey(FleetCountersPurpose), old.Subkey(FleetMarksPurpose)
	return k
}

// NewExplicitKeys is NewKeys for secrets that are in the configuration.
func NewExplicitKeys(current, old Secret) *Keys {
	k := NewKeys(current, old)
	k.IsExplicit = true
	return k
}

// Ring holds the keys of a configuration. If the secret is in a storage, they may be
// loaded after the configuration has started. It is safe for concurrent use.
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

// Local returns the random keys that rings of this process have used while no secret
// was loaded, or nil if none has. What was made with them stays valid in this process.
func (r *Ring) Local() *Keys { return r.fallback.local.Load() }

// Fallback has the keys that are used while a ring has none of its own. There is one
// per process. It outlives configurations, so a reload while the storage is down does
// not change keys. The zero value is ready to use. It is safe for concurrent use, and
// must not be copied.
type Fallback struct {
	stored atomic.Pointer[Keys] // of the last secret loaded from a storage; nil for none

	makeLocal sync.Once
	local     atomic.Pointer[Keys] // of a random secret, which changes with a restart
}

// Keys returns the keys of the last secret loaded from a storage. If there was none,
// it returns random keys, which are the same until the process ends.
func (f *Fallback) Keys() *Keys {
	if stored := f.stored.Load(); stored != nil {
		return stored
	}
	f.makeLocal.Do(func() {
		k := NewKeys(NewSecret(), "")
		f.local.Store(&Keys{Decoys: k.Decoys, Sticky: k.Sticky})
	})
	return f.local.Load()
}
