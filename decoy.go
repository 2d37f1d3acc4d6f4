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

// newDecoyTable returns the table in which a decoy is chosen among the classes of
// one file. Its indexes are positions of entries, one of each class.
func newDecoyTable(classes []htfile.Class) rendezvous.Table {
	candidates := make([]rendezvous.Candidate, len(classes))
	for i, c := range classes {
		candidates[i] = rendezvous.Candidate{Key: xxhash.Sum64String(c.String()), Weight: c.Count, Index: c.Sample}
	}
	return rendezvous.NewTable(candidates)
}

// decoy picks an entry for a user who cannot log in, by weighted rendezvous hashing
// over the classes of the files. A class gets the share of names that it has of the
// entries. A name always gets the same class, on every server with the same key and
// names of files, and an edit of a file moves few names. Where nobody can log in
// there is no decoy.
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

// decoyNumber maps a name to a number that nobody without the key can predict.
func decoyNumber(key, user []byte) uint64 {
	mac := hmac.New(sha256.New, key)
	mac.Write(user)
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// sourceName is the name of a file by which decoys are chosen: the one in the
// configuration, with its placeholders replaced, since servers that share a
// configuration can have the file at different paths. A file has only one at a
// time, for all sites, or else an unknown name would be counted in one file on one
// site and in another on the next. Where configurations have several names for
// a file, the least is taken. The names of a configuration count from when it is
// provisioned, even if it is then refused.
type sourceName struct {
	key atomic.Uint64 // places the file's classes among those of others

	mu    sync.Mutex
	names []string // one for each handler that has the file
}

// init gives a file that no configuration has named yet the name of its path.
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
