package caddyhtpasswd

import (
	"context"
	"hash/maphash"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/seed10b5b978/caddy-htpasswd/internal/crypt"
)

// guard is what all handlers of the process share to keep guessing slow and
// the server fast: budgets of failures, recent wrong passwords, and the slots
// that hashes are computed in. It outlives reloads. Its memory is fixed, but
// for who waits for a slot.
type guard struct {
	settings func() *App // those in force
	now      func() time.Time
	began    time.Time
	seed     maphash.Seed

	verify func(class crypt.Class, hash string, password []byte) bool // tests have it take a while

	spent [scopeCount]counters
	noted [scopeCount]exceededNotes
	wrong wrongPasswords
	slots slots
	pace  *rate.Limiter
	lines [lineKinds]*lineLog

	statistics
}

// sharedGuard is the one of this process.
var sharedGuard = newGuard(running.settings, time.Now)

func newGuard(settings func() *App, now func() time.Time) *guard {
	g := &guard{settings: settings, now: now, began: now(), seed: maphash.MakeSeed(), verify: crypt.Class.Verify, statistics: newStatistics()}
	g.slots.max = func() int { return settings().MaxHashes }
	g.slots.hasFailed = g.hasFailed
	g.slots.maxWait = maxWait
	for kind := range g.lines {
		g.lines[kind] = newLineLog(lineKind(kind))
	}
	refusals := refusalsPerCore * runtime.GOMAXPROCS(0)
	g.pace = rate.NewLimiter(rate.Limit(refusals), refusals/10)
	return g
}

// scope is whose failures a budget counts.
type scope uint8

const (
	loginScope  scope = iota // one client and one user together
	clientScope              // one client, with whatever names
	userScope                // one name within its file, from wherever
	scopeCount
)

var scopeNames = [scopeCount]string{loginScope: "login", clientScope: "client", userScope: "user"}

func (s scope) String() string { return scopeNames[s] }

// limit is how many failures a budget allows in a window of time. The window
// begins with the first failure; when it ends, all of them are forgotten.
type limit struct {
	failures int // 0: no limit
	window   time.Duration
}

// maxFailures is the highest number of failures that a budget can allow.
const maxFailures = 1_000_000

var defaultLimits = [scopeCount]limit{
	loginScope:  {10, time.Minute},
	clientScope: {30, time.Minute},
	userScope:   {100, time.Hour},
}

// target is whom a check concerns: the keys of its budgets.
type target [scopeCount]uint64

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

// set sets the keys for a client and the name that f was looked up with. The
// hash is part of them: an entry that changes begins anew.
func (t *target) set(g *guard, client uint64, f *found, user []byte) {
	name := f.knownClients().nameKey(g)
	if name == 0 {
		name = mix(f.store.key ^ maphash.Bytes(g.seed, user))
		if f.exists() {
			name = mix(name ^ maphash.String(g.seed, f.Hash))
		}
	}
	t[loginScope], t[clientScope], t[userScope] = loginKey(name, client), client, name
}

// loginKey is the key of a client and a name together.
func loginKey(name, client uint64) uint64 { return mix(name ^ client) }

// applies reports whether a scope has a budget for this target. Clients known
// for the user's current password are held to the login budget alone, so that
// a flood from elsewhere can't stop them; where there is none, to the client's.
// Without an address only the name can be told apart.
func (t *target) applies(s scope, isKnown bool, limits *[scopeCount]limit) bool {
	switch {
	case t[clientScope] == noClient:
		return s == userScope
	case isKnown:
		return s == loginScope || s == clientScope && limits[loginScope].failures == 0
	}
	return true
}

// over returns how long a budget is still used up, the longest where there are
// several, and 0 where none is. Guesses is the number of failures that may
// still come from guesses that are open.
func (g *guard) over(t *target, isKnown bool, guesses int) (wait time.Duration) {
	settings := g.settings()
	for s := range scopeCount {
		l := settings.limits[s]
		if l.failures == 0 || !t.applies(s, isKnown, &settings.limits) {
			continue
		}
		if g.spent[s].most(t[s])+guesses < l.failures {
			if isKnown {
				break // there is no other budget for this one
			}
			continue // most often there was no failure at all, and no need for the time
		}
		if n, left := g.spent[s].count(t[s], g.clock(), l.window); n+guesses >= l.failures {
			wait = max(wait, left, 1) // 1: open guesses alone use it up, and there is no window yet
		}
	}
	return wait
}

// spend counts one failure, and returns the scopes whose budgets it has used up.
func (g *guard) spend(t *target) (usedUp []scope) {
	settings := g.settings()
	for s := range scopeCount {
		if !t.applies(s, false, &settings.limits) {
			continue
		}
		if l := settings.limits[s]; g.spent[s].add(t[s], g.clock(), l.window) == l.failures {
			g.usedUp[s].Add(1)
			usedUp = append(usedUp, s)
		}
	}
	return usedUp
}

// hashed is the one place where passwords are hashed, and counted by format.
func (g *guard) hashed(class crypt.Class, hash string, password []byte) bool {
	start := time.Now()
	defer func() { g.hashTimes.WithLabelValues(class.Format.Name).Observe(time.Since(start).Seconds()) }()
	return g.verify(class, hash, password)
}

// hasFailed reports whether there were failures from a client lately.
func (g *guard) hasFailed(client uint64) bool {
	n, _ := g.spent[clientScope].count(client, g.clock(), g.settings().limits[clientScope].window)
	return client != noClient && n > 0
}

// clock returns the milliseconds since the guard began to exist. By the real
// clock these never go back; where they do, no window lasts longer than two.
func (g *guard) clock() int64 { return g.now().Sub(g.began).Milliseconds() }

// refusalsPerCore is how many log-ins a second are refused without a hash.
// Whoever is refused at once asks again at once: a flood must not fill the
// processors with refusals either. More of them wait.
const refusalsPerCore = 1000

// awaitRefusal waits until a log-in may be refused. It is over at once if that
// would take too long, or if the client is gone.
func (g *guard) awaitRefusal(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	_ = g.pace.Wait(ctx)
}

// throttledError is the error of a check that is refused because of a budget. It
// does not say which: whoever reads it could be the one who guesses.
type throttledError struct {
	wait time.Duration // until it is free again
}

func (*throttledError) Error() string { return "too many failed log-ins" }
