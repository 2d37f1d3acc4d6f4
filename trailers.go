package caddyhtpasswd

import (
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forbiddenTrailers are fields that must not come as trailers, beside those
// that [httpguts.ValidTrailerHeader] knows: they say where a request came from,
// where it goes, or who sent it, and a server may merge trailers into the header.
var forbiddenTrailers = []string{
	"Accept-Encoding", "Alt-Svc", "Cookie", "Early-Data", "Forwarded", "Http2-Settings", "Set-Cookie", "Upgrade", "Via", "X-Real-Ip",
}

// isForbiddenTrailer reports whether a field must not come as a trailer: one
// for framing, routing, authentication, a request modifier, or one that
// describes the content (RFC 9110, section 6.5.1). All spellings count that a
// server may take for the same field.
func isForbiddenTrailer(name string) bool {
	name = http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, name))
	return !httpguts.ValidTrailerHeader(name) || strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(forbiddenTrailers, name)
}

// dropForbiddenTrailers removes the fields that must not come as trailers.
func dropForbiddenTrailers(trailer http.Header) {
	for name := range trailer {
		if isForbiddenTrailer(name) {
			delete(trailer, name)
		}
	}
}
