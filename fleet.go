package caddyhtpasswd

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
	"github.com/seed10b5b978/caddy-htpasswd/internal/fleetclient"
	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sealed"
)

const (
	// fleetNamespace is the namespace of the modules that implement fleet.Engine.
	fleetNamespace = "htpasswd.fleets"

	// fleetTimeout is how long a failed login waits for the store.
	fleetTimeout = 100 * time.Millisecond
	// fleetRetry is the time between two attempts to reach a store that is down.
	fleetRetry = time.Second
	// fleetAdminTimeout is how long an administrator waits for the store.
	fleetAdminTimeout = 5 * time.Second
)

// fleetState is the connection of this process to the other servers of its fleet. It is
// pooled: configurations with the same settings and the same secret share it, so a reload
// does not interrupt it. It connects at the first Start.
//
// The store can make this server stricter, never more lenient: counters are only raised
// by what it says, and everything else comes in events that servers with the same secret
// have sealed.
type fleetState struct {
	engine string
	client *fleetclient.Client
	files  *sealed.Keys // of the texts of password and group files
	events *sealed.Events
	guard  *guard
	reach  *fleetReach
	lines  fleetLines
	hello  fleetHello

	mu     sync.Mutex
	wakers map[string][]*func() // by the name of a file
}

// fleetReach is what a fleetState needs of the process.
type fleetReach struct {
	logger    func() *zap.Logger
	now       func() time.Time
	isActive  func(f *fleetState) bool
	durations prometheus.Observer // of calls
}

// newFleetState returns the state for a store. It does not connect.
func newFleetState(engine string, store fleet.Store, keys *keyring.Keys, g *guard, reach *fleetReach) *fleetState {
	f := &fleetState{
		engine: engine, guard: g, reach: reach,
		files:  sealed.NewKeys(keys.FleetFiles, keys.OldFleetFiles),
		events: sealed.NewEvents(sealed.NewKeys(keys.FleetEvents, keys.OldFleetEvents)),
		wakers: make(map[string][]*func()),
	}
	f.client = fleetclient.New(fleetclient.Config{
		Store: store, Timeout: fleetTimeout, Retry: fleetRetry, Logger: reach.logger,
		Counted: f.raiseLater, Event: f.receive, Connected: f.connected, Durations: reach.durations,
	})
	return f
}

// Destruct implements caddy.Destructor.
func (f *fleetState) Destruct() error { return f.client.Close() }

// onChanged registers a function that is called when a server has changed the file with
// this name, and after events may have been lost.
func (f *fleetState) onChanged(name string, wake func()) (remove func()) {
	entry := &wake
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakers[name] = append(f.wakers[name], entry)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.wakers[name] = slices.DeleteFunc(f.wakers[name], func(other *func()) bool { return other == entry })
		if len(f.wakers[name]) == 0 {
			delete(f.wakers, name)
		}
	}
}

// wake calls the functions that are registered for a file, or all for "".
func (f *fleetState) wake(name string) {
	f.mu.Lock()
	var found []*func()
	for key, wakers := range f.wakers {
		if name == "" || key == name {
			found = append(found, wakers...)
		}
	}
	f.mu.Unlock()
	for _, wake := range found {
		(*wake)()
	}
}

// do calls the store for an administrator, and waits for its answer.
func (f *fleetState) do(ctx context.Context, call func(context.Context, fleet.Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, fleetAdminTimeout)
	defer cancel()
	return f.client.Do(ctx, call)
}

// adminFleet is the state of the fleet in responses.
type adminFleet struct {
	Engine string `json:"engine"`
	// Connected says that the store answers, and that events are received.
	Connected bool `json:"connected"`
	// Since is when Connected changed last.
	Since time.Time `json:"since,omitzero"`
	// LastError is the last error of the store, also if it works again.
	LastError string `json:"last_error,omitempty"`
	// Unsent is the number of failed logins that the store will be told of later.
	Unsent int `json:"unsent"`
	// Dropped is the number of failed logins and events that the store will never see.
	Dropped uint64 `json:"dropped"`
}

// state returns the state for administrators, or nil without a fleet.
func (f *fleetState) state() *adminFleet {
	if f == nil {
		return nil
	}
	s := f.client.Status()
	return &adminFleet{f.engine, s.Connected, s.Since, s.LastError, s.Unsent, s.Dropped}
}

// activeFleet returns the fleet of the active settings, or nil.
func (a *activeSettings) activeFleet() *fleetState {
	f, _ := a.get().fleet.(*fleetState)
	return f
}

// errFleetSecret is the error for a fleet without a secret in the configuration. One that
// is in a storage is not enough: the storage could be the store itself.
var errFleetSecret = errors.New("fleet: expected a secret in the configuration, found none; " +
	"create one with 'openssl rand -base64 32', and write it on all servers of the fleet: " +
	"'secret {env.HTPASSWD_SECRET}' in the global option htpasswd, or \"secret\" in apps.htpasswd")

// errNoEngine is the error for an engine that this Caddy does not have.
func errNoEngine(engine string) error {
	var found []string
	for _, module := range caddy.GetModules(fleetNamespace) {
		found = append(found, module.ID.Name())
	}
	have := "this Caddy has none"
	if len(found) > 0 {
		have = "this Caddy has " + strings.Join(found, ", ")
	}
	return fmt.Errorf("unknown engine %s: %s; for redis, build Caddy with: xcaddy build "+
		"--with github.com/seed10b5b978/caddy-htpasswd --with github.com/seed10b5b978/caddy-htpasswd/fleet/redis", quoted(engine), have)
}

// provisionFleet joins the fleet, if there is one. It does not connect: that the store is
// down is no error.
func (a *App) provisionFleet(ctx caddy.Context) error {
	if a.FleetRaw == nil {
		return nil
	}
	if a.Secret == "" {
		return errFleetSecret
	}
	var settings struct {
		Engine string `json:"engine"`
	}
	if err := json.Unmarshal(a.FleetRaw, &settings); err != nil || settings.Engine == "" {
		return errors.New("fleet: expected an object with an 'engine', such as \"redis\"")
	}
	if _, err := caddy.GetModule(fleetNamespace + "." + settings.Engine); err != nil {
		return fmt.Errorf("fleet: %w", errNoEngine(settings.Engine))
	}
	key, err := a.fleetKey(a.FleetRaw)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	module, err := ctx.LoadModule(a, "FleetRaw")
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	engine, ok := module.(fleet.Engine)
	if !ok {
		return fmt.Errorf("fleet: module '%s.%s' is no engine of a fleet", fleetNamespace, settings.Engine)
	}
	shared, keys := a.shared, a.settings.keys.Keys()
	state, _, err := shared.fleets.LoadOrNew(key, func() (caddy.Destructor, error) {
		store, err := engine.Open()
		if err != nil {
			return nil, err
		}
		return newFleetState(settings.Engine, store, keys, shared.guard, shared.reach()), nil
	})
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	a.fleet, a.fleetInPool = state.(*fleetState), key
	a.settings.fleet, a.settings.recognized = a.fleet, a.fleet.recognized
	a.settings.keyer = newSharedKeyer(keys.FleetCounters, keys.FleetMarks)
	return nil
}

// reach returns what fleets need of the process.
func (s *shared) reach() *fleetReach {
	return &fleetReach{
		logger:    func() *zap.Logger { return s.active.get().logger },
		now:       s.guard.now,
		isActive:  func(f *fleetState) bool { return s.active.activeFleet() == f },
		durations: s.metrics.fleet.durations,
	}
}

// fleetKey returns the key of a fleet in the pool: a keyed hash of its settings, with
// placeholders replaced, under its secrets.
func (a *App) fleetKey(raw json.RawMessage) (string, error) {
	var settings any
	if err := json.Unmarshal(raw, &settings); err != nil {
		return "", err
	}
	canonical, err := json.Marshal(withoutPlaceholders(settings, caddy.NewReplacer()))
	if err != nil {
		return "", err
	}
	keys := a.settings.keys.Keys()
	mac := hmac.New(sha256.New, keys.FleetEvents)
	mac.Write(keys.OldFleetEvents) // of a fixed length, or empty
	mac.Write(canonical)
	return string(mac.Sum(nil)), nil
}

// withoutPlaceholders replaces the placeholders in all texts of a JSON value.
func withoutPlaceholders(value any, replacer *caddy.Replacer) any {
	switch v := value.(type) {
	case string:
		return replacer.ReplaceKnown(v, "")
	case []any:
		replaced := make([]any, len(v))
		for i := range v {
			replaced[i] = withoutPlaceholders(v[i], replacer)
		}
		return replaced
	case map[string]any:
		replaced := maps.Clone(v)
		for key := range v {
			replaced[key] = withoutPlaceholders(v[key], replacer)
		}
		return replaced
	}
	return value
}

// leaveFleet ends the use of the fleet. The last user closes it.
func (a *App) leaveFleet() error {
	if a.fleet == nil {
		return nil
	}
	a.fleet = nil
	_, err := a.shared.fleets.Delete(a.fleetInPool)
	return err
}
