package caddyhtpasswd

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// outcome is what a check of credentials came to.
type outcome uint8

const (
	undecided outcome = iota // also: the file has changed meanwhile
	malformed
	wrongPassword
	unknownUser // in none of the files
	deniedUser  // locked, or with a bad line
	goodPassword
)

func (o outcome) String() string {
	return [...]string{
		undecided:     "undecided",
		malformed:     "malformed credentials",
		wrongPassword: "wrong password",
		unknownUser:   "unknown user",
		deniedUser:    "locked user or bad line",
		goodPassword:  "good password",
	}[o]
}

// verdict is an outcome with what belongs to it.
type verdict struct {
	outcome  outcome
	user     any  // with goodPassword: the name as it stands in the file, a string
	repeated bool // it was known already, or came of somebody else's check
}

// isCheap reports whether a refusal took no hash.
func (v verdict) isCheap() bool { return v.repeated || v.outcome == malformed }

// memory is how long a handler trusts what an entry remembers.
type memory struct {
	off    bool
	maxAge time.Duration // 0: until the entry changes
	now    func() time.Time
}

// trusts reports whether what was verified at that time still holds.
func (m *memory) trusts(at time.Time) bool {
	return m.maxAge == 0 || !at.Before(m.now().Add(-m.maxAge))
}

// userStores are the files of one handler, in the order in which they decide.
type userStores []*userStore

// found is an entry with the version of the file that it stands in. For a
// name in none of the files there is none, and the file is any.
type found struct {
	store *userStore
	table *userTable
	entry
}

func (f found) class() crypt.Class { return f.table.file.Classes[f.Class].Class }

// isUsable reports whether there is a password that would be right.
func (f found) isUsable() bool { return f.exists() && f.State == htfile.StateUsable }

// failure is what it comes to if there is no password that is right.
func (f found) failure() outcome {
	switch {
	case !f.exists():
		return unknownUser
	case f.State != htfile.StateUsable:
		return deniedUser
	}
	return wrongPassword
}

// find returns the entry that decides on user: the one in the first file that
// names them.
func (s userStores) find(user []byte) found {
	for _, store := range s {
		table := store.current.Load()
		if e := table.find(user); e.exists() {
			return found{store, table, e}
		}
	}
	return found{store: s[0], table: s[0].current.Load()}
}

// awaitCurrent waits until the files are read that have changed.
func (s userStores) awaitCurrent(ctx context.Context) {
	for _, store := range s {
		store.awaitCurrent(ctx)
	}
}

// decoy picks the entry whose hash is computed for a name that can't log in.
func (h *Handler) decoy(user []byte) found {
	return h.users.decoy(h.guard.settings().decoyKey(), user)
}

// equals reports whether f says what other says: of no user, or of the same one
// in the same file.
func (f found) equals(other found) bool {
	if !f.exists() || !other.exists() {
		return f.exists() == other.exists()
	}
	return f.store == other.store && f.State == other.State && f.Hash == other.Hash
}

// warnOfShadowed says how many users of a file an earlier one decides on.
func (s userStores) warnOfShadowed(logger *zap.Logger) {
	for i := 1; i < len(s); i++ {
		shadowed := 0
		users := s[i].current.Load().file.All
		for j := range users {
			if s[:i].find([]byte(users[j].Name)).exists() {
				shadowed++
			}
		}
		if shadowed > 0 {
			logger.Warn("users who are in an earlier file, too: that one decides, their lines here are skipped",
				zap.String("file", s[i].path), zap.Int("users", shadowed))
		}
	}
}

// trial is one look at credentials, with what the files say at the moment.
type trial struct {
	found
	target
	ip    string
	c     *credentials
	work  found         // the entry whose hash is to be computed; none if nobody can log in
	guess *atomic.Int32 // where this guess is counted while it is open; nil: none is
}

// pretend makes the trial one of a user in the file that decoy comes from.
func (t *trial) pretend(decoy found) {
	t.work = decoy
	if decoy.exists() {
		t.store, t.table = decoy.store, decoy.table
	}
}

// closeGuess ends a guess, if one is open.
func (t *trial) closeGuess() {
	if t.guess != nil {
		t.guess.Add(-1)
		t.guess = nil
	}
}

// othersGuesses is how many guesses of this client at this user's password are
// open, for which a trial without one has to leave room in the budget when its
// turn comes: it may come before theirs. One that has a guess open has its room.
func (t *trial) othersGuesses() int {
	known := t.knownClients()
	place := known.place(t.target[clientScope])
	if place < 0 || t.guess != nil {
		return 0
	}
	return int(known.guesses[place].Load())
}

// maxRounds is how often a login is judged anew because the line of its user
// has changed meanwhile.
const maxRounds = 32

// check compares credentials, sent from an IP address, with the files as they
// are now. A password that is remembered, as right or as wrong, costs nothing;
// everything else takes one hash computation, whoever the name belongs to, and
// if that fails, one of each budget. Only with goodPassword may a request pass.
// An error says that the password was not checked.
//
// No login is refused, or hashed, by a version that is known to be older than
// the one on disk: it waits for that to be read.
//
// A refusal stands as soon as it is made: the version of the file that is
// active at that moment says that the password is wrong. Only then is it
// counted, spent, logged and noted as wrong. If the line of the user is another
// one by then, nothing of that happens, and the login is judged anew. A good
// password has to be good for the version that is active at the very end.
func (h *Handler) check(ctx context.Context, ip string, c *credentials) (verdict, error) {
	if c.malformed {
		v := verdict{outcome: malformed}
		h.logFailure(ip, c.user, v)
		return v, nil
	}
	client := h.guard.client(ip)
	hasWaited := false
	for range maxRounds {
		t := trial{found: h.users.find(c.user), ip: ip, c: c}
		isUnknown := !t.exists()
		if isUnknown {
			t.pretend(h.decoy(c.user))
		}
		t.set(h.guard, client, &t.found, c.user)
		v, err := h.checkAtOnce(&t)
		if v.outcome == goodPassword {
			return v, nil
		}
		if !hasWaited { // once: what changes from then on has changed after the login came
			hasWaited = true
			if h.users.awaitCurrent(ctx); !h.isCurrent(&t) {
				t.closeGuess()
				continue
			}
		}
		if !isUnknown { // no refusal comes sooner than one of an unknown name
			if t.work = h.decoy(c.user); t.isUsable() {
				t.work = t.found
			}
		}
		if v.outcome == undecided && err == nil {
			v, err = h.checkInTurn(ctx, t)
			if errors.Is(err, errStale) || err == nil && v.outcome == undecided {
				continue // what the files say now decides
			}
			if v.outcome == goodPassword && err == nil {
				now := h.users.find(c.user)
				if !now.equals(t.found) {
					continue
				}
				now.addKnown(client, h.guard, t.target[userScope])
			}
		}
		if err != nil {
			return verdict{}, err
		}
		if v.repeated && v.outcome != goodPassword { // others are logged where they are found out
			h.logFailure(ip, c.user, v)
		}
		return v, nil
	}
	return verdict{}, errOverloaded // no version lasts as long as a hash takes: nothing is known
}

// isCurrent reports whether the files say of the user what they said when the
// trial began.
func (h *Handler) isCurrent(t *trial) bool { return h.users.find(t.c.user).equals(t.found) }

// errStale is for a trial of an entry that has changed before its turn came.
var errStale = errors.New("the file has changed")

// checkAtOnce is what there is to say without a turn: a budget is used up, or
// the password is known to be right, or known to be wrong. To be compared with
// the one that was right is a guess, so only known clients may at once; all
// others wait for their turn. A guess that was wrong stays open, and counts
// against what may be guessed, until it is spent.
func (h *Handler) checkAtOnce(t *trial) (v verdict, err error) {
	if h.openGuess(t); t.guess == nil {
		if err := h.throttled(t, 0); err != nil {
			return v, err
		}
	} else if user, match := h.recall(t); match != differs {
		t.closeGuess()
		if match == matches {
			return verdict{outcome: goodPassword, user: user}, nil
		}
	}
	if h.guard.wrong.has(t.target[userScope], &t.c.digest) {
		t.closeGuess() // it is no news
		return verdict{outcome: t.failure(), repeated: true}, nil
	}
	return v, nil
}

// openGuess opens a guess if the password may be compared at once: by a client
// that is known for the user's current password, or has no address, and within
// the budgets even if all other open guesses are wrong.
func (h *Handler) openGuess(t *trial) {
	known := t.knownClients()
	place := known.place(t.target[clientScope])
	if place < 0 || !t.isUsable() || h.memory.off {
		return
	}
	t.guess = &known.guesses[place]
	others := int(t.guess.Add(1)) - 1
	if h.guard.over(&t.target, true, others) > 0 {
		t.closeGuess()
	}
}

// throttled returns an error if a budget is used up, or would be if as many
// guesses turned out to be wrong.
func (h *Handler) throttled(t *trial, guesses int) error {
	isKnown := t.knownClients().place(t.target[clientScope]) >= 0
	if wait := h.guard.over(&t.target, isKnown, guesses); wait > 0 {
		return &throttledError{wait}
	}
	return nil
}

// checkInTurn waits for a slot and computes a hash: that of the entry or, for
// a name that can't log in, one of the same cost, whose result is thrown away.
// Its trial is a copy, since what waits outlives the request.
func (h *Handler) checkInTurn(ctx context.Context, t trial) (verdict, error) {
	if !t.work.exists() { // nobody can log in: there is nothing to hide
		return h.conclude(&t, false), nil
	}
	refused := func() error {
		if !h.isCurrent(&t) {
			return errStale
		}
		return h.throttled(&t, t.othersGuesses())
	}
	v, err := h.guard.slots.do(ctx, &waiter{
		client:  t.target[clientScope],
		key:     t.key(&h.memory),
		refused: refused,
		begin: func() func() verdict {
			mine := t
			mine.c = t.c.clone() // t's are used anew when the request is over
			t.guess = nil        // it is mine now
			return func() verdict {
				defer mine.c.release()
				defer mine.closeGuess()
				return h.compute(&mine)
			}
		},
	})
	if v.repeated && err == nil {
		err = refused() // it was computed for another: this one's budgets, and the file as it is now, still decide
	}
	if err != nil {
		h.abandon(&t, err)
	}
	t.closeGuess()
	return v, err
}

// abandon ends a trial without an answer to its guess. Whoever goes away has
// learned that the password is wrong all the same: that is counted, but not if
// it was compared with a line that is another one now.
func (h *Handler) abandon(t *trial, err error) {
	if t.guess != nil && !errors.Is(err, errStale) && h.isCurrent(t) {
		h.fail(t)
	}
}

// trialKey tells trials apart: of whom, with which hash, with which password,
// and by what memory. Those who can't log in share nothing with those who could
// be right.
type trialKey struct {
	failure     outcome
	store, work *userStore
	hash        string
	user        string
	digest      digest
	memoryOff   bool
	maxAge      time.Duration
}

func (t *trial) key(m *memory) trialKey {
	return trialKey{t.failure(), t.store, t.work.store, t.work.Hash, string(t.c.user), t.c.digest, m.off, m.maxAge}
}

// compute is one turn. It remembers what it comes to, and is undecided if the
// line of the user is no longer the one that the hash was computed for.
func (h *Handler) compute(t *trial) verdict {
	// Who computed the same until a moment ago has left the result.
	if h.guard.wrong.has(t.target[userScope], &t.c.digest) {
		return verdict{outcome: t.failure(), repeated: true}
	}
	if t.isUsable() && !h.memory.off && t.guess == nil && h.isCurrent(t) {
		if user, match := h.recall(t); match == matches {
			return verdict{outcome: goodPassword, user: user}
		}
	}
	return h.conclude(t, h.guard.hashed(t.work.class(), t.work.Hash, t.c.password) && t.isUsable())
}

// conclude is the end of a trial. Its effects come before the next turn
// begins, which may be of the same client.
func (h *Handler) conclude(t *trial, isGood bool) verdict {
	switch {
	case !h.isCurrent(t):
		return verdict{}
	case isGood:
		h.remember(t)
		return verdict{outcome: goodPassword, user: t.Name}
	}
	h.guard.wrong.add(t.target[userScope], &t.c.digest)
	h.fail(t)
	return verdict{outcome: t.failure()}
}

// fail spends budgets for a password that is wrong, and says so.
func (h *Handler) fail(t *trial) {
	usedUp := h.guard.spend(&t.target)
	h.logFailure(t.ip, t.c.user, verdict{outcome: t.failure()})
	for _, s := range usedUp {
		h.guard.noteExceeded(s, t)
		h.logUsedUp(t.ip, t.c.user, s)
	}
}

// match is how a password compares with the one that an entry remembers.
type match uint8

const (
	unknown match = iota // there is none, or it was verified too long ago
	differs
	matches
)

// recall compares a password with the one that the entry remembers, and
// returns the name of the user.
func (h *Handler) recall(t *trial) (user any, m match) {
	v := t.verified.Load()
	if v == nil {
		return nil, unknown
	}
	if !v.is(&t.c.digest) {
		h.guard.misses.Add(1)
		return nil, differs
	}
	if !h.memory.trusts(v.at) {
		h.guard.misses.Add(1)
		return nil, unknown
	}
	h.guard.hits.Add(1)
	return v.user, matches
}

// remember notes the password that the entry matched.
func (h *Handler) remember(t *trial) {
	if h.memory.off {
		return
	}
	t.remember(&t.c.digest, h.memory.now())
	if e := t.store.current.Load().find(t.c.user); e.exists() && e.sameAs(t.entry) {
		e.remember(&t.c.digest, h.memory.now()) // the file was swapped while the hash was computed
	}
}
