package caddyhtpasswd

import (
	"context"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// store is what a file means, its users or its groups: it gets the text of each
// new version.
type store interface {
	load(text string, logger *zap.Logger) error
	follow(f *follow.Follower)
	awaitCurrent(ctx context.Context)
}

// awaitCurrent waits until those of the files are read that have changed.
func awaitCurrent[S store](ctx context.Context, stores []S) {
	for _, s := range stores {
		s.awaitCurrent(ctx)
	}
}

// followed is the part of a store that knows its file.
type followed struct {
	file *follow.Follower // nil for none
}

func (s *followed) follow(f *follow.Follower) { s.file = f }

// awaitCurrent waits until the file is read, if it has changed.
func (s *followed) awaitCurrent(ctx context.Context) {
	if s.file != nil {
		s.file.Await(ctx)
	}
}

// logFindings writes one warning for each invalid line that is noted, of which
// invalidLine says what it means, one for each duplicate that is noted, and one
// for the rest.
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
