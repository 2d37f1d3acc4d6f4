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
	// secretLock is the name of the lock in Caddy's storage for creating the secret.
	secretLock = "htpasswd_secret"

	// maxStartWait is how long a start waits for the storage. Requests never wait.
	maxStartWait = 2 * time.Second
	// loadTimeout is how long an attempt to load the secret may take.
	loadTimeout = 30 * time.Second
	// loadPause is the time between a failed attempt and the next one.
	loadPause = time.Minute
)

// provisionSecret sets the configured secret. It does not use the storage, because "caddy
// validate" must not change it.
func (a *App) provisionSecret(ctx caddy.Context) error {
	if a.Secret == "" {
		if a.OldSecret != "" {
			return errors.New("old_secret: expected a secret that replaces it, found none")
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
	a.settings.keys.Set(keyring.NewExplicitKeys(current, old))
	return nil
}

// resolveSecret returns the secret that a setting stands for.
func resolveSecret(setting string) (keyring.Secret, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(setting, true, true)
	if err != nil { // it quotes the placeholder, which can be part of the secret
		if isPlaceholder(setting) {
			return "", fmt.Errorf("'%s' is empty or unknown", setting)
		}
		return "", errors.New("a placeholder in the secret is empty or unknown; only global placeholders such as {env.NAME} and {file./path} are allowed")
	}
	s := keyring.Secret(strings.TrimSpace(text)) // a file ends with a line break
	return s, s.Check()
}
