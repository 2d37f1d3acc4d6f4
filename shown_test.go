package caddyhtpasswd

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// TestLoggedNameIsShown checks that no user name from a client controls the terminal of an
// administrator who reads the log.
func TestLoggedNameIsShown(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.WarnLevel)
	logger := zap.New(core)
	for name, want := range testkit.HarmfulNames {
		logger.Warn("", zap.String("user", shown.Short(name)))
		if got := logs.TakeAll()[0].ContextMap()["user"]; got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
	for i := range 8 {
		name := strings.Repeat("a", i) + strings.Repeat("🙂", 30)
		got, rest := strings.CutSuffix(shown.Short(name), "...")
		if !rest || !strings.HasPrefix(name, got) || len(got) > 64 || len(got) < 60 {
			t.Errorf("got %q of %q, want its beginning, 60 to 64 bytes, and dots", fmt.Sprint(got), name)
		}
	}
	if got := shown.Short(strings.Repeat("\x80", 100)); got != `"`+strings.Repeat(`\x80`, 64)+`"...` {
		t.Errorf("got %q, want 64 bytes that are escaped, and dots", got)
	}
}
