package caddyhtpasswd

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// shared is what the configurations of a process have in common. It outlives
// reloads: limits go on counting, files stay loaded, and verified passwords stay
// cached. Provision hands it to each module.
type shared struct {
	active  activeSettings   // of the apps
	keys    keyring.Fallback // that stand in for those of a secret
	guard   *guard
	sources sources
	servers *caddy.UsagePool // of what slow_start knows of upstream servers, by address
	metrics *metrics
}

// process is what the modules of this process share.
var process = newShared(time.Now)

// orProcess returns s, or process if there is none: only tests have others.
func (s *shared) orProcess() *shared {
	if s == nil {
		return process
	}
	return s
}

func newShared(now func() time.Time) *shared {
	s := &shared{servers: caddy.NewUsagePool()}
	s.sources = sources{caddy.NewUsagePool(), &s.active}
	s.active.fallback = sync.OnceValue(func() *settings { return defaultSettings(&s.keys) })
	s.guard = newGuard(s.active.get, now)
	s.guard.files = s.sources.inUse
	s.metrics = &metrics{s.guard, s.sources.inUse}
	return s
}
