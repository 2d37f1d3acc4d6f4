package caddyhtpasswd

import (
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htedit"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

// shared is the state that all configurations of a process share. It outlives reloads:
// failed logins stay counted, files stay loaded, and verified passwords stay cached. Each
// module gets it in Provision.
type shared struct {
	active  activeSettings
	keys    keyring.Fallback // used while there is no secret
	guard   *guard
	sources sources
	// editable returns a file that is not on disk. Only tests replace it.
	editable func(url string) (target htedit.Target, kind string, ok bool)
	servers  *caddy.UsagePool // state of upstream servers for slow_start, by address
	names    *serverNames
	fleets   *caddy.UsagePool // connections to fleets, by settings and secret
	metrics  *metrics

	downGroups downGroups
}

// process is the shared state of this process.
var process = newShared(time.Now)

// orProcess returns s, or process if s is nil. Only tests set s.
func (s *shared) orProcess() *shared {
	if s == nil {
		return process
	}
	return s
}

func newShared(now func() time.Time) *shared {
	s := &shared{servers: caddy.NewUsagePool(), names: newServerNames(), fleets: caddy.NewUsagePool()}
	s.sources = sources{caddy.NewUsagePool(), &s.active}
	s.editable = s.sources.editable
	s.active.fallback = sync.OnceValue(func() *settings { return defaultSettings(&s.keys) })
	s.guard = newGuard(s.active.get, now)
	s.guard.files = s.sources.inUse
	s.metrics = newMetrics(s.guard, s.sources.inUse, &s.active)
	return s
}
