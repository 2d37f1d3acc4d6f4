// Package httpfield compares names of HTTP header fields as applications do, and
// removes fields that a client must not send.
//
// An application may not distinguish "X-User" from "X_User": CGI, FastCGI and WSGI
// turn both into HTTP_X_USER. So a field that carries the user name must be removed
// in every spelling, from every place where a client can send it: the header, the
// trailers, and the Connection header. With the latter, a client could make a proxy
// remove the field that this server has set. Two names are spellings of the same
// field if they differ only in case, and in characters other than ASCII letters and
// digits.
//
// [Remove], [FilterTrailers] and [RemoveForbiddenTrailers] remove fields of a client.
// [IsUsable], [Set] and [BasicChallenge] are for fields that this program writes.
package httpfield

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// same reports whether an application can treat two names of header fields as the
// same. It ignores case, and treats all characters other than ASCII letters and
// digits as equal ("X-User", "x_user", "X.User").
func same(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

// fold returns the canonical form of a byte of a name.
func fold(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c + ('a' - 'A')
	}
	return '-'
}

// Remove removes a field from the header of a client, in every spelling. It also
// removes each value of Connection that names the field. It replaces slices of values
// instead of changing them, so a shallow copy of the header keeps its values.
func Remove(h http.Header, name string) {
	for sent := range h {
		if same(sent, name) {
			delete(h, sent)
		}
	}
	names := func(value string) bool {
		for token := range strings.SplitSeq(value, ",") {
			if same(strings.Trim(token, " \t"), name) {
				return true
			}
		}
		return false
	}
	if values := h["Connection"]; slices.ContainsFunc(values, names) {
		Set(h, "Connection", slices.DeleteFunc(slices.Clone(values), names))
	}
}

// Set sets the values of a field, or removes the field if there are none. The name
// must be canonical.
func Set(h http.Header, name string, values []string) {
	if len(values) == 0 {
		delete(h, name)
	} else {
		h[name] = values
	}
}

// reserved are the fields with a meaning for servers or proxies.
var reserved = []string{
	"Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Trailer",
	"Upgrade", "Expect", "Keep-Alive", "Cookie", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection",
	"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
}

// IsUsable reports whether a name can be configured for a field such as the one with
// the user name: it is valid (RFC 9110, section 5.1), and not a spelling of a field
// with a meaning for servers or proxies.
func IsUsable(name string) bool {
	return httpguts.ValidHeaderFieldName(name) &&
		!slices.ContainsFunc(reserved, func(r string) bool { return same(name, r) })
}

// BasicChallenge returns the value of a WWW-Authenticate header for Basic
// authentication with a realm (RFC 7617, section 2). It escapes quotation marks and
// backslashes, and removes ASCII control characters, which a quoted string cannot
// contain.
func BasicChallenge(realm string) string {
	var b strings.Builder
	b.WriteString(`Basic realm="`)
	for i := range len(realm) {
		switch c := realm[i]; {
		case c < ' ' || c == 0x7f:
			// removed; a placeholder can contain it
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
