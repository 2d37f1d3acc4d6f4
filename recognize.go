package caddyhtpasswd

import "encoding/binary"

// mark returns the mark of a login, or 0 if there is none: without a fleet, and for clients
// without an address.
func (k *keyer) mark(keys *limitKeys) uint64 {
	if k.marks == nil || keys[scopeClient] == noClient {
		return 0
	}
	return k.marks.Sum(binary.LittleEndian.AppendUint64(make([]byte, 0, 8), keys[scopeLogin]))
}

// isRecognized reports whether the client of an attempt is recognized, here or by another
// server of the fleet. For the latter, it does the same work for users who cannot log in.
func (h *Handler) isRecognized(a *attempt) bool {
	if a.client() >= 0 {
		return true
	}
	mark := a.keyer.mark(&a.keys)
	return mark != 0 && h.guard.marks.has(mark) && a.lookup.isUsable()
}

// recognize records that a client has verified the current password of a user. In a fleet,
// the other servers get the mark of a client that is new here.
func (g *guard) recognize(k *keyer, l *lookup, keys *limitKeys) {
	isNew := l.entry.recognize(keys[scopeClient], k, k.source(l.store), keys[scopeUser])
	if !isNew || !k.isShared() {
		return
	}
	if s := g.settings(); s.keyer == k && s.recognized != nil {
		s.recognized(k.mark(keys))
	}
}
