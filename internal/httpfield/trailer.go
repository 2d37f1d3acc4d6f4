package httpfield

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forbiddenTrailers are fields that must not be trailers, in addition to those of
// [httpguts.ValidTrailerHeader]: they say where a request came from, where it goes, or
// who sent it, and a server may merge trailers into the header.
var forbiddenTrailers = []string{
	"Accept-Encoding", "Alt-Svc", "Cookie", "Early-Data", "Forwarded", "Http2-Settings", "Set-Cookie", "Upgrade", "Via", "X-Real-Ip",
}

// isForbiddenTrailer reports whether a field must not be a trailer: a field for
// framing, routing or authentication, a request modifier, or one that describes the
// content (RFC 9110, section 6.5.1). It recognizes spellings with "_" and "." that a
// server may treat as the same.
func isForbiddenTrailer(name string) bool {
	name = http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, name))
	return !httpguts.ValidTrailerHeader(name) || strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(forbiddenTrailers, name)
}

// RemoveForbiddenTrailers removes fields that must not be trailers: fields for
// framing, routing or authentication, request modifiers, and fields that describe the
// content (RFC 9110, section 6.5.1), in every spelling.
func RemoveForbiddenTrailers(trailer http.Header) {
	for name := range trailer {
		if isForbiddenTrailer(name) {
			delete(trailer, name)
		}
	}
}

// FilterTrailers removes fields from the trailers of a request, in every spelling,
// and those that [RemoveForbiddenTrailers] removes. Trailers are available only when
// the body was read to the end, so FilterTrailers replaces the body of the request by
// one that removes them then. It does not change a request
// that announces no trailers: net/http drops unannounced trailers.
func FilterTrailers(r *http.Request, names ...string) {
	if r.Trailer == nil || r.Body == nil {
		return
	}
	body := &trailerFilter{r.Body, r.Trailer, names}
	body.remove()
	r.Body = body
}

// trailerFilter is a request body that removes fields from the trailers when they
// have been read.
type trailerFilter struct {
	io.ReadCloser
	trailer http.Header
	names   []string
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
		if isForbiddenTrailer(name) || slices.ContainsFunc(b.names, func(n string) bool { return same(name, n) }) {
			delete(b.trailer, name)
		}
	}
}
