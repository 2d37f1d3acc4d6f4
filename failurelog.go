package caddyhtpasswd

import (
	"net/http"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

const (
	// failureRate is how many lines of one kind are written in a second, and
	// failureBurst how many more after a quiet time: a flood must not fill the disk.
	failureRate  = 10
	failureBurst = 200

	// insecureRate and insecureBurst are those for plain HTTP requests: each
	// line says the same about the same site, and nobody guesses there.
	insecureRate  = 0.1
	insecureBurst = 3

	// leftOutEvery is how often there is a line that counts the others.
	leftOutEvery = 10 * time.Second
)

// lineKind is one of the kinds of lines that are bounded each for itself: what
// can be made without end must not push out what says more.
type lineKind uint8

const (
	failureLines    lineKind = iota // a failed login was counted
	cheapLines                      // none was: malformed credentials, a password that is known to be wrong
	exceededLines                   // a rate limit is exceeded
	insecureLines                   // a request over plain HTTP
	overloadedLines                 // no room in the hash queue
	errorLines                      // a login could not be checked
	errorRouteLines                 // an error route failed
	upstreamLines                   // an upstream group gave no answer
	lineKinds
)

// lineLog bounds the rate of the lines of one kind, for all handlers together,
// and counts what is left out. Every line that a client can cause goes through
// one.
type lineLog struct {
	limiter *rate.Limiter
	leftOut atomic.Int64
}

func newLineLog(kind lineKind) *lineLog {
	if kind == insecureLines {
		return &lineLog{limiter: rate.NewLimiter(insecureRate, insecureBurst)}
	}
	return &lineLog{limiter: rate.NewLimiter(failureRate, failureBurst)}
}

// write writes a warning, or counts it.
func (l *lineLog) write(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	l.writeAt(zapcore.WarnLevel, now, logger, message, fields...)
}

func (l *lineLog) writeAt(level zapcore.Level, now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	if !logger.Core().Enabled(level) {
		return
	}
	if l.limiter.AllowN(now, 1) {
		logger.Log(level, message, fields...)
	} else if l.leftOut.Add(1) == 1 {
		time.AfterFunc(leftOutEvery, func() {
			logger.Warn("log entries suppressed", zap.String("message", message), zap.Int64("entries", l.leftOut.Swap(0)))
		})
	}
}

// logFailure writes the one line about a log-in that failed.
func (h *Handler) logFailure(ip string, user []byte, v verdict) {
	kind, fields := failureLines, []zap.Field{zap.String("reason", resultReasons[v.result])}
	if v.isCheap() {
		kind = cheapLines
	}
	if v.repeated { // no guess: the same as before
		fields = append(fields, zap.Bool("repeated", true))
	}
	h.logRefusal(kind, ip, user, "log-in failed", fields...)
}

// logExceeded writes the one line about a limit that is exceeded.
func (h *Handler) logExceeded(ip string, user []byte, s scope) {
	l := h.guard.settings().limits[s]
	h.logRefusal(exceededLines, ip, user, "too many failed log-ins: this budget is used up, and the answer 429 until its window ends",
		zap.Stringer("budget", s), zap.Int("failures", l.Max), zap.String("window", l.Window.String()))
}

func (h *Handler) logRefusal(kind lineKind, ip string, user []byte, message string, fields ...zap.Field) {
	all := []zap.Field{zap.String("client_ip", ip), zap.String("user", shorten(user))}
	all = append(all, fields...)
	all = append(all, zap.String("realm", h.Realm))
	h.guard.lines[kind].write(h.guard.now(), h.logger, message, all...)
}

// logNotEncrypted writes why a request over plain HTTP is refused, and what
// the administrator can do.
func (h *Handler) logNotEncrypted(ip string, r *http.Request) {
	trusted, forwarded := isFromTrustedProxy(r), len(r.Header[headerForwardedProto]) > 0
	var reason, fix string
	switch {
	case trusted && forwarded:
		reason, fix = "a trusted proxy reports plain HTTP in X-Forwarded-Proto", "have the proxy redirect plain HTTP to HTTPS"
	case trusted:
		reason, fix = "plain HTTP from a trusted proxy that sends no X-Forwarded-Proto", "have the proxy send X-Forwarded-Proto"
	case forwarded:
		reason, fix = "plain HTTP from a client that is not in trusted_proxies; its X-Forwarded-Proto is ignored", "add the proxy to trusted_proxies in the global option servers"
	default:
		reason, fix = "plain HTTP", "serve the site over HTTPS, or set trusted_proxies for a proxy that ends TLS and sends X-Forwarded-Proto"
	}
	h.guard.lines[insecureLines].write(h.guard.now(), h.logger, "request over plain HTTP refused with 403",
		zap.String("client_ip", ip), zap.String("host", shorten([]byte(r.Host))), zap.String("reason", reason),
		zap.String("fix", fix+", or set allow_http"), zap.String("realm", h.Realm))
}

// logAmbiguous writes that it is not clear which credentials a request means:
// most often a proxy in front adds its own.
func (h *Handler) logAmbiguous(ip string, r *http.Request) {
	h.guard.lines[cheapLines].write(h.guard.now(), h.logger, "request with more than one Authorization header refused with 400",
		zap.String("client_ip", ip), zap.String("host", shorten([]byte(r.Host))), zap.String("realm", h.Realm))
}

// logError writes that a request could not be checked, for a reason that is
// not the client's.
func (h *Handler) logError(ip, message string, err error) {
	h.guard.lines[errorLines].writeAt(zapcore.ErrorLevel, h.guard.now(), h.logger, message,
		zap.String("client_ip", ip), zap.Error(err), zap.String("realm", h.Realm))
}

// shorten returns the first bytes of a user name, for a log.
func shorten(user []byte) string {
	const most = 64
	if len(user) <= most {
		return shown.Text(string(user))
	}
	first := user[:most]
	for i := 1; i < utf8.UTFMax; i++ { // not half a character
		if start := most - i; utf8.RuneStart(user[start]) {
			if !utf8.FullRune(user[start:most]) {
				first = user[:start]
			}
			break
		}
	}
	return shown.Text(string(first)) + "..."
}
