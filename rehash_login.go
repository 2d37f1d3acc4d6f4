package caddyhtpasswd

import (
	"cmp"
	"context"
	"slices"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
)

// provisionRehash makes the stores of a handler with rehash ready for it.
func (h *Handler) provisionRehash() {
	if h.Rehash == nil {
		return
	}
	h.rehashCost, h.rehashed.shared = cmp.Or(h.Rehash.Cost, minRehashCost), h.shared
	end := h.users.eachVersion(h.rehashed.set)
	h.toRelease(func() error { end(); return nil })
}

// rehashedStores are the stores in which a handler replaces weak hashes.
type rehashedStores struct {
	shared *shared
	stores userStores // each once
}

// set takes over the current stores of the handler, which can have a store twice.
func (r *rehashedStores) set(stores userStores) {
	var current userStores
	for _, s := range stores {
		if slices.Contains(current, s) {
			continue
		}
		current = append(current, s)
		if !slices.Contains(r.stores, s) {
			s.useRehash(r.shared)
		}
	}
	for _, s := range r.stores {
		if !slices.Contains(current, s) {
			s.rehash.handlers.Add(-1)
		}
	}
	r.stores = current
}

// rehashIfWeak replaces the hash of a user whose login has just passed, if it is weak. It
// is called for every such request, and inlined.
func (h *Handler) rehashIfWeak(l *lookup, c *credentials) {
	if h.rehashCost != 0 {
		h.rehashWeak(l, c)
	}
}

func (h *Handler) rehashWeak(l *lookup, c *credentials) {
	if l.needsRehash(h.rehashCost) {
		h.guard.rehashEntry(*l, h.rehashCost, c.password)
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

// makeHashIdle makes a hash while no login needs the worker slots, and pauses otherwise.
func (g *guard) makeHashIdle(ctx context.Context, cost int, password []byte) (hash string, err error) {
	if idleErr := g.queue.DoIdle(ctx, func(yield func()) { hash, err = g.makeBcrypt(cost, password, yield) }); idleErr != nil {
		return "", idleErr
	}
	return hash, err
}
