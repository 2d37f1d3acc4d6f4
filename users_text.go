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
	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

// The text of `users` is a secret: none of the errors here contains any of it.

// textKey is the key of a text of users in the pool. An unchanged text keeps its store
// over reloads.
type textKey struct {
	label string
	sum   [sha256.Size]byte
}

// textLabel is the label of the first literal text of users of a configuration.
const textLabel = "users"

// isOnePlaceholder reports whether the text of users is one placeholder. No line of a
// password file looks like one: it has a colon after the name, and no brace at the end.
func isOnePlaceholder(text string) bool {
	return len(text) > 2 && text[0] == '{' && strings.IndexAny(text, "}\n") == len(text)-1 && strings.LastIndexByte(text, '{') == 0
}

// placeholderOr returns the text of users if it is a placeholder, and otherwise a label
// for a literal text.
func placeholderOr(text, label string) string {
	if isOnePlaceholder(text) {
		return quotedPlaceholder(text)
	}
	return label
}

// quotedPlaceholder returns a placeholder for messages. Only those that cannot be anything
// else are shown.
func quotedPlaceholder(placeholder string) string {
	if isPlaceholder(placeholder) {
		return placeholder
	}
	return "{...}"
}

// maxPlaceholderFile is how much of a file Caddy puts in place of `{file.<path>}`. It
// omits the rest without an error.
const maxPlaceholderFile = 1 << 20

var (
	errEmptyText = errors.New("expected the text of a password file, found an empty text; for no users, write a comment such as '# nobody'")
	errPathUsers = errors.New("value looks like a path (not shown here); expected the text of a password file; for a file, write 'file' instead of 'users'")
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
			err = fmt.Errorf("%s: %w", label, errPathUsers)
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

// textLabels numbers the literal texts of users of one configuration.
type textLabels struct {
	labels  map[[sha256.Size]byte]string
	isKnown bool // the texts of all sites have labels
}

// label returns the label of a text of users: its name in logs, metrics and the admin API.
func (a *App) label(ctx caddy.Context, setting string) string {
	if isOnePlaceholder(setting) {
		return quotedPlaceholder(setting)
	}
	if http := httpAppOf(ctx); http != nil && !a.texts.isKnown {
		// Caddy provisions servers in random order. The order of the configuration does
		// not change.
		a.texts.isKnown = true
		logins := routes.Walk(serversOf(http)).Logins
		for i := range logins {
			a.texts.addAll(newFoundLogin(&logins[i]).handler)
		}
	}
	return a.texts.add(setting)
}

func (l *textLabels) addAll(h *Handler) {
	for _, source := range h.Sources {
		if source.Users != "" && !isOnePlaceholder(source.Users) {
			l.add(source.Users)
		}
	}
}

func (l *textLabels) add(text string) string {
	sum := sha256.Sum256([]byte(text))
	if label, ok := l.labels[sum]; ok {
		return label
	}
	label := textLabel
	if n := len(l.labels); n > 0 {
		label = fmt.Sprintf("%s %d", textLabel, n+1)
	}
	if l.labels == nil {
		l.labels = make(map[[sha256.Size]byte]string)
	}
	l.labels[sum] = label
	return label
}
