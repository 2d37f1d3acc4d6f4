package caddyhtpasswd

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// responseObserver is a selection policy that can observe or change the responses of the
// servers.
type responseObserver interface {
	// observesResponses reports whether it does so with its settings.
	observesResponses() bool
	// observeResponse returns the ResponseWriter for the response to a request, and
	// a function to call at the end.
	observeResponse(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, func())
}

// ofServers marks the ResponseWriters that ProxyPass puts around its own for the responses
// of servers.
type ofServers interface {
	isOfServers()
	Unwrap() http.ResponseWriter
}

// withoutHook returns the ResponseWriter for a response that no server gave: inside those
// that ProxyPass puts around it.
func withoutHook(w http.ResponseWriter) http.ResponseWriter {
	for {
		outer, ok := w.(ofServers)
		if !ok {
			return w
		}
		w = outer.Unwrap()
	}
}

// headerHook is a ResponseWriter that calls a function once, before the header of
// the final response is written: not before one of 1xx, but before 101. The function
// can still change the header. If no header is ever written, it is not called.
type headerHook struct {
	*caddyhttp.ResponseWriterWrapper
	before func(status int)
	called bool
}

func newHeaderHook(w http.ResponseWriter, before func(status int)) *headerHook {
	return &headerHook{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, before: before}
}

func (h *headerHook) call(status int) {
	if !h.called {
		h.called = true
		h.before(status)
	}
}

// WriteHeader implements http.ResponseWriter.
func (h *headerHook) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		h.call(status)
	}
	h.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (h *headerHook) Write(p []byte) (int, error) {
	h.call(http.StatusOK)
	return h.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (h *headerHook) ReadFrom(r io.Reader) (int64, error) {
	h.call(http.StatusOK)
	return h.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls. Without it, Unwrap would go past
// the hook.
func (h *headerHook) FlushError() error {
	h.call(http.StatusOK)
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Hijack passes the connection to a handler that asserts http.Hijacker. Then no header is
// written.
func (h *headerHook) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.called = h.called || err == nil
	return conn, rw, err
}

// serverHook is a headerHook for the responses of servers.
type serverHook struct{ *headerHook }

// isOfServers implements ofServers.
func (serverHook) isOfServers() {}

// Interface guards
var (
	_ ofServers           = serverHook{}
	_ ofServers           = (*timedWriter)(nil)
	_ http.Hijacker       = (*headerHook)(nil)
	_ http.ResponseWriter = (*headerHook)(nil)
	_ io.ReaderFrom       = (*headerHook)(nil)
)
