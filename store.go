package caddyhtpasswd

import (
	"context"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/mirror"
)

// store holds the content of a file, users or groups. It gets the text of each new
// version.
type store interface {
	load(text string, logger *zap.Logger) error
	follow(f *follow.Follower)
	useMirror(m *mirror.Mirror) // of a shared file
	awaitCurrent(ctx context.Context)
	close() // when nobody uses the store any more
}

// awaitCurrent waits until the files that have changed are read.
func awaitCurrent[S store](ctx context.Context, stores []S) {
	for _, s := range stores {
		s.awaitCurrent(ctx)
	}
}

// followed is the part of a store that follows its file.
type followed struct {
	file   *follow.Follower // nil if the file is not followed
	mirror *mirror.Mirror   // of a shared file; otherwise nil
}

func (s *followed) useMirror(m *mirror.Mirror) { s.mirror = m }

func (s *followed) follow(f *follow.Follower) { s.file = f }

func (s *followed) close() {}

// awaitCurrent waits until the file is read, if it has changed.
func (s *followed) awaitCurrent(ctx context.Context) {
	if s.file != nil {
		s.file.Await(ctx)
	}
}

// logFindings logs a warning for each listed invalid line, with the message invalidLine,
// for each listed duplicate, and one for the rest.
func logFindings(f *htfile.Findings, logger *zap.Logger, path, invalidLine string) {
	for _, invalid := range f.Invalid {
		logger.Warn(invalidLine,
			zap.String("file", path), zap.Int("line", invalid.Line), zap.String("reason", invalid.Reason))
	}
	for _, line := range f.Duplicates {
		logger.Warn("duplicate user; the first line wins",
			zap.String("file", path), zap.Int("line", line))
	}
	if f.Left() > 0 {
		logger.Warn("more invalid or duplicate lines than listed",
			zap.String("file", path), zap.Int("invalid_lines", f.InvalidCount), zap.Int("duplicates", f.DuplicateCount))
	}
}
