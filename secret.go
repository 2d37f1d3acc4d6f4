package caddyhtpasswd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/keyring"
)

const (
	// secretName is the name of the secret in Caddy's storage.
	secretName = "htpasswd/secret"
	// secretLock is the name of the lock under which it is created.
	secretLock = "htpasswd_secret"

	// maxStartWait is how long a start waits for the storage. Requests never do.
	maxStartWait = 2 * time.Second
	// loadTimeout is how long one look into the storage may take.
	loadTimeout = 30 * time.Second
	// loadPause is how long to wait after a look that has failed.
	loadPause = time.Minute
)

// provisionSecret takes the configured secret. It does not look into the
// storage, which "caddy validate" must leave as it is.
func (a *App) provisionSecret(ctx caddy.Context) error {
	if a.Secret == "" {
		if a.OldSecret != "" {
			return errors.New("old_secret: expected a secret beside it, which replaces it, found none")
		}
		a.stored = &keyring.Stored{
			Storage: ctx.Storage(), Name: secretName, Lock: secretLock,
			Ring: a.settings.keys, Logger: a.settings.logger,
			StartWait: maxStartWait, Timeout: loadTimeout, Pause: loadPause,
		}
		return nil
	}
	current, err := resolveSecret(a.Secret)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	var old keyring.Secret
	if a.OldSecret != "" {
		if old, err = resolveSecret(a.OldSecret); err != nil {
			return fmt.Errorf("old_secret: %w", err)
		}
	}
	a.settings.keys.Set(keyring.NewKeys(current, old))
	return nil
}

// resolveSecret returns the secret that a setting stands for.
func resolveSecret(setting string) (keyring.Secret, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(setting, true, true)
	if err != nil { // it quotes the placeholder, which can be a part of the secret
		if isPlaceholder(setting) {
			return "", fmt.Errorf("'%s' is empty or unknown", setting)
		}
		return "", errors.New("a placeholder in it is empty or unknown; allowed are global ones such as {env.NAME} and {file./path}")
	}
	s := keyring.Secret(strings.TrimSpace(text)) // files end with a line end
	return s, s.Check()
}

// isPlaceholder reports whether a setting is nothing but one placeholder for an
// environment variable or a file.
func isPlaceholder(setting string) bool {
	return (strings.HasPrefix(setting, "{env.") || strings.HasPrefix(setting, "{file.")) &&
		strings.IndexByte(setting, '}') == len(setting)-1
}
