package caddyhtpasswd

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

const (
	// failureLines is how many lines about failures are written in a second, and
	// failureBurst how many more after a quiet time: a flood must not fill the disk.
	failureLines = 10
	failureBurst = 200

	// leftOutEvery is how often there is a line that counts the others.
	leftOutEvery = 10 * time.Second
)

// failureLog bounds the rate of lines about failures, for all handlers
// together, and counts what is left out.
type failureLog struct {
	settings func() *App
	limiter  *rate.Limiter

	mu      sync.Mutex
	leftOut int
}

func newFailureLog(settings func() *App) *failureLog {
	return &failureLog{settings: settings, limiter: rate.NewLimiter(failureLines, failureBurst)}
}

// write writes a line, or counts it.
func (l *failureLog) write(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	if !logger.Core().Enabled(zapcore.WarnLevel) {
		return
	}
	if l.limiter.AllowN(now, 1) {
		logger.Warn(message, fields...)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leftOut == 0 {
		time.AfterFunc(leftOutEvery, l.count)
	}
	l.leftOut++
}

// count writes how many lines were left out.
func (l *failureLog) count() {
	l.mu.Lock()
	n := l.leftOut
	l.leftOut = 0
	l.mu.Unlock()
	l.settings().logger.Warn("too many failed log-ins to list each: lines left out", zap.Int("lines", n))
}

// attempt is what the log tells about who tried to log in.
type attempt struct {
	ip   string
	user string
}

// attemptOf copies what is needed when the request is over.
func attemptOf(ip string, user []byte) attempt { return attempt{ip, shorten(user)} }

// logFailure writes the one line about a log-in that failed.
func (h *Handler) logFailure(a attempt, v verdict) {
	fields := []zap.Field{zap.String("reason", v.outcome.String())}
	if v.repeated {
		fields = append(fields, zap.Bool("repeated", true)) // no guess: the same as before
	}
	h.logRefusal(a, "log-in failed", fields...)
}

// logLock writes the one line about a budget that is used up.
func (h *Handler) logLock(a attempt, b budget) {
	l := h.guard.settings().limits[b]
	h.logRefusal(a, "too many failed log-ins: no more are checked until the window ends",
		zap.String("budget", b.String()), zap.Int("failures", l.failures), zap.Duration("window", l.window))
}

func (h *Handler) logRefusal(a attempt, message string, fields ...zap.Field) {
	h.guard.report.write(h.guard.now(), h.logger, message,
		append([]zap.Field{zap.String("client_ip", a.ip), zap.String("user", a.user)}, append(fields, zap.String("realm", h.Realm))...)...)
}
