package mirror

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Warn implements follow.Warner: it warns if the version that was just read may not be
// the newest, and if nobody has written the text yet.
func (m *Mirror) Warn(logger *zap.Logger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file := zap.String("file", m.c.Name)
	if m.localError != nil && !m.isWarned {
		m.isWarned = true
		logger.Warn("local copy of shared file ignored", file, zap.String("copy", m.c.Path), zap.Error(m.localError))
	}
	if m.isAbsent {
		logger.Warn("shared file was never written; nobody in it can log in", file, zap.String("fix", m.c.Advice))
	}
	if m.problem != nil {
		fields := []zap.Field{file, zap.Error(m.problem)}
		if !m.isAbsent {
			fields = append(fields, zap.Time("written", m.copy.Time), zap.Duration("age", time.Since(m.copy.Time).Truncate(time.Second)))
		}
		logger.Warn("shared file may be outdated; using the last known version", fields...)
	}
}

// IsAbsent reports whether nobody has written the text yet. Warn then says so.
func (m *Mirror) IsAbsent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.isAbsent
}

// Check returns the error with which Edit would fail, as far as it is known without a
// call: the store is down.
func (m *Mirror) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem != nil {
		return fmt.Errorf("%s: %w", m.c.Name, m.problem)
	}
	return nil
}

// Status is the state of a mirror.
type Status struct {
	Version   uint64    // of the copy in use; 0: none, or the remote has no versions
	Time      time.Time // when it was written; zero: never
	CheckedAt time.Time // when the remote last confirmed that it is the newest; zero: never
	Path      string    // of the local copy
	LastError string    // current error of the store; "" for none
}

// Status returns the state.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Status{Version: m.copy.Version, Time: m.copy.Time, CheckedAt: m.checkedAt, Path: m.c.Path, LastError: m.lastError}
}
