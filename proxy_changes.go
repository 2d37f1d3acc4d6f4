package caddyhtpasswd

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// requestChanges are the changes that reverse_proxy makes to each request, if they depend
// on the request. They can turn what a client sends into something that cannot be sent:
// `header_up X-Name {query.name}` decodes %0a.
type requestChanges struct {
	headers *headers.HeaderOps
	rewrite *rewrite.Rewrite
}

// newRequestChanges returns the changes of a handler, or nil if none depends on the request.
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

// dependOnRequest reports whether a client can choose a part of the new values.
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

// harmlessPlaceholders always have values that a header field can have.
var harmlessPlaceholders = strings.NewReplacer(
	"{http.reverse_proxy.upstream.hostport}", "", "{http.reverse_proxy.upstream.host}", "", "{http.reverse_proxy.upstream.port}", "",
	"{"+configuredHostPort+"}", "", "{"+configuredHost+"}", "",
	"{http.request.remote}", "", "{http.request.remote.host}", "", "{http.request.remote.port}", "", "{http.vars.client_ip}", "",
	"{http.request.scheme}", "", "{http.request.host}", "", "{http.request.hostport}", "", "{http.request.port}", "", "{http.request.uuid}", "",
)

// isFromRequest reports whether a text has placeholders that can have any value.
func isFromRequest(text string) bool {
	return strings.Contains(text, "{") && strings.Contains(harmlessPlaceholders.Replace(text), "{")
}

// check makes the changes in a copy of the request, and returns an error if the copy
// cannot be sent. Placeholders of the server are empty.
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
		if err := sendable.CheckFields(probe.Header, maxFieldSize); err != nil {
			return badRequest(err)
		}
	}
	return checkRequest(probe)
}
