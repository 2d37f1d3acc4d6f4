package caddyhtpasswd

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

// settings are the settings of an App, including the defaults. They do not change.
type settings struct {
	limits    [scopeCount]ratelimit.Limit
	maxHashes int // at the same time
	poll      time.Duration
	keys      *keyring.Ring
	storage   any         // Caddy's storage, if files are in it; otherwise nil
	logger    *zap.Logger // of the app

	// Those of a fleet are nil without one.
	fleet      fleetLimits
	keyer      *keyer            // of the fleet's limits
	recognized func(mark uint64) // is called for each client that is recognized first here; does not wait
}

// fleetLimits shares limits with the other servers of a fleet.
type fleetLimits interface {
	// share tells the other servers of a failed login that was counted here by these keys,
	// of which 0 stands for none, and raises the counters here to what all servers have
	// counted. exceeded are the scopes whose limits the login has exceeded. The result has
	// those that are exceeded by this raise, too.
	share(settings *settings, keys *[scopeCount]uint64, exceeded []scope) []scope
}

// appName is the name of the app in the JSON configuration, and of the global option and
// the directive in the Caddyfile.
const appName = "htpasswd"

// defaultSettings returns the settings of an app that is not configured.
func defaultSettings(fallback *keyring.Fallback) *settings {
	return &settings{
		limits:    defaultLimits,
		maxHashes: max(runtime.GOMAXPROCS(0)/2, 1), // the other half is for all other work
		poll:      5 * time.Second,
		keys:      keyring.NewRing(fallback),
		logger:    caddy.Log().Named(appName),
	}
}

// scope is what a rate limit counts failed logins by.
type scope uint8

const (
	scopeLogin  scope = iota // one client and one user together
	scopeClient              // one client, with any user names
	scopeUser                // one user of a file, from any clients
	scopeCount
)

var scopeNames = [scopeCount]string{scopeLogin: "login", scopeClient: "client", scopeUser: "user"}

func (s scope) String() string { return scopeNames[s] }

// MarshalText implements encoding.TextMarshaler.
func (s scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

var defaultLimits = [scopeCount]ratelimit.Limit{
	scopeLogin:  {Max: 10, Window: time.Minute},
	scopeClient: {Max: 30, Window: time.Minute},
	scopeUser:   {Max: 100, Window: time.Hour},
}

// decoyKey returns the key for the choice of decoys.
func (s *settings) decoyKey() []byte { return s.keys.Keys().Decoys }

// activeSettings holds the settings that are in effect: those of the app that was
// started last and is not stopped. A reload starts the new app before it stops the old
// one, and may still abandon the new one.
type activeSettings struct {
	fallback func() *settings // returns the settings while no app runs
	current  atomic.Pointer[settings]

	mu      sync.Mutex
	started []*settings
	changed chan struct{}
}

// get returns the active settings.
func (a *activeSettings) get() *settings {
	if s := a.current.Load(); s != nil {
		return s
	}
	return a.fallback()
}

// watch returns the active settings, and a channel that is closed when they change.
func (a *activeSettings) watch() (*settings, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.get(), a.changed
}

func (a *activeSettings) start(s *settings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = append(a.started, s)
	a.update()
}

func (a *activeSettings) stop(s *settings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.started = slices.DeleteFunc(a.started, func(other *settings) bool { return other == s })
	a.update()
}

func (a *activeSettings) update() {
	var last *settings
	if n := len(a.started); n > 0 {
		last = a.started[n-1]
	}
	a.current.Store(last)
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}
