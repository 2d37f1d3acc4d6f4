package caddyhtpasswd

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

// Rehash sets that weak hashes are replaced by bcrypt, which nginx and Apache on the same
// file can read, too. A hash is replaced after a login with its password. Users notice
// nothing: their logins, cached passwords and limits go on.
//
// These hashes are replaced: DES, {PLAIN}, {SHA}, {SSHA}, md5crypt, apr1, SHA crypt with
// 5,000 rounds or fewer, and bcrypt with a lower cost.
type Rehash struct {
	// The cost of the new hashes, 10 to 14. Each step doubles the time that a login
	// without a cached password takes. Default: 10, as in `caddy htpasswd`.
	Cost int `json:"cost,omitempty"`
}

const (
	minRehashCost = 10 // also the default
	maxRehashCost = 14
	maxRehashLen  = 72 // of a password: bcrypt ignores the rest
)

func (r *Rehash) validate() error {
	if r != nil && r.Cost != 0 && (r.Cost < minRehashCost || r.Cost > maxRehashCost) {
		return fmt.Errorf("rehash: cost: expected %d to %d, found %d", minRehashCost, maxRehashCost, r.Cost)
	}
	return nil
}

// neverRehash is the value of rehashCosts for hashes that are never replaced.
const neverRehash = math.MaxUint8

// rehashCosts returns for each class the lowest cost of bcrypt with which its hashes are
// replaced.
func rehashCosts(classes []htfile.Class) []uint8 {
	costs := make([]uint8, len(classes))
	for i, c := range classes {
		costs[i] = neverRehash
		for cost := uint8(minRehashCost); cost <= maxRehashCost; cost++ {
			if c.NeedsRehash(int(cost)) {
				costs[i] = cost
				break
			}
		}
	}
	return costs
}

// storeRehash is the part of a store that replaces weak hashes.
type storeRehash struct {
	handlers atomic.Int32 // that do so
	worker   atomic.Pointer[rehash.Worker]
}

// isUsed reports whether a handler replaces weak hashes in the file.
func (r *storeRehash) isUsed() bool { return r.handlers.Load() > 0 }

// state returns whether a handler replaces weak hashes in the file, how many logins are
// pending, and why the file cannot be written, or "".
func (r *storeRehash) state() (pending int, failure string, isUsed bool) {
	w := r.worker.Load()
	if w == nil || !r.isUsed() {
		return 0, "", false
	}
	pending, failure = w.State()
	return pending, failure, true
}

// retry ends the pause after the file could not be written: it has just changed.
func (r *storeRehash) retry() {
	if w := r.worker.Load(); w != nil {
		w.Retry()
	}
}

// rehashResult is what became of a weak hash.
type rehashResult uint8

const (
	rehashWritten       rehashResult = iota
	rehashConflict                   // somebody else has changed the user's hash
	rehashFailed                     // the file could not be written
	rehashSkippedLong                // bcrypt ignores a part of the password
	rehashSkippedUnsure              // other passwords match the old hash, too
	rehashResultCount
)

var rehashResultLabels = [rehashResultCount]string{
	rehashWritten:       "written",
	rehashConflict:      "conflict",
	rehashFailed:        "failed",
	rehashSkippedLong:   "skipped_long_password",
	rehashSkippedUnsure: "skipped_des_password",
}

// rehashClaim says until when a user is not considered again, in nanoseconds of Unix time.
type rehashClaim struct{ until atomic.Int64 }

const (
	// rehashPause is how long the user of an attempt is not considered again. After a
	// write, the new version is loaded by then.
	rehashPause = time.Minute

	rehashForever = math.MaxInt64
)

// take reports whether the caller may replace the hash. Nobody else may before release.
func (c *rehashClaim) take(now time.Time) bool {
	until := c.until.Load()
	return until <= now.UnixNano() && c.until.CompareAndSwap(until, rehashForever)
}

func (c *rehashClaim) release(at time.Time) { c.until.Store(at.UnixNano()) }
