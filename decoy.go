package caddyhtpasswd

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// maxCommonClasses is how many classes of a file are weighed one by one when a
// decoy is chosen. Files of people have a handful of classes. See decoyClasses
// for the others.
const maxCommonClasses = 64

// decoyClass is a class of hashes among which a decoy is chosen.
type decoyClass struct {
	key    uint64 // places the class among others; the same on all servers
	weight int    // how many entries have it; in rareClasses, with those before it
	sample uint32 // position of one of these entries
}

// decoyClasses are the classes of one file. The most common ones are weighed one
// by one, which moves the fewest names when an entry comes or goes. All rare ones
// together count as one more. So choosing takes maxCommonClasses+1 steps and a
// descent in rareClasses, however many classes there are, and every class still
// gets its share of the unknown names.
type decoyClasses struct {
	common []decoyClass
	rare   rareClasses
}

func newDecoyClasses(classes []htfile.Class) (d decoyClasses) {
	all := make([]decoyClass, len(classes))
	for i, c := range classes {
		all[i] = decoyClass{xxhash.Sum64String(c.String()), c.Count, c.Sample}
	}
	if len(all) <= maxCommonClasses {
		return decoyClasses{common: all}
	}
	slices.SortFunc(all, func(a, b decoyClass) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.key, b.key))
	})
	d.common, d.rare = all[:maxCommonClasses:maxCommonClasses], all[maxCommonClasses:]
	slices.SortFunc(d.rare, func(a, b decoyClass) int { return cmp.Compare(a.key, b.key) })
	for i := 1; i < len(d.rare); i++ {
		d.rare[i].weight += d.rare[i-1].weight
	}
	return d
}

// rareClasses are ordered by key, so that they are the leaves of a binary tree:
// the first bit of the keys parts them in two, the next bit each of these, and so on.
type rareClasses []decoyClass

// rareKey stands for the key of all rare classes of a file together.
const rareKey = 0

func (r rareClasses) weight() int { return r.sum(len(r)) }

// sum returns the weight of the first n classes.
func (r rareClasses) sum(n int) int {
	if n == 0 {
		return 0
	}
	return r[n-1].weight
}

// choose goes down the tree. At each fork the number of the name decides between
// both sides, in proportion to their weights. A weight that changes moves names
// only at the forks above it. There are at most 64.
func (r rareClasses) choose(name uint64) *decoyClass {
	low, high := 0, len(r)
	for bit := 63; bit >= 0 && high-low > 1; bit-- {
		middle := low + sort.Search(high-low, func(i int) bool { return r[low+i].key>>bit&1 == 1 })
		if middle == low || middle == high {
			continue // all are on one side
		}
		fork := mix(r[low].key>>bit ^ uint64(bit)<<58)
		left, both := r.sum(middle)-r.sum(low), r.sum(high)-r.sum(low)
		if uniform(name^fork)*float64(both) < float64(left) {
			high = middle
		} else {
			low = middle
		}
	}
	return &r[low]
}

// decoy picks an entry for a name that can't log in, by weighted rendezvous
// hashing over the classes of the files: names fall on classes as entries do,
// the same name always on the same class, on every server with the same key and
// names of files, and an edit of a file moves few. Where nobody can log in there
// is none: the zero entry.
func (s userStores) decoy(key []byte, user []byte) (best found) {
	least := math.Inf(1)
	name := decoyNumber(key, user)
	var rare uint64 // the number of the name among the rare classes of best
	for _, store := range s {
		table, source := store.current.Load(), store.name.key.Load()
		for i := range table.decoys.common {
			class := &table.decoys.common[i]
			if score := rendezvous(name^mix(class.key^source), class.weight); score < least {
				least = score
				best = found{store, table, table.at(class.sample)}
			}
		}
		if len(table.decoys.rare) == 0 {
			continue
		}
		number := name ^ mix(rareKey^source)
		if score := rendezvous(number, table.decoys.rare.weight()); score < least {
			least, rare = score, number
			best = found{store: store, table: table}
		}
	}
	if best.table != nil && !best.exists() {
		best.entry = best.table.at(best.table.decoys.rare.choose(rare).sample)
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
// it, the least is taken. That holds for a configuration from when it is
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
