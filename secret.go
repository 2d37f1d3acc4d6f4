package caddyhtpasswd

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// secret is a random text that the servers of a fleet share, and nobody else
// knows. It is used through subkeys only, one for each purpose, so that what one
// of them gives away says nothing of another.
type secret string

// purpose is what a subkey is for. Its text is a part of the key: all versions of
// this program in a fleet must agree on it, so it is never changed or used again
// for anything else.
type purpose string

// decoysPurpose is the choice of the hash that is computed for an unknown name.
const decoysPurpose purpose = "decoys"

// minSecretLen is the least number of characters of a secret.
const minSecretLen = 32

// subkeyLen is the length of subkeys in bytes.
const subkeyLen = 32

// newSecret returns a secret of 32 random bytes.
func newSecret() secret {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	return secret(base64.RawURLEncoding.EncodeToString(random))
}

// subkey derives the key for a purpose (HKDF-SHA-256, RFC 5869).
func (s secret) subkey(p purpose) []byte {
	key, err := hkdf.Key(sha256.New, []byte(s), nil, "caddy-htpasswd "+string(p), subkeyLen)
	if err != nil {
		panic(err) // with more than 8160 bytes, or a hash function that is not approved
	}
	return key
}

// check returns an error, with nothing of the secret in it, for one that is too short.
func (s secret) check() error {
	if n := utf8.RuneCountInString(string(s)); n < minSecretLen {
		return fmt.Errorf("expected at least %d characters, found %d; create one with: openssl rand -base64 32", minSecretLen, n)
	}
	return nil
}

// String keeps a secret out of logs and errors.
func (secret) String() string { return "(secret)" }

// GoString is String for %#v.
func (s secret) GoString() string { return s.String() }

// keys are the subkeys of a configuration.
type keys struct {
	decoys []byte
}

// newKeys derives the keys. Decoys follow the old secret while there is one:
// servers that have the new secret already agree with those that don't, and what
// unknown names cost changes only once, when the old secret is removed.
func newKeys(current, old secret) *keys {
	if old == "" {
		old = current
	}
	return &keys{decoys: old.subkey(decoysPurpose)}
}

// keyring holds the keys of a configuration, which can be found only after it
// has started.
type keyring struct{ current atomic.Pointer[keys] }

// get returns the keys. Those of the process stand in for keys that are missing.
func (k *keyring) get() *keys {
	if k != nil {
		if current := k.current.Load(); current != nil {
			return current
		}
	}
	if last := lastStored.Load(); last != nil {
		return last
	}
	return localKeys()
}

// lastStored are the keys of the secret that was last found in a storage. They
// stand in for those of a configuration until its own are there.
var lastStored atomic.Pointer[keys]

// localKeys stand in where there is no other: they are other ones after a restart.
var localKeys = sync.OnceValue(func() *keys { return newKeys(newSecret(), "") })

// provisionSecret takes the configured secret. It does not look into the
// storage, which "caddy validate" must leave as it is.
func (a *App) provisionSecret(ctx caddy.Context) error {
	if a.Secret == "" {
		if a.OldSecret != "" {
			return errors.New("old_secret: expected a secret beside it, which replaces it, found none")
		}
		a.stored = &storedSecret{
			storage: ctx.Storage(), keys: a.settings.keys, logger: a.settings.logger,
			patience: maxStartWait, timeout: loadTimeout, pause: loadPause,
		}
		return nil
	}
	current, err := resolveSecret(a.Secret)
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	var old secret
	if a.OldSecret != "" {
		if old, err = resolveSecret(a.OldSecret); err != nil {
			return fmt.Errorf("old_secret: %w", err)
		}
	}
	a.settings.keys.current.Store(newKeys(current, old))
	return nil
}

// resolveSecret returns the secret that a setting stands for.
func resolveSecret(setting string) (secret, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(setting, true, true)
	if err != nil { // it quotes the placeholder, which can be a part of the secret
		if isPlaceholder(setting) {
			return "", fmt.Errorf("'%s' is empty or unknown", setting)
		}
		return "", errors.New("a placeholder in it is empty or unknown; allowed are global ones such as {env.NAME} and {file./path}")
	}
	s := secret(strings.TrimSpace(text)) // files end with a line end
	return s, s.check()
}

// isPlaceholder reports whether a setting is nothing but one placeholder for an
// environment variable or a file.
func isPlaceholder(setting string) bool {
	return (strings.HasPrefix(setting, "{env.") || strings.HasPrefix(setting, "{file.")) &&
		strings.IndexByte(setting, '}') == len(setting)-1
}

const (
	// secretName is the name of the secret in Caddy's storage.
	secretName = "htpasswd/secret"
	// secretLock is the name of the lock under which it is created.
	secretLock = "htpasswd_secret"

	// maxStartWait is how long a start waits for the storage. Requests never do.
	maxStartWait = 2 * time.Second
	// loadTimeout is how long one look into the storage may take.
	loadTimeout = 30 * time.Second
	// loadPause is how long to wait after one that has failed.
	loadPause = time.Minute
)

// storedSecret is the secret in the storage of a configuration. It is loaded
// while the configuration starts, and created if it is not there. As long as it
// can't be loaded, other keys stand in, and it is tried again.
type storedSecret struct {
	storage certmagic.Storage
	keys    *keyring // gets the keys of the secret
	logger  *zap.Logger

	patience, timeout, pause time.Duration

	cancel context.CancelFunc
	warned atomic.Bool
}

// start begins to load the secret, and waits for it for a moment.
func (s *storedSecret) start() {
	if s == nil {
		return
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	tried := make(chan struct{})
	go s.keepLoading(ctx, sync.OnceFunc(func() { close(tried) }))
	patience := time.NewTimer(s.patience)
	defer patience.Stop()
	select {
	case <-tried:
	case <-patience.C:
		s.warn(fmt.Errorf("no answer within %s", s.patience))
	}
}

// stop ends the attempts to load the secret.
func (s *storedSecret) stop() {
	if s != nil && s.cancel != nil {
		s.cancel()
	}
}

// keepLoading tries until the secret is loaded, and calls tried after each attempt.
func (s *storedSecret) keepLoading(ctx context.Context, tried func()) {
	for {
		found, err := s.loadWithin(ctx)
		if err == nil {
			s.use(found)
			tried()
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.warn(err)
		tried()
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.pause):
		}
	}
}

func (s *storedSecret) use(found secret) {
	k := newKeys(found, "")
	lastStored.Store(k)
	s.keys.current.Store(k)
	if s.warned.Load() {
		s.logger.Info("secret loaded from storage after earlier errors", zap.String("name", secretName))
	}
}

// warn says once that the secret can't be loaded.
func (s *storedSecret) warn(err error) {
	if s.warned.CompareAndSwap(false, true) {
		s.logger.Warn("cannot load secret from storage; using a local one until it can be loaded",
			zap.String("name", secretName), zap.Error(err))
	}
}

// loadWithin is one attempt.
func (s *storedSecret) loadWithin(ctx context.Context) (secret, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found, err := s.load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		found, err = s.create(ctx)
	}
	return found, err
}

// load returns the secret in the storage. One that is damaged is an error, and
// stays: other servers may have loaded it when it was whole.
func (s *storedSecret) load(ctx context.Context) (secret, error) {
	text, err := s.storage.Load(ctx, secretName)
	if err != nil {
		return "", err
	}
	found := secret(strings.TrimSpace(string(text)))
	if err := found.check(); err != nil {
		return "", fmt.Errorf("the secret in storage is damaged; delete it and reload all servers: %w", err)
	}
	return found, nil
}

// create makes a secret, unless another server has just done so.
func (s *storedSecret) create(ctx context.Context) (secret, error) {
	if err := s.storage.Lock(ctx, secretLock); err != nil {
		return "", fmt.Errorf("lock: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
		defer cancel()
		_ = s.storage.Unlock(ctx, secretLock) // a lock that is left behind ends by itself
	}()
	found, err := s.load(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return found, err
	}
	found = newSecret()
	if err := s.storage.Store(ctx, secretName, []byte(found)); err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return found, nil
}
