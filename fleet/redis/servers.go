package redis

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// dialTimeout is how long it may take to connect.
	dialTimeout = 2 * time.Second
	// callTimeout is how long a call may take whose context has no deadline.
	callTimeout = 10 * time.Second
	// ioTimeout is above all deadlines of contexts.
	ioTimeout = 30 * time.Second
	// poolSize is the number of connections to one server.
	poolSize = 8
	// maxIdle is how long a connection may be unused. Firewalls forget connections
	// that are unused for longer.
	maxIdle = 5 * time.Minute
	// resp is the version of the protocol. Version 3 is for pushed messages, which are
	// not used.
	resp = 2
)

// servers are the servers of Redis that have the keys.
type servers interface {
	// forKey returns the client of the server that has a key.
	forKey(ctx context.Context, key string) (*goredis.Client, error)
	// at returns the client of a server of a cluster, or nil.
	at(ctx context.Context, address string) *goredis.Client
	// all calls a function for each server that can have keys, at the same time, and
	// returns the first error.
	all(ctx context.Context, call func(context.Context, *goredis.Client) error) error
	// refresh looks up again which server has which keys.
	refresh(ctx context.Context)
	Close() error
}

// connect returns the servers, without connecting.
func connect(s settings) servers {
	routeMessages()
	switch {
	case s.sentinel != "":
		return single{goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: s.sentinel, SentinelAddrs: s.addresses,
			SentinelUsername: s.sentinelUsername, SentinelPassword: s.sentinelPassword,
			Username: s.username, Password: s.password, DB: s.database, TLSConfig: s.tls, Dialer: dialer(s),
			Protocol: resp, MaxRetries: -1, ContextTimeoutEnabled: true,
			DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
			PoolSize: poolSize, PipelinePoolSize: -1, ConnMaxIdleTime: maxIdle, DisableIdentity: true,
		})}
	case s.cluster:
		return cluster{goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs:    s.addresses,
			Username: s.username, Password: s.password, TLSConfig: s.tls, Dialer: dialer(s),
			Protocol: resp, MaxRetries: -1, MaxRedirects: -1, ContextTimeoutEnabled: true,
			DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
			PoolSize: poolSize, PipelinePoolSize: -1, ConnMaxIdleTime: maxIdle, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})}
	}
	return single{goredis.NewClient(&goredis.Options{
		Addr:     s.addresses[0],
		Username: s.username, Password: s.password, DB: s.database, TLSConfig: s.tls, Dialer: dialer(s),
		Protocol: resp, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
		PoolSize: poolSize, PipelinePoolSize: -1, ConnMaxIdleTime: maxIdle, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
}

// single is one server, or the master that the Sentinels tell.
type single struct{ *goredis.Client }

func (s single) forKey(context.Context, string) (*goredis.Client, error) { return s.Client, nil }

func (single) at(context.Context, string) *goredis.Client { return nil }

func (s single) all(ctx context.Context, call func(context.Context, *goredis.Client) error) error {
	return call(ctx, s.Client)
}

func (single) refresh(context.Context) {}

// cluster calls the client of each server itself: the methods of ClusterClient send
// commands again that may have been executed, and ask for the list of all commands.
type cluster struct{ *goredis.ClusterClient }

func (c cluster) forKey(ctx context.Context, key string) (*goredis.Client, error) {
	return c.MasterForKey(ctx, key)
}

func (c cluster) at(ctx context.Context, address string) (found *goredis.Client) {
	var mu sync.Mutex
	_ = c.ForEachMaster(ctx, func(_ context.Context, client *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		if client.Options().Addr == address {
			found = client
		}
		return nil
	})
	return found
}

func (c cluster) all(ctx context.Context, call func(context.Context, *goredis.Client) error) error {
	return c.ForEachMaster(ctx, call)
}

// refresh reloads the slots: ForEachMaster does so at each call.
func (c cluster) refresh(ctx context.Context) {
	_ = c.ForEachMaster(ctx, func(context.Context, *goredis.Client) error { return nil })
}

// routeMessages sends the messages of the client, which has one logger for the whole
// process, to Caddy's log at level debug: what matters of them is in the errors of calls.
var routeMessages = sync.OnceFunc(func() { goredis.SetLogger(messages{}) })

type messages struct{}

func (messages) Printf(_ context.Context, format string, args ...any) {
	caddy.Log().Named("htpasswd.fleets.redis").Sugar().Debugf(format, args...)
}
