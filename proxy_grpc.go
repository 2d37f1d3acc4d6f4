package caddyhtpasswd

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// The client of a gRPC call says how long it waits, in the header Grpc-Timeout. When the
// time is over, some gRPC servers reset the stream. Caddy would count that as a failure of
// the server: a client could take all servers out with calls of a nanosecond. So ProxyPass
// ends such a call first, as if its client had gone away, and the server gets some more
// time. A reset after the header of the response is no failure for Caddy.

// grpcSlack is the time that a server has after the end of a call.
const grpcSlack = time.Second

const headerGRPCTimeout = "Grpc-Timeout"

// speaksGRPC reports whether a transport can send gRPC calls, which need HTTP/2.
func speaksGRPC(t *reverseproxy.HTTPTransport) bool {
	return slices.Contains(t.Versions, "h2c") || t.TLSEnabled() && slices.Contains(t.Versions, "2")
}

// send passes a request to reverse_proxy, and ends gRPC calls when their time is over.
func (p *ProxyPass) send(w http.ResponseWriter, out *http.Request, next caddyhttp.Handler) error {
	if !p.canGRPC || out.Header[headerGRPCTimeout] == nil {
		return p.proxy.ServeHTTP(w, out, next)
	}
	timeout, ok := grpcTimeout(out.Header[headerGRPCTimeout])
	if !ok {
		return p.proxy.ServeHTTP(w, out, next) // the server refuses it
	}
	ctx, cancel := context.WithCancel(out.Context())
	defer cancel()
	call := &grpcCall{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, isCall: isGRPC(out)}
	defer time.AfterFunc(timeout, func() {
		if call.state.CompareAndSwap(callWaits, callExpired) {
			cancel()
		}
	}).Stop()
	out = out.WithContext(ctx)
	out.Header = out.Header.Clone()
	out.Header[headerGRPCTimeout] = []string{formatGRPCTimeout(timeout + grpcSlack)}
	return p.proxy.ServeHTTP(call, out, next)
}

// isGRPC reports whether a request is a gRPC call for its client. Servers can take others
// for one, such as one with two values of Content-Type, so their time is limited as well.
func isGRPC(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// States of a grpcCall.
const (
	callWaits   = int32(iota) // for the header of the response
	callBegun                 // the response has begun
	callExpired               // the time was over before that
)

// grpcCall is the ResponseWriter of a call with a timeout.
type grpcCall struct {
	*caddyhttp.ResponseWriterWrapper
	state  atomic.Int32
	isCall bool
}

// WriteHeader writes the status of gRPC in place of the 499 with which Caddy ends a request
// whose client has gone away. For other requests it writes 504, because a cache could store
// 200 for all clients.
func (c *grpcCall) WriteHeader(status int) {
	if status >= http.StatusOK && !c.state.CompareAndSwap(callWaits, callBegun) && c.state.Load() == callExpired && status == statusClientClosed {
		w := withoutHook(c.ResponseWriter)
		if !c.isCall {
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "4") // DEADLINE_EXCEEDED
		w.Header().Set("Grpc-Message", "deadline exceeded")
		w.WriteHeader(http.StatusOK)
		return
	}
	c.ResponseWriterWrapper.WriteHeader(status)
}

// grpcUnits are the units of Grpc-Timeout, from the smallest on.
var grpcUnits = []struct {
	name byte
	unit time.Duration
}{{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond}, {'S', time.Second}, {'M', time.Minute}, {'H', time.Hour}}

// maxGRPCDigits is the number of digits that a Grpc-Timeout can have.
const maxGRPCDigits = 8

// grpcTimeout returns the shortest of the values of Grpc-Timeout. It returns false if none
// is valid.
func grpcTimeout(values []string) (shortest time.Duration, ok bool) {
	for _, value := range values {
		if timeout, valid := parseGRPCTimeout(value); valid && (!ok || timeout < shortest) {
			shortest, ok = timeout, true
		}
	}
	return shortest, ok
}

func parseGRPCTimeout(value string) (time.Duration, bool) {
	digits := len(value) - 1
	if digits < 1 || digits > maxGRPCDigits {
		return 0, false
	}
	n, err := strconv.Atoi(value[:digits])
	if err != nil || strings.ContainsAny(value, "+-") {
		return 0, false
	}
	for _, u := range grpcUnits {
		if u.name == value[digits] {
			const longest = 24 * 365 * time.Hour // the longest possible one does not fit into a Duration
			if time.Duration(n) > longest/u.unit {
				return longest, true
			}
			return time.Duration(n) * u.unit, true
		}
	}
	return 0, false
}

// formatGRPCTimeout returns a Grpc-Timeout, rounded up.
func formatGRPCTimeout(timeout time.Duration) string {
	var text string
	for _, u := range grpcUnits {
		text = strconv.FormatInt(int64((timeout+u.unit-1)/u.unit), 10) + string(u.name)
		if len(text) <= maxGRPCDigits+1 {
			break
		}
	}
	return text
}
