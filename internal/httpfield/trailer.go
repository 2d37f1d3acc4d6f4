package httpfield

import (
	"io"
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

// IsForbiddenTrailer reports whether a field must not come as a trailer: one
// for framing, routing, authentication, a request modifier, or one that
// describes the content (RFC 9110, section 6.5.1). All spellings count that a
// server may take for the same field.
func IsForbiddenTrailer(name string) bool {
	name = http.CanonicalHeaderKey(strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, name))
	return !httpguts.ValidTrailerHeader(name) || strings.HasPrefix(name, "X-Forwarded-") || slices.Contains(forbiddenTrailers, name)
}

// RemoveForbiddenTrailers removes the trailers for which [IsForbiddenTrailer] is true.
func RemoveForbiddenTrailers(trailer http.Header) {
	for name := range trailer {
		if IsForbiddenTrailer(name) {
			delete(trailer, name)
		}
	}
}

// FilterTrailers removes fields from the trailers of a request, in any spelling
// that is the [Same], and those that must not be trailers ([IsForbiddenTrailer]).
// Trailers are there only when the body has been read to the end, so it replaces the
// body of the request by one that removes them then. A request that announces no
// trailers is left alone: without an announcement net/http passes none on.
func FilterTrailers(r *http.Request, names ...string) {
	if r.Trailer == nil || r.Body == nil {
		return
	}
	body := &trailerFilter{r.Body, r.Trailer, names}
	body.remove()
	r.Body = body
}

// trailerFilter is a request body that removes fields from the trailers once
// they are there.
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
		if IsForbiddenTrailer(name) || slices.ContainsFunc(b.names, func(n string) bool { return Same(name, n) }) {
			delete(b.trailer, name)
		}
	}
}
