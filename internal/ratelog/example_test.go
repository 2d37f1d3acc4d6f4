package ratelog_test

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/seed10b5b978/caddy-htpasswd/internal/ratelog"
)

// A flood of failed logins writes only a few log entries.
func Example() {
	logger := zap.NewExample()
	failures := ratelog.New(10, 3) // 10 entries per second, 3 at once
	now := time.Unix(1e9, 0)
	for i := range 1000 {
		failures.Warn(now, logger, "login failed", zap.String("user", fmt.Sprint("user", i)))
	}
	// Output:
	// {"level":"warn","msg":"login failed","user":"user0"}
	// {"level":"warn","msg":"login failed","user":"user1"}
	// {"level":"warn","msg":"login failed","user":"user2"}
}
