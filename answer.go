package caddyhtpasswd

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// statusClientClosed is the status that nginx and Caddy log for a request whose
// client has closed the connection.
const statusClientClosed = 499

// errorAnswer responds to requests that a handler ends with an error.
//
// If an error of 500 or above reaches Caddy, Caddy logs it with all headers of the
// request. It also logs any error whose error routes fail. Anonymous clients can
// cause both without a limit. So no error leaves the handler: the handler writes the
// status, or runs the error routes of the server, itself.
type errorAnswer struct {
	guard      *guard
	logger     *zap.Logger
	inSubroute bool // the handler is in a subroute with error routes
}

// newErrorAnswer returns the errorAnswer of the handler that ctx provisions.
func newErrorAnswer(ctx caddy.Context, g *guard) errorAnswer {
	hasErrorRoutes := func(m caddy.Module) bool {
		subroute, ok := m.(*caddyhttp.Subroute)
		return ok && subroute.Errors != nil
	}
	return errorAnswer{guard: g, logger: ctx.Logger(), inSubroute: slices.ContainsFunc(ctx.Modules(), hasErrorRoutes)}
}

// write responds to the request with an error. The handler has to return what write
// returns. That is nil, except in a subroute with error routes, which get the error,
// and for a request that comes from no server of Caddy.
func (a *errorAnswer) write(w http.ResponseWriter, r *http.Request, err error) error {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if a.inSubroute || server == nil {
		return err
	}
	if c := a.logger.Check(zap.DebugLevel, "request refused"); c != nil {
		c.Write(zap.String("client_ip", clientIP(r.Context())), zap.Int("status", statusOf(err)), zap.String("error", plainError(err)))
	}
	isInErrorRoute := r.Context().Value(caddyhttp.ErrorCtxKey) != nil
	if server.Errors == nil || len(server.Errors.Routes) == 0 || isInErrorRoute {
		w.WriteHeader(statusOf(err))
		return nil
	}
	restoreOriginal(r)
	if r.Method == http.MethodConnect {
		withoutBody(r) // reverse_proxy would send the body as if it were further requests
	}
	routes := server.Errors.Routes.Compile(caddyhttp.HandlerFunc(writeStatus))
	if failure := routes.ServeHTTP(w, server.Errors.WithError(r, err)); failure != nil {
		a.guard.lines[errorRouteLines].Warn(a.guard.now(), a.logger, "error route failed; responding with status only",
			zap.String("client_ip", clientIP(r.Context())), zap.Int("status", statusOf(err)), zap.String("error", plainError(failure)))
		w.WriteHeader(statusOf(err))
	}
	return nil
}

// writeStatus writes the status of the error if no error route has responded.
func writeStatus(w http.ResponseWriter, r *http.Request) error {
	err, _ := r.Context().Value(caddyhttp.ErrorCtxKey).(error)
	w.WriteHeader(statusOf(err))
	return nil
}

// restoreOriginal reverts rewrites, as Caddy does before it runs error routes.
func restoreOriginal(r *http.Request) {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return
	}
	r.Method, r.RemoteAddr, r.RequestURI = original.Method, original.RemoteAddr, original.RequestURI
	*r.URL = *original.URL // in place, because Caddy's placeholders read this URL
}

// statusOf returns the HTTP status of an error.
func statusOf(err error) int {
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); ok && handlerErr.StatusCode != 0 {
		return handlerErr.StatusCode
	}
	return http.StatusInternalServerError
}

// plainError returns the text of an error without the ID and the position in the
// code that Caddy adds. They would make each log line different.
func plainError(err error) string {
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if handlerErr.Err == nil {
			return http.StatusText(handlerErr.StatusCode)
		}
		err = handlerErr.Err
	}
	const maxLen = 200 // bytes; the text can quote what the client sent
	text := err.Error()
	return text[:min(len(text), maxLen)]
}

// retryAfter returns the value of a Retry-After header, in whole seconds (RFC 9110,
// section 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}
