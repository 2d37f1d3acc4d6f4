package caddyhtpasswd

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/routes"
)

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
			newFoundLogin(&logins[i]).handler.addTexts(&a.texts)
		}
	}
	return a.texts.add(setting)
}

// addTexts adds the literal texts of a handler.
func (h *Handler) addTexts(l *textLabels) {
	for _, source := range h.Sources {
		if source.Users != "" && !isOnePlaceholder(source.Users) {
			l.add(source.Users)
		}
	}
}
