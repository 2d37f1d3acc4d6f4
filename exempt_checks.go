package caddyhtpasswd

import (
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

// exemptsAll reports whether an exemption certainly matches every request.
func exemptsAll(set caddy.ModuleMap, allowHTTP bool) bool {
	return matchers.Set(set).Reach(allowHTTP) == matchers.ReachEverything
}

// errExemptAll returns the error for an exemption that matches every request.
func errExemptAll(set caddy.ModuleMap) error {
	return fmt.Errorf("exempt: '%s' matches every request and would leave nothing protected: write only the requests that need no password, such as 'exempt /public/*'", matchers.Set(set))
}

// checkExempt refuses exemptions that certainly match every request, and warns about
// exemptions that a client can make any request match.
func (h *Handler) checkExempt() error {
	for _, set := range h.ExemptRaw {
		switch matchers.Set(set).Reach(h.AllowHTTP) {
		case matchers.ReachEverything:
			return errExemptAll(set)
		case matchers.ReachChosen:
			warnOfExempt(h.logger, matchers.Set(set))
		case matchers.ReachLimited:
		}
	}
	return nil
}

// warnOfExemptHosts warns about exemptions of all host names of the site. They are no
// error, because several sites can import the same lines.
func (l *foundLogin) warnOfExemptHosts(logger *zap.Logger) {
	for _, raw := range l.handler.ExemptRaw {
		set := matchers.Set(raw)
		exempt := set.Hosts()
		if len(exempt) == 0 || set.WithoutHosts().Reach(l.handler.AllowHTTP) == matchers.ReachLimited {
			continue
		}
		if !slices.ContainsFunc(l.Hosts, func(host string) bool { return !slices.Contains(exempt, host) }) {
			warnOfExempt(logger, set, placeFields(&l.Place)...)
		}
	}
}

// warnOfExempt warns about an exemption that a client can make any request match.
func warnOfExempt(logger *zap.Logger, set matchers.Set, fields ...zap.Field) {
	logger.Warn("exempt may match every request; restrict it by path, method or remote_ip", append(fields, zap.String("matcher", set.String()))...)
}

// describeExempt describes the exemptions in one line, or returns "" if there are none.
func (h *Handler) describeExempt() string {
	sets := make(matchers.Sets, 0, len(h.ExemptRaw))
	for _, set := range h.ExemptRaw {
		sets = append(sets, matchers.Set(set))
	}
	return sets.String()
}
