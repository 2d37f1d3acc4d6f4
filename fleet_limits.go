package caddyhtpasswd

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelimit"
)

// A failed login is counted here first, and then in the store, with one call for all
// limits. The answer raises the counters here. So does the event of a server that sees a
// limit exceeded: from then on, all servers refuse without a call. The store is asked
// nothing else: not before a hash, not for a good login, and not for a refusal.
//
// In one window, N servers compute at most Max + N*max_hashes - 1 hashes for a limit:
// what is in flight when it is exceeded has a worker slot.

// set returns the counters of a limit in the store. Servers whose limits have the same
// window share them.
func (s scope) set(limit ratelimit.Limit) fleet.Set {
	return fleet.Set{Name: s.String(), Window: limit.Window}
}

// scopeNamed returns the scope with a name.
func scopeNamed(name string) (s scope, ok bool) {
	i := slices.Index(scopeNames[:], name)
	return scope(max(i, 0)), i >= 0 //nolint:gosec // one of a few
}

// share implements fleetLimits. It waits for the store, so it runs in the worker slot of
// the hash, or in the request, and never under the lock of the hash queue.
func (f *fleetState) share(settings *settings, keys *[scopeCount]uint64, exceeded []scope) []scope {
	var scopes [scopeCount]scope
	counters := make([]fleet.Counter, 0, scopeCount)
	for s := range scopeCount {
		if limit := settings.limits[s]; keys[s] != 0 && limit.Max != 0 {
			scopes[len(counters)] = s
			counters = append(counters, fleet.Counter{Set: s.set(limit), Key: keys[s]})
		}
	}
	if len(counters) == 0 {
		return exceeded
	}
	for i, count := range f.client.Add(counters) {
		if s := scopes[i]; f.raise(s, keys[s], count, settings.limits[s]) {
			exceeded = append(exceeded, s)
		}
	}
	slices.Sort(exceeded)
	for _, s := range exceeded {
		if settings.limits[s].Max != 0 {
			f.publishExceeded(s, keys[s], settings.limits[s])
		}
	}
	return exceeded
}

// raise raises a counter to what the store says, and reports whether this exceeds the
// limit.
func (f *fleetState) raise(s scope, key uint64, count fleet.Count, limit ratelimit.Limit) bool {
	before := f.guard.failures[s].RaiseTo(key, count.N, count.Left, f.reach.now(), limit.Window)
	return before < limit.Max && count.N >= limit.Max
}

// raiseLater is raise for failed logins that were kept while the store was down. Who has
// caused them is no longer known, so an exceeded limit has no log line.
func (f *fleetState) raiseLater(c fleet.Counter, count fleet.Count) {
	settings := f.guard.settings()
	s, ok := scopeNamed(c.Name)
	if !ok || !f.reach.isActive(f) || s.set(settings.limits[s]) != c.Set || settings.limits[s].Max == 0 {
		return
	}
	if f.raise(s, c.Key, count, settings.limits[s]) {
		f.guard.limitsExceeded[s].Add(1)
		f.publishExceeded(s, c.Key, settings.limits[s])
	}
}

// publishExceeded tells the other servers that a limit is exceeded.
func (f *fleetState) publishExceeded(s scope, key uint64, limit ratelimit.Limit) {
	now := f.reach.now()
	n, left := f.guard.failures[s].Count(key, now, limit.Window)
	if n > 0 {
		f.publish(&fleetEvent{Exceeded: &exceededEvent{s.String(), limit.Window, key, n, now.Add(left).UnixMilli()}})
	}
}

// receiveExceeded raises a counter to what another server has counted.
func (f *fleetState) receiveExceeded(e *exceededEvent) {
	s, _ := scopeNamed(e.Limit)
	limit, now := f.guard.settings().limits[s], f.reach.now()
	left := time.UnixMilli(e.Until).Sub(now)
	if limit.Max == 0 || limit.Window != e.Window || left <= 0 {
		return
	}
	f.raise(s, e.Key, fleet.Count{N: e.Failures, Left: left}, limit) // the other server logs it
}

// recognized tells the other servers that a client is recognized here.
func (f *fleetState) recognized(mark uint64) {
	f.publish(&fleetEvent{Recognized: []uint64{mark}})
}

// removedAtOnce is how many counters are removed from the store with one call.
const removedAtOnce = 1000

// forget clears failed logins on all servers after they were cleared here: in the store,
// and by an event. cleared are the keys that had failed logins here. nil as base stands
// for all failed logins.
func (f *fleetState) forget(ctx context.Context, base *forgotten, cleared []scopedKey) error {
	settings, now := f.guard.settings(), f.reach.now()
	f.client.Forget(countersOf(settings, cleared), now) // otherwise they would come back with the store
	return f.do(ctx, func(ctx context.Context, store fleet.Store) error {
		if base == nil {
			var sets []fleet.Set
			for s, limit := range settings.limits {
				sets = append(sets, scope(s).set(limit))
			}
			if err := store.RemoveAll(ctx, sets); err != nil {
				return err
			}
			return store.Publish(ctx, f.seal(&fleetEvent{Forget: &forgetEvent{All: true}}))
		}
		if err := removeCounters(ctx, store, settings, base.counters(cleared)); err != nil {
			return err
		}
		all := *base
		all.Logins = exceededLogins(cleared)
		for event := range all.events(now) {
			if err := store.Publish(ctx, f.seal(&fleetEvent{Forget: event})); err != nil {
				return err
			}
		}
		return nil
	})
}

// countersOf yields the counters of keys in the store.
func countersOf(settings *settings, keys []scopedKey) iter.Seq[fleet.Counter] {
	return func(yield func(fleet.Counter) bool) {
		for _, k := range keys {
			if !yield(fleet.Counter{Set: k.scope.set(settings.limits[k.scope]), Key: k.key}) {
				return
			}
		}
	}
}

// counters returns the keys to remove from the store: those that were cleared here, and
// the base keys, which other servers may have counted.
func (f *forgotten) counters(cleared []scopedKey) []scopedKey {
	keys := slices.Clone(cleared)
	for _, user := range f.Users {
		keys = append(keys, scopedKey{scope: scopeUser, key: user})
	}
	for _, client := range f.Clients {
		keys = append(keys, scopedKey{scope: scopeClient, key: client})
	}
	for _, device := range f.Devices {
		for s := range scopeCount {
			keys = append(keys, scopedKey{scope: s, key: device})
		}
	}
	return keys
}

func removeCounters(ctx context.Context, store fleet.Store, settings *settings, keys []scopedKey) error {
	for some := range slices.Chunk(keys, removedAtOnce) {
		if err := store.Remove(ctx, slices.Collect(countersOf(settings, some))); err != nil {
			return err
		}
	}
	return nil
}

// exceededLogins returns the keys of logins whose limit was exceeded. Other servers may know
// them only from the event that said so, and neither the client nor the user.
func exceededLogins(cleared []scopedKey) (logins []uint64) {
	for _, k := range cleared {
		if k.scope == scopeLogin && k.isExceeded {
			logins = append(logins, k.key)
		}
	}
	return logins
}

// receiveForget forgets failed logins whose window began before an administrator cleared
// them. This server may know clients and users that the other one does not know, so it
// removes their logins from the store, too, and tells the others of those.
func (f *fleetState) receiveForget(e *forgetEvent, at time.Time) {
	if before := time.UnixMilli(e.Before); e.Before != 0 && before.Before(at) {
		at = before
	}
	keys := iter.Seq2[scope, uint64](f.guard.allKeys)
	if !e.All {
		keys = e.keys(f.guard)
	}
	var all, derived []scopedKey
	for s, key := range keys {
		isExceeded := s == scopeLogin && f.guard.exceededFor(s, key) > 0
		if !f.guard.failures[s].ForgetBefore(key, at) {
			continue
		}
		all = append(all, scopedKey{s, key, isExceeded})
		if s == scopeLogin {
			derived = append(derived, scopedKey{s, key, isExceeded})
		}
	}
	settings := f.guard.settings()
	f.client.Forget(countersOf(settings, all), at)
	if len(derived) == 0 || e.All || len(e.Logins) > 0 {
		return
	}
	for event := range (&forgotten{Logins: exceededLogins(derived)}).events(at) {
		f.publish(&fleetEvent{Forget: event})
	}
	go func() { // events must not wait for the store
		_ = f.do(context.Background(), func(ctx context.Context, store fleet.Store) error {
			return removeCounters(ctx, store, settings, derived)
		})
	}()
}
