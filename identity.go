package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
)

// Other handlers and the upstream learn the user from two placeholders and from the
// header of user_header. None of them may ever contain a value that the client chose.

const (
	userPlaceholder   = "http.auth.user.id"
	groupsPlaceholder = "http.auth.user.groups"
)

// noUser provides empty values for the placeholders while no user is verified.
func noUser(key string) (any, bool) {
	return "", key == userPlaceholder || key == groupsPlaceholder
}

// removeForged removes the user header and forbidden trailers that the client sent.
func (h *Handler) removeForged(r *http.Request, sent *sentAuthorization) {
	if h.UserHeader != "" && (sent.userHeader == nil || *sent.userHeader != h.UserHeader) { // otherwise another htpasswd has set it
		httpfield.Remove(r.Header, h.UserHeader)
	}
	if r.Trailer != nil {
		httpfield.FilterTrailers(r, h.UserHeader)
	}
}

// identify tells the next handlers and the upstream who the user is.
func (h *Handler) identify(r *http.Request, user any, groups []string) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	repl.Set(userPlaceholder, user)
	if len(h.groups) > 0 {
		repl.Set(groupsPlaceholder, strings.Join(groups, ","))
	}
	if h.UserHeader != "" {
		r.Header[h.UserHeader] = []string{user.(string)}
	}
}

// identifyNobody empties the placeholders, unless another handler has already verified
// a user. Caddy leaves unknown placeholders as text, which an upstream would take for a
// user name.
func (h *Handler) identifyNobody(r *http.Request) {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for _, name := range []string{userPlaceholder, groupsPlaceholder} {
		if _, isSet := repl.Get(name); !isSet {
			repl.Set(name, "")
		}
	}
}

// errUserHeader returns the error for a header that cannot be a user header.
func errUserHeader(field string) error {
	return fmt.Errorf("expected the name of a header field such as X-User, found %s, which is not valid or is reserved", quoted(field))
}
