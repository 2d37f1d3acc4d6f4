package storetest

import (
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/fleet"
)

// TestMemory tests the store that other tests use.
func TestMemory(t *testing.T) {
	t.Parallel()
	var memory Memory
	Run(t, func(*testing.T) fleet.Store { return memory.Connect() })
}
