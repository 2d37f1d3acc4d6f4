package caddyhtpasswd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
)

// cachePolicy is how long a handler trusts verified passwords.
type cachePolicy struct {
	off    bool
	maxAge time.Duration // 0: until the entry changes
	now    func() time.Time
}

// trusts reports whether what was verified at that time still holds.
func (p *cachePolicy) trusts(at time.Time) bool {
	return p.maxAge == 0 || !at.Before(p.now().Add(-p.maxAge))
}

// attempt is one try to log in, judged by what the files say at one moment.
type attempt struct {
	credentials *credentials
	from        origin
	keys        limitKeys
	lookup      lookup        // what the files say about the user
	work        lookup        // the entry whose hash is to be computed; none if nobody can log in
	guess       *atomic.Int32 // counts this attempt while its guess is open; nil: it has none
}

// begin looks the user of an attempt up, and sets the keys that it counts under.
func (h *Handler) begin(a *attempt, client uint64) {
	user := a.credentials.user
	a.lookup = h.users.find(user)
	if !a.lookup.entry.exists() {
		a.pretend(h.decoy(user))
	}
	a.keys.set(h.guard, client, &a.lookup, user)
}

// pretend makes the attempt one of a user in the file that the decoy comes from.
func (a *attempt) pretend(decoy lookup) {
	a.work = decoy
	if decoy.entry.exists() {
		a.lookup.store, a.lookup.table = decoy.store, decoy.table
	}
}

// decoy picks the entry whose hash is computed for a user who cannot log in.
func (h *Handler) decoy(user []byte) lookup {
	return h.users.decoy(h.guard.settings().decoyKey(), user)
}

// chooseWork sets whose hash is to be computed. A decoy is chosen for every
// user, so that no refusal comes sooner than one of an unknown user.
func (h *Handler) chooseWork(a *attempt) {
	if !a.lookup.entry.exists() {
		return // chosen already
	}
	a.work = h.decoy(a.credentials.user)
	if a.lookup.isUsable() {
		a.work = a.lookup
	}
}

// client returns the place of the client among those recognized for the user's
// current password, -1 if it is not recognized.
func (a *attempt) client() int { return a.lookup.entry.recognized().place(a.keys[scopeClient]) }

// maxRounds is how often a login is judged again because the line of its user
// has changed meanwhile.
const maxRounds = 32

// errStale is for an attempt that was judged by a line that has changed.
var errStale = errors.New("the file has changed")

// origin says where a login comes from, and which host it asks for.
type origin struct {
	ip   string // "" for a client without an address
	host string // only for the log: the client chooses it
}

// check compares credentials with the files. An error says that the password was
// not checked to the end.
//
// docs/security.md promises, and the tests that it names show:
//
//   - A request may pass only with resultPassed, and only if the password is
//     right for the version of the file that is active at the very end.
//   - A cached password, and one that is known to be wrong, costs no hash. Every
//     other check costs one, of the user's class or of a decoy's: an unknown, locked
//     or invalid user can't be told from a wrong password by the time it takes.
//   - Limits are checked before, and again when the hash's turn has come. So no
//     more passwords are compared than the limits allow, however many come at once.
//   - To be compared with the cached password is a guess, too. Only recognized
//     clients may at once. Their guess stays open, and counts against their limit,
//     until it is counted as failed or turns out right.
//   - A refusal is decided before it is told: it is counted, logged and kept as
//     wrong only if the line that it was judged by is still the active one. If not,
//     nothing of that happens, and the login is judged again.
//   - No login is refused or hashed by a version that is known to be older than
//     the one on disk: it waits, for a bounded time, for that to be read.
func (h *Handler) check(ctx context.Context, from origin, c *credentials) (verdict, error) {
	if c.malformed {
		v := verdict{result: resultMalformed}
		h.logFailure(from, c.user, v)
		return v, nil
	}
	client := h.guard.client(from.ip)
	for round := range maxRounds {
		a := attempt{credentials: c, from: from}
		h.begin(&a, client)
		v, err := h.checkNow(&a)
		if v.result == resultPassed {
			return v, nil
		}
		if round == 0 { // once: what changes from then on has changed after the login came
			if awaitCurrent(ctx, h.users); !h.isCurrent(&a) {
				a.closeGuess()
				continue
			}
		}
		h.chooseWork(&a)
		if v.result == resultUnchecked && err == nil {
			v, err = h.checkHash(ctx, a)
		}
		if errors.Is(err, errStale) {
			continue
		}
		if err != nil {
			return verdict{}, err
		}
		if v.repeated && v.result != resultPassed { // others are logged where they are decided
			h.logFailure(from, c.user, v)
		}
		return v, nil
	}
	return verdict{}, errOverloaded // no version lasts as long as a hash takes: nothing is known
}

// isCurrent reports whether the files say of the user what they said when the
// attempt began.
func (h *Handler) isCurrent(a *attempt) bool {
	return h.users.find(a.credentials.user).equals(a.lookup)
}

// checkNow decides what can be decided without a hash: a limit is exceeded, or
// the password is cached, or known to be wrong. Otherwise it leaves the result
// unchecked, and may leave a guess open.
func (h *Handler) checkNow(a *attempt) (verdict, error) {
	if h.openGuess(a); a.guess == nil {
		if err := h.throttled(a, 0); err != nil {
			return verdict{}, err
		}
	} else if user, c := h.compareCached(a); c != cacheDiffers {
		a.closeGuess()
		if c == cacheMatches {
			return verdict{result: resultPassed, user: user}, nil
		}
	}
	if h.guard.wrong.has(a.keys[scopeUser], &a.credentials.digest) {
		a.closeGuess() // it was counted when it was new
		return verdict{result: a.lookup.failure(), repeated: true}, nil
	}
	return verdict{}, nil
}

// openGuess opens a guess if the password may be compared with the cached one at
// once: by a client that is recognized, or has no address, and within the limits
// even if all other open guesses are wrong.
func (h *Handler) openGuess(a *attempt) {
	place := a.client()
	if place < 0 || !a.lookup.isUsable() || h.cache.off {
		return
	}
	a.guess = &a.lookup.entry.recognized().guesses[place]
	others := int(a.guess.Add(1)) - 1
	if h.guard.wait(&a.keys, true, others) > 0 {
		a.closeGuess()
	}
}

// closeGuess closes the guess of the attempt, if it has one.
func (a *attempt) closeGuess() {
	if a.guess != nil {
		a.guess.Add(-1)
		a.guess = nil
	}
}

// othersGuesses returns how many guesses of the client at the user's password
// are open. An attempt without a guess has to leave room for them within the
// limits: its turn may come before theirs. One with a guess has its room.
func (a *attempt) othersGuesses() int {
	place := a.client()
	if place < 0 || a.guess != nil {
		return 0
	}
	return int(a.lookup.entry.recognized().guesses[place].Load())
}

// throttled returns an error if a limit is exceeded, or would be if that many
// guesses turned out to be wrong.
func (h *Handler) throttled(a *attempt, guesses int) error {
	if wait := h.guard.wait(&a.keys, a.client() >= 0, guesses); wait > 0 {
		return &throttledError{wait}
	}
	return nil
}

func (h *Handler) keyOf(a *attempt) attemptKey {
	return attemptKey{
		a.lookup.failure(), a.lookup.store, a.work.store, a.work.entry.Hash, string(a.credentials.user), a.credentials.digest,
		h.cache.off, h.cache.maxAge,
	}
}

// checkHash decides by a hash: the user's, or for a user who cannot log in one
// that costs the same, whose result is thrown away. The error is errStale if the
// user's line has changed meanwhile.
func (h *Handler) checkHash(ctx context.Context, a attempt) (verdict, error) {
	defer a.closeGuess()
	if !a.work.entry.exists() { // nobody can log in: there is nothing to hide
		return h.decide(&a, false)
	}
	v, err := h.awaitHash(ctx, &a)
	if err != nil {
		h.abandon(&a, err)
		return verdict{}, err
	}
	switch v.result {
	case resultUnchecked:
		return verdict{}, errStale
	case resultPassed:
		now := h.users.find(a.credentials.user)
		if !now.equals(a.lookup) {
			return verdict{}, errStale
		}
		now.entry.recognize(a.keys[scopeClient], h.guard, a.keys[scopeUser])
	}
	return v, nil
}

// awaitHash waits for the turn of the attempt, and for its hash or that of an
// equal attempt. The limits are checked when the turn has come, see
// hashqueue.Task.Start. A hash that has begun outlives the request.
func (h *Handler) awaitHash(ctx context.Context, a *attempt) (verdict, error) {
	v, shared, err := h.guard.queue.Do(ctx, hashqueue.Task[attemptKey, verdict]{
		Client: a.keys[scopeClient],
		Key:    h.keyOf(a),
		Start: func() (func() verdict, error) {
			if err := h.refusal(a); err != nil {
				return nil, err
			}
			own := *a
			own.credentials = a.credentials.clone() // the request's own are reused when it is over
			a.guess = nil                           // belongs to the hash now
			return func() verdict {
				defer own.credentials.release()
				defer own.closeGuess()
				return h.compute(&own)
			}, nil
		},
	})
	if errors.Is(err, hashqueue.ErrOverloaded) {
		return verdict{}, errOverloaded
	}
	if v.repeated = v.repeated || shared; v.repeated && err == nil {
		err = h.refusal(a) // the hash was another's: the limits of this one, and the file as it is now, still hold
	}
	return v, err
}

// refusal returns why an attempt whose turn has come is not to be hashed, nil
// if it is.
func (h *Handler) refusal(a *attempt) error {
	if !h.isCurrent(a) {
		return errStale
	}
	return h.throttled(a, a.othersGuesses())
}

// abandon ends an attempt without an answer to its guess. A client that goes away
// could still learn that the password is wrong. So the guess is counted, but not if
// the password was compared with a line that has changed.
func (h *Handler) abandon(a *attempt, err error) {
	if a.guess != nil && !errors.Is(err, errStale) && h.isCurrent(a) {
		h.fail(a)
	}
}

// compute computes the hash of an attempt, unless an equal one has left the
// result a moment ago. The result is unchecked if the user's line has changed.
func (h *Handler) compute(a *attempt) verdict {
	if h.guard.wrong.has(a.keys[scopeUser], &a.credentials.digest) {
		return verdict{result: a.lookup.failure(), repeated: true}
	}
	if a.lookup.isUsable() && !h.cache.off && a.guess == nil && h.isCurrent(a) {
		if user, c := h.compareCached(a); c == cacheMatches {
			return verdict{result: resultPassed, user: user}
		}
	}
	isGood := h.guard.hash(a.work.class(), a.work.entry.Hash, a.credentials.password) && a.lookup.isUsable()
	v, _ := h.decide(a, isGood) // errStale comes with an unchecked result
	return v
}

// decide records what an attempt came to, and returns it. It does so before the
// next turn begins, which may be of the same client. The error is errStale if the
// user's line has changed: then nothing is recorded.
func (h *Handler) decide(a *attempt, isGood bool) (verdict, error) {
	switch {
	case !h.isCurrent(a):
		return verdict{}, errStale
	case isGood:
		h.cachePassword(a)
		return verdict{result: resultPassed, user: a.lookup.entry.Name}, nil
	}
	h.guard.wrong.add(a.keys[scopeUser], &a.credentials.digest)
	h.fail(a)
	return verdict{result: a.lookup.failure()}, nil
}

// fail counts and logs a failed login.
func (h *Handler) fail(a *attempt) {
	exceeded := h.guard.count(&a.keys)
	h.logFailure(a.from, a.credentials.user, verdict{result: a.lookup.failure()})
	for _, s := range exceeded {
		h.guard.noteExceeded(s, a.keys[s], a.from.ip, a.credentials.user, &a.lookup)
		h.logExceeded(a.from, a.credentials.user, s)
	}
}

// cacheComparison is how a password compares with the cached one.
type cacheComparison uint8

const (
	cacheEmpty cacheComparison = iota // none is cached, or it was verified too long ago
	cacheDiffers
	cacheMatches
)

// compareCached compares the password with the cached one, and returns the name
// of the user.
func (h *Handler) compareCached(a *attempt) (user any, c cacheComparison) {
	cached := a.lookup.entry.verified.Load()
	if cached == nil {
		return nil, cacheEmpty
	}
	if !cached.is(&a.credentials.digest) {
		h.guard.cacheMisses.Add(1)
		return nil, cacheDiffers
	}
	if !h.cache.trusts(cached.at) {
		h.guard.cacheMisses.Add(1)
		return nil, cacheEmpty
	}
	h.guard.cacheHits.Add(1)
	return cached.user, cacheMatches
}

// cachePassword caches the password of the attempt, which is right.
func (h *Handler) cachePassword(a *attempt) {
	if h.cache.off {
		return
	}
	a.lookup.entry.cache(&a.credentials.digest, h.cache.now())
	if e := a.lookup.store.current.Load().find(a.credentials.user); e.exists() && e.sameAs(a.lookup.entry) {
		e.cache(&a.credentials.digest, h.cache.now()) // the file was swapped while the hash was computed
	}
}
