package caddyhtpasswd

import (
	"errors"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
)

// verdict is what a check of credentials came to.
type verdict struct {
	result   result
	user     any  // with resultPassed: the name as it stands in the file, a string
	repeated bool // it was known already, or came of another attempt's hash
}

// isCheap reports whether a refusal took no hash.
func (v verdict) isCheap() bool { return v.repeated || v.result == resultMalformed }

// attemptKey says whose hash is computed for which password. Attempts with equal
// keys share one hash. An attempt that cannot succeed shares none with one that can.
type attemptKey struct {
	failure     result
	store, work *userStore
	hash        string
	user        string
	digest      digest
	cacheOff    bool
	maxAge      time.Duration
}

// hashQueue is the queue of attempts for hashes.
type hashQueue = hashqueue.Queue[attemptKey, verdict]

// maxWait is how long a login waits for a hash, and a refusal for its time.
const maxWait = 10 * time.Second

func (g *guard) newQueue(maxWait time.Duration) *hashQueue {
	return hashqueue.New[attemptKey, verdict](hashqueue.Config{
		Workers:   func() int { return g.settings().maxHashes },
		MaxWait:   maxWait,
		IsDemoted: g.hasFailed,
	})
}

// errOverloaded is for logins that waited too long for a hash, or found no room
// in the queue.
var errOverloaded = errors.New("too many passwords are waiting to be checked; try again later")
