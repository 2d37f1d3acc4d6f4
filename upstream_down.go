package caddyhtpasswd

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// As in nginx, a group whose servers are all marked as down loads, and each request to it
// gets 502. Caddy would respond with 503, and only after the time for retries.

// errAllDown is the error of requests to such a group.
var errAllDown = errors.New("all servers of the upstream group are marked as down")

// areAllDown reports whether all servers of a proxy are marked as down.
func areAllDown(proxy *reverseproxy.Handler) bool {
	if proxy.LoadBalancing == nil || proxy.DynamicUpstreams != nil || len(proxy.Upstreams) == 0 {
		return false
	}
	group, ok := proxy.LoadBalancing.SelectionPolicy.(*UpstreamGroup)
	if !ok {
		return false
	}
	for _, upstream := range proxy.Upstreams {
		if !group.Servers[upstream.Dial].Down {
			return false
		}
	}
	return true
}

// downGroup is a group of a configuration. The registry of metrics stands for the
// configuration, because Caddy makes a new one for each.
type downGroup struct {
	config *prometheus.Registry
	name   string
}

// downGroups are the groups of the loaded configurations that were warned of.
type downGroups struct{ sync.Map }

// warn logs the warning for a group, once for all proxy_pass of a configuration.
func (d *downGroups) warn(ctx caddy.Context, name string) {
	key := downGroup{ctx.GetMetricsRegistry(), name}
	if _, warned := d.LoadOrStore(key, nil); warned {
		return
	}
	context.AfterFunc(ctx, func() { d.Delete(key) })
	ctx.Logger().Warn("all servers of the upstream group are down; responding 502 to every request", zap.String("group", name))
}
