package caddyhtpasswd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"

	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

func init() {
	caddy.RegisterModule(new(ProxyPass))
}

// ProxyPass is a reverse_proxy handler for an upstream group. It keeps clients from
// marking servers as unhealthy. The `proxy_pass` directive of a Caddyfile becomes this
// handler.
//
// The reverse_proxy handler takes a request that cannot be sent, and a request body that
// breaks off, for a failure of the server. Passive health checks count these failures, so
// a single client could take all servers out. ProxyPass responds to such requests itself:
// with status 400, or a more specific one of 405, 408, 411, 413, 414, 431 and 501. It
// removes fields that must not be trailers (RFC 9110, section 6.5.1), and limits the log
// lines that clients can cause.
//
// If the reverse_proxy handler has the policy upstream_group, every address of a name in
// its upstreams is a server of its own. The names are looked up every 10 seconds.
type ProxyPass struct {
	// The name of the upstream group, for the log and for sticky cookies. Default: none.
	Group string `json:"group,omitempty"`

	// The reverse_proxy handler. Any other handler is an error. Required.
	ProxyRaw json.RawMessage `json:"proxy,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	shared *shared
	proxy  *reverseproxy.Handler
	logger *zap.Logger
	answer errorAnswer

	canUpgrade   bool // the transport uses only HTTP/1.1
	canWebSocket bool // the transport uses HTTP/1.1 for WebSockets
	canGRPC      bool // the transport uses HTTP/2
	isFastCGI    bool
	needsLength  bool // every body needs a Content-Length
	isDown       bool // all servers are marked as down

	// When a client goes away, the transports for FastCGI and HTTP/3 return an error
	// that Caddy takes for a failure of the server. So their requests continue.
	staysWhenGone bool

	names *followedGroup // nil if no server has a name

	maxFieldSize int
	times        *UpstreamGroup  // nil unless the group needs the times of responses
	changes      *requestChanges // nil if no change depends on the request

	observer responseObserver // nil for none
}

// CaddyModule returns the Caddy module information.
func (*ProxyPass) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.proxy_pass",
		New: func() caddy.Module { return new(ProxyPass) },
	}
}

// Provision loads the reverse_proxy handler.
func (p *ProxyPass) Provision(ctx caddy.Context) error {
	p.shared = p.shared.orProcess()
	p.logger, p.answer = ctx.Logger(), newErrorAnswer(ctx, p.shared.guard)
	if p.ProxyRaw == nil {
		return errors.New("proxy: expected a reverse_proxy handler, found none")
	}
	names := takeNames(&p.ProxyRaw, p.shared.names, func(reason string) {
		p.logger.Warn("addresses of upstream names are not followed", zap.String("reason", reason), zap.String("group", p.Group))
	})
	module, err := ctx.LoadModule(p, "ProxyRaw")
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	proxy, ok := module.(*reverseproxy.Handler)
	if !ok {
		return fmt.Errorf("proxy: expected a reverse_proxy handler, found %T", module)
	}
	p.proxy = proxy
	p.changes = newRequestChanges(proxy)
	p.times = timesFor(proxy)
	if observer, ok := proxy.LoadBalancing.SelectionPolicy.(responseObserver); ok && observer.observesResponses() {
		p.observer = observer
	}
	p.inspectTransport()
	if p.isDown = areAllDown(proxy); p.isDown {
		p.shared.downGroups.warn(ctx, p.Group)
	}
	if names == nil {
		return nil
	}
	p.names = names
	return names.start(ctx, proxy)
}

// Cleanup stops following the names of the servers.
func (p *ProxyPass) Cleanup() error {
	if p.names == nil {
		return nil
	}
	return p.names.close()
}

// inspectTransport records what the transport supports.
func (p *ProxyPass) inspectTransport() {
	p.maxFieldSize = maxFieldSize
	p.canUpgrade, p.canWebSocket = true, true
	switch t := p.proxy.Transport.(type) {
	case *reverseproxy.HTTPTransport:
		p.canWebSocket = !slices.Contains(t.Versions, "h2c") && !slices.Contains(t.Versions, "3")
		p.canGRPC = speaksGRPC(t)
		p.staysWhenGone = slices.Contains(t.Versions, "3")
		p.canUpgrade = p.canWebSocket && (!t.TLSEnabled() || !slices.Contains(t.Versions, "2"))
	case *fastcgi.Transport:
		p.canUpgrade, p.canWebSocket, p.isFastCGI, p.staysWhenGone = false, false, true, true
		p.maxFieldSize = maxFastCGIField
	}
	t, ok := p.proxy.Transport.(reverseproxy.ContentLengthRequiredTransport)
	p.needsLength = ok && t.RequiresContentLength()
}

// ServeHTTP sends the request to the group, or responds itself if it cannot be sent.
func (p *ProxyPass) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	out, err := p.prepare(r)
	if err != nil {
		return p.fail(w, r, err)
	}
	if p.isDown {
		return p.fail(w, r, caddyhttp.Error(http.StatusBadGateway, errAllDown))
	}
	if p.staysWhenGone && r.Context().Err() != nil {
		w.WriteHeader(statusClientClosed)
		return nil
	}
	if p.observer != nil {
		var done func()
		w, done = p.observer.observeResponse(w, r)
		defer done()
	}
	if !hasBody(out) {
		if err := p.send(p.times.timed(w), out, next); err != nil {
			return p.fail(w, r, err)
		}
		return nil
	}
	return p.serveUpload(w, r, out, next)
}

// prepare returns the request to send: r itself, or a copy adapted to the transport. An
// error is caused by the client.
func (p *ProxyPass) prepare(r *http.Request) (*http.Request, error) {
	out := r
	if r.Method == http.MethodConnect {
		if err := p.checkConnect(r); err != nil {
			return nil, err
		}
	} else {
		if err := checkRequest(r); err != nil {
			return nil, err
		}
		if !p.canUpgrade && r.Header[headerUpgrade] != nil {
			out = p.withoutUpgrade(r)
		}
		if err := p.checkHeader(out.Header); err != nil {
			return nil, err
		}
	}
	if out.Trailer != nil {
		if err := sendable.CheckFields(out.Trailer, maxFieldSize); err != nil {
			return nil, badRequest(fmt.Errorf("%w: %w", errBadTrailer, err))
		}
		httpfield.RemoveForbiddenTrailers(out.Trailer)
	}
	if p.isFastCGI {
		if err := p.checkFastCGI(out); err != nil {
			return nil, err
		}
	}
	if p.staysWhenGone {
		out = out.WithContext(context.WithoutCancel(out.Context()))
	}
	if p.changes != nil {
		if err := p.changes.check(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// guarded implements handlerGuard.
func (p *ProxyPass) guarded() any { return p.proxy }

// fail responds to the request with an error.
func (p *ProxyPass) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if status := statusOf(err); status >= http.StatusInternalServerError {
		p.shared.guard.lines[upstreamLines].Error(p.shared.guard.now(), p.logger, "request to upstream group failed",
			zap.Int("status", status), zap.String("error", plainError(err)), zap.String("group", p.Group),
			zap.String("client_ip", clientIP(r.Context())), zap.String("host", shown.Short(r.Host)), zap.String("method", shown.Short(r.Method)), zap.String("uri", shown.Short(r.RequestURI)))
	}
	return p.answer.write(withoutHook(w), r, err)
}

// groupName returns the name of the group, for its selection policy.
func (p *ProxyPass) groupName() string { return p.Group }

// Interface guards
var (
	_ caddy.Provisioner           = (*ProxyPass)(nil)
	_ caddy.CleanerUpper          = (*ProxyPass)(nil)
	_ caddyhttp.MiddlewareHandler = (*ProxyPass)(nil)
	_ handlerGuard                = (*ProxyPass)(nil)
)
