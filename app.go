package caddyhtpasswd

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(App{})
}

const (
	defaultPoll = 5 * time.Second
	minPoll     = 100 * time.Millisecond
)

// App holds the settings that all sites of the process share. It need not be
// configured: everything has a default.
type App struct {
	// How many log-ins may fail before no more are checked for a while.
	Throttle *Throttle `json:"throttle,omitempty"`

	// How many password hashes are computed at a time. Whoever needs one more
	// waits for their turn. Default: half the processor cores, at least 1.
	MaxHashes int `json:"max_hashes,omitempty"`

	// How often to look at the password and group files where the operating
	// system gives no notice of a change: network file systems, the target of
	// a symlink rewritten elsewhere, a folder made anew. Default: 5s; at least
	// 100ms. Below 400ms it makes no difference.
	Poll caddy.Duration `json:"poll,omitempty"`

	// A random text of at least 32 characters, the same on all servers of a
	// fleet. With it, and the names of the files as configured, servers choose
	// the hashes that are computed for unknown users. It is kept out of logs and
	// errors. Global placeholders such as `{env.*}` and `{file.*}` are allowed.
	// Default: a key in Caddy's storage, created by the first server that starts.
	Secret string `json:"secret,omitempty"`

	// The secret that `secret` replaces. While it is given, unknown users keep
	// the hashes that they had with it. Default: none.
	OldSecret string `json:"old_secret,omitempty"`

	limits [scopeCount]limit
	keys   *keyring
	stored *storedSecret // nil where the secret is configured
	logger *zap.Logger

	checked caddy.Module // the http app whose sites were checked
}

// Throttle bounds how many passwords can be guessed. A wrong password and an
// unknown user count as one failure for each of the budgets; the same wrong
// password again does not. While one of them is used up, no password is
// looked at, and the answer is 429 with Retry-After.
type Throttle struct {
	// For one client and one user together. Default: 10 failures in 1m.
	Login *Budget `json:"login,omitempty"`

	// For one client, by its address, with whatever user names. An IPv6 /64 is
	// one client. Default: 30 failures in 1m.
	Client *Budget `json:"client,omitempty"`

	// For one user name within its file, from wherever. Clients that have
	// verified the user's current password are not held to it, nor to the one
	// for clients. It begins anew when the user's line changes. Default: 100
	// failures in 1h.
	User *Budget `json:"user,omitempty"`
}

// Budget is a number of failures within a window of time. The window begins
// with the first one.
type Budget struct {
	// Whether there is no limit.
	Off bool `json:"off,omitempty"`

	// How many failures there may be, 1 to 1000000. Default: as said for the
	// budget in throttle.
	Failures int `json:"failures,omitempty"`

	// How long they count, 1s to 720h. Default: as said for the budget in
	// throttle.
	Window caddy.Duration `json:"window,omitempty"`
}

const (
	minWindow = time.Second
	maxWindow = 30 * 24 * time.Hour
)

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  appName,
		New: func() caddy.Module { return new(App) },
	}
}

// appName is the key of the app in the JSON configuration, and the name of
// the global option and of the directive in the Caddyfile.
const appName = "htpasswd"

// Provision sets the defaults, and adds the metrics to those of the
// configuration. Nothing takes effect before Start.
func (a *App) Provision(ctx caddy.Context) error {
	a.setDefaults(ctx.Logger())
	if err := a.provisionSecret(ctx); err != nil {
		return err
	}
	return register(ctx.GetMetricsRegistry())
}

func (a *App) setDefaults(logger *zap.Logger) {
	a.logger = logger
	if a.Poll == 0 {
		a.Poll = caddy.Duration(defaultPoll)
	}
	if a.MaxHashes == 0 {
		a.MaxHashes = max(runtime.GOMAXPROCS(0)/2, 1)
	}
	a.limits = defaultLimits
	for s := range scopeCount {
		a.Throttle.budget(s).override(&a.limits[s])
	}
}

// budget returns what is configured for a scope, nil for nothing.
func (t *Throttle) budget(s scope) *Budget {
	if t == nil {
		return nil
	}
	return *t.of(s)
}

func (t *Throttle) of(s scope) **Budget {
	return [...]**Budget{loginScope: &t.Login, clientScope: &t.Client, userScope: &t.User}[s]
}

func (b *Budget) override(l *limit) {
	if b == nil {
		return
	}
	if b.Window != 0 {
		l.window = time.Duration(b.Window)
	}
	if b.Failures != 0 {
		l.failures = b.Failures
	}
	if b.Off {
		l.failures = 0
	}
}

// Validate refuses settings that make no sense.
func (a *App) Validate() error {
	if a.Poll < caddy.Duration(minPoll) {
		return fmt.Errorf("poll: expected at least %s, found %s", minPoll, time.Duration(a.Poll))
	}
	if a.MaxHashes < 0 {
		return fmt.Errorf("max_hashes: expected at least 1, found %d", a.MaxHashes)
	}
	for s := range scopeCount {
		if err := a.Throttle.budget(s).validate(); err != nil {
			return fmt.Errorf("throttle %s: %w", s, err)
		}
	}
	return nil
}

func (b *Budget) validate() error {
	switch {
	case b == nil:
		return nil
	case b.Off && (b.Failures != 0 || b.Window != 0):
		return errors.New("expected either 'off' or a number of failures and a window, found both")
	case b.Failures < 0 || b.Failures > maxFailures:
		return fmt.Errorf("failures: expected 1 to %d, found %d", maxFailures, b.Failures)
	case b.Window != 0 && (b.Window < caddy.Duration(minWindow) || b.Window > caddy.Duration(maxWindow)):
		return fmt.Errorf("window: expected %s to %s, found %s", minWindow, maxWindow, time.Duration(b.Window))
	}
	return nil
}

// Start puts the settings in force.
func (a *App) Start() error {
	a.stored.start()
	running.start(a)
	sharedGuard.slots.settingsChanged()
	return nil
}

// Stop puts the settings of the configuration before in force again if these
// were: then this one was started, and refused after all.
func (a *App) Stop() error {
	a.stored.stop()
	running.stop(a)
	sharedGuard.slots.settingsChanged()
	return nil
}

// Cleanup does so where Caddy gives a configuration up after its start, and
// does not stop it.
func (a *App) Cleanup() error { return a.Stop() }

// running are the apps that were started and not stopped yet. A reload starts
// the new one before it stops the old one.
var running appStack

// appStack knows which settings are in force: those of the app started last.
type appStack struct {
	current atomic.Pointer[App] // the last one; nil for none

	mu      sync.Mutex
	apps    []*App
	changed chan struct{}
}

func (s *appStack) start(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, a)
	s.notify()
}

func (s *appStack) stop(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = slices.DeleteFunc(s.apps, func(other *App) bool { return other == a })
	s.notify()
}

func (s *appStack) notify() {
	var last *App
	if len(s.apps) > 0 {
		last = s.apps[len(s.apps)-1]
	}
	s.current.Store(last)
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// settings returns the app whose settings hold.
func (s *appStack) settings() *App {
	if a := s.current.Load(); a != nil {
		return a
	}
	return defaultApp()
}

// defaultApp holds while none is running.
var defaultApp = sync.OnceValue(func() *App {
	a := new(App)
	a.setDefaults(caddy.Log().Named(appName))
	return a
})

// inForce returns the app whose settings hold, and a channel that is closed
// when another's do.
func (s *appStack) inForce() (*App, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.settings(), s.changed
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
