package caddyhtpasswd

import (
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
)

// login is what the client sent as Authorization. It stays with the request
// when the header is gone, for another htpasswd handler further down, among
// Caddy's variables of the request: there it costs next to nothing. Whoever
// asks for that variable gets nothing to see, for it holds a password.
type login struct {
	sent       []string // values of the header
	userHeader string   // the field that a handler has set to the user's name
	vars       map[string]any
}

// clientIP returns the client's address as Caddy sees it, by trusted_proxies, or
// "" where there is none. A field for it would make each request's allocation larger.
func (l *login) clientIP() string {
	address, _ := l.vars[caddyhttp.ClientIPVarKey].(string)
	return address
}

const loginVar = "htpasswd.login"

// Format implements fmt.Formatter.
func (*login) Format(fmt.State, rune) {}

// String implements fmt.Stringer, and so what placeholders show.
func (*login) String() string { return "" }

// takeLogin takes Basic credentials out of the request, given the values of
// its Authorization header. They leave it in place, not in a copy: the routes
// that handle errors see the same header, and can lead to another server. Where
// a handler further up has taken them, those are the client's, and of the
// header only what is left of them goes.
func takeLogin(r *http.Request, values []string) *login {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	l, behind := vars[loginVar].(*login)
	if !behind {
		l = &login{sent: values, vars: vars}
		if vars != nil {
			vars[loginVar] = l
		}
	}
	if len(values) == 0 {
		return l
	}
	clients := func(v string) bool { // HTTP/2 leaves blanks before the value, HTTP/1.1 takes them off again further down
		return isBasic(trimHeaderBlanks(v)) && (!behind || slices.Contains(l.sent, v))
	}
	if len(values) > 1 {
		values = slices.DeleteFunc(slices.Clone(values), clients)
	} else if clients(values[0]) {
		values = nil
	}
	httpfield.Set(r.Header, headerAuthorization, values)
	return l
}

// isEncrypted reports whether nobody between the client and here could read
// the request: it came by TLS and, where a trusted proxy says how it came to
// it, by https to that as well.
func isEncrypted(r *http.Request) bool {
	values := r.Header[headerForwardedProto]
	if len(values) == 0 {
		return r.TLS != nil
	}
	if !isFromTrustedProxy(r) {
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

func isFromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// mayForgeAddress reports whether the client can choose the address that its
// failures are counted by: of the addresses in X-Forwarded-For, Caddy takes the
// leftmost, which may come from the client, unless told otherwise.
func mayForgeAddress(r *http.Request) bool {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return server != nil && server.TrustedProxiesStrict == 0 && isFromTrustedProxy(r)
}
