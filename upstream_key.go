package caddyhtpasswd

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// clientAddress returns the text of the client's address, or "" if it is unknown.
func clientAddress(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}

// hashKey is the text that a request is hashed by, with placeholders.
type hashKey struct {
	text        string
	placeholder string // if text is just one
}

func newHashKey(text string) hashKey {
	k := hashKey{text: text}
	if strings.HasPrefix(text, "{") && strings.IndexByte(text, '}') == len(text)-1 {
		k.placeholder = text[1 : len(text)-1]
	}
	return k
}

// of returns the key of a request.
func (k hashKey) of(r *http.Request) string {
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if k.placeholder != "" {
		value, _ := repl.GetString(k.placeholder)
		return value
	}
	return repl.ReplaceAll(k.text, "")
}

// hasPlaceholder reports whether a key differs from request to request.
func hasPlaceholder(key string) bool {
	_, rest, open := strings.Cut(key, "{")
	return open && strings.IndexByte(rest, '}') > 0
}
