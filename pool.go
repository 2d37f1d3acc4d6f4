package caddyhtpasswd

import (
	"path/filepath"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
)

// files holds the followed files of all configurations, running or about to.
// Who names the same path shares one, across reloads too: that is how
// verified passwords outlive them.
var files = caddy.NewUsagePool()

// store is what a file means: it gets the text of each new version.
type store interface {
	*userStore | *groupStore
	load(text string, logger *zap.Logger) error
}

// poolKey is the key of a file in the pool. A file read as users and as
// groups is two.
type poolKey[S store] struct{ path string }

// pooledFile is a value in the pool.
type pooledFile[S store] struct {
	*followedFile
	store S
}

// acquire returns what the file of that name means for h, read a moment ago.
func acquire[S store](h *Handler, name string, newStore func(path string) S) (S, error) {
	name, err := caddy.NewReplacer().ReplaceOrErr(name, true, true)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	key := poolKey[S]{path}
	value, _, err := files.LoadOrNew(key, func() (caddy.Destructor, error) {
		s := newStore(path)
		return &pooledFile[S]{newFollowedFile(path, s.load), s}, nil
	})
	if err != nil {
		return nil, err
	}
	h.acquired = append(h.acquired, key) // from here on there is something to clean up
	file := value.(*pooledFile[S])
	return file.store, file.reload(h.logger)
}
