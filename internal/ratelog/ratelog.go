// Package ratelog limits the rate of log entries, and counts those that it
// suppresses. It is for entries that clients can cause: a flood of requests must not
// fill the disk, or hide other entries.
//
// Create one [Log] for each kind of entry that needs a rate limit, and write all
// entries of the kind through it. It promises:
//
//   - In any time t at most burst + rate*t entries are written, in addition to
//     the entries with counts.
//   - Each entry is either written, or counted in an entry
//     "log entries suppressed".
//   - There is at most one such entry every [SuppressedEvery].
package ratelog

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// SuppressedEvery is the time from the first suppressed entry to the entry with the
// count.
const SuppressedEvery = 10 * time.Second

// Log limits the rate of log entries of one kind. Its loggers can differ, for example
// those of sites that share the limit. It is safe for concurrent use. It need not be
// closed: a timer writes the counts. Create one with [New].
type Log struct {
	limiter    *rate.Limiter
	suppressed atomic.Int64 // since the last count
}

// New returns a Log that writes perSecond entries per second, and burst entries at
// once after a quiet period.
func New(perSecond rate.Limit, burst int) *Log {
	return &Log{limiter: rate.NewLimiter(perSecond, burst)}
}

// Warn writes an entry of level WARN, or suppresses and counts it. now is the time
// for the rate limit.
func (l *Log) Warn(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	l.write(zapcore.WarnLevel, now, logger, message, fields)
}

// Error is like Warn, with level ERROR.
func (l *Log) Error(now time.Time, logger *zap.Logger, message string, fields ...zap.Field) {
	l.write(zapcore.ErrorLevel, now, logger, message, fields)
}

// write ignores entries that the logger would not write anyway. The logger of the
// first suppressed entry writes the count, with the message of that entry.
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
