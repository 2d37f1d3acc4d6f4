package caddyhtpasswd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
)

// attempt is a login, decided by one version of the files.
type attempt struct {
	credentials *credentials
	from        origin
	keyer       *keyer // of the keys, from beginning to end
	keys        limitKeys
	lookup      lookup        // of the user
	work        lookup        // the entry whose hash is computed; without one if no user can log in
	device      *deviceToken  // of the user, that the client has sent; nil for none
	guess       *atomic.Int32 // the counter of open guesses that includes this attempt; nil if it has no open guess
	isCompared  bool          // without a hash, with a cached password that differs
}

// begin looks up the user of an attempt and the token of the user, and sets the keys of
// the limits. A decoy is chosen for users who cannot log in.
func (h *Handler) begin(a *attempt, client uint64) {
	user := a.credentials.user
	a.lookup = h.users.now().find(user)
	if !a.lookup.isUsable() {
		a.pretend(h.decoy(user))
	}
	a.keys.set(a.keyer, client, &a.lookup, user)
	if a.from.devices != nil {
		h.findDevice(a)
	}
}

// pretend sets the decoy. An unknown user counts as a user of the decoy's file.
func (a *attempt) pretend(decoy lookup) {
	a.work = decoy
	if decoy.entry.exists() && !a.lookup.entry.exists() {
		a.lookup.store, a.lookup.table = decoy.store, decoy.table
	}
}

// decoy returns the entry whose hash is computed for a user who cannot log in.
func (h *Handler) decoy(user []byte) lookup {
	return h.users.now().decoy(h.guard.settings().decoyKey(), user)
}

// chooseWork sets the entry whose hash is computed. It chooses a decoy for every user, so
// that the refusal of an unknown user does not take longer than others.
func (h *Handler) chooseWork(a *attempt) {
	if !a.lookup.isUsable() {
		return // begin has chosen a decoy
	}
	a.work = h.decoy(a.credentials.user) // for the time that it takes
	a.work = a.lookup
}

// client returns the place of the client among the recognized clients of the user, or -1
// if the client is not recognized.
func (a *attempt) client() int {
	return a.lookup.entry.recognized().place(a.keyer, a.keys[scopeClient])
}

// maxRounds is how often a login is decided again because its user's line has changed in
// the meantime.
const maxRounds = 32

// errStale is the error of an attempt whose user's line has changed.
var errStale = errors.New("the password file has changed")

// check compares credentials with the files. An error says that the password was
// not checked to the end.
//
// docs/security.md makes these promises, and names the tests for them:
//
//   - A request passes only with resultPassed, and only if the password is right for the
//     version of the file that is active at the end of the check.
//   - A cached password and a known wrong password need no hash. Every other check computes
//     one hash, of the user's class or of a decoy's. So the time does not tell an unknown,
//     locked or invalid user from a wrong password.
//   - Limits are checked before the hash, and again when the hash starts. So no more
//     passwords are compared than the limits allow, even with many concurrent requests.
//   - A comparison with the cached password is a guess, too. Only recognized clients and
//     device attempts (device_login.go) may compare without a hash. Their guess stays open, and counts against their limit, until
//     it is counted as failed or the password matches.
//   - A refusal is counted, logged and remembered only if the line that decided it is still
//     active. Otherwise the login is decided again.
//   - No login is refused or hashed by a version that is known to be older than the one on
//     disk. It waits, for a bounded time, until the new version is read.
func (h *Handler) check(ctx context.Context, from origin, c *credentials) (verdict, error) {
	return h.checkEntry(ctx, from, c, new(lookup))
}

// checkEntry is check. With resultPassed, it sets passed to the lookup of the user whose
// hash the password matches.
func (h *Handler) checkEntry(ctx context.Context, from origin, c *credentials, passed *lookup) (verdict, error) {
	if c.malformed {
		v := verdict{result: resultMalformed}
		h.logFailure(from, c.user, v)
		return v, nil
	}
	settings := h.guard.settings()
	keyer := h.guard.keyerOf(settings)
	client := keyer.client(from.ip)
	for round := range maxRounds {
		a := attempt{credentials: c, from: from, keyer: keyer}
		h.begin(&a, client)
		v, err := h.checkNow(&a, settings)
		*passed = a.lookup
		if round == 0 && from.devices != nil {
			h.countRecognized(&a)
		}
		if v.result == resultPassed {
			if from.devices != nil {
				h.passDevice(&a)
			}
			h.rehashIfWeak(&a.lookup, c)
			return v, nil
		}
		if round == 0 { // once: later changes were made after the login arrived
			if h.users.await(ctx); !h.isCurrent(&a) {
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
		if v.result == resultPassed && from.devices != nil {
			h.passDevice(&a)
		}
		if v.repeated && v.result != resultPassed { // decide logs all others
			h.logFailure(from, c.user, v)
		}
		return v, nil
	}
	return verdict{}, errOverloaded // the line changes faster than a hash can be computed
}

// isCurrent reports whether the user's line is the same as at the beginning of the
// attempt.
func (h *Handler) isCurrent(a *attempt) bool {
	return h.users.now().find(a.credentials.user).equals(a.lookup)
}

// checkNow decides an attempt without a hash if possible: if a limit is exceeded, or if
// the password is cached or known to be wrong. Otherwise the result is unchecked, and a
// guess may stay open. The settings are those of the attempt's keyer.
func (h *Handler) checkNow(a *attempt, settings *settings) (verdict, error) {
	if h.openGuess(a, settings); a.guess == nil {
		if err := h.throttled(a, 0); err != nil {
			return verdict{}, err
		}
	} else if !h.cache.off {
		user, c := h.compareCached(a)
		a.isCompared = c == cacheDiffers
		if c == cacheMatches || c == cacheEmpty && !a.isByDevice() {
			a.closeGuess()
		}
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

// openGuess opens a guess if the password may be compared with the cached one without a
// hash. The client must be recognized or have no address, and must be within its limits
// even if all other open guesses are wrong. A device attempt always has a guess.
func (h *Handler) openGuess(a *attempt, settings *settings) {
	if a.device != nil && h.openDeviceGuess(a) {
		return
	}
	place := a.client()
	if place < 0 || !a.lookup.isUsable() || h.cache.off {
		return
	}
	a.guess = &a.lookup.entry.recognized().guesses[place]
	others := int(a.guess.Add(1)) - 1
	if h.guard.waitBy(&settings.limits, &a.keys, true, others) > 0 {
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

// othersGuesses returns how many other guesses of the client at the user's password are
// open. An attempt without a guess must leave room for them within the limits, because
// its hash may start before theirs. For an attempt with a guess, there is room already.
func (a *attempt) othersGuesses() int {
	place := a.client()
	if place < 0 || a.guess != nil || a.isByDevice() {
		return 0
	}
	return int(a.lookup.entry.recognized().guesses[place].Load())
}

// throttled returns an error if a limit is exceeded, or would be exceeded if so many
// guesses were wrong.
func (h *Handler) throttled(a *attempt, guesses int) error {
	var wait time.Duration
	if a.isByDevice() {
		wait = h.guard.waitDevice(a.device.key, guesses)
	} else {
		wait = h.guard.wait(&a.keys, h.isRecognized(a), guesses)
	}
	if wait > 0 {
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

// checkHash decides an attempt with a hash. For a user who cannot log in, this is the hash
// of a decoy, whose result is ignored. The error is errStale if the user's line has changed
// in the meantime.
func (h *Handler) checkHash(ctx context.Context, a attempt) (verdict, error) {
	defer a.closeGuess()
	if !a.work.entry.exists() { // nobody can log in, so there is nothing to hide
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
		now := h.users.now().find(a.credentials.user)
		if !now.equals(a.lookup) {
			return verdict{}, errStale
		}
		h.guard.recognize(a.keyer, &now, &a.keys)
		h.rehashIfWeak(&now, a.credentials)
	}
	return v, nil
}

// awaitHash waits in the hash queue, and for the hash of the attempt or of an equal one.
// The limits are checked when the hash starts, see hashqueue.Task.Start. A hash that has
// started outlives the request.
func (h *Handler) awaitHash(ctx context.Context, a *attempt) (verdict, error) {
	client, network := h.guard.place(a)
	v, shared, err := h.guard.queue.Do(ctx, hashqueue.Task[attemptKey, verdict]{
		Client: client, Network: network, IsPreferred: a.isByDevice(),
		Key: h.keyOf(a),
		Start: func() (func() verdict, error) {
			if err := h.refusal(a); err != nil {
				return nil, err
			}
			own := *a
			own.device = a.device.clone()
			own.credentials = a.credentials.clone() // those of the request are reused when it ends
			a.guess = nil                           // it belongs to the hash now
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
		err = h.refusal(a) // the hash was another attempt's, so the limits and the line of this one are checked
	}
	return v, err
}

// refusal returns an error if the hash of an attempt must not start.
func (h *Handler) refusal(a *attempt) error {
	if !h.isCurrent(a) {
		return errStale
	}
	return h.throttled(a, a.othersGuesses())
}

// abandon ends an attempt whose comparison has no answer. A client that goes away can still
// learn from the time that the password is wrong. So the guess counts as failed, unless
// the user's line has changed.
func (h *Handler) abandon(a *attempt, err error) {
	if a.guess != nil && a.isCompared && !errors.Is(err, errStale) && h.isCurrent(a) {
		h.fail(a)
	}
}

// compute computes the hash of an attempt, unless an equal attempt has just recorded the
// result. The result is unchecked if the user's line has changed.
func (h *Handler) compute(a *attempt) verdict {
	if h.guard.wrong.has(a.keys[scopeUser], &a.credentials.digest) {
		return verdict{result: a.lookup.failure(), repeated: true}
	}
	if a.lookup.isUsable() && !h.cache.off && !a.isCompared && h.isCurrent(a) {
		if user, c := h.compareCached(a); c == cacheMatches {
			return verdict{result: resultPassed, user: user}
		}
	}
	isGood := h.guard.hash(a.work.class(), a.work.entry.Hash, a.credentials.password) && a.lookup.isUsable()
	v, _ := h.decide(a, isGood) // errStale comes with an unchecked result
	return v
}

// decide records and returns the result of an attempt. It runs before the next hash
// starts, which may be for the same client. If the user's line has changed, nothing is
// recorded and the error is errStale.
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
	if a.isByDevice() {
		h.failDevice(a)
		return
	}
	exceeded := h.guard.count(&a.keys)
	h.logFailure(a.from, a.credentials.user, verdict{result: a.lookup.failure()})
	for _, s := range exceeded {
		h.guard.noteExceeded(s, a.keys[s], a.from.ip, a.credentials.user, &a.lookup)
		h.logExceeded(a.from, a.credentials.user, s)
	}
}

// cacheComparison is the result of a comparison with the cached password.
type cacheComparison uint8

const (
	cacheEmpty cacheComparison = iota // no password is cached, or it has expired
	cacheDiffers
	cacheMatches
)

// compareCached compares the password with the cached one, and returns the user name if
// they match.
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

// cachePassword caches the password of the attempt, which has matched.
func (h *Handler) cachePassword(a *attempt) {
	if h.cache.off {
		return
	}
	a.lookup.entry.cache(&a.credentials.digest, h.cache.now())
	if e := a.lookup.store.current.Load().find(a.credentials.user); e.exists() && e.sameAs(a.lookup.entry) {
		e.cache(&a.credentials.digest, h.cache.now()) // a new version was loaded in the meantime
	}
}
