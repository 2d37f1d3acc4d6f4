package caddyhtpasswd

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// maxFastCGIField is how many bytes of a field Caddy's FastCGI client sends. The client
// cuts off the rest, and panics if the name alone is longer.
const maxFastCGIField = 65000

// checkFastCGI refuses requests that Caddy's FastCGI client would refuse or change. For
// example, the client turns the method "post" into POST, which no matcher has seen.
func (p *ProxyPass) checkFastCGI(r *http.Request) error {
	if r.Method != strings.ToUpper(r.Method) {
		return badRequest(sendable.ErrMethod)
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
	// The client checks the path before it connects. Here it cannot connect.
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
