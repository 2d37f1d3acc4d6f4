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

// ProxyPass guards a reverse_proxy handler against what clients do.
//
// To reverse_proxy every request that cannot be sent, and every body that
// breaks off, is a failure of the server, which passive health checks count.
// One client could take all servers out. ProxyPass answers such requests
// itself: with 400, or with 405, 408, 411, 413, 431 or 501 where that says more.
// It drops trailers that must not be trailers (RFC 9110, section 6.5.1), and
// bounds how much of what clients can cause is logged.
//
// In a Caddyfile it is what the `proxy_pass` directive becomes.
type ProxyPass struct {
	// The name of the upstream group, which log entries show. Default: none.
	Group string `json:"group,omitempty"`

	// The reverse_proxy handler. Required.
	ProxyRaw json.RawMessage `json:"proxy,omitempty" caddy:"namespace=http.handlers inline_key=handler"`

	shared *shared
	proxy  *reverseproxy.Handler
	logger *zap.Logger
	answer errorAnswer

	canUpgrade   bool // the servers speak HTTP/1.1, and nothing else
	canWebSocket bool // the servers speak HTTP/1.1 where it is needed
	isFastCGI    bool
	needsLength  bool // of each body

	// What the clients of FastCGI and HTTP/3 return when the client goes away is
	// a failure of the server to Caddy. So the server is not told.
	staysWhenGone bool

	maxFieldSize int
	changes      *requestChanges // nil if they do not depend on the request
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
	p.inspectTransport()
	return nil
}

// inspectTransport notes what the transport can do.
func (p *ProxyPass) inspectTransport() {
	p.maxFieldSize = maxFieldSize
	p.canUpgrade, p.canWebSocket = true, true
	switch t := p.proxy.Transport.(type) {
	case *reverseproxy.HTTPTransport:
		p.canWebSocket = !slices.Contains(t.Versions, "h2c") && !slices.Contains(t.Versions, "3")
		p.staysWhenGone = slices.Contains(t.Versions, "3")
		p.canUpgrade = p.canWebSocket && (!t.TLSEnabled() || !slices.Contains(t.Versions, "2"))
	case *fastcgi.Transport:
		p.canUpgrade, p.canWebSocket, p.isFastCGI, p.staysWhenGone = false, false, true, true
		p.maxFieldSize = maxFastCGIField
	}
	t, ok := p.proxy.Transport.(reverseproxy.ContentLengthRequiredTransport)
	p.needsLength = ok && t.RequiresContentLength()
}

// ServeHTTP sends the request to the group, or answers it.
func (p *ProxyPass) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	out, err := p.prepare(r)
	if err != nil {
		return p.fail(w, r, err)
	}
	if p.staysWhenGone && r.Context().Err() != nil {
		w.WriteHeader(statusClientClosed)
		return nil
	}
	if !hasBody(out) {
		if err := p.proxy.ServeHTTP(w, out, next); err != nil {
			return p.fail(w, r, err)
		}
		return nil
	}
	return p.serveUpload(w, r, out, next)
}

// prepare returns the request to send: r itself, or what it becomes for these
// servers. An error is the client's.
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

// fail answers the request with an error.
func (p *ProxyPass) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if status := statusOf(err); status >= http.StatusInternalServerError {
		p.shared.guard.lines[upstreamLines].Error(p.shared.guard.now(), p.logger, "request to upstream group failed",
			zap.Int("status", status), zap.String("error", plainError(err)), zap.String("group", p.Group),
			zap.String("client_ip", clientIP(r.Context())), zap.String("host", shown.Short(r.Host)), zap.String("method", shown.Short(r.Method)), zap.String("uri", shown.Short(r.RequestURI)))
	}
	return p.answer.write(w, r, err)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*ProxyPass)(nil)
	_ caddyhttp.MiddlewareHandler = (*ProxyPass)(nil)
	_ handlerGuard                = (*ProxyPass)(nil)
)
