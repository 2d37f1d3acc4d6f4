package caddyhtpasswd

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

const (
	// failureRate is how many lines of one kind are written in a second, and
	// failureBurst how many more after a quiet time: a flood must not fill the disk.
	failureRate  = 10
	failureBurst = 200

	// leftOutEvery is how often there is a line that counts the others.
	leftOutEvery = 10 * time.Second
)

// lineKind is one of the kinds of lines that are bounded each for itself: what
// can be made without end must not push out what says more.
type lineKind uint8

const (
	failureLines lineKind = iota // a budget was spent
	cheapLines                   // none was: malformed credentials, a password that is known to be wrong
	usedUpLines                  // a budget is used up
	lineKinds
)

// failureLog bounds the rate of lines about failures, for all handlers
// together, and counts what is left out.
type failureLog struct {
	limiter *rate.Limiter
	leftOut atomic.Int64
}

func newFailureLog() *failureLog {
	return &failureLog{limiter: rate.NewLimiter(failureRate, failureBurst)}
}

// write writes a line, or counts it.
func (l *failureLog) write(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	if !logger.Core().Enabled(zapcore.WarnLevel) {
		return
	}
	if l.limiter.AllowN(now, 1) {
		logger.Warn(message, fields...)
	} else if l.leftOut.Add(1) == 1 {
		time.AfterFunc(leftOutEvery, func() {
			logger.Warn("too many failed log-ins to list each: lines left out", zap.Int64("lines", l.leftOut.Swap(0)))
		})
	}
}

// logFailure writes the one line about a log-in that failed.
func (h *Handler) logFailure(ip string, user []byte, v verdict) {
	kind, fields := failureLines, []zap.Field{zap.String("reason", v.outcome.String())}
	if v.isCheap() {
		kind = cheapLines
	}
	if v.repeated { // no guess: the same as before
		fields = append(fields, zap.Bool("repeated", true))
	}
	h.logRefusal(kind, ip, user, "log-in failed", fields...)
}

// logUsedUp writes the one line about a budget that is used up.
func (h *Handler) logUsedUp(ip string, user []byte, s scope) {
	l := h.guard.settings().limits[s]
	h.logRefusal(usedUpLines, ip, user, "too many failed log-ins: this budget is used up, and the answer 429 until its window ends",
		zap.Stringer("budget", s), zap.Int("failures", l.failures), zap.String("window", l.window.String()))
}

func (h *Handler) logRefusal(kind lineKind, ip string, user []byte, message string, fields ...zap.Field) {
	all := []zap.Field{zap.String("client_ip", ip), zap.String("user", shorten(user))}
	all = append(all, fields...)
	all = append(all, zap.String("realm", h.Realm))
	h.guard.lines[kind].write(h.guard.now(), h.logger, message, all...)
}
