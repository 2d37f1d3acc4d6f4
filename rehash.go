package caddyhtpasswd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
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
	rehashFormat  = "bcrypt"
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

func (p *directiveParser) parseRehash() (*Rehash, error) {
	if p.CountRemainingArgs() == 0 {
		return new(Rehash), p.s.noBlock()
	}
	expected := fmt.Sprintf("nothing, or the cost of the new bcrypt hashes, %d to %d", minRehashCost, maxRehashCost)
	text, err := p.s.argument(expected)
	if err != nil {
		return nil, err
	}
	cost, err := strconv.Atoi(text)
	if err != nil || cost < minRehashCost || cost > maxRehashCost {
		return nil, p.s.lineContext().expected(p.Token(), expected, quoted(text), "")
	}
	return &Rehash{Cost: cost}, nil
}

// handlerRehash is the part of a handler that replaces weak hashes.
type handlerRehash struct {
	cost   int // 0: weak hashes stay
	stores userStores
}

func (h *Handler) provisionRehash() {
	if h.Rehash == nil {
		return
	}
	h.rehash = handlerRehash{cmp.Or(h.Rehash.Cost, minRehashCost), h.users}
	for _, s := range h.users {
		s.useRehash(h.shared)
	}
}

// release is called when the handler is no longer used.
func (r *handlerRehash) release() {
	for _, s := range r.stores {
		s.rehash.handlers.Add(-1)
	}
	r.stores = nil
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

// useRehash makes the store ready for a handler that replaces weak hashes, and reports
// if the file cannot be written.
func (s *userStore) useRehash(shared *shared) {
	s.rehash.handlers.Add(1)
	if s.rehash.worker.Load() == nil {
		s.rehash.worker.CompareAndSwap(nil, s.newRehashWorker(shared))
	}
	s.rehash.worker.Load().Check()
}

func (s *userStore) newRehashWorker(shared *shared) *rehash.Worker {
	g := shared.guard
	return rehash.New(rehash.Config{
		Check:   s.checkWritable,
		Make:    g.makeHashIdle,
		Replace: s.replaceHashes,
		Report:  func(r rehash.Report) { s.reportRehash(r, shared.active.get().logger) },
		Room:    &g.rehash,
	})
}

// errNotAFile is the error for users that are not in a file.
var errNotAFile = errors.New("the users are in the configuration, which the server does not change; move them to a file")

func (s *userStore) checkWritable() error {
	path, ok := s.filePath()
	if !ok {
		return errNotAFile
	}
	return htedit.Check(path)
}

// replaceHashes writes new hashes of the same passwords, so the new entries inherit
// everything from the old ones.
func (s *userStore) replaceHashes(ctx context.Context, changes []htfile.Change) (made []bool, err error) {
	path, ok := s.filePath()
	if !ok {
		return nil, errNotAFile
	}
	for _, c := range changes {
		s.pending.expect(c, entry.inherit)
	}
	made, err = htedit.Replace(ctx, path, changes)
	for i, c := range changes {
		if err != nil || !made[i] {
			s.pending.forget(c)
		}
	}
	return made, err
}

// inherit passes on the cached password, the recognized clients, and with them the keys
// of all limits and the device cookies.
func (e entry) inherit(after entry) {
	if v := e.verified.Load(); v != nil {
		after.verified.CompareAndSwap(nil, v)
	}
	if clients := e.clients.Load(); clients != nil {
		after.clients.CompareAndSwap(nil, clients)
		after.recognized().devices.rehashed(e.Name, e.Hash, after.Hash)
	}
}

// state returns whether a handler replaces weak hashes in the file, how many logins are
// pending, and why the file cannot be written, or "".
func (r *storeRehash) state() (pending int, failure string, isUsed bool) {
	w := r.worker.Load()
	if w == nil || r.handlers.Load() == 0 {
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

// close writes the hashes that were made.
func (s *userStore) close() {
	if w := s.rehash.worker.Load(); w != nil {
		w.Close()
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

// rehashIfWeak replaces the hash of a user whose login has just passed, if it is weak. It
// is called for every such request, and costs a comparison if there is nothing to do.
func (h *Handler) rehashIfWeak(l *lookup, c *credentials) {
	if h.rehash.cost != 0 && l.needsRehash(h.rehash.cost) {
		h.guard.rehashEntry(*l, h.rehash.cost, c.password)
	}
}

// rehashEntry has a hash replaced that a password has matched, in the background.
func (g *guard) rehashEntry(l lookup, cost int, password []byte) {
	worker, clients := l.store.rehash.worker.Load(), l.entry.recognized()
	if worker == nil || clients == nil || worker.IsBlocked() || !clients.rehash.take(g.now()) {
		return
	}
	switch {
	case len(password) > maxRehashLen:
		g.rehashes[rehashSkippedLong].Add(1)
		return // for good: other devices may send the same long password
	case l.class().Format.Name == "descrypt" && !isWholeDES(password):
		g.rehashes[rehashSkippedUnsure].Add(1)
		return // for good: after a new hash of 8 characters, this form would be refused
	}
	ok := worker.Add(rehash.Login{
		User: l.entry.Name, Hash: l.entry.Hash, Cost: cost,
		Done: func(o rehash.Outcome) { g.finishRehash(&clients.rehash, o) },
	}, password)
	if !ok {
		clients.rehash.release(g.now().Add(rehash.Interval))
	}
}

// isWholeDES reports whether a DES hash depends on every bit of the password. It uses 7
// bits of 8 characters.
func isWholeDES(password []byte) bool {
	for _, c := range password {
		if c > 0x7f {
			return false
		}
	}
	return len(password) <= 8
}

// finishRehash counts the outcome, and says when the user may be considered again.
func (g *guard) finishRehash(claim *rehashClaim, o rehash.Outcome) {
	pause := rehashPause
	switch o {
	case rehash.OutcomeWritten:
		g.rehashes[rehashWritten].Add(1)
	case rehash.OutcomeConflict:
		g.rehashes[rehashConflict].Add(1)
	case rehash.OutcomeFailed:
		g.rehashes[rehashFailed].Add(1)
	case rehash.OutcomePostponed:
		pause = 0
	}
	claim.release(g.now().Add(pause))
}

// makeHashIdle makes a hash while no login needs the worker slots.
func (g *guard) makeHashIdle(ctx context.Context, cost int, password []byte) (hash string, err error) {
	if idleErr := g.queue.DoIdle(ctx, func() { hash, err = g.makeHash(rehashFormat, cost, password) }); idleErr != nil {
		return "", idleErr
	}
	return hash, err
}

// reportRehash logs a write, or why the file cannot be written. It is logged once until
// that changes.
func (s *userStore) reportRehash(r rehash.Report, logger *zap.Logger) {
	file := zap.String("file", s.path)
	switch {
	case r.Err == nil && r.Conflicts > 0:
		logger.Info("weak password hashes replaced", file, zap.Int("users", r.Written), zap.Int("changed_meanwhile", r.Conflicts))
	case r.Err == nil:
		logger.Info("weak password hashes replaced", file, zap.Int("users", r.Written))
	case r.IsNew:
		logger.Warn("cannot replace weak password hashes; logins still work", file, zap.Error(r.Err),
			zap.String("fix", "let the server's user own the file and write its directory, or remove rehash"))
	}
}
