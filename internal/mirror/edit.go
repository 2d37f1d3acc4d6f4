package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// maxPause is the longest pause before an edit is tried again.
const maxPause = 100 * time.Millisecond

// Edit replaces the text by the result of edit, which is called again if another server
// changes the text at the same time. The text is "" if nobody has written it yet.
// An error of edit is returned as it is. After success the mirror has the new version.
//
// Edits of one mirror run one after the other. Each call of the store takes
// Config.Timeout at most. Edit tries again until ctx is done.
func (m *Mirror) Edit(ctx context.Context, edit func(text string) (string, error)) error {
	select {
	case m.editing <- struct{}{}:
		defer func() { <-m.editing }()
	case <-ctx.Done():
		return m.editError(ctx.Err())
	case <-m.ctx.Done():
		return m.editError(m.ctx.Err())
	}
	for pause := time.Millisecond; ; pause = min(2*pause, maxPause) {
		err := m.editOnce(ctx, edit)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		select {
		case <-time.After(rand.N(pause)): //nolint:gosec // only so that servers do not meet again and again
		case <-ctx.Done():
			return m.editError(err)
		}
	}
}

// editOnce makes one attempt. The error is ErrConflict if another server was faster.
func (m *Mirror) editOnce(ctx context.Context, edit func(text string) (string, error)) error {
	if err := m.Refresh(ctx); err != nil {
		return m.editError(err)
	}
	own := m.state()
	edited, err := edit(own.copy.Text)
	if err != nil || edited == own.copy.Text && own.hasText {
		return err
	}
	var old *Copy
	if own.hasText {
		old = &own.copy
	}
	err = m.do(ctx, func(ctx context.Context) error {
		next, err := m.c.Remote.Replace(ctx, old, edited)
		if err == nil {
			m.use(next)
		}
		return err
	})
	if err == nil || errors.Is(err, ErrConflict) {
		return err
	}
	// The answer may be lost although the text was replaced.
	if m.Refresh(ctx) == nil {
		if now := m.state(); now.hasText && now.copy.Text == edited {
			return nil
		}
	}
	return m.editError(err)
}

func (m *Mirror) editError(err error) error { return fmt.Errorf("%s: %w", m.c.Name, err) }
