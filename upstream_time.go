package caddyhtpasswd

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/seed10b5b978/caddy-htpasswd/internal/balance"
)

// measuresTime reports whether the group needs the times to the first byte.
func (g *UpstreamGroup) measuresTime() bool {
	return balance.Method(g.Balance) == balance.MethodLeastTime
}

// isLeastTimeMode reports whether nginx's least_time has such an argument.
func isLeastTimeMode(arg string) bool {
	return arg == "header" || arg == "last_byte" || arg == "inflight"
}

// newTimes returns the average times of the members, or nil if the group does not need
// them. Members without one get that of the previous pool, or a new one.
func (g *UpstreamGroup) newTimes(members []balance.Member) []*balance.ResponseTime {
	if !g.measuresTime() {
		return nil
	}
	known := make(map[string]*balance.ResponseTime)
	if old := g.plan.Load(); old != nil {
		for i, upstream := range old.pool {
			known[upstream.Dial] = old.times[i]
		}
	}
	times := make([]*balance.ResponseTime, len(members))
	for i := range members {
		if members[i].Time == nil {
			members[i].Time = known[members[i].Address]
		}
		if members[i].Time == nil {
			members[i].Time = new(balance.ResponseTime)
		}
		times[i] = members[i].Time
	}
	return times
}

// newAttempt returns the current time, and the timedWriter that measures the time of an
// attempt from now on. The latter is nil if there is none.
func (g *UpstreamGroup) newAttempt(w http.ResponseWriter) (int64, *timedWriter) {
	now := g.shared.orProcess().guard.now()
	t := timedWriterIn(w, g)
	if t != nil {
		t.server, t.begun = nil, now
	}
	return now.UnixNano(), t
}

// timedWriter is a ResponseWriter that measures the time to the first byte of a response:
// from the choice of the server to the final header. It measures the last attempt, if a
// server responds to it. The transport is no place for this: those for FastCGI and HTTP/3
// have no trace hooks.
type timedWriter struct {
	headerHook
	inner  caddyhttp.ResponseWriterWrapper // of headerHook; here, to save an allocation
	group  *UpstreamGroup
	begun  time.Time             // of the last attempt
	server *balance.ResponseTime // nil if there is none
	upload clientWait            // nil without an upload
	waited time.Duration         // for the request body, before this attempt
}

// clientWait tells how long the server has waited for the client's body. It returns false
// while the body is being read.
type clientWait interface {
	waitedFor() (time.Duration, bool)
}

// timesFor returns the group of a handler if it needs the times.
func timesFor(proxy *reverseproxy.Handler) *UpstreamGroup {
	if proxy.LoadBalancing == nil {
		return nil
	}
	group, ok := proxy.LoadBalancing.SelectionPolicy.(*UpstreamGroup)
	if !ok || !group.measuresTime() {
		return nil
	}
	return group
}

// timed returns a ResponseWriter that measures the time of the server, or w itself if g is
// nil.
func (g *UpstreamGroup) timed(w http.ResponseWriter) http.ResponseWriter {
	if g == nil {
		return w
	}
	t := &timedWriter{group: g, inner: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	t.headerHook = headerHook{ResponseWriterWrapper: &t.inner, before: t.responded}
	return t
}

// isOfServers implements ofServers.
func (*timedWriter) isOfServers() {}

// timedWriterIn returns the timedWriter of the group around which w is, or nil. A handler
// for responses can send the request to another group.
func timedWriterIn(w http.ResponseWriter, group *UpstreamGroup) *timedWriter {
	for w != nil {
		if t, ok := w.(*timedWriter); ok && t.group == group {
			return t
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil
		}
		w = u.Unwrap()
	}
	return nil
}

// begin records the server of an attempt. t can be nil.
func (t *timedWriter) begin(times []*balance.ResponseTime, index int, r *http.Request) {
	if t == nil || index < 0 {
		return
	}
	if body, ok := r.Body.(*clientBody); ok {
		if t.upload, ok = body.closer.(clientWait); ok {
			if t.waited, ok = t.upload.waitedFor(); !ok {
				return
			}
		}
	}
	t.server = times[index]
}

// responded records the time to the header of a response. Time in which the server could
// only wait for the client's body does not count. Caddy itself writes status 499 if the
// client has gone.
func (t *timedWriter) responded(status int) {
	if t.server == nil || status == statusClientClosed {
		return
	}
	now := t.group.shared.orProcess().guard.now()
	took := now.Sub(t.begun)
	if t.upload != nil {
		waited, ended := t.upload.waitedFor()
		if !ended {
			return // the server responds before it has the whole body
		}
		took -= waited - t.waited
	}
	t.server.Add(took, now.UnixNano())
}
