package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
)

// The names of header fields, as net/http writes them.
const (
	headerAuthorization  = "Authorization"
	headerChallenge      = "Www-Authenticate"
	headerForwardedProto = "X-Forwarded-Proto"
	headerRetryAfter     = "Retry-After"
	headerUpgrade        = "Upgrade"
)

// sentAuthorization keeps the Authorization header that the client sent. The header is
// removed from the request, but a later htpasswd handler needs it. It is stored in Caddy's
// variables of the request, which costs very little. As text the variable is empty,
// because it contains a password.
type sentAuthorization struct {
	values     []string // of the header
	userHeader *string  // the header that a handler has set to the user name; nil for none
	vars       map[string]any
	devices    *sentDevices // the device cookies that handlers have removed
}

// newSentAuthorization returns one with the device cookies of a name, which it removes
// from the request, if there is a name.
func newSentAuthorization(r *http.Request, cookie string) *sentAuthorization {
	if cookie == "" {
		return new(sentAuthorization)
	}
	both := new(struct { // one allocation
		sentAuthorization
		sentDevices
	})
	both.devices = &both.sentDevices
	both.devices.take(r, cookie)
	return &both.sentAuthorization
}

// takeMore removes the device cookies of a name from the request, after another handler.
func (s *sentAuthorization) takeMore(r *http.Request, name string) {
	d := &sentDevices{next: s.devices}
	if d.take(r, name); s.devices.of(name) == nil { // otherwise a handler in between has added them
		s.devices = d
	}
}

func (d *sentDevices) take(r *http.Request, name string) {
	d.name = name
	d.candidates, _ = devicecookie.Take(r.Header, name)
}

// clientIP returns the client's address, which depends on trusted_proxies, or "" if there
// is none. A field for the address would make each request's allocation larger.
func (s *sentAuthorization) clientIP() string {
	address, _ := s.vars[caddyhttp.ClientIPVarKey].(string)
	return address
}

const sentAuthorizationVar = "htpasswd.login"

// Format implements fmt.Formatter.
func (*sentAuthorization) Format(fmt.State, rune) {}

// String implements fmt.Stringer, which placeholders use.
func (*sentAuthorization) String() string { return "" }

// origin says where a login comes from, and which host it asks for.
type origin struct {
	ip      string       // "" for a client without an address
	host    string       // only for the log: the client chooses it
	devices *sentDevices // nil if the handler has no device cookies
}

// takeCredentials removes Basic credentials from the request, given the values of its
// Authorization header. Unless the name of a cookie is empty, it also removes the device
// cookies of that name. It changes the header in place, because the error routes see the
// same header and can proxy it to another server. If an earlier handler has already taken
// the client's credentials, only the same ones are removed again. Others were added by
// handlers in between, and stay.
func takeCredentials(r *http.Request, values []string, cookie string) *sentAuthorization {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	sent, isTaken := vars[sentAuthorizationVar].(*sentAuthorization)
	if !isTaken {
		sent = newSentAuthorization(r, cookie)
		sent.values, sent.vars = values, vars
		if vars != nil {
			vars[sentAuthorizationVar] = sent
		}
	} else if cookie != "" {
		sent.takeMore(r, cookie)
	}
	if len(values) == 0 {
		return sent
	}
	isClients := func(v string) bool { // over HTTP/2, the value can begin with whitespace
		return isBasic(trimHeaderSpace(v)) && (!isTaken || slices.Contains(sent.values, v))
	}
	if len(values) > 1 {
		values = slices.DeleteFunc(slices.Clone(values), isClients)
	} else if isClients(values[0]) {
		values = nil
	}
	httpfield.Set(r.Header, headerAuthorization, values)
	return sent
}

// isEncrypted reports whether the request was encrypted on its whole way from the client.
// If a trusted proxy sends X-Forwarded-Proto, all its values must be https. Any other
// request must have come over TLS.
func isEncrypted(r *http.Request) bool {
	values := r.Header[headerForwardedProto]
	if len(values) == 0 || !isFromTrustedProxy(r) {
		return r.TLS != nil
	}
	for _, value := range values {
		for proto := range strings.SplitSeq(value, ",") {
			if !strings.EqualFold(strings.Trim(proto, " \t"), "https") {
				return false
			}
		}
	}
	return true
}

// clientIP returns the client's address, which depends on trusted_proxies, or "".
func clientIP(ctx context.Context) string {
	address, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	return address
}

func isFromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// mayForgeAddress reports whether the client can choose the address that its failed
// logins are counted by. By default, Caddy uses the leftmost address in X-Forwarded-For,
// which may come from the client.
func mayForgeAddress(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server != nil && server.TrustedProxiesStrict == 0 && isFromTrustedProxy(r)
}

// connectProtocol returns the protocol of an extended CONNECT over HTTP/2 (RFC 8441) or
// HTTP/3 (RFC 9220), and "" for any other CONNECT.
func connectProtocol(r *http.Request) string {
	switch {
	case r.ProtoMajor == 2:
		return r.Header.Get(":protocol")
	case r.ProtoMajor == 3 && !strings.HasPrefix(r.Proto, "HTTP/"):
		return r.Proto
	}
	return ""
}

// errConnect is the error for a CONNECT whose body could carry other requests.
var errConnect = errors.New("CONNECT is not supported, except for WebSockets")

// withoutBody removes the body from a request. The HTTP server still reads the rest of it.
func withoutBody(r *http.Request) {
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = http.NoBody, 0, nil, nil
}
