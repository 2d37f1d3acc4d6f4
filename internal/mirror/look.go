package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

// problem is why the store does not confirm the copy. Its text contains the first error of
// its kind, so that it stays the same while errors of a store differ in details.
type problem struct {
	kind problemKind
	err  error
}

type problemKind uint8

const (
	problemDown    problemKind = iota // the store cannot be reached
	problemInvalid                    // its text cannot be used
	problemLost                       // it has lost the text
)

func (p *problem) Error() string {
	switch p.kind {
	case problemInvalid:
		return "cannot use the version in the store: " + strings.TrimPrefix(p.err.Error(), ErrInvalid.Error()+": ")
	case problemLost:
		return fmt.Sprintf("the store has lost the newest version: %v", p.err)
	}
	return fmt.Sprintf("cannot reach the store: %v", p.err)
}

// Unwrap returns ErrUnavailable and follow.ErrOutdated. The cause is left out: the Follower
// must not take the problem for a missing file.
func (p *problem) Unwrap() []error { return []error{ErrUnavailable, follow.ErrOutdated} }

// errNoAnswer is the error of a call that has taken longer than Config.Timeout.
func (c *Config) errNoAnswer() error {
	return &problem{problemDown, fmt.Errorf("no answer within %s", c.Timeout)}
}

// do makes calls of the remote, with the turn and in a goroutine of its own: a remote may
// ignore the context. It returns after Config.Timeout, or when ctx is done. A problem is
// kept unless the caller has given up.
func (m *Mirror) do(ctx context.Context, calls func(context.Context) error) error {
	if err := context.Cause(m.ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, m.c.Timeout)
	stop := context.AfterFunc(m.ctx, cancel)
	end := func() { stop(); cancel() }
	select {
	case m.turn <- struct{}{}:
	case <-limited.Done(): // an earlier call still has no answer
		defer end()
		return m.gaveUp(ctx)
	}
	hasEnded, result := false, make(chan error, 1)
	go func() {
		defer func() { <-m.turn; end() }()
		err := calls(limited)
		m.mu.Lock()
		defer m.mu.Unlock()
		hasEnded = true
		m.keep(ctx, err)
		result <- err
	}()
	select {
	case err := <-result:
		return err
	case <-limited.Done():
	}
	m.mu.Lock()
	if hasEnded {
		m.mu.Unlock()
		return <-result
	}
	m.mu.Unlock()
	return m.gaveUp(ctx)
}

// gaveUp returns the error of a call that was not waited for.
func (m *Mirror) gaveUp(ctx context.Context) error {
	for _, c := range []context.Context{ctx, m.ctx} {
		if err := c.Err(); err != nil {
			return err
		}
	}
	err := m.c.errNoAnswer()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(ctx, err)
	return err
}

// keep records a problem, unless the caller has given up.
func (m *Mirror) keep(ctx context.Context, err error) {
	p, ok := errors.AsType[*problem](err)
	if !ok || ctx.Err() != nil || m.ctx.Err() != nil {
		return
	}
	m.lastError = p.Error()
	if m.problem == nil || m.problem.kind != p.kind {
		m.problem = p
		notify(m.changed)
	}
}

// state is a snapshot.
type state struct {
	copy      Copy
	hasText   bool
	isStarted bool
	invalid   Revision
	problem   *problem
}

func (m *Mirror) state() state {
	m.mu.Lock()
	defer m.mu.Unlock()
	return state{m.copy, m.has && !m.isAbsent, m.isStarted, m.invalid, m.problem}
}

// look compares the revision in the store with that of the copy, and takes over the text
// of another one. See the states of a Mirror.
func (m *Mirror) look(ctx context.Context) error {
	own := m.state()
	found, err := m.c.Remote.Revision(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m.foundNone(ctx, own)
	case errors.Is(err, ErrInvalid):
		return &problem{problemInvalid, err}
	case err != nil:
		return m.failed(err)
	case own.hasText && found == own.copy.Revision:
		m.confirm()
		m.renew(ctx, own)
		return nil
	case own.hasText && m.c.IsOrdered && found < own.copy.Revision:
		return m.restore(ctx, own, found)
	case found == own.invalid && own.problem != nil && own.problem.kind == problemInvalid:
		return own.problem
	}
	next, err := m.c.Remote.Load(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m.foundNone(ctx, own)
	case errors.Is(err, ErrInvalid):
		m.mu.Lock()
		m.invalid = found
		m.mu.Unlock()
		return &problem{problemInvalid, err}
	case err != nil:
		return m.failed(err)
	case own.hasText && m.c.IsOrdered && next.Revision < own.copy.Revision:
		return m.restore(ctx, own, next.Revision)
	}
	m.use(next)
	own.copy = next
	m.renew(ctx, own)
	return nil
}

// failed returns the problem for an error of a call.
func (m *Mirror) failed(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return m.c.errNoAnswer()
	}
	return &problem{problemDown, err}
}

// foundNone handles a store without the text.
func (m *Mirror) foundNone(ctx context.Context, own state) error {
	if own.hasText {
		return m.restore(ctx, own, "")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.has, m.isAbsent = true, true
	m.settled()
	return nil
}

// restore writes back what the store has lost.
func (m *Mirror) restore(ctx context.Context, own state, lost Revision) error {
	if !own.isStarted {
		return nil // it is done after Start
	}
	restored, err := m.c.Remote.Restore(ctx, lost, own.copy)
	switch {
	case errors.Is(err, ErrConflict): // another server has done so
		m.lookAgain()
		return nil
	case errors.Is(err, ErrCannotRestore) && lost == "":
		return &problem{problemLost, errors.New("it was deleted; put it back, or to begin with an empty file, delete the local copy " + m.c.Path + " and restart the server")}
	case errors.Is(err, context.DeadlineExceeded):
		return m.c.errNoAnswer()
	case err != nil:
		return &problem{problemLost, fmt.Errorf("it cannot be written back: %w", err)}
	}
	m.c.Logger().Warn("store has lost the newest version of a shared file; it was written back",
		zap.String("file", m.c.Name), zap.Uint64("version", restored.Version), zap.Time("written", restored.Time))
	m.use(restored)
	return nil
}

// renew writes the copy again, if it is due.
func (m *Mirror) renew(ctx context.Context, own state) {
	isDue := own.copy.IsDue || m.c.MaxStale > 0 && time.Since(own.copy.Time) > m.c.MaxStale/2
	if !own.isStarted || !isDue {
		return
	}
	next, err := m.c.Remote.Replace(ctx, &own.copy, own.copy.Text)
	switch {
	case err == nil:
		m.use(next)
	case errors.Is(err, ErrConflict): // another server has done so
		m.lookAgain()
	default:
		m.c.Logger().Debug("cannot write shared file again; trying again later", zap.String("file", m.c.Name), zap.Error(err))
	}
}

// conflictPause is the time until the store is looked at again after a conflict. A store
// that contradicts itself must not cause calls without end.
const conflictPause = time.Second

func (m *Mirror) lookAgain() { time.AfterFunc(conflictPause, m.Wake) }

// confirm records that the copy is the newest version.
func (m *Mirror) confirm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled()
}

// use takes over a version.
func (m *Mirror) use(next Copy) {
	m.mu.Lock()
	m.copy, m.has, m.isAbsent = next, true, false
	m.settled()
	m.mu.Unlock()
	notify(m.unsaved)
	notify(m.changed)
}

// settled records that the store works, and has the version of the copy.
func (m *Mirror) settled() {
	m.checkedAt, m.lastError, m.invalid = time.Now(), "", ""
	if m.problem != nil {
		m.problem = nil
		notify(m.changed)
	}
}
