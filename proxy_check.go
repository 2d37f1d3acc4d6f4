package caddyhtpasswd

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// To Caddy, a request that Go's HTTP clients refuse to send looks like a failure of the
// server. So package sendable finds such requests before a server is chosen. The
// functions here choose the status of the response.

var (
	errProtocol       = errors.New("the upstream servers do not support the requested protocol")
	errFieldSize      = errors.New("header field too long for FastCGI")
	errContentLength  = errors.New("the Content-Length does not match the request body")
	errLengthRequired = errors.New("the request body has no Content-Length and is too long to be buffered for FastCGI: raise request_buffers")
)

// maxFieldSize is for transports that do not limit the size of fields; Caddy does.
const maxFieldSize = 1 << 30

// badRequest returns an error that the client has caused.
func badRequest(err error) error { return caddyhttp.Error(http.StatusBadRequest, err) }

// checkRequest returns an error if the request cannot be sent to any server.
func checkRequest(r *http.Request) error {
	if err := sendable.CheckRequest(r); err != nil {
		return badRequest(err)
	}
	return nil
}

// checkHeader returns an error if a field of the header cannot be sent.
func (p *ProxyPass) checkHeader(h http.Header) error {
	err := sendable.CheckFields(h, p.maxFieldSize)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sendable.ErrFieldSize):
		return caddyhttp.Error(http.StatusRequestHeaderFieldsTooLarge, errFieldSize)
	}
	return badRequest(err)
}
