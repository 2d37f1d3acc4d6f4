package caddyhtpasswd

import (
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

// minPoll is the shortest time between two looks.
const minPoll = 100 * time.Millisecond

// App holds the settings that all sites of the process share. It need not be
// configured: everything has a default.
type App struct {
	// Limits on failed logins.
	Throttle *Throttle `json:"throttle,omitempty"`

	// How many password hashes are computed at a time. Further ones are queued.
	// Default: half the processor cores, at least 1.
	MaxHashes int `json:"max_hashes,omitempty"`

	// How often to look at the password and group files where the operating
	// system gives no notice of a change: network file systems, the target of
	// a symlink rewritten elsewhere, a directory that was replaced. Default: 5s; at least
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

	shared   *shared
	settings *settings
	stored   *keyring.Stored // nil where the secret is configured

	checked caddy.Module // the http app whose sites were checked
}

// Throttle bounds how many passwords can be guessed. A wrong password and an
// unknown user count as one failed login for each of the limits; the same wrong
// password again does not. While a limit is exceeded, no password is checked, and
// the answer is 429 with Retry-After.
type Throttle struct {
	// For one client and one user together. Default: 10 failures in 1m.
	Login *Limit `json:"login,omitempty"`

	// For one client, by its address, with any user names. An IPv6 /64 is one
	// client. Default: 30 failures in 1m.
	Client *Limit `json:"client,omitempty"`

	// For one user name within its file, from any client. Recognized clients, which
	// have verified the user's current password, are not held to this limit, nor to
	// the one for clients. It starts again when the user's line changes. Default:
	// 100 failures in 1h.
	User *Limit `json:"user,omitempty"`
}

// Limit is how many logins may fail within a window of time. The window begins
// with the first failed login.
type Limit struct {
	// Whether there is no limit.
	Off bool `json:"off,omitempty"`

	// How many failures there may be, 1 to 1000000. Default: see `throttle`.
	Failures int `json:"failures,omitempty"`

	// How long they count, 1s to 720h. Default: see `throttle`.
	Window caddy.Duration `json:"window,omitempty"`
}

const (
	minWindow = time.Second
	maxWindow = 30 * 24 * time.Hour

	// maxFailures is the highest number of failed logins that a limit can allow.
	maxFailures = 1_000_000

	_ uint = ratelimit.MaxCount - maxFailures // it must be countable
)

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  appName,
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets the defaults, and adds the metrics to those of the
// configuration. Nothing takes effect before Start.
func (a *App) Provision(ctx caddy.Context) error {
	a.setDefaults(ctx.Logger())
	if err := a.provisionSecret(ctx); err != nil {
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

// limit returns what is configured for a scope, nil for nothing.
func (t *Throttle) limit(s scope) *Limit {
	if t == nil {
		return nil
	}
	return *t.of(s)
}

func (t *Throttle) of(s scope) **Limit {
	return [...]**Limit{scopeLogin: &t.Login, scopeClient: &t.Client, scopeUser: &t.User}[s]
}

// override puts what is configured in place of the defaults.
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

// Validate refuses settings that make no sense.
func (a *App) Validate() error {
	if a.Poll < caddy.Duration(minPoll) {
		return fmt.Errorf("poll: expected at least %s, found %s", minPoll, time.Duration(a.Poll))
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

// Start makes the settings the active ones.
func (a *App) Start() error {
	a.stored.Start()
	a.shared.active.start(a.settings)
	a.shared.guard.queue.WorkersChanged()
	return nil
}

// Stop restores the previous configuration's settings if these are the active
// ones: then this one was started, and given up after all.
func (a *App) Stop() error {
	a.stored.Stop()
	a.shared.active.stop(a.settings)
	a.shared.guard.queue.WorkersChanged()
	return nil
}

// Cleanup covers configurations that Caddy gives up after Start without calling Stop.
func (a *App) Cleanup() error { return a.Stop() }

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
