package caddyhtpasswd

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

func init() {
	caddy.RegisterModule(App{})
}

// minPoll is the shortest polling interval.
const minPoll = 100 * time.Millisecond

// App holds the settings that all sites of the process share. Every setting has a
// default, so the app need not be configured.
type App struct {
	// The fleet of servers that this one belongs to: the engine of the store that they
	// share, with its settings. Its servers count failed logins together, and can share
	// password files. Requires `secret`. Default: none.
	FleetRaw json.RawMessage `json:"fleet,omitempty" caddy:"namespace=htpasswd.fleets inline_key=engine"`

	// The age from which a version of a file in the fleet is not loaded at a start or a
	// reload. Servers write a file again, without a change, when half of this time is over.
	// So only a server that cannot reach the store, or a store that has gone back to an old
	// version, has such a version. Default: no limit.
	MaxStale caddy.Duration `json:"max_stale,omitempty"`

	// Limits on failed logins. Default: see the single limits.
	Throttle *Throttle `json:"throttle,omitempty"`

	// The maximum number of password hashes that are computed at the same time, 1 or
	// more. Further logins wait in a queue for up to 10s, and are then answered with
	// status 503. Default: half the number of processor cores, at least 1.
	MaxHashes int `json:"max_hashes,omitempty"`

	// The interval at which the password and group files are checked for changes that
	// the operating system does not report: on network file systems, at the target of
	// a symlink, and in a directory that was replaced. At least 100ms; intervals below
	// 400ms all have the same effect. Default: 5s.
	Poll caddy.Duration `json:"poll,omitempty"`

	// A random text of at least 32 characters, which must be the same on all servers of
	// a fleet. The secret and the configured names of the files determine which hashes
	// are computed for unknown users. The secret also determines the values of sticky
	// cookies, and signs device cookies. The secret appears in no log and no error. Global
	// placeholders such as `{env.*}` and `{file.*}` are allowed. Default: a key in
	// Caddy's storage, created by the first server that starts.
	Secret string `json:"secret,omitempty"`

	// The previous secret, for a change of the secret. While it is set, unknown users
	// keep the hashes that it determined, and sticky cookies name a server by both
	// secrets. Requires `secret`. Default: none.
	OldSecret string `json:"old_secret,omitempty"`

	shared   *shared
	settings *settings
	stored   *keyring.Stored // nil if the secret is configured

	fleet       *fleetState // nil without a fleet
	fleetInPool string      // the key of fleet in the pool
	starts      []func()    // called by Start

	texts   textLabels
	checked caddy.Module // the http app whose sites were checked
}

// Throttle limits how many passwords can be guessed. A wrong password and an unknown
// user count as one failed login for each of the limits. Repeating the same wrong
// password is not counted again. While a limit is exceeded, no password is checked:
// the response has status 429 and a Retry-After header (RFC 6585, section 4).
type Throttle struct {
	// The limit for one client and one user together. Default: 10 failures in 1m.
	Login *Limit `json:"login,omitempty"`

	// The limit for one client address, with any user names. An IPv6 /64 is one client.
	// Default: 30 failures in 1m.
	Client *Limit `json:"client,omitempty"`

	// The limit for one user name of a file, from all clients together. Recognized
	// clients, which have logged in with the user's current password before, are exempt
	// from this limit and from the client limit. A change of the user's line resets the
	// limit. Default: 100 failures in 1h.
	User *Limit `json:"user,omitempty"`
}

// Limit is a number of failed logins within a time window. The window begins with
// the first failed login.
type Limit struct {
	// Whether the limit is disabled. Default: false.
	Off bool `json:"off,omitempty"`

	// The number of failed logins after which further logins are refused, 1 to 1000000.
	// Default: see `throttle`.
	Failures int `json:"failures,omitempty"`

	// The length of the window, 1s to 720h. Default: see `throttle`.
	Window caddy.Duration `json:"window,omitempty"`
}

const (
	minWindow = time.Second
	maxWindow = 30 * 24 * time.Hour

	// maxFailures is the highest number of failed logins that a limit can allow.
	maxFailures = 1_000_000

	_ uint = ratelimit.MaxCount - maxFailures // the counters must reach it
)

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  appName,
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets the defaults and registers the metrics. The settings take effect
// at Start.
func (a *App) Provision(ctx caddy.Context) error {
	a.setDefaults(ctx.Logger())
	if err := a.provisionSecret(ctx); err != nil {
		return err
	}
	if err := a.provisionFleet(ctx); err != nil {
		return err
	}
	return a.shared.metrics.register(ctx.GetMetricsRegistry())
}

func (a *App) setDefaults(logger *zap.Logger) {
	a.shared = a.shared.orProcess()
	a.settings = defaultSettings(&a.shared.keys)
	a.settings.logger = logger
	if a.Poll == 0 {
		a.Poll = caddy.Duration(a.settings.poll)
	}
	if a.MaxHashes == 0 {
		a.MaxHashes = a.settings.maxHashes
	}
	a.settings.poll, a.settings.maxHashes = time.Duration(a.Poll), a.MaxHashes
	for s := range scopeCount {
		a.Throttle.limit(s).override(&a.settings.limits[s])
	}
}

// limit returns the configured limit of a scope, or nil.
func (t *Throttle) limit(s scope) *Limit {
	if t == nil {
		return nil
	}
	return *t.of(s)
}

func (t *Throttle) of(s scope) **Limit {
	return [...]**Limit{scopeLogin: &t.Login, scopeClient: &t.Client, scopeUser: &t.User}[s]
}

// override replaces the defaults in limit with what is configured.
func (l *Limit) override(limit *ratelimit.Limit) {
	if l == nil {
		return
	}
	if l.Window != 0 {
		limit.Window = time.Duration(l.Window)
	}
	if l.Failures != 0 {
		limit.Max = l.Failures
	}
	if l.Off {
		limit.Max = 0
	}
}

// Validate ensures that the settings are valid.
func (a *App) Validate() error {
	if a.Poll < caddy.Duration(minPoll) {
		return fmt.Errorf("poll: expected at least %s, found %s", minPoll, time.Duration(a.Poll))
	}
	if a.MaxStale < 0 {
		return fmt.Errorf("max_stale: expected a duration above 0, or 0 for no limit, found %s", time.Duration(a.MaxStale))
	}
	if a.MaxHashes < 0 {
		return fmt.Errorf("max_hashes: expected at least 1, found %d", a.MaxHashes)
	}
	for s := range scopeCount {
		if err := a.Throttle.limit(s).validate(); err != nil {
			return fmt.Errorf("throttle %s: %w", s, err)
		}
	}
	return nil
}

func (l *Limit) validate() error {
	switch {
	case l == nil:
		return nil
	case l.Off && (l.Failures != 0 || l.Window != 0):
		return errors.New("expected either 'off' or a number of failures and a window, found both")
	case l.Failures < 0 || l.Failures > maxFailures:
		return fmt.Errorf("failures: expected 1 to %d, found %d", maxFailures, l.Failures)
	case l.Window != 0 && (l.Window < caddy.Duration(minWindow) || l.Window > caddy.Duration(maxWindow)):
		return fmt.Errorf("window: expected %s to %s, found %s", minWindow, maxWindow, time.Duration(l.Window))
	}
	return nil
}

// onStart registers a function that Start calls. It may only be called before Start.
func (a *App) onStart(f func()) { a.starts = append(a.starts, f) }

// Start activates the settings.
func (a *App) Start() error {
	a.stored.Start()
	if a.fleet != nil {
		a.fleet.client.Start()
	}
	a.shared.active.start(a.settings)
	a.shared.guard.queue.WorkersChanged()
	for _, start := range a.starts {
		start()
	}
	return nil
}

// Stop deactivates the settings. If Caddy abandons this configuration after Start,
// the settings of the previous one become active again.
func (a *App) Stop() error {
	a.stored.Stop()
	a.shared.active.stop(a.settings)
	a.shared.guard.queue.WorkersChanged()
	return nil
}

// Cleanup leaves the fleet. It also covers configurations that Caddy abandons after Start
// without calling Stop.
func (a *App) Cleanup() error {
	if a.shared == nil {
		return nil
	}
	return errors.Join(a.Stop(), a.leaveFleet())
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
