package caddyhtpasswd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
	"github.com/seed10b5b978/caddy-htpasswd/internal/sendable"
)

var (
	errShortBody  = errors.New("the request body is shorter than its Content-Length")
	errLongBody   = errors.New("the request body is longer than its Content-Length")
	errBadTrailer = errors.New("invalid trailer")
	errSlowBody   = errors.New("the upstream closed the connection while the client was sending the request body")
)

// hasBody reports whether reverse_proxy reads the body of a request. Over HTTP/2, every
// request has a Body, which may be empty.
func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && (r.ContentLength != 0 || len(r.Trailer) > 0) && r.Method != http.MethodConnect
}

// serveUpload sends a request with a body to the group.
func (p *ProxyPass) serveUpload(w http.ResponseWriter, r, out *http.Request, next caddyhttp.Handler) error {
	body := newUpload(out)
	out = body.in(out, p.canWebSocket)
	if p.needsLength && out.ContentLength < 0 && !caddyhttp.IsIncremental(out.Header) {
		buffered, err := p.buffer(out)
		if err != nil {
			if failure := body.err(); failure != nil {
				err = failure
			}
			return p.fail(w, r, err)
		}
		out = buffered
	}
	guarded := &uploadWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: p.times.timed(w)}, body: body}
	err := p.send(guarded, out, next)
	if guarded.held {
		err = body.err()
	}
	if err != nil {
		return p.fail(w, r, err)
	}
	return nil
}

// buffer reads a body of unknown length, as reverse_proxy does for FastCGI. If the body
// cannot be read, reverse_proxy would try each server in vain.
func (p *ProxyPass) buffer(r *http.Request) (*http.Request, error) {
	var from io.Reader = r.Body
	if p.proxy.RequestBuffers >= 0 {
		from = io.LimitReader(from, p.proxy.RequestBuffers+1)
	}
	text, err := io.ReadAll(from)
	switch {
	case err != nil:
		return nil, err
	case p.proxy.RequestBuffers >= 0 && int64(len(text)) > p.proxy.RequestBuffers:
		return nil, caddyhttp.Error(http.StatusLengthRequired, errLengthRequired)
	}
	out := r.WithContext(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return out, nil
}

// slowUpload is how long a client has to keep a server waiting for the body, so that a
// server that closes the connection then has not failed.
var slowUpload = time.Second

// upload is the body of a request. It keeps the error that the client causes while the
// body is read, and removes fields that must not be trailers.
type upload struct {
	io.ReadCloser
	trailer http.Header // of the request
	length  int64       // the Content-Length; negative if there is none

	read    int64
	waited  time.Duration
	server  atomic.Pointer[net.Conn] // the HTTP/1.1 connection to the server
	reading chan struct{}            // full while Read runs
	failure atomic.Pointer[error]    // atomic, because the transport reads in its own goroutine
}

func newUpload(r *http.Request) *upload {
	return &upload{ReadCloser: r.Body, trailer: r.Trailer, length: r.ContentLength, reading: make(chan struct{}, 1)}
}

// waitedFor implements clientWait.
func (u *upload) waitedFor() (time.Duration, bool) {
	select {
	case u.reading <- struct{}{}:
		defer func() { <-u.reading }()
		return u.waited, true
	default:
		return 0, false
	}
}

func (u *upload) Read(p []byte) (int, error) {
	u.reading <- struct{}{}
	defer func() { <-u.reading }()
	if failure := u.failure.Load(); failure != nil {
		return 0, *failure
	}
	begin := time.Now()
	n, err := u.ReadCloser.Read(p)
	u.waited += time.Since(begin)
	u.read += int64(n)
	switch {
	case u.waited >= slowUpload && u.isHungUp():
		n, err = 0, errSlowBody
	case u.length >= 0 && u.read > u.length:
		n, err = 0, errLongBody
	case errors.Is(err, io.EOF) && u.read < u.length:
		err = errShortBody
	case errors.Is(err, io.EOF):
		err = u.end()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		u.failure.Store(&err)
	}
	return n, err
}

// in returns the request with u as its body. Over HTTP/1.1, u records the connection to
// which the body is written.
func (u *upload) in(r *http.Request, overHTTP1 bool) *http.Request {
	ctx := context.WithValue(r.Context(), uploadKey{}, u)
	if overHTTP1 {
		ctx = u.observe(ctx)
	}
	r = r.WithContext(ctx)
	r.Body = u
	return r
}

func (u *upload) observe(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol == "h2" {
			return // requests share this connection
		}
		u.server.Store(&info.Conn)
	}})
}

// isHungUp reports whether the connection to the server is closed. Go's client closes
// it when the server does, but returns an error only after it has read the body.
func (u *upload) isHungUp() bool {
	c := u.server.Load()
	return c != nil && errors.Is((*c).SetWriteDeadline(time.Time{}), net.ErrClosed)
}

// end checks the trailers, which are complete when the body has ended.
func (u *upload) end() error {
	if err := sendable.CheckFields(u.trailer, maxFieldSize); err != nil {
		return fmt.Errorf("%w: %w", errBadTrailer, err)
	}
	httpfield.RemoveForbiddenTrailers(u.trailer)
	return io.EOF
}

// hasFailed reports whether the client has caused an error. An error on the client's
// connection cancels the request. HTTP/2 transports return as soon as the request is
// canceled, and Read returns the error a moment later.
func (u *upload) hasFailed() bool {
	const moment = 100 * time.Millisecond // bounded, because a reset over HTTP/3 can leave the body open
	select {
	case u.reading <- struct{}{}:
		<-u.reading
	case <-time.After(moment):
	}
	return u.failure.Load() != nil
}

// err returns the error that the client has caused, with the status of the response, or
// nil.
func (u *upload) err() error {
	failure := u.failure.Load()
	if failure == nil {
		return nil
	}
	err := *failure
	if _, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		return err // of another handler, such as request_body
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return caddyhttp.Error(http.StatusRequestEntityTooLarge, err)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errSlowBody) {
		return caddyhttp.Error(http.StatusRequestTimeout, err)
	}
	return caddyhttp.Error(http.StatusBadRequest, err)
}

// uploadWriter is the ResponseWriter of a request with a body. Caddy writes status 499
// itself when the body fails, before the right status is known.
type uploadWriter struct {
	*caddyhttp.ResponseWriterWrapper
	body *upload
	held bool
}

// isOfServers implements ofServers.
func (*uploadWriter) isOfServers() {}

// WriteHeader holds back the status 499 if the body has failed.
func (w *uploadWriter) WriteHeader(status int) {
	if status == statusClientClosed && w.body.hasFailed() {
		w.held = true
		return
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// release writes the status that was held back, because it is part of a server's response.
func (w *uploadWriter) release() {
	if w.held {
		w.held = false
		w.ResponseWriterWrapper.WriteHeader(statusClientClosed)
	}
}

func (w *uploadWriter) Write(p []byte) (int, error) {
	w.release()
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements [io.ReaderFrom].
func (w *uploadWriter) ReadFrom(r io.Reader) (int64, error) {
	w.release()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is called by [http.ResponseController].
func (w *uploadWriter) FlushError() error {
	w.release()
	return http.NewResponseController(w.Unwrap()).Flush()
}
