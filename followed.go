package caddyhtpasswd

import (
	"context"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
)

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
