package caddyhtpasswd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// newDecoyTable returns the table for choosing a decoy among the classes of one file.
// The indexes of the table are positions of entries, one for each class.
func newDecoyTable(classes []htfile.Class) rendezvous.Table {
	candidates := make([]rendezvous.Candidate, len(classes))
	for i, c := range classes {
		candidates[i] = rendezvous.Candidate{Key: xxhash.Sum64String(c.String()), Weight: c.Count, Index: c.Sample}
	}
	return rendezvous.NewTable(candidates)
}

// decoy picks an entry for a user who cannot log in, by weighted rendezvous hashing
// over the classes of the files. The share of names that a class gets is its share of
// the entries. A name gets the same class on every server with the same key and the
// same names of files. An edit of a file changes the class of few names. If no user
// can log in, there is no decoy.
func (s userStores) decoy(key []byte, user []byte) (best lookup) {
	name := decoyNumber(key, user)
	winner := rendezvous.Choice{Score: math.Inf(1)}
	for _, store := range s {
		table := store.current.Load()
		if choice := table.decoys.Choose(name, store.name.key.Load()); choice.Score < winner.Score {
			winner, best = choice, lookup{store: store, table: table}
		}
	}
	if best.table != nil {
		best.entry = best.table.at(winner.Index())
	}
	return best
}

// decoyNumber maps a name to a number that cannot be predicted without the key.
func decoyNumber(key, user []byte) uint64 {
	mac := hmac.New(sha256.New, key)
	mac.Write(user)
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// sourceName is the name of a file for the choice of decoys: the configured name, with
// its placeholders replaced. It is not the path, because servers that share a
// configuration can have the file at different paths. All sites use the same name for
// a file. Otherwise an unknown user would count in one file on one site, and in another
// file on the next site. If a file has several configured names, the first in
// alphabetical order is used. The names of a configuration take effect when it is
// provisioned, even if Caddy then refuses it.
type sourceName struct {
	key atomic.Uint64 // distinguishes the classes of this file from those of others

	mu    sync.Mutex
	names []string // one for each handler that uses the file
}

// init sets the path as the name, until a configuration names the file.
func (n *sourceName) init(path string) { n.key.Store(xxhash.Sum64String(path)) }

func (n *sourceName) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names = append(n.names, name)
	n.update()
}

func (n *sourceName) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.names, name); i >= 0 {
		n.names = slices.Delete(n.names, i, i+1)
	}
	n.update()
}

func (n *sourceName) update() {
	if len(n.names) > 0 {
		n.key.Store(xxhash.Sum64String(slices.Min(n.names)))
	}
}
