package caddyhtpasswd

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// What Go's HTTP clients refuse to send looks to Caddy like a failure of the
// server. The checks here find it before a server is chosen. They are no
// stricter than the clients of HTTP/1.1, HTTP/2 and HTTP/3 taken together, but
// where a request would reach a server as something else than Caddy has seen.

var (
	errMethod         = errors.New("the method is not a token")
	errConnect        = errors.New("no CONNECT to a group of servers")
	errProtocol       = errors.New("the servers do not speak the protocol that is asked for")
	errHost           = errors.New("invalid host")
	errTarget         = errors.New("invalid request target")
	errFieldName      = errors.New("invalid field name")
	errFieldValue     = errors.New("invalid field value")
	errFieldSize      = errors.New("field too long for FastCGI")
	errContentLength  = errors.New("the Content-Length is not that of the body")
	errLengthRequired = errors.New("the body has no Content-Length, and is too long to be buffered for FastCGI: raise request_buffers")
)

// maxFieldSize is for fields whose length nothing limits but Caddy itself.
const maxFieldSize = 1 << 30

// badRequest is an error of the client.
func badRequest(err error) error { return caddyhttp.Error(http.StatusBadRequest, err) }

// checkRequest returns an error if no server could be asked with the request.
func checkRequest(r *http.Request) error {
	if !httpguts.ValidHeaderFieldName(r.Method) {
		return badRequest(errMethod)
	}
	// It is ASCII, then; a name in Unicode that cannot be converted is refused by HTTP/1.1, too.
	if !httpguts.ValidHostHeader(r.Host) {
		return badRequest(errHost)
	}
	if !isTarget(r.Method, r.URL) {
		return badRequest(errTarget)
	}
	return nil
}

// isTarget reports whether what is sent to a server for the URL is a request
// target for the path that Caddy has seen.
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

// checkFields returns an error if a field of a header cannot be sent.
func checkFields(h http.Header, maxSize int) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return errFieldName
		}
		size := len(name)
		for _, value := range values {
			if !isFieldValue(value) {
				return fmt.Errorf("%w of '%s'", errFieldValue, name)
			}
			size += len(value) + len(", ")
		}
		if size > maxSize {
			return errFieldSize
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
