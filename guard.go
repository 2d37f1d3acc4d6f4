package caddyhtpasswd

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rehash"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// guard limits guesses and the work that they cause. It holds the rate limits of
// failed logins, recent wrong passwords and the hash queue. All handlers of the process
// share one guard, which outlives reloads. Its memory use is fixed except for queued
// logins.
type guard struct {
	settings func() *settings // the active ones
	now      func() time.Time
	seed     maphash.Seed // of keys that are not counted by limits
	local    *keyer       // used without a fleet

	// Tests replace these.
	verify     func(class crypt.Class, hash string, password []byte) bool
	makeHash   func(format string, cost int, password []byte) (string, error)
	makeBcrypt func(cost int, password []byte, yield func()) (string, error)

	failures [scopeCount]*ratelimit.Counter
	exceeded [scopeCount]exceededNotes
	wrong    wrongPasswords
	queue    *hashQueue
	refusals *rate.Limiter
	lines    logLines
	files    func() []fileInUse
	rehash   rehash.Room
	devices  deviceGuard
	marks    marks // of clients that other servers of the fleet have recognized

	statistics
}

func newGuard(settings func() *settings, now func() time.Time) *guard {
	g := &guard{settings: settings, now: now, seed: maphash.MakeSeed(), local: newLocalKeyer(), verify: crypt.Class.Verify, makeHash: crypt.Make, makeBcrypt: crypt.MakeBcrypt, statistics: newStatistics()}
	for s := range g.failures {
		g.failures[s] = ratelimit.New(now())
	}
	g.queue = g.newQueue(maxWait)
	g.devices.init(now())
	g.lines = newLogLines()
	perSecond := refusalsPerCore * runtime.GOMAXPROCS(0)
	g.refusals = rate.NewLimiter(rate.Limit(perSecond), perSecond/10)
	return g
}

// limitKeys are the keys under which failed logins of a client and a user are counted.
type limitKeys [scopeCount]uint64

// keyer returns the keyer of the active settings.
func (g *guard) keyer() *keyer { return g.keyerOf(g.settings()) }

func (g *guard) keyerOf(s *settings) *keyer {
	if s.keyer != nil {
		return s.keyer
	}
	return g.local
}

// set sets the keys for a client and for the user name that l was looked up with. The
// hash is part of the keys, so a changed entry resets the limits.
func (k *limitKeys) set(keyer *keyer, client uint64, l *lookup, user []byte) {
	recognized := l.entry.recognized()
	name := recognized.nameKey(keyer, l)
	if name == 0 {
		name = keyer.user(l, user)
		recognized.keepName(keyer, l, name)
	}
	k[scopeLogin], k[scopeClient], k[scopeUser] = loginKey(name, client), client, name
}

// loginKey returns the key of a client and a user name together.
func loginKey(name, client uint64) uint64 { return rendezvous.Mix(name ^ client) }

// applies reports whether the limit of a scope applies. Only the login limit applies to
// recognized clients, so a flood from other clients cannot stop them. If the login limit
// is off, the client limit applies to them. Only the user limit applies to clients
// without an address, because these cannot be told apart.
func (k *limitKeys) applies(s scope, isRecognized bool, limits *[scopeCount]ratelimit.Limit) bool {
	switch {
	case k[scopeClient] == noClient:
		return s == scopeUser
	case isRecognized:
		return s == scopeLogin || s == scopeClient && limits[scopeLogin].Max == 0
	}
	return true
}

// wait returns for how long the limits are exceeded, the longest time of all limits, or
// 0 if none is exceeded. guesses is the number of open guesses, each of which may still
// become a failed login.
func (g *guard) wait(keys *limitKeys, isRecognized bool, guesses int) time.Duration {
	return g.waitBy(&g.settings().limits, keys, isRecognized, guesses)
}

// waitBy is wait with limits that were loaded before.
func (g *guard) waitBy(limits *[scopeCount]ratelimit.Limit, keys *limitKeys, isRecognized bool, guesses int) (wait time.Duration) {
	for s := range scopeCount {
		limit := limits[s]
		if limit.Max == 0 || !keys.applies(s, isRecognized, limits) {
			continue
		}
		if g.failures[s].Peek(keys[s])+guesses < limit.Max {
			if isRecognized {
				break // no other limit applies
			}
			continue // the usual case: no failed login, and no need for the time
		}
		wait = max(wait, g.failures[s].Wait(keys[s], g.now(), limit, guesses))
	}
	return wait
}

// count counts a failed login, and returns the scopes whose limits it has exceeded.
func (g *guard) count(keys *limitKeys) (exceeded []scope) {
	settings := g.settings()
	var counted [scopeCount]uint64
	for s := range scopeCount {
		limit := settings.limits[s]
		if !keys.applies(s, false, &settings.limits) {
			continue
		}
		if counted[s] = keys[s]; g.failures[s].Add(keys[s], g.now(), limit.Window) == limit.Max {
			exceeded = append(exceeded, s)
		}
	}
	if settings.fleet != nil {
		exceeded = settings.fleet.share(settings, &counted, exceeded)
	}
	for _, s := range exceeded {
		g.limitsExceeded[s].Add(1)
	}
	return exceeded
}

// hash is the only place where passwords of logins are hashed. It records the time for
// the metrics.
func (g *guard) hash(class crypt.Class, hash string, password []byte) bool {
	start := time.Now()
	defer func() { g.hashTimes.WithLabelValues(class.Format.Name).Observe(time.Since(start).Seconds()) }()
	return g.verify(class, hash, password)
}

// hasFailed reports whether a client has had failed logins recently.
func (g *guard) hasFailed(client uint64) bool {
	if client == noClient {
		return false
	}
	n, _ := g.failures[scopeClient].Count(client, g.now(), g.settings().limits[scopeClient].Window)
	return n > 0
}

// refusalsPerCore is how many logins per second and core are refused without a hash.
// Further refusals wait. Without this, a client that is refused immediately would ask
// again immediately, and a flood would fill the processors with refusals.
const refusalsPerCore = 1000

// awaitRefusal waits until a login may be refused. It returns immediately if the wait
// would be too long, or if the client has gone.
func (g *guard) awaitRefusal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	_ = g.refusals.Wait(ctx)
}

// throttledError is the error of a login that is refused because of a limit. It does
// not say which limit, because an attacker may read it.
type throttledError struct {
	wait time.Duration // until the limit is no longer exceeded
}

func (*throttledError) Error() string { return "too many failed logins" }

// wrongPasswords is a set of recent wrong passwords. A client that repeats one, such as
// a phone with an outdated saved password, gets the same answer without a hash. The
// array has a fixed size, so later passwords replace earlier ones. It includes the
// passwords of unknown users.
type wrongPasswords [1 << 16]atomic.Uint64

// at returns the place of a password that was tried for a user name, and the mark that
// this place has if the password is known to be wrong. Place and mark are parts of keyed
// hashes, with 80 bits together.
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

// verdict is the result of a check of credentials.
type verdict struct {
	result   result
	user     any  // with resultPassed: the user name as in the file, a string
	repeated bool // the result was known, or comes from the hash of another attempt
}

// isCheap reports whether a refusal needed no hash.
func (v verdict) isCheap() bool { return v.repeated || v.result == resultMalformed }

// attemptKey identifies a hash to compute. Attempts with equal keys share one hash. An
// attempt that cannot succeed never shares a hash with one that can.
type attemptKey struct {
	failure     result
	store, work *userStore
	hash        string
	user        string
	digest      digest
	cacheOff    bool
	maxAge      time.Duration
}

// hashQueue is the queue in which attempts wait for their hashes.
type hashQueue = hashqueue.Queue[attemptKey, verdict]

// maxWait is how long a login waits for a hash, and how long a refusal waits.
const maxWait = 10 * time.Second

func (g *guard) newQueue(maxWait time.Duration) *hashQueue {
	return hashqueue.New[attemptKey, verdict](hashqueue.Config{
		Workers:   func() int { return g.settings().maxHashes },
		MaxWait:   maxWait,
		IsDemoted: g.hasFailed,
	})
}

// errOverloaded is the error of logins that waited too long for a hash, or found no
// room in the queue.
var errOverloaded = errors.New("too many logins are queued; try again later")
