package caddyhtpasswd

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// wrongPasswords are the wrong passwords of late: who sends one again (a
// telephone with the old one) gets the same answer without a hash. An array
// of fixed size, where later ones take the place of earlier ones. Names that
// don't exist are in it, too.
type wrongPasswords [1 << 16]atomic.Uint64

// at returns the place of a password tried for a name, and what stands there
// if it is known. Both are parts of keyed hashes, of 80 bits together.
func (p *wrongPasswords) at(name uint64, sum *digest) (place *atomic.Uint64, mark uint64) {
	mark = rendezvous.Mix(name ^ binary.BigEndian.Uint64(sum[:8]))
	return &p[rendezvous.Mix(mark^binary.BigEndian.Uint64(sum[8:]))%uint64(len(p))], max(mark, 1)
}

func (p *wrongPasswords) has(name uint64, sum *digest) bool {
	place, mark := p.at(name, sum)
	return place.Load() == mark
}

func (p *wrongPasswords) add(name uint64, sum *digest) {
	place, mark := p.at(name, sum)
	place.Store(mark)
}
