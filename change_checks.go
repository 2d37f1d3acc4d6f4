package caddyhtpasswd

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// warnOfUnreachedPage warns about a page of change_password that no request reaches: the
// matchers around the handler do not match its path, or an exemption matches it.
func (l *foundLogin) warnOfUnreachedPage(logger *zap.Logger) {
	page := l.handler.ChangePassword
	if page == nil {
		return
	}
	warn := func(reason string) {
		logger.Warn("the page of change_password is never reached",
			append(placeFields(&l.Place), zap.String("path", page.Path), zap.String("reason", reason))...)
	}
	isExempt := slices.ContainsFunc(l.handler.ExemptRaw, func(set caddy.ModuleMap) bool {
		return len(set) == 1 && matchesPath(matchers.Sets{matchers.Set(set)}.Paths(), page.Path)
	})
	switch {
	case isExempt:
		warn("exempt matches the path; only a user who has logged in can change the password")
	case len(l.Paths) > 0 && !slices.ContainsFunc(l.Paths, hasPlaceholder) && !matchesPath(l.Paths, page.Path):
		warn("htpasswd does not get requests for this path; use a path that its matchers match")
	}
}

// matchesPath reports whether one of the patterns of a path matcher matches a path.
func matchesPath(patterns []string, path string) bool {
	matcher := caddyhttp.MatchPath(slices.Clone(patterns))
	if matcher.Provision(caddy.Context{}) != nil {
		return false
	}
	r := (&http.Request{URL: &url.URL{Path: path}}).WithContext(context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
	matches, err := matcher.MatchWithError(r)
	return err == nil && matches
}
