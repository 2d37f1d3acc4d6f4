// Package ratelog writes log lines of one kind no faster than a rate allows, and
// says how many it left out. It is for lines that clients can cause: a flood of
// requests must not fill the disk, nor hide what else is in the log.
//
// Make one [Log] for each kind of line that is to have a rate of its own, and
// write all lines of the kind through it. What it promises:
//
//   - In any time t at most burst + rate*t lines are written, beside the counts.
//   - No line is lost without a count: each is either written, or counted in a
//     line "log entries suppressed".
//   - There is at most one such line every [SuppressedEvery].
package ratelog

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// SuppressedEvery is the time from the first line that is left out to the line
// that counts it and the others.
const SuppressedEvery = 10 * time.Second

// Log bounds the rate of log lines of one kind. Its loggers can be different ones,
// such as those of several sites that share the rate. It is safe for concurrent
// use, and there is nothing to close: a timer writes a count that is due. Make one
// with [New].
type Log struct {
	limiter    *rate.Limiter
	suppressed atomic.Int64 // since the last count
}

// New returns a Log for perSecond lines a second, and for burst lines at once
// after a quiet time.
func New(perSecond rate.Limit, burst int) *Log {
	return &Log{limiter: rate.NewLimiter(perSecond, burst)}
}

// Warn writes a line of level WARN, or counts it. The time now decides whether the
// rate allows the line.
func (l *Log) Warn(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	l.write(zapcore.WarnLevel, now, logger, message, fields)
}

// Error is Warn for a line of level ERROR.
func (l *Log) Error(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	l.write(zapcore.ErrorLevel, now, logger, message, fields)
}

// write does not count lines that the logger would not write anyway. The count
// goes to the logger of the first line that is left out, with the message of that
// line.
func (l *Log) write(level zapcore.Level, now time.Time, logger *zap.Logger, message string, fields []zap.Field) {
	if !logger.Core().Enabled(level) {
		return
	}
	if l.limiter.AllowN(now, 1) {
		logger.Log(level, message, fields...)
		return
	}
	if l.suppressed.Add(1) > 1 {
		return // a count is due already
	}
	time.AfterFunc(SuppressedEvery, func() {
		logger.Warn("log entries suppressed", zap.String("message", message), zap.Int64("entries", l.suppressed.Swap(0)))
	})
}
