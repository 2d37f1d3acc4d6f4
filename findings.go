package caddyhtpasswd

import (
	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// logFindings writes one warning for each invalid line that is noted, of which
// invalidLine says what it means, one for each duplicate that is noted, and one
// for the rest.
func logFindings(f *htfile.Findings, logger *zap.Logger, path, invalidLine string) {
	for _, invalid := range f.Invalid {
		logger.Warn(invalidLine,
			zap.String("file", path), zap.Int("line", invalid.Line), zap.String("reason", invalid.Reason))
	}
	for _, line := range f.Duplicates {
		logger.Warn("duplicate user: an earlier line decides, this one is skipped",
			zap.String("file", path), zap.Int("line", line))
	}
	if f.Left() > 0 {
		logger.Warn("more lines skipped than are listed",
			zap.String("file", path), zap.Int("bad_lines", f.InvalidCount), zap.Int("duplicates", f.DuplicateCount))
	}
}
