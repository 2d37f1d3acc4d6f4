package caddyhtpasswd

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

// What Go's HTTP clients refuse to send looks to Caddy like a failure of the
// server. So package sendable finds it before a server is chosen, and here it gets
// the status that the client is answered with.

var (
	errProtocol       = errors.New("the servers do not speak the protocol that is asked for")
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
