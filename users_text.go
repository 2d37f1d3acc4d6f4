package caddyhtpasswd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

// The text of `users` is a secret: none of the errors here contains any of it.

// textKey is the key of a text of users in the pool. An unchanged text keeps its store
// over reloads.
type textKey struct {
	label string
	sum   [sha256.Size]byte
}

// maxPlaceholderFile is how much of a file Caddy puts in place of `{file.<path>}`. It
// omits the rest without an error.
const maxPlaceholderFile = 1 << 20

var (
	errEmptyText = errors.New("expected the text of a password file, found an empty text; for no users, write a comment such as '# nobody'")
	errNotUsers  = errors.New("value is not the text of a password file (not shown here); expected lines such as user:hash, or one placeholder alone; for a file, write 'file <path>' instead of 'users'")
)

// usersText returns the text that the setting `users` stands for.
func usersText(setting string) (string, error) {
	if !isOnePlaceholder(setting) {
		if strings.TrimSpace(setting) == "" {
			return "", errEmptyText
		}
		return setting, nil
	}
	shown := quotedPlaceholder(setting)
	text, err := caddy.NewReplacer().ReplaceOrErr(setting, true, true)
	switch {
	case err != nil && shown != setting: // it may be anything
		return "", errors.New("the placeholder is unknown or empty; expected a global placeholder such as {env.HTPASSWD} or {file./run/secrets/users}")
	case err != nil || strings.TrimSpace(text) == "":
		return "", fmt.Errorf("%s is empty or unknown; set it to the text of a password file; for no users, to a comment such as '# nobody'", quoted(setting))
	case strings.HasPrefix(setting, "{file.") && len(text) >= maxPlaceholderFile-len("\r\n"):
		return "", fmt.Errorf("%s is larger than 1 MiB, and Caddy reads no more of it; write 'file <path>' instead of 'users'", quoted(setting))
	}
	return text, nil
}

// acquireText returns the store of a text of users, and has just parsed it.
func (s *sources) acquireText(label, text string, logger *zap.Logger) (acquired[*userStore], error) {
	key := textKey{label, sha256.Sum256([]byte(text))}
	value, _, err := s.pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		store := newUserStore(label)
		store.isText = true
		file := &pooledFile[*userStore]{Follower: follow.New(follow.NewText(label, text), s.followOptions(store.load)), store: store}
		store.follow(file.Follower)
		return file, nil
	})
	if err != nil {
		return acquired[*userStore]{}, err
	}
	file := value.(*pooledFile[*userStore])
	a := acquired[*userStore]{store: file.store, name: label, release: func() error { _, err := s.pool.Delete(key); return err }}
	previous := s.textInUse(label, file.store)
	if err := file.Reload(logger); err != nil {
		switch {
		case !htfile.IsTextNotPath(text):
			err = fmt.Errorf("%s: %w", label, errNotUsers)
		case strings.HasSuffix(strings.TrimSpace(text), ";"):
			err = fmt.Errorf("%w; lines end without a semicolon", err)
		}
		if !strings.HasPrefix(label, textLabel) {
			err = fmt.Errorf("%s %w", textLabel, err)
		}
		return a, err
	}
	if previous != nil {
		file.store.current.Load().inherit(previous)
	}
	return a, nil
}

// textInUse returns the users of the newest other text with a label, or nil.
func (s *sources) textInUse(label string, except *userStore) *userTable {
	for _, f := range s.inUse() {
		if f.store != nil && f.store != except && f.store.isText && f.store.path == label {
			return f.users
		}
	}
	return nil
}
