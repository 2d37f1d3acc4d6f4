package caddyhtpasswd

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"

	"github.com/caddyserver/caddy/v2"
)

// maxDecoyClasses bounds the work for a file in which each line has a cost of
// its own. Files of people have a handful of classes.
const maxDecoyClasses = 256

// decoy picks an entry for a name that can't log in, by weighted rendezvous
// hashing over the classes of the files: names fall on classes as entries do,
// the same name always on the same class, and an edit of a file moves few.
// Where nobody can log in there is none: its entry is nil.
func (s userStores) decoy(user []byte) (best found) {
	least := math.Inf(1)
	name := decoyKey(string(user))
	for _, store := range s {
		table := store.current.Load()
		for i := range table.classes[:min(len(table.classes), maxDecoyClasses)] {
			class := &table.classes[i]
			if score := rendezvous(name^mix(class.key^store.key), class.count); score < least {
				least = score
				best = found{store, table, &table.entries[class.sample]}
			}
		}
	}
	return best
}

// decoyKey maps parts to a number that nobody outside can predict, and that
// is the same after a restart.
func decoyKey(parts ...string) uint64 {
	mac := hmac.New(sha256.New, instanceKey())
	for _, p := range parts {
		mac.Write([]byte(p))
		mac.Write([]byte{0})
	}
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// instanceKey is derived from Caddy's persistent instance ID; without one the
// decoys are others after a restart.
var instanceKey = sync.OnceValue(func() []byte {
	secret := make([]byte, 32)
	if id, err := caddy.InstanceID(); err == nil {
		secret = id[:]
	} else {
		rand.Read(secret) // never fails
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("caddy-htpasswd decoys"))
	return mac.Sum(nil)
})
