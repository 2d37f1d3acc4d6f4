package caddyhtpasswd

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// outcome is what a check of credentials came to.
type outcome uint8

const (
	malformed outcome = iota
	wrongPassword
	unknownUser // in none of the files
	deniedUser  // locked, or with a bad line
	goodPassword
)

func (o outcome) String() string {
	return [...]string{"malformed credentials", "wrong password", "unknown user", "locked user or bad line", "good password"}[o]
}

// memory is how long a handler trusts what an entry remembers.
type memory struct {
	off    bool
	maxAge time.Duration // 0: until the entry changes
	now    func() time.Time
}

// oldest returns the time since when a password must have been verified.
func (m *memory) oldest() time.Time {
	if m.maxAge == 0 {
		return time.Time{}
	}
	return m.now().Add(-m.maxAge)
}

// userStores are the files of one handler, in the order in which they decide.
type userStores []*userStore

// found is an entry with the version of the file that it stands in.
type found struct {
	store *userStore
	table *userTable
	*entry
}

func (f found) class() crypt.Class { return f.table.classes[f.entry.class].Class }

// find returns the entry that decides on user: the one in the first file that
// names them.
func (s userStores) find(user []byte) (found, bool) {
	for _, store := range s {
		table := store.current.Load()
		if e := table.find(user); e != nil {
			return found{store, table, e}, true
		}
	}
	return found{}, false
}

// warnOfShadowed says how many users of a file an earlier one decides on.
func (s userStores) warnOfShadowed(logger *zap.Logger) {
	for i := 1; i < len(s); i++ {
		shadowed := 0
		entries := s[i].current.Load().entries
		for j := range entries {
			if _, ok := s[:i].find([]byte(entries[j].user)); ok {
				shadowed++
			}
		}
		if shadowed > 0 {
			logger.Warn("users who are in an earlier file, too: that one decides, their lines here are skipped",
				zap.String("file", s[i].path), zap.Int("users", shadowed))
		}
	}
}

// check compares credentials with the files as they are now and returns the
// name of the user as it stands there, a string. A password that is remembered is good
// without a hash; everything else takes one hash computation, whoever the
// name belongs to. Only with goodPassword may a request pass.
func (s userStores) check(ctx context.Context, c *credentials, m *memory) (outcome, any, error) {
	if c.malformed {
		return malformed, nil, nil
	}
	for {
		f, known := s.find(c.user)
		if known && f.state == usable && !m.off {
			if v := f.recall(&c.digest, m.oldest()); v != nil {
				return goodPassword, v.user, nil
			}
		}
		decoy := s.decoy(c.user) // for those who need none, too: it takes as long as a weak hash
		if !known {
			return unknownUser, nil, pretend(ctx, decoy, c)
		}
		if f.state != usable {
			return deniedUser, nil, pretend(ctx, decoy, c)
		}
		ok, err := verify(ctx, f, c, m)
		if err != nil || !ok {
			return wrongPassword, nil, err
		}
		// The files may have changed in the meantime, and what they say now decides.
		if now, ok := s.find(c.user); ok && now.sameAs(f.entry) {
			return goodPassword, f.user, nil
		}
	}
}

// verify computes the hash of f for the password and remembers a right one.
func verify(ctx context.Context, f found, c *credentials, m *memory) (bool, error) {
	return compute(ctx, f.key(c), c, func(password []byte, sum *digest) bool {
		// Who computed the same until a moment ago has left the result here.
		if !m.off && f.recall(sum, m.oldest()) != nil {
			return true
		}
		ok := hashed(f.class(), f.hash, password)
		if ok && !m.off {
			f.remember(sum, m.now())
			if e := f.store.current.Load().find([]byte(f.user)); e != nil && e.sameAs(f.entry) {
				e.remember(sum, m.now()) // the file was swapped while the hash was computed
			}
		}
		return ok
	})
}

// pretend does for a name that can't log in what a wrong password makes of one
// that can: a hash of the same cost. The result is thrown away.
func pretend(ctx context.Context, decoy found, c *credentials) error {
	if decoy.entry == nil {
		return nil // nobody can log in: there is nothing to hide
	}
	_, err := compute(ctx, "decoy\x00"+decoy.key(c), c, func(password []byte, _ *digest) bool {
		hashed(decoy.class(), decoy.hash, password)
		return false // and shared with nobody who could be right
	})
	return err
}

// key tells computations apart: whose password is compared with what.
func (f found) key(c *credentials) string {
	return f.store.path + "\x00" + f.hash + "\x00" + string(c.user) + "\x00" + string(c.digest[:])
}

// compute runs hash in a goroutine of its own, once for all who ask with the
// same key at one moment. Each waits as long as their own context lasts.
func compute(ctx context.Context, key string, c *credentials, hash func([]byte, *digest) bool) (bool, error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx) // nobody waits for it
	}
	password, sum := bytes.Clone(c.password), c.digest // c is used anew when the request is over
	result := computing.DoChan(key, func() (ok any, err error) {
		defer clear(password)
		defer func() {
			if r := recover(); r != nil {
				// What was thrown could hold the password: only its type is told.
				ok, err = false, fmt.Errorf("panic of type %T while a password was hashed", r)
			}
		}()
		return hash(password, &sum), nil
	})
	select {
	case r := <-result:
		ok, _ := r.Val.(bool)
		return ok && r.Err == nil, r.Err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// computing holds the hash computations that are under way in the process.
var computing singleflight.Group

// hashed is the one place where passwords are hashed.
func hashed(class crypt.Class, hash string, password []byte) bool {
	hashCount.Add(1)
	return class.Verify(hash, password)
}

// hashCount counts the hash computations of the process.
var hashCount atomic.Int64

// maxDecoyClasses bounds the work for a file in which each line has a cost of
// its own. Files of people have a handful of classes.
const maxDecoyClasses = 256

// decoy picks an entry for a name that can't log in, by weighted rendezvous
// hashing over the classes of the files: names fall on classes as entries do,
// the same name always on the same class, and an edit of a file moves few.
// Where nobody can log in there is none: its entry is nil.
func (s userStores) decoy(user []byte) (best found) {
	least := math.Inf(1)
	name := decoyKey(string(user))
	for _, store := range s {
		table := store.current.Load()
		for i := range table.classes[:min(len(table.classes), maxDecoyClasses)] {
			class := &table.classes[i]
			// Uniform in (0, 1); its logarithm over the weight is least for each class in proportion to the weight.
			u := (float64(mix(name^mix(class.key^store.key))>>11) + 0.5) / (1 << 53)
			if score := -math.Log(u) / float64(class.count); score < least {
				least = score
				best = found{store, table, &table.entries[class.sample]}
			}
		}
	}
	return best
}

// mix spreads the bits of x (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// decoyKey maps parts to a number that nobody outside can predict, and that
// is the same after a restart.
func decoyKey(parts ...string) uint64 {
	mac := hmac.New(sha256.New, instanceKey())
	for _, p := range parts {
		mac.Write([]byte(p))
		mac.Write([]byte{0})
	}
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// instanceKey is derived from Caddy's persistent instance ID; without one the
// decoys are others after a restart.
var instanceKey = sync.OnceValue(func() []byte {
	secret := make([]byte, 32)
	if id, err := caddy.InstanceID(); err == nil {
		secret = id[:]
	} else {
		rand.Read(secret) // never fails
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("caddy-htpasswd decoys"))
	return mac.Sum(nil)
})
