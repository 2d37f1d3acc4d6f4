package mirror

import "time"

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
