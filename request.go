package caddyhtpasswd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
)

// The header fields, as net/http writes them.
const (
	headerAuthorization  = "Authorization"
	headerChallenge      = "Www-Authenticate"
	headerForwardedProto = "X-Forwarded-Proto"
	headerRetryAfter     = "Retry-After"
	headerUpgrade        = "Upgrade"
)

// sentAuthorization is what the client sent as Authorization. It stays with the
// request when the header is gone, for another htpasswd handler further down. It
// is one of Caddy's variables of the request, where it costs next to nothing. The
// variable shows no text, since it holds a password.
type sentAuthorization struct {
	values     []string // of the header
	userHeader string   // the field that a handler has set to the user's name
	vars       map[string]any
}

// clientIP returns the client's address as Caddy sees it, by trusted_proxies, or
// "" where there is none. A field for it would make each request's allocation larger.
func (s *sentAuthorization) clientIP() string {
	address, _ := s.vars[caddyhttp.ClientIPVarKey].(string)
	return address
}

const sentAuthorizationVar = "htpasswd.login"

// Format implements fmt.Formatter.
func (*sentAuthorization) Format(fmt.State, rune) {}

// String implements fmt.Stringer, and so what placeholders show.
func (*sentAuthorization) String() string { return "" }

// takeCredentials takes Basic credentials out of the request, given the values of
// its Authorization header. The header is changed in place, not in a copy: the
// routes that handle errors see the same header, and can lead to another server.
// Where a handler further up has taken the client's credentials already, only
// those are taken again. Others were added on the way, and stay.
func takeCredentials(r *http.Request, values []string) *sentAuthorization {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	sent, isTaken := vars[sentAuthorizationVar].(*sentAuthorization)
	if !isTaken {
		sent = &sentAuthorization{values: values, vars: vars}
		if vars != nil {
			vars[sentAuthorizationVar] = sent
		}
	}
	if len(values) == 0 {
		return sent
	}
	isClients := func(v string) bool { // HTTP/2 leaves whitespace before the value, HTTP/1.1 removes it further down
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

// isEncrypted reports whether nobody between the client and here could read the
// request. Where a trusted proxy says how the request came to the proxy, that
// decides: all of it must be https. Any other request must have come by TLS.
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

// clientIP returns the client's address as Caddy sees it, "" where there is none.
func clientIP(ctx context.Context) string {
	address, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	return address
}

func isFromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// mayForgeAddress reports whether the client can choose the address that its
// failed logins are counted by: by default, Caddy takes the leftmost address in
// X-Forwarded-For, which may come from the client.
func mayForgeAddress(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server != nil && server.TrustedProxiesStrict == 0 && isFromTrustedProxy(r)
}

// connectProtocol returns the protocol that an extended CONNECT asks for, over
// HTTP/2 (RFC 8441) or HTTP/3 (RFC 9220), "" for another CONNECT.
func connectProtocol(r *http.Request) string {
	switch {
	case r.ProtoMajor == 2:
		return r.Header.Get(":protocol")
	case r.ProtoMajor == 3 && !strings.HasPrefix(r.Proto, "HTTP/"):
		return r.Proto
	}
	return ""
}

// errConnect is for a CONNECT that would carry other requests.
var errConnect = errors.New("no CONNECT to a group of servers")

// withoutBody takes the body off a request. The server still reads what is left
// of it.
func withoutBody(r *http.Request) {
	r.Body, r.ContentLength, r.TransferEncoding, r.Trailer = http.NoBody, 0, nil, nil
}
