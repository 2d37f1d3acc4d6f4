package caddyhtpasswd

import (
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Cache sets how verified passwords are cached. The cache is in memory, and contains
// keyed digests of the passwords.
type Cache struct {
	// Whether the cache is disabled. Then every request computes a hash, which limits a
	// processor core to tens or hundreds of requests per second with the usual hashes.
	// Cannot be used with `max_age`. Default: false.
	Off bool `json:"off,omitempty"`

	// How long a password is cached, more than 0. Default: until the user's line changes.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

// cachePolicy is how a handler caches verified passwords.
type cachePolicy struct {
	off    bool
	maxAge time.Duration // 0: until the entry changes
	now    func() time.Time
}

// trusts reports whether a password that was verified at that time is still valid.
func (p *cachePolicy) trusts(at time.Time) bool {
	return p.maxAge == 0 || !at.Before(p.now().Add(-p.maxAge))
}
