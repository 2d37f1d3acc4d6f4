package caddyhtpasswd

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// logFailure logs a failed login.
func (h *Handler) logFailure(from origin, user []byte, v verdict) {
	kind, fields := failureLines, []zap.Field{zap.String("reason", resultReasons[v.result])}
	if v.isCheap() {
		kind = cheapLines
	}
	if v.repeated { // no new guess
		fields = append(fields, zap.Bool("repeated", true))
	}
	h.logRefusal(kind, from, user, "login failed", fields...)
}

// logExceeded logs that a limit has been exceeded.
func (h *Handler) logExceeded(from origin, user []byte, s scope) {
	l := h.guard.settings().limits[s]
	h.logRefusal(exceededLines, from, user, "login rate limit exceeded; responding 429 until the window ends",
		zap.Stringer("limit", s), zap.Int("failures", l.Max), zap.String("window", l.Window.String()))
}

// logRefusal logs a refused login. The fail2ban filter in examples reads the fields
// client_ip, user, reason and host in this order.
func (h *Handler) logRefusal(kind lineKind, from origin, user []byte, message string, fields ...zap.Field) {
	all := []zap.Field{zap.String("client_ip", from.ip), zap.String("user", shown.Short(user))}
	all = append(all, fields...)
	all = append(all, zap.String("host", shown.Short(from.host)), zap.String("realm", h.Realm))
	h.guard.lines[kind].Warn(h.guard.now(), h.logger, message, all...)
}

// logNotEncrypted logs why a request over plain HTTP is refused, and how to fix it.
func (h *Handler) logNotEncrypted(ip string, r *http.Request) {
	trusted, forwarded := isFromTrustedProxy(r), len(r.Header[headerForwardedProto]) > 0
	var reason, fix string
	switch {
	case trusted && forwarded:
		reason, fix = "a trusted proxy reports plain HTTP in X-Forwarded-Proto", "have the proxy redirect plain HTTP to HTTPS"
	case trusted:
		reason, fix = "plain HTTP from a trusted proxy that sends no X-Forwarded-Proto", "have the proxy send X-Forwarded-Proto"
	case forwarded:
		reason, fix = "plain HTTP from an address that is not in trusted_proxies, so X-Forwarded-Proto is ignored", "add the proxy to trusted_proxies in the global option servers"
	default:
		reason, fix = "plain HTTP", "serve the site over HTTPS, or set trusted_proxies for a proxy that terminates TLS and sends X-Forwarded-Proto"
	}
	h.guard.lines[insecureLines].Warn(h.guard.now(), h.logger, "request over plain HTTP refused with 403",
		zap.String("client_ip", ip), zap.String("host", shown.Short(r.Host)), zap.String("reason", reason),
		zap.String("fix", fix+", or set allow_http"), zap.String("realm", h.Realm))
}

// logAmbiguous logs a request with more than one Authorization header. Most often, a
// proxy in front has added one.
func (h *Handler) logAmbiguous(ip string, r *http.Request) {
	h.guard.lines[cheapLines].Warn(h.guard.now(), h.logger, "request with more than one Authorization header refused with 400",
		zap.String("client_ip", ip), zap.String("host", shown.Short(r.Host)), zap.String("realm", h.Realm))
}

// logError logs an error that the client has not caused.
func (h *Handler) logError(ip, message string, err error) {
	h.guard.lines[errorLines].Error(h.guard.now(), h.logger, message,
		zap.String("client_ip", ip), zap.Error(err), zap.String("realm", h.Realm))
}
