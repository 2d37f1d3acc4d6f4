// Package sendable checks whether a request can be forwarded to another server.
//
// If a proxy detects an invalid request only while it sends it, it blames the server
// for the client's error. So call this package before choosing a server. The checks
// reject everything that Go's clients of HTTP/1.1, HTTP/2 or HTTP/3 reject. In
// addition they reject only requests that would reach the server as a different
// request.
//
// [CheckRequest] checks the request line and the host, [CheckFields] a header or
// trailers. Their errors are the client's: respond with a status 4xx.
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

// Errors of [CheckFields]. ErrFieldValue is wrapped in an error with the name of the
// field.
var (
	ErrFieldName  = errors.New("invalid field name")
	ErrFieldValue = errors.New("invalid field value")
	ErrFieldSize  = errors.New("field too long")
)

// CheckRequest returns [ErrMethod], [ErrHost] or [ErrTarget] if the request cannot be
// sent. It does not check the header.
func CheckRequest(r *http.Request) error {
	if !httpguts.ValidHeaderFieldName(r.Method) { // a method is a token, too
		return ErrMethod
	}
	// A valid host is ASCII. HTTP/1.1 clients convert some, but not all Unicode names.
	if !httpguts.ValidHostHeader(r.Host) {
		return ErrHost
	}
	if !isTarget(r.Method, r.URL) {
		return ErrTarget
	}
	return nil
}

// isTarget reports whether the URL is sent as a request target with the same path.
func isTarget(method string, u *url.URL) bool {
	switch {
	case u.Opaque != "": // "x:http://host/path" has no path here, but has one on the server
		return false
	case u.Path == "": // sent as "/"
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

// CheckFields returns an error if a field of a header, or a trailer, cannot be sent.
// The maximum size of a field is maxSize bytes: its name, and all values, each with
// the ", " that joins them.
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
