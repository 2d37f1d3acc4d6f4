package caddyhtpasswd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/fastcgi"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

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
	p.logger, p.answer = ctx.Logger(), newErrorAnswer(ctx)
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

// maxFastCGIField is the most of a field that Caddy's FastCGI client sends: it
// cuts off the rest, and panics where the name alone is longer.
const maxFastCGIField = 65000

// ServeHTTP sends the request to the group, or answers it.
func (p *ProxyPass) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	out, err := p.prepare(r)
	if err != nil {
		return p.fail(w, r, err)
	}
	if p.staysWhenGone && r.Context().Err() != nil {
		w.WriteHeader(statusClientGone)
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

// hasBody reports whether reverse_proxy reads the body of a request. Over
// HTTP/2 each request has one.
func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && (r.ContentLength != 0 || len(r.Trailer) > 0) && r.Method != http.MethodConnect
}

// serveUpload sends a request with a body to the group.
func (p *ProxyPass) serveUpload(w http.ResponseWriter, r, out *http.Request, next caddyhttp.Handler) error {
	body := newUpload(out)
	out = body.in(out, p.canWebSocket)
	if p.needsLength && out.ContentLength < 0 && !caddyhttp.IsIncremental(out.Header) {
		buffered, err := p.buffer(out)
		if err != nil {
			if failure := body.err(); failure != nil {
				err = failure
			}
			return p.fail(w, r, err)
		}
		out = buffered
	}
	guarded := &uploadWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, body: body}
	err := p.proxy.ServeHTTP(guarded, out, next)
	if guarded.held {
		err = body.err()
	}
	if err != nil {
		return p.fail(w, r, err)
	}
	return nil
}

// buffer reads a body of unknown length, as reverse_proxy does for FastCGI. If
// that cannot read the whole body, it asks each server in vain.
func (p *ProxyPass) buffer(r *http.Request) (*http.Request, error) {
	var from io.Reader = r.Body
	if p.proxy.RequestBuffers >= 0 {
		from = io.LimitReader(from, p.proxy.RequestBuffers+1)
	}
	text, err := io.ReadAll(from)
	switch {
	case err != nil:
		return nil, err
	case p.proxy.RequestBuffers >= 0 && int64(len(text)) > p.proxy.RequestBuffers:
		return nil, caddyhttp.Error(http.StatusLengthRequired, errLengthRequired)
	}
	out := r.WithContext(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return out, nil
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
		if err := checkFields(out.Trailer, maxFieldSize); err != nil {
			return nil, badRequest(fmt.Errorf("%w: %w", errBadTrailer, err))
		}
		dropForbiddenTrailers(out.Trailer)
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

const headerUpgrade = "Upgrade"

func (p *ProxyPass) checkHeader(h http.Header) error {
	err := checkFields(h, p.maxFieldSize)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errFieldSize):
		return caddyhttp.Error(http.StatusRequestHeaderFieldsTooLarge, err)
	}
	return badRequest(err)
}

// checkConnect refuses CONNECT, but for a WebSocket over HTTP/2 or HTTP/3,
// which reverse_proxy sends to the server as one over HTTP/1.1. The body of
// another CONNECT would be sent without any framing, as if it were requests.
func (p *ProxyPass) checkConnect(r *http.Request) error {
	switch protocol := connectProtocol(r); {
	case protocol == "":
		return caddyhttp.Error(http.StatusMethodNotAllowed, errConnect)
	case protocol != "websocket" || !p.canWebSocket:
		return caddyhttp.Error(http.StatusNotImplemented, errProtocol)
	}
	if err := checkRequest(r); err != nil {
		return err
	}
	for name, values := range r.Header {
		if name == ":protocol" {
			continue
		}
		if err := checkFields(http.Header{name: values}, p.maxFieldSize); err != nil {
			return badRequest(err)
		}
	}
	return nil
}

// withoutUpgrade returns the request without the wish for another protocol,
// where the servers cannot fulfil it: HTTP/2 and HTTP/3 know no such wish. Any
// server may ignore it (RFC 9110, section 7.8).
func (p *ProxyPass) withoutUpgrade(r *http.Request) *http.Request {
	if p.canWebSocket && strings.EqualFold(r.Header.Get(headerUpgrade), "websocket") {
		return r
	}
	out := r.WithContext(r.Context())
	out.Header = r.Header.Clone()
	delete(out.Header, headerUpgrade)
	return out
}

// checkFastCGI refuses what Caddy's FastCGI client would refuse, or change on
// the way: "post" into POST, though no matcher has seen a POST.
func (p *ProxyPass) checkFastCGI(r *http.Request) error {
	if r.Method != strings.ToUpper(r.Method) {
		return badRequest(errMethod)
	}
	if values := r.Header["Content-Length"]; len(values) > 0 {
		if n, err := strconv.ParseUint(values[0], 10, 63); err != nil || n > 0 && r.ContentLength == 0 {
			return badRequest(errContentLength)
		}
	}
	if len(r.URL.Path)+len(r.URL.RawPath)+len(r.URL.RawQuery) > maxFastCGIField || len(r.RequestURI) > maxFastCGIField {
		return caddyhttp.Error(http.StatusRequestURITooLong, errFieldSize)
	}
	if r.URL.RawPath == "" && strings.IndexByte(r.URL.Path, 0) < 0 {
		return nil
	}
	// It looks at the path before it connects, and here it cannot connect.
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	probe := r.WithContext(ctx)
	probe.Body = http.NoBody
	probe.URL = new(url.URL)
	*probe.URL = *r.URL
	probe.URL.Host = "127.0.0.1:0"
	resp, err := p.proxy.Transport.RoundTrip(probe)
	if err == nil {
		_ = resp.Body.Close()
		return nil
	}
	if refused, ok := errors.AsType[caddyhttp.HandlerError](err); ok && refused.StatusCode < 500 {
		return refused
	}
	return nil
}

// guarded implements handlerGuard.
func (p *ProxyPass) guarded() any { return p.proxy }

// fail answers the request with an error.
func (p *ProxyPass) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if status := statusOf(err); status >= http.StatusInternalServerError {
		sharedGuard.lines[upstreamLines].Error(sharedGuard.now(), p.logger, "request to upstream group failed",
			zap.Int("status", status), zap.String("error", plainError(err)), zap.String("group", p.Group),
			zap.String("client_ip", clientIP(r.Context())), zap.String("host", shown.Short(r.Host)), zap.String("method", shown.Short(r.Method)), zap.String("uri", shown.Short(r.RequestURI)))
	}
	return p.answer.write(w, r, err)
}

// requestChanges are what reverse_proxy changes in each request, where it
// depends on the request: what a client sends can come out as something else,
// as with `header_up X-Name {query.name}`, which decodes %0a.
type requestChanges struct {
	headers *headers.HeaderOps
	rewrite *rewrite.Rewrite
}

func newRequestChanges(h *reverseproxy.Handler) *requestChanges {
	c := &requestChanges{rewrite: h.Rewrite}
	if h.Headers != nil && h.Headers.Request != nil && dependOnRequest(h.Headers.Request) {
		c.headers = h.Headers.Request
	}
	if *c == (requestChanges{}) {
		return nil
	}
	return c
}

// dependOnRequest reports whether what is set can be anything that a client
// has chosen.
func dependOnRequest(ops *headers.HeaderOps) bool {
	if len(ops.Replace) > 0 {
		return true
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for name, values := range fields {
			if slices.ContainsFunc(append(values[:len(values):len(values)], name), isFromRequest) {
				return true
			}
		}
	}
	return false
}

// harmlessPlaceholders never hold what a header field cannot.
var harmlessPlaceholders = strings.NewReplacer(
	"{http.reverse_proxy.upstream.hostport}", "", "{http.reverse_proxy.upstream.host}", "", "{http.reverse_proxy.upstream.port}", "",
	"{http.request.remote}", "", "{http.request.remote.host}", "", "{http.request.remote.port}", "", "{http.vars.client_ip}", "",
	"{http.request.scheme}", "", "{http.request.host}", "", "{http.request.hostport}", "", "{http.request.port}", "", "{http.request.uuid}", "",
)

func isFromRequest(text string) bool {
	return strings.Contains(text, "{") && strings.Contains(harmlessPlaceholders.Replace(text), "{")
}

// check makes the changes in a copy of the request, and returns an error if
// that could not be sent. What depends on the server is left empty.
func (c *requestChanges) check(r *http.Request) error {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl == nil {
		return nil
	}
	probe := r.WithContext(r.Context())
	if c.rewrite != nil {
		probe.URL = new(url.URL)
		*probe.URL = *r.URL
		c.rewrite.Rewrite(probe, repl)
	}
	if c.headers != nil {
		if len(c.headers.Replace) > 0 {
			probe.Header = r.Header.Clone()
		} else {
			probe.Header = make(http.Header, len(c.headers.Set)+len(c.headers.Add)+1)
		}
		c.headers.ApplyToRequest(probe)
		if err := checkFields(probe.Header, maxFieldSize); err != nil {
			return badRequest(err)
		}
	}
	return checkRequest(probe)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*ProxyPass)(nil)
	_ caddyhttp.MiddlewareHandler = (*ProxyPass)(nil)
	_ handlerGuard                = (*ProxyPass)(nil)
)
