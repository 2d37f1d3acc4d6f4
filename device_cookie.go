package caddyhtpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// This file has the setting of device cookies and the state that they need. How a login
// uses a device cookie is in device_login.go, and how one is issued in device_issue.go.

// DeviceCookie sets that browsers which have logged in get a signed cookie. A login with
// the cookie has limits of its own: failed logins of others, also from the same address,
// do not stop it. It comes before logins without a cookie in the hash queue. The cookie
// lets nobody in without the password.
type DeviceCookie struct {
	// The name of the cookie. Names should begin with `__Host-`. Otherwise other hosts of
	// the same domain can set such a cookie. Default: `__Host-htpasswd-device`.
	Name string `json:"name,omitempty"`

	// How long a cookie is valid, 1m to 400d. When half of the time is over, the next
	// login renews it. Default: 90d.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

const (
	defaultDeviceCookie = "__Host-htpasswd-device"
	defaultDeviceMaxAge = 90 * 24 * time.Hour
	minDeviceMaxAge     = time.Minute
	maxDeviceMaxAge     = 400 * 24 * time.Hour // browsers keep no cookie longer
)

const (
	expectedDeviceName   = "the name of a cookie, such as " + defaultDeviceCookie
	expectedDeviceMaxAge = "a maximum age of 1m to 400d, such as 90d"
)

var errDeviceName = errors.New("expected " + expectedDeviceName)

func (d *DeviceCookie) validate() error {
	switch {
	case d == nil:
		return nil
	case d.Name != "" && !devicecookie.IsName(d.Name):
		return fmt.Errorf("device_cookie: name: %w, found %s", errDeviceName, quoted(d.Name))
	case d.MaxAge != 0 && (d.MaxAge < caddy.Duration(minDeviceMaxAge) || d.MaxAge > caddy.Duration(maxDeviceMaxAge)):
		return fmt.Errorf("device_cookie: max_age: expected %s, found %s", expectedDeviceMaxAge, time.Duration(d.MaxAge))
	}
	return nil
}

// deviceSettings are the settings of a handler, including the defaults. Without a name,
// the handler neither issues nor accepts device cookies.
type deviceSettings struct {
	name   string
	maxAge time.Duration
}

func (d *DeviceCookie) settings() deviceSettings {
	if d == nil {
		return deviceSettings{}
	}
	s := deviceSettings{defaultDeviceCookie, defaultDeviceMaxAge}
	if d.Name != "" {
		s.name = d.Name
	}
	if d.MaxAge != 0 {
		s.maxAge = time.Duration(d.MaxAge)
	}
	return s
}

// sentDevices are the device cookies of one name that the client sent. They were removed
// from the request, but a later htpasswd handler can need them. Each request to a handler
// with device cookies has this struct, so it should stay small.
type sentDevices struct {
	name       string
	candidates devicecookie.Candidates
	next       *sentDevices // of another name

	token  deviceToken         // of the login that is being decided
	due    *devicecookie.Owner // whom the last login should issue a token for; nil for nobody
	answer *deviceAnswer       // nil until it is needed

	isRefused bool // a handler has refused the request, so no token is issued
}

// deviceAnswer says which tokens the response issues.
type deviceAnswer struct {
	owners []*devicecookie.Owner
	maxAge time.Duration // of the cookie
}

// of returns the cookies with a name, or nil if no handler with this name has run.
func (d *sentDevices) of(name string) *sentDevices {
	if d == nil || d.name == name { // this much is inlined
		return d
	}
	return d.search(name)
}

func (d *sentDevices) search(name string) *sentDevices {
	for d != nil && d.name != name {
		d = d.next
	}
	return d
}

// refuse records that the request is refused.
func (d *sentDevices) refuse() {
	for ; d != nil; d = d.next {
		d.isRefused = true
	}
}

// deviceToken is a valid token of the user of an attempt.
type deviceToken struct {
	isDue  bool   // a good login should issue another token
	isUsed bool   // the limits of the token apply, not those of the client and the user
	key    uint64 // under which failed logins are counted, for each scope
}

// clone returns a copy for a hash that may outlive the request.
func (d *deviceToken) clone() *deviceToken {
	if d == nil {
		return nil
	}
	copied := *d
	return &copied
}

// recognition is how the client of a login was recognized.
type recognition uint8

const (
	recognizedByNothing recognition = iota
	recognizedByCookie
	recognizedByAddress
	recognitionCount
)

var recognitionLabels = [recognitionCount]string{
	recognizedByNothing: "nothing",
	recognizedByCookie:  "cookie",
	recognizedByAddress: "address",
}

// deviceMemory is what the process has learned about the device cookies of a user. It
// belongs to one hash, and to the previous hashes that rehash has replaced.
type deviceMemory struct {
	owner devicecookie.Owner
	cache devicecookie.Cache
}

// maxPreviousHashes limits how many previous hashes of a user are kept.
const maxPreviousHashes = 2

func newDeviceMemory(user, hash string, previous ...string) *deviceMemory {
	if n := len(previous); n > maxPreviousHashes {
		previous = previous[n-maxPreviousHashes:]
	}
	return &deviceMemory{owner: devicecookie.Owner{User: []byte(user), Hash: strings.Clone(hash), Previous: previous}}
}

// deviceMemories is the place of a deviceMemory, which is created when it is needed.
type deviceMemories struct{ current atomic.Pointer[deviceMemory] }

// get returns the memory of a user with a hash.
func (d *deviceMemories) get(user, hash string) *deviceMemory {
	if m := d.current.Load(); m != nil {
		return m
	}
	d.current.CompareAndSwap(nil, newDeviceMemory(user, hash))
	return d.current.Load()
}

// rehashed records that the hash of a user was replaced by another one of the same
// password. Tokens that are bound to the old hash stay valid in this process.
func (d *deviceMemories) rehashed(user, old, hash string) {
	for {
		before := d.current.Load()
		if before != nil && before.owner.Hash == hash {
			return
		}
		previous := []string{strings.Clone(old)}
		if before != nil && before.owner.Hash == old {
			previous = append(before.owner.Previous[:len(before.owner.Previous):len(before.owner.Previous)], previous...)
		}
		if d.current.CompareAndSwap(before, newDeviceMemory(user, hash, previous...)) {
			return
		}
	}
}

// deviceGuard is the part of the guard for device cookies. Its memory use is fixed.
type deviceGuard struct {
	// The numbers of open guesses, by token. Tokens that share a place are held to
	// stricter limits while both are used at the same time. There are many places: a user
	// with many tokens, and with as many tasks as the hash queue accepts, fills few.
	guesses [1 << 16]atomic.Int32

	keys   atomic.Pointer[deviceSigners]
	issued func() *ratelimit.Counter // tokens, by user
}

func (g *deviceGuard) init(start time.Time) {
	g.issued = sync.OnceValue(func() *ratelimit.Counter { return ratelimit.New(start) })
}

// guess returns the counter of open guesses with a token.
func (g *deviceGuard) guess(key uint64) *atomic.Int32 { return &g.guesses[key%uint64(len(g.guesses))] }

// deviceSigners are the keys of tokens, made from the keys of a secret.
type deviceSigners struct {
	from *keyring.Keys
	keys *devicecookie.Keys // nil for a local secret
}

// signers returns the keys of tokens. They stay the same while the secret does, also
// across reloads, because cached tokens belong to them.
func (g *deviceGuard) signers(from *keyring.Keys) *devicecookie.Keys {
	before := g.keys.Load()
	if before != nil && before.from == from {
		return before.keys
	}
	next := &deviceSigners{from: from}
	if before != nil && bytes.Equal(before.from.Devices, from.Devices) && bytes.Equal(before.from.OldDevices, from.OldDevices) {
		next.keys = before.keys
	} else {
		next.keys = devicecookie.NewKeys(from.Devices, from.OldDevices)
	}
	if g.keys.CompareAndSwap(before, next) {
		return next.keys
	}
	return g.signers(from)
}

// maxTokensIssued is how many tokens are issued for a user in tokensWindow. Otherwise a
// user could get any number of limits.
const (
	maxTokensIssued = 60
	tokensWindow    = time.Minute
)

// tokensKey returns the key under which the tokens of an owner are counted. It does not
// depend on the file, because tokens do not.
func tokensKey(seed maphash.Seed, o *devicecookie.Owner) uint64 {
	return max(rendezvous.Mix(maphash.Bytes(seed, o.User)+rendezvous.Mix(maphash.String(seed, o.Hash))), 1)
}
