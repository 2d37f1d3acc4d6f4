// Package sendable tells whether a request can be sent on to another server.
//
// A proxy that finds out only while it sends takes the client's fault for a
// failure of the server. So ask before a server is chosen. The checks refuse what
// Go's clients of HTTP/1.1, HTTP/2 and HTTP/3 would refuse, taken together. Beyond
// that they refuse only what would reach a server as another request than the one
// that the proxy has seen.
//
// [CheckRequest] is for the request line and the host, [CheckFields] for a header
// or for trailers. Their errors are the client's, so that an answer of 4xx fits.
package sendable

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpguts"
)

// Errors of [CheckRequest].
var (
	ErrMethod = errors.New("the method is not a token")
	ErrHost   = errors.New("invalid host")
	ErrTarget = errors.New("invalid request target")
)

// Errors of [CheckFields]. ErrFieldValue comes wrapped, with the name of the field.
var (
	ErrFieldName  = errors.New("invalid field name")
	ErrFieldValue = errors.New("invalid field value")
	ErrFieldSize  = errors.New("field too long")
)

// CheckRequest returns [ErrMethod], [ErrHost] or [ErrTarget] if no server could be
// asked with the request. It does not look at the header.
func CheckRequest(r *http.Request) error {
	if !httpguts.ValidHeaderFieldName(r.Method) { // both are tokens
		return ErrMethod
	}
	// A valid host is ASCII. HTTP/1.1 would convert a name in Unicode, but not each.
	if !httpguts.ValidHostHeader(r.Host) {
		return ErrHost
	}
	if !isTarget(r.Method, r.URL) {
		return ErrTarget
	}
	return nil
}

// isTarget reports whether what is sent to a server for the URL is a request
// target for the path that the proxy has seen.
func isTarget(method string, u *url.URL) bool {
	switch {
	case u.Opaque != "": // "x:http://host/path" has no path here, and one on the server
		return false
	case u.Path == "": // is sent as "/"
	case u.Path[0] == '/':
	case u.Path == "*" && method == http.MethodOptions:
	default:
		return false
	}
	for i := range len(u.RawQuery) { // the path is escaped anyway
		if c := u.RawQuery[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// CheckFields returns an error if a field of a header, or a trailer, cannot be
// sent. The most bytes of a field are maxSize: those of its name, and of each
// value with the ", " that joins it to another.
func CheckFields(h http.Header, maxSize int) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return ErrFieldName
		}
		size := len(name)
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("%w of '%s'", ErrFieldValue, name)
			}
			size += len(value) + len(", ")
		}
		if size > maxSize {
			return ErrFieldSize
		}
	}
	return nil
}

// isFieldValue is [httpguts.ValidHeaderFieldValue], which takes twice as long.
func isFieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
