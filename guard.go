package caddyhtpasswd

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
	"github.com/seed10b5b978/caddy-htpasswd/internal/hashqueue"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/rendezvous"
)

// guard is what all handlers of the process share to keep guessing slow and the
// server fast: rate limits of failed logins, recent wrong passwords, and the
// queue for hashes. It outlives reloads. Its memory use is fixed except for
// queued logins.
type guard struct {
	settings func() *settings // the active ones
	now      func() time.Time
	seed     maphash.Seed // of keys

	verify func(class crypt.Class, hash string, password []byte) bool // tests replace it

	failures [scopeCount]*ratelimit.Counter
	exceeded [scopeCount]exceededNotes
	wrong    wrongPasswords
	queue    *hashQueue
	refusals *rate.Limiter
	lines    logLines
	files    func() []fileInUse

	statistics
}

func newGuard(settings func() *settings, now func() time.Time) *guard {
	g := &guard{settings: settings, now: now, seed: maphash.MakeSeed(), verify: crypt.Class.Verify, statistics: newStatistics()}
	for s := range g.failures {
		g.failures[s] = ratelimit.New(now())
	}
	g.queue = g.newQueue(maxWait)
	g.lines = newLogLines()
	perSecond := refusalsPerCore * runtime.GOMAXPROCS(0)
	g.refusals = rate.NewLimiter(rate.Limit(perSecond), perSecond/10)
	return g
}

// limitKeys are the keys that the failed logins of a client and a user count under.
type limitKeys [scopeCount]uint64

// noClient is the key of clients without an address, behind a unix socket.
const noClient = 0

// client returns the key of the client with an IP address, in the spelling of
// netip.Addr. An IPv6 /64 is one client, as it is one customer's.
func (g *guard) client(ip string) uint64 {
	if isIPv4(ip) { // most are, and need not be parsed at each request
		return max(maphash.String(g.seed, ip), noClient+1)
	}
	address, err := netip.ParseAddr(ip)
	if err != nil {
		return noClient
	}
	if address.Is4In6() {
		return g.client(address.Unmap().String())
	}
	bytes := address.As16()
	return max(maphash.Bytes(g.seed, bytes[:8]), noClient+1)
}

// isIPv4 tells the addresses of IPv4 from all else that Caddy has as client_ip:
// those of IPv6, and what stands for none.
func isIPv4(ip string) bool {
	return ip != "" && '0' <= ip[0] && ip[0] <= '9' && strings.IndexByte(ip, ':') < 0
}

// set sets the keys for a client, and for the name that l was looked up with.
// The hash is part of them: the limits of an entry that changes start again.
func (k *limitKeys) set(g *guard, client uint64, l *lookup, user []byte) {
	name := l.entry.recognized().nameKey(g)
	if name == 0 {
		name = rendezvous.Mix(l.store.key ^ maphash.Bytes(g.seed, user))
		if l.entry.exists() {
			name = rendezvous.Mix(name ^ maphash.String(g.seed, l.entry.Hash))
		}
	}
	k[scopeLogin], k[scopeClient], k[scopeUser] = loginKey(name, client), client, name
}

// loginKey is the key of a client and a name together.
func loginKey(name, client uint64) uint64 { return rendezvous.Mix(name ^ client) }

// applies reports whether the limit of a scope holds. Recognized clients are held to
// the login limit alone, so that a flood from elsewhere cannot stop them. If there is
// no login limit, they are held to the client limit. Clients without an address are
// held to the user limit alone, since nothing tells one from another.
func (k *limitKeys) applies(s scope, isRecognized bool, limits *[scopeCount]ratelimit.Limit) bool {
	switch {
	case k[scopeClient] == noClient:
		return s == scopeUser
	case isRecognized:
		return s == scopeLogin || s == scopeClient && limits[scopeLogin].Max == 0
	}
	return true
}

// wait returns how long a limit is exceeded, the longest if there are several,
// and 0 if none is. Guesses is how many failed logins may still come of guesses
// that are open.
func (g *guard) wait(keys *limitKeys, isRecognized bool, guesses int) (wait time.Duration) {
	settings := g.settings()
	for s := range scopeCount {
		limit := settings.limits[s]
		if limit.Max == 0 || !keys.applies(s, isRecognized, &settings.limits) {
			continue
		}
		if g.failures[s].Peek(keys[s])+guesses < limit.Max {
			if isRecognized {
				break // no other limit holds
			}
			continue // most often there was no failure at all, and no need for the time
		}
		wait = max(wait, g.failures[s].Wait(keys[s], g.now(), limit, guesses))
	}
	return wait
}

// count counts one failed login, and returns the scopes whose limits it has exceeded.
func (g *guard) count(keys *limitKeys) (exceeded []scope) {
	settings := g.settings()
	for s := range scopeCount {
		limit := settings.limits[s]
		if !keys.applies(s, false, &settings.limits) {
			continue
		}
		if g.failures[s].Add(keys[s], g.now(), limit.Window) == limit.Max {
			g.limitsExceeded[s].Add(1)
			exceeded = append(exceeded, s)
		}
	}
	return exceeded
}

// hash is the one place where the passwords of logins are hashed. It counts the
// time by format.
func (g *guard) hash(class crypt.Class, hash string, password []byte) bool {
	start := time.Now()
	defer func() { g.hashTimes.WithLabelValues(class.Format.Name).Observe(time.Since(start).Seconds()) }()
	return g.verify(class, hash, password)
}

// hasFailed reports whether there were failed logins from a client lately.
func (g *guard) hasFailed(client uint64) bool {
	if client == noClient {
		return false
	}
	n, _ := g.failures[scopeClient].Count(client, g.now(), g.settings().limits[scopeClient].Window)
	return n > 0
}

// refusalsPerCore is how many logins a second are refused without a hash. Further
// ones wait. A client that is refused at once asks again at once, and a flood must
// not fill the processors with refusals either.
const refusalsPerCore = 1000

// awaitRefusal waits until a login may be refused. It is over at once if that
// would take too long, or if the client is gone.
func (g *guard) awaitRefusal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	_ = g.refusals.Wait(ctx)
}

// throttledError is the error of a login that is refused because of a limit. It
// does not say which, since its reader could be the attacker.
type throttledError struct {
	wait time.Duration // until it is no longer exceeded
}

func (*throttledError) Error() string { return "too many failed logins" }

// wrongPasswords are recent wrong passwords. A client that sends one again, such
// as a phone with an outdated saved password, gets the same answer without a hash.
// The array has a fixed size: later passwords replace earlier ones. Passwords tried
// for unknown users are in it, too.
type wrongPasswords [1 << 16]atomic.Uint64

// at returns the place of a password tried for a name, and the mark that the
// place has if the password is known to be wrong. Both are parts of keyed hashes,
// of 80 bits together.
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

// verdict is what a check of credentials came to.
type verdict struct {
	result   result
	user     any  // with resultPassed: the name as it stands in the file, a string
	repeated bool // the result was known already, or is of another attempt's hash
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
var errOverloaded = errors.New("too many logins are queued; try again later")
