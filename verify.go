package caddyhtpasswd

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// outcome is what a check of credentials came to.
type outcome uint8

const (
	undecided outcome = iota
	malformed
	wrongPassword
	unknownUser // in none of the files
	deniedUser  // locked, or with a bad line
	goodPassword
)

func (o outcome) String() string {
	return [...]string{"undecided", "malformed credentials", "wrong password", "unknown user", "locked user or bad line", "good password"}[o]
}

// verdict is an outcome with what belongs to it.
type verdict struct {
	outcome  outcome
	user     any  // with goodPassword: the name as it stands in the file, a string
	repeated bool // with others: it was known already, or somebody else's to compute
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
// name in none of the files there is none, and the file is the first.
type found struct {
	store *userStore
	table *userTable
	*entry
}

func (f found) class() crypt.Class { return f.table.classes[f.entry.class].Class }

// isUsable reports whether there is a password that would be right.
func (f found) isUsable() bool { return f.entry != nil && f.state == usable }

// failure is what it comes to if there is no password that is right.
func (f found) failure() outcome {
	switch {
	case f.entry == nil:
		return unknownUser
	case f.state != usable:
		return deniedUser
	}
	return wrongPassword
}

// find returns the entry that decides on user: the one in the first file that
// names them.
func (s userStores) find(user []byte) found {
	for _, store := range s {
		table := store.current.Load()
		if e := table.find(user); e != nil {
			return found{store, table, e}
		}
	}
	return found{store: s[0], table: s[0].current.Load()}
}

// decide returns the entry that decides on user now, and whether it says what
// f says.
func (s userStores) decide(user []byte, f found) (now found, same bool) {
	now = s.find(user)
	if now.entry == nil || f.entry == nil {
		return now, now.entry == f.entry
	}
	return now, now.store == f.store && now.state == f.state && now.hash == f.hash
}

// warnOfShadowed says how many users of a file an earlier one decides on.
func (s userStores) warnOfShadowed(logger *zap.Logger) {
	for i := 1; i < len(s); i++ {
		shadowed := 0
		entries := s[i].current.Load().entries
		for j := range entries {
			if s[:i].find([]byte(entries[j].user)).entry != nil {
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
	guess *acquaintance // of whom another password is remembered than this; nil: not compared
}

// check compares credentials, sent from an IP address, with the files as they
// are now. A password that is remembered, as right or as wrong, costs nothing;
// everything else takes one hash computation, whoever the name belongs to, and
// if that fails, one of each budget. Only with goodPassword may a request pass.
// An error says that the password was not checked.
func (h *Handler) check(ctx context.Context, ip string, c *credentials) (verdict, error) {
	if c.malformed {
		h.logFailure(attemptOf(ip, c.user), verdict{outcome: malformed})
		return verdict{outcome: malformed}, nil
	}
	client := h.guard.client(ip)
	for {
		t := trial{found: h.users.find(c.user), ip: ip, c: c}
		t.set(h.guard, client, &t.found, c.user)
		v, err := h.checkAtOnce(&t)
		if v.outcome == goodPassword || err != nil {
			return v, err
		}
		if v.outcome == undecided {
			v, err = h.checkInTurn(ctx, t)
			h.endGuess(&t, err)
		}
		// The files may have changed in the meantime, and what they say now decides.
		now, same := h.users.decide(c.user, t.found)
		switch {
		case errors.Is(err, errStale) || err == nil && !same:
			continue
		case err == nil && v.outcome == goodPassword:
			now.meet(client)
		case err == nil && v.repeated:
			h.logFailure(attemptOf(ip, c.user), v)
		}
		return v, err
	}
}

// errStale is for a trial of an entry that has changed before its turn came.
var errStale = errors.New("the file has changed")

// checkAtOnce is what there is to say without a turn: a budget is used up, or
// the password is known to be wrong, or known to be right. To be compared with
// the one that was right is a guess, so only those may who have been here
// before; all others wait for their turn. A guess that was wrong stays open,
// and counts against what may be guessed, until its end.
func (h *Handler) checkAtOnce(t *trial) (v verdict, err error) {
	client, known := t.target[clientBudget], t.acquaintance()
	acquainted := known.includes(client)
	mayGuess := known != nil && t.isUsable() && !h.memory.off && (acquainted || client == noClient)
	others := 0
	if mayGuess {
		others = int(known.guesses.Add(1)) - 1
	}
	wait := h.guard.over(&t.target, acquainted, others)
	if wait > 0 && mayGuess { // maybe too many only at this moment
		mayGuess = false
		known.guesses.Add(-1)
		wait = h.guard.over(&t.target, acquainted, 0)
	}
	switch {
	case wait > 0:
		return v, &throttled{wait}
	case h.guard.wrong.has(t.target[userBudget], &t.c.digest):
		v = verdict{outcome: t.failure(), repeated: true}
	case mayGuess:
		user, match := h.recall(t.found, &t.c.digest)
		if match == differs {
			t.guess = known
			return v, nil
		}
		if match == matches {
			v = verdict{outcome: goodPassword, user: user}
		}
	}
	if mayGuess {
		known.guesses.Add(-1)
	}
	return v, nil
}

// endGuess closes a guess. Whoever goes away before its hash is computed has
// learned that it is wrong all the same.
func (h *Handler) endGuess(t *trial, err error) {
	if t.guess == nil {
		return
	}
	if err != nil && !errors.Is(err, errStale) {
		h.fail(attemptOf(t.ip, t.c.user), &t.target, wrongPassword)
	}
	t.guess.guesses.Add(-1)
}

// fail spends budgets for an attempt that has failed, and says so.
func (h *Handler) fail(a attempt, t *target, o outcome) {
	usedUp := h.guard.fail(t)
	h.logFailure(a, verdict{outcome: o})
	for _, b := range usedUp {
		h.logLock(a, b)
	}
}

// checkInTurn waits for a slot and computes a hash: that of the entry or, for
// a name that can't log in, one of the same cost, whose result is thrown away.
func (h *Handler) checkInTurn(ctx context.Context, t trial) (verdict, error) {
	with := h.users.decoy(t.c.user) // for those who need none, too: it takes as long as a weak hash
	if t.isUsable() {
		with = t.found
	}
	if with.entry == nil { // nobody can log in: there is nothing to hide
		return h.failed(&t, &t.c.digest, attemptOf(t.ip, t.c.user)), nil
	}
	refused := func() error {
		if _, same := h.users.decide(t.c.user, t.found); !same {
			return errStale
		}
		if wait := h.guard.over(&t.target, t.acquaintance().includes(t.target[clientBudget]), 0); wait > 0 {
			return &throttled{wait}
		}
		return nil
	}
	v, own, err := h.guard.slots.do(ctx, &check{
		client:  t.target[clientBudget],
		key:     t.key(with),
		refused: refused,
		begin: func() func() verdict {
			password, sum, attempt := bytes.Clone(t.c.password), t.c.digest, attemptOf(t.ip, t.c.user) // t.c is used anew when the request is over
			return func() verdict {
				defer clear(password)
				return h.compute(&t, with, password, &sum, attempt)
			}
		},
	})
	if !own && err == nil {
		v.repeated = true
		err = refused() // a guess of one's own all the same
	}
	return v, err
}

// key tells trials apart: of whom, with which hash, and with which password.
// Names that can't log in share nothing with those who could be right.
func (t *trial) key(with found) string {
	return strings.Join([]string{t.failure().String(), t.store.path, with.store.path, with.hash, string(t.c.user), string(t.c.digest[:])}, "\x00")
}

// compute is one turn, with the hash in with: that of the entry, if this is
// usable. It remembers what it comes to.
func (h *Handler) compute(t *trial, with found, password []byte, sum *digest, a attempt) verdict {
	// Who computed the same until a moment ago has left the result.
	if h.guard.wrong.has(t.target[userBudget], sum) {
		return verdict{outcome: t.failure(), repeated: true}
	}
	if t.isUsable() && !h.memory.off && t.guess == nil {
		if user, match := h.recall(t.found, sum); match == matches {
			return verdict{outcome: goodPassword, user: user}
		}
	}
	if h.guard.hashed(with.class(), with.hash, password) && t.isUsable() {
		h.remember(t.found, sum)
		return verdict{outcome: goodPassword, user: t.user}
	}
	return h.failed(t, sum, a)
}

// failed notes a password that is wrong.
func (h *Handler) failed(t *trial, sum *digest, a attempt) verdict {
	h.guard.wrong.add(t.target[userBudget], sum)
	h.fail(a, &t.target, t.failure())
	return verdict{outcome: t.failure()}
}

// match is how a password compares with the one that an entry remembers.
type match uint8

const (
	unknown match = iota // there is none, or it was verified too long ago
	differs
	matches
)

// recall compares a password with the one that f remembers, and returns the
// name of the user.
func (h *Handler) recall(f found, sum *digest) (user any, m match) {
	v := f.verified.Load()
	if v == nil {
		return nil, unknown
	}
	h.guard.comparisons.Add(1)
	switch {
	case !v.is(sum):
		return nil, differs
	case !h.memory.trusts(v.at):
		return nil, unknown
	}
	return v.user, matches
}

// remember notes the password that f matched.
func (h *Handler) remember(f found, sum *digest) {
	if h.memory.off {
		return
	}
	f.remember(sum, h.memory.now())
	if e := f.store.current.Load().find([]byte(f.user)); e != nil && e.sameAs(f.entry) {
		e.remember(sum, h.memory.now()) // the file was swapped while the hash was computed
	}
}
