package caddyhtpasswd

import (
	"context"
	"hash/maphash"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
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

	verify func(class crypt.Class, hash string, password []byte) bool

	spent  [budgetCount]counters
	wrong  wrongPasswords
	slots  slots
	report *failureLog
	pace   *rate.Limiter

	comparisons atomic.Int64 // with remembered passwords
	hashes      sync.Map     // *crypt.Format to *atomic.Int64: how many were computed
}

// sharedGuard is the one of this process.
var sharedGuard = newGuard(running.settings, time.Now)

func newGuard(settings func() *App, now func() time.Time) *guard {
	g := &guard{settings: settings, now: now, began: now(), seed: maphash.MakeSeed(), verify: crypt.Class.Verify}
	g.slots.max = func() int { return settings().MaxHashes }
	g.slots.isSuspect = g.hasFailed
	g.report = newFailureLog(settings)
	refusals := refusalsPerCore * runtime.GOMAXPROCS(0)
	g.pace = rate.NewLimiter(rate.Limit(refusals), refusals/10)
	return g
}

// budget is one of the kinds of budgets that failures are counted against.
type budget uint8

const (
	loginBudget  budget = iota // one client and one user together
	clientBudget               // one client, with whatever names
	userBudget                 // one name within its file, from wherever
	budgetCount
)

func (b budget) String() string { return [...]string{"login", "client", "user"}[b] }

// limit is how many failures a budget allows in a window of time. The window
// begins with the first failure; when it ends, all of them are forgotten.
type limit struct {
	failures int // 0: no limit
	window   time.Duration
}

// maxFailures is the highest number that a budget can allow.
const maxFailures = 1_000_000

var defaultLimits = [budgetCount]limit{
	loginBudget:  {10, time.Minute},
	clientBudget: {30, time.Minute},
	userBudget:   {100, time.Hour},
}

// target is whom a check concerns: the keys of its budgets.
type target [budgetCount]uint64

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

func isIPv4(ip string) bool {
	dots := 0
	for i := range len(ip) {
		switch c := ip[i]; {
		case c == '.':
			dots++
		case c < '0' || c > '9':
			return false
		}
	}
	return dots == 3
}

// set sets the keys for a client and the name that f was looked up with. The
// hash is part of them: an entry that changes begins anew. A name in none of
// the files is counted as one of the first.
func (t *target) set(g *guard, client uint64, f *found, user []byte) {
	name := mix(f.store.key ^ maphash.Bytes(g.seed, user))
	if f.entry != nil {
		name = mix(name ^ maphash.String(g.seed, f.hash))
	}
	t[loginBudget], t[clientBudget], t[userBudget] = mix(name^client), client, name
}

// applies reports whether budget b is for this target. Who has verified the
// present password from where they are is held to the login budget alone, so
// that a flood from elsewhere can't stop them. Without an address only the
// name can be told apart.
func (t *target) applies(b budget, acquainted bool) bool {
	switch {
	case t[clientBudget] == noClient:
		return b == userBudget
	case acquainted:
		return b == loginBudget
	}
	return true
}

// over returns for how long a budget is used up yet, the longest where there
// are several, and 0 where there is none. Guesses is the number of failures
// there may be yet from checks under way.
func (g *guard) over(t *target, acquainted bool, guesses int) (wait time.Duration) {
	settings := g.settings()
	for b := range budgetCount {
		l := settings.limits[b]
		if l.failures == 0 || !t.applies(b, acquainted) || g.spent[b].most(t[b])+guesses < l.failures {
			continue // most often there was no failure at all, and no need for the time
		}
		if n, left := g.spent[b].count(t[b], g.clock(), l.window); n+guesses >= l.failures {
			wait = max(wait, left, 1)
		}
	}
	return wait
}

// fail spends one of each budget, and returns the ones that this has used up.
func (g *guard) fail(t *target) (usedUp []budget) {
	settings := g.settings()
	for b := range budgetCount {
		if t[clientBudget] == noClient && b != userBudget {
			continue
		}
		if l := settings.limits[b]; g.spent[b].add(t[b], g.clock(), l.window) == l.failures {
			usedUp = append(usedUp, b)
		}
	}
	return usedUp
}

// hashed is the one place where passwords are hashed.
func (g *guard) hashed(class crypt.Class, hash string, password []byte) bool {
	count, ok := g.hashes.Load(class.Format)
	if !ok {
		count, _ = g.hashes.LoadOrStore(class.Format, new(atomic.Int64))
	}
	count.(*atomic.Int64).Add(1)
	return g.verify(class, hash, password)
}

// hasFailed reports whether there were failures from a client lately.
func (g *guard) hasFailed(client uint64) bool {
	n, _ := g.spent[clientBudget].count(client, g.clock(), g.settings().limits[clientBudget].window)
	return client != noClient && n > 0
}

// clock returns the milliseconds since the guard began to exist. By the real
// clock these never go back; where they do, no window lasts longer than two.
func (g *guard) clock() int64 { return g.now().Sub(g.began).Milliseconds() }

const (
	counterRows      = 4
	counterBits      = 16 // of a key, for the position in each row
	counterMask      = 1<<counterBits - 1
	countBits        = 24 // of a cell; the rest is the time when its window began
	countMask        = 1<<countBits - 1
	timeBits         = 64 - countBits
	timeBias         = 1 << (timeBits - 1)
	_           uint = countMask - maxFailures // a count must fit
)

// counters count failures by key in an array that never grows: each key has a
// cell in each row, which it shares with others at random, and the least of
// them is its number (a count-min sketch). So it can be too high, but only
// where more failures than there are cells came in a window, and by its owner
// alone. The keys are of a hash that nobody outside can predict.
//
// Reading takes no lock.
type counters struct {
	mu    sync.Mutex
	cells [counterRows][1 << counterBits]atomic.Uint64
}

func (c *counters) cell(row int, key uint64) *atomic.Uint64 {
	return &c.cells[row][key>>(row*counterBits)&counterMask]
}

// most returns the number of a key if no window has ended.
func (c *counters) most(key uint64) int {
	n := uint64(math.MaxUint64)
	for row := range counterRows {
		n = min(n, c.cell(row, key).Load()&countMask)
	}
	return int(n)
}

// count returns the number of a key at a time in milliseconds, and how long
// the first of its windows goes on.
func (c *counters) count(key uint64, now int64, window time.Duration) (n int, free time.Duration) {
	n, free = math.MaxInt, math.MaxInt64
	for row := range counterRows {
		count, left := unpack(c.cell(row, key).Load(), now, window)
		n, free = min(n, count), min(free, left)
	}
	return n, free
}

// add counts one failure of a key, and returns its new number. Of its cells
// only those are raised that would be too low.
func (c *counters) add(key uint64, now int64, window time.Duration) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, _ := c.count(key, now, window)
	after := min(before+1, countMask)
	for row := range counterRows {
		cell := c.cell(row, key)
		old := cell.Load()
		switch n, _ := unpack(old, now, window); {
		case n == 0:
			cell.Store(uint64(now+timeBias)<<countBits | uint64(after)) //nolint:gosec // of the time, the lower bits count
		case n < after:
			cell.Store(old&^countMask | uint64(after)) //nolint:gosec // not negative
		}
	}
	return after
}

// unpack returns the count of a cell and how long its window goes on. Both are
// 0 when that is over, or begins so far in the future that the clock must have
// been set back.
func unpack(cell uint64, now int64, window time.Duration) (n int, left time.Duration) {
	start := int64(cell>>countBits) - timeBias
	age := time.Duration(now-start) * time.Millisecond
	if cell&countMask == 0 || age >= window || age < -window {
		return 0, 0
	}
	return int(cell & countMask), window - age
}

// refusalsPerCore is how many log-ins a second are refused without a hash.
// Whoever is refused at once asks again at once: a flood must not fill the
// processors with refusals either. More of them wait.
const refusalsPerCore = 1000

// awaitRefusal waits until a log-in may be refused, or its client is gone.
func (g *guard) awaitRefusal(ctx context.Context) {
	now := g.now()
	reservation := g.pace.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait == 0 {
		return
	}
	if wait > maxWait { // too many to keep
		reservation.CancelAt(now)
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wrongPasswords are the wrong passwords of late: who sends one again (a
// telephone with the old one) gets the same answer without a hash. An array
// of fixed size, where later ones take the place of earlier ones. Names that
// don't exist are in it, too.
type wrongPasswords [1 << 16]atomic.Uint64

// at returns the place of a password tried for a name, and what stands there
// if it is known. Both are parts of keyed hashes, of 80 bits together.
func (p *wrongPasswords) at(name uint64, sum *digest) (place *atomic.Uint64, mark uint64) {
	mark = mix(name ^ be64(sum[:8]))
	return &p[mix(mark^be64(sum[8:]))%uint64(len(p))], max(mark, 1)
}

func (p *wrongPasswords) has(name uint64, sum *digest) bool {
	place, mark := p.at(name, sum)
	return place.Load() == mark
}

func (p *wrongPasswords) add(name uint64, sum *digest) {
	place, mark := p.at(name, sum)
	place.Store(mark)
}

// throttled is the error of a check that is refused because of a budget. It
// does not say which: whoever reads it could be the one who guesses.
type throttled struct {
	wait time.Duration // until it is free again
}

func (*throttled) Error() string { return "too many failed log-ins" }
