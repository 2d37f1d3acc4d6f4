package caddyhtpasswd

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// The header fields, as net/http writes them.
const (
	headerAuthorization  = "Authorization"
	headerChallenge      = "Www-Authenticate"
	headerConnection     = "Connection"
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
	setOrDelete(r.Header, headerAuthorization, values)
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

// removeField removes a field from what the client sent, in any spelling that
// something further down could take for it: as a header, as a trailer, and
// from the Connection header, by which a client could have it removed again.
func removeField(r *http.Request, field string) {
	for name := range r.Header {
		if sameField(name, field) {
			delete(r.Header, name)
		}
	}
	named := func(v string) bool {
		for token := range strings.SplitSeq(v, ",") {
			if sameField(strings.Trim(token, " \t"), field) {
				return true
			}
		}
		return false
	}
	if slices.ContainsFunc(r.Header[headerConnection], named) {
		rest := slices.DeleteFunc(slices.Clone(r.Header[headerConnection]), named)
		setOrDelete(r.Header, headerConnection, rest)
	}
}

// withoutTrailers removes fields from the trailers of the request, and those
// that must not be trailers. They are there only when its body has been read to
// the end.
func withoutTrailers(r *http.Request, fields ...string) {
	if r.Trailer == nil || r.Body == nil {
		return // without any announced, those that come reach nobody
	}
	body := &trailerFilter{r.Body, r.Trailer, fields}
	body.remove()
	r.Body = body
}

// trailerFilter is a request body that removes fields from the trailers once
// they are there.
type trailerFilter struct {
	io.ReadCloser
	trailer http.Header
	fields  []string
}

func (b *trailerFilter) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.remove()
	}
	return n, err
}

func (b *trailerFilter) remove() {
	for name := range b.trailer {
		if isForbiddenTrailer(name) || slices.ContainsFunc(b.fields, func(f string) bool { return sameField(name, f) }) {
			delete(b.trailer, name)
		}
	}
}

// sameField reports whether two names of header fields can mean the same one
// to an application: without regard to case, nor to which of the characters
// that are no letters or digits stand in them ("X-User", "x_user", "X.User").
func sameField(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldField(a[i]) != foldField(b[i]) {
			return false
		}
	}
	return true
}

func foldField(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c + ('a' - 'A')
	}
	return '-'
}

// isUsableField reports whether a header field can carry a user's name: not
// one with a meaning of its own, which that would break.
func isUsableField(field string) bool {
	return httpguts.ValidHeaderFieldName(field) && !slices.ContainsFunc([]string{
		"Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Trailer",
		"Upgrade", "Expect", "Keep-Alive", "Cookie", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection",
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
	}, func(reserved string) bool { return sameField(field, reserved) })
}

func setOrDelete(h http.Header, field string, values []string) {
	if len(values) == 0 {
		delete(h, field)
	} else {
		h[field] = values
	}
}

// challenge is the value of a WWW-Authenticate header for a realm (RFC 7617,
// section 2). What a quoted string can't hold is left out or escaped.
func challenge(realm string) string {
	var b strings.Builder
	b.WriteString(`Basic realm="`)
	for i := range len(realm) {
		switch c := realm[i]; {
		case htfile.HasControl(realm[i : i+1]):
			// can come by a placeholder
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteString(`", charset="UTF-8"`)
	return b.String()
}
