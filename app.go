package caddyhtpasswd

import (
	"fmt"
	"slices"
	"sync"
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
	// How often to look at the password and group files where the operating
	// system gives no notice of a change: network file systems, the target of
	// a symlink rewritten elsewhere, a folder made anew. Default: 5s; at least
	// 100ms. Below 400ms it makes no difference.
	Poll caddy.Duration `json:"poll,omitempty"`

	logger *zap.Logger
}

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

// Provision sets the defaults. Nothing takes effect before Start.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	if a.Poll == 0 {
		a.Poll = caddy.Duration(defaultPoll)
	}
	return nil
}

// Validate refuses settings that make no sense.
func (a *App) Validate() error {
	if a.Poll < caddy.Duration(minPoll) {
		return fmt.Errorf("poll is %s, but must be at least %s", time.Duration(a.Poll), minPoll)
	}
	return nil
}

// Start puts the settings in force.
func (a *App) Start() error {
	running.start(a)
	return nil
}

// Stop puts the settings of the configuration before in force again if these
// were: then this one was started, and refused after all.
func (a *App) Stop() error {
	running.stop(a)
	return nil
}

// running are the apps that were started and not stopped yet. A reload starts
// the new one before it stops the old one.
var running appStack

// appStack knows which settings are in force: those of the app started last.
type appStack struct {
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
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// inForce returns the app whose settings hold, and a channel that is closed
// when another's do.
func (s *appStack) inForce() (*App, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	if len(s.apps) == 0 {
		return &App{Poll: caddy.Duration(defaultPoll), logger: caddy.Log().Named(appName)}, s.changed
	}
	return s.apps[len(s.apps)-1], s.changed
}

// Interface guards
var (
	_ caddy.App         = (*App)(nil)
	_ caddy.Provisioner = (*App)(nil)
	_ caddy.Validator   = (*App)(nil)
)
