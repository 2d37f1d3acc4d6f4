package caddyhtpasswd

import "sync/atomic"

// A server of a fleet tells the others which clients it has recognized, so that the login
// limit alone applies to them there, too (limitKeys.applies). A mark is all that it tells:
// a keyed hash of the key of the login, and so of the client, the user name, and the hash of
// the user's line. A mark is no proof of a password. It only spares its client the limits
// that others have exceeded. The client has no open guess before it has logged in on this
// server, so each of its passwords is compared by a hash, in the queue.

// marks is a set of marks that other servers have sent. The array has a fixed size, so
// later marks replace earlier ones. The zero value is empty. It is safe for concurrent use.
type marks [1 << 16]atomic.Uint64

// at returns the place of a mark.
func (m *marks) at(mark uint64) *atomic.Uint64 { return &m[mark%uint64(len(m))] }

// add adds a mark.
func (m *marks) add(mark uint64) {
	if mark != 0 { // an empty place
		m.at(mark).Store(mark)
	}
}

// has reports whether a mark was added, and not replaced.
func (m *marks) has(mark uint64) bool { return mark != 0 && m.at(mark).Load() == mark }
