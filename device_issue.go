package caddyhtpasswd

import (
	"net/http"
	"slices"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/devicecookie"
)

const headerFetchSite = "Sec-Fetch-Site"

// issueDevice returns the ResponseWriter for the next handler after a good login. It is
// another one only if the response should issue a token.
//
// If two handlers on a request have the same name of the cookie, one cookie has the tokens
// of both: their files can have different hashes of the password.
func (h *Handler) issueDevice(w http.ResponseWriter, r *http.Request, sent *sentAuthorization) http.ResponseWriter {
	d := sent.devices.of(h.device.name)
	if d == nil || d.due == nil {
		return w
	}
	owner := d.due
	d.due = nil
	if !isEncrypted(r) || isCrossSite(r) || !h.guard.hasTokenFor(owner) {
		return w
	}
	isWrapped := d.answer != nil // by a handler before
	if !isWrapped {
		d.answer = new(deviceAnswer)
	}
	d.answer.maxAge = max(d.answer.maxAge, h.device.maxAge)
	d.answer.owners = append(d.answer.owners, owner)
	if isWrapped {
		return w
	}
	g := h.guard
	return newHeaderHook(w, func(status int) {
		if !d.isRefused && mayCarryToken(status, w.Header()) {
			g.setDeviceCookie(w.Header(), d)
		}
	})
}

// isCrossSite reports whether a page of another site has made the browser send the
// request.
func isCrossSite(r *http.Request) bool {
	return slices.ContainsFunc(r.Header[headerFetchSite], func(v string) bool {
		return strings.EqualFold(strings.Trim(v, " \t"), "cross-site")
	})
}

// mayCarryToken reports whether a response may issue a token. A response that a shared
// cache may store must not: the cache would give the token to others.
func mayCarryToken(status int, header http.Header) bool {
	switch {
	case status == http.StatusSwitchingProtocols, status == http.StatusNotModified,
		isForSharedCaches(header["Cache-Control"]):
		return false
	}
	for name := range header { // such as CDN-Cache-Control (RFC 9213)
		if lower := strings.ToLower(name); lower == "surrogate-control" || strings.HasSuffix(lower, "cdn-cache-control") {
			return false
		}
	}
	return true
}

// hasTokenFor reports whether another token may be issued for a user now.
func (g *guard) hasTokenFor(o *devicecookie.Owner) bool {
	n, _ := g.devices.issued().Count(tokensKey(g.seed, o), g.now(), tokensWindow)
	return n < maxTokensIssued
}

// setDeviceCookie adds the cookie with new tokens to the header of a response.
func (g *guard) setDeviceCookie(header http.Header, d *sentDevices) {
	keys, now := g.deviceSigners(), g.now()
	candidates, value := d.candidates, ""
	for _, o := range d.answer.owners {
		if keys == nil || g.devices.issued().Add(tokensKey(g.seed, o), now, tokensWindow) > maxTokensIssued {
			continue
		}
		value = keys.Issue(&candidates, o, now)
		candidates, _ = devicecookie.Take(http.Header{"Cookie": {d.name + "=" + value}}, d.name)
		g.tokensIssued.Add(1)
	}
	if value != "" {
		header.Add("Set-Cookie", devicecookie.SetCookie(d.name, value, d.answer.maxAge))
	}
}
