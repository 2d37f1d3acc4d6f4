// Package httpfield compares the names of HTTP header fields as applications do,
// and removes fields that a client must not send.
//
// An application behind a proxy need not tell "X-User" from "X_User": CGI, FastCGI
// and WSGI turn both into HTTP_X_USER, and others do alike. So a field that says who
// the user is must be removed in each spelling. And it must be removed from every
// place where a client can put it: the header, the trailers, and the Connection
// header, by which a client could have the field removed that the proxy has set.
//
// [Same] says which spellings are meant. [Remove] and [FilterTrailers] remove them.
// [Set] and [BasicChallenge] are for fields that this program writes.
package httpfield

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Same reports whether an application can take two names of header fields for the
// same: without regard to case, nor to which of the characters that are no letters
// or digits of ASCII stand in them ("X-User", "x_user", "X.User").
func Same(a, b string) bool {
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

// fold returns what stands for a byte of a name when names are compared.
func fold(c byte) byte {
	switch {
	case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		return c
	case 'A' <= c && c <= 'Z':
		return c + ('a' - 'A')
	}
	return '-'
}

// Remove removes a field from the header that a client sent, in any spelling that
// is the [Same]. It removes the values of Connection that name the field, too, each
// as a whole. Values are replaced, not changed: a copy of the header keeps its own.
func Remove(h http.Header, name string) {
	for sent := range h {
		if Same(sent, name) {
			delete(h, sent)
		}
	}
	names := func(value string) bool {
		for token := range strings.SplitSeq(value, ",") {
			if Same(strings.Trim(token, " \t"), name) {
				return true
			}
		}
		return false
	}
	if values := h["Connection"]; slices.ContainsFunc(values, names) {
		Set(h, "Connection", slices.DeleteFunc(slices.Clone(values), names))
	}
}

// Set gives a field its values. Without values, the field is removed. The name is
// used as it is; make it canonical before.
func Set(h http.Header, name string, values []string) {
	if len(values) == 0 {
		delete(h, name)
	} else {
		h[name] = values
	}
}

// reserved are the fields that have a meaning of their own to a server or a proxy.
var reserved = []string{
	"Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Te", "Trailer",
	"Upgrade", "Expect", "Keep-Alive", "Cookie", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection",
	"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
}

// IsUsable reports whether a name can be configured for a field that carries text
// of our own, such as the name of the user: a valid name (RFC 9110, section 5.1),
// and not the [Same] as a field with a meaning of its own, which that would break.
func IsUsable(name string) bool {
	return httpguts.ValidHeaderFieldName(name) &&
		!slices.ContainsFunc(reserved, func(r string) bool { return Same(name, r) })
}

// BasicChallenge returns the value of a WWW-Authenticate header that asks for Basic
// credentials of a realm (RFC 7617, section 2). Quotation marks and backslashes are
// escaped. Control characters of ASCII, which no quoted string can hold, are left out.
func BasicChallenge(realm string) string {
	var b strings.Builder
	b.WriteString(`Basic realm="`)
	for i := range len(realm) {
		switch c := realm[i]; {
		case c < ' ' || c == 0x7f:
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
