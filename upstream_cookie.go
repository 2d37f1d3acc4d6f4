package caddyhtpasswd

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// StickyCookie is the cookie of [Sticky]. Its value is the `route` of the server, or a
// digest of the server's address, made with the secret of the app `htpasswd`.
type StickyCookie struct {
	// The name of the cookie. Required.
	Name string `json:"name,omitempty"`

	// The lifetime of the cookie, which each response renews. At least 1s. Default:
	// until the browser is closed.
	Expires caddy.Duration `json:"expires,omitempty"`

	// The domain of the cookie. Placeholders are allowed. If it is empty or invalid
	// then, the cookie has none. Default: none, which means the host of the request.
	Domain string `json:"domain,omitempty"`

	// The path of the cookie. Default: `/`.
	Path string `json:"path,omitempty"`

	// Whether scripts cannot read the cookie: `on` or `off`. Default: `on`.
	HTTPOnly string `json:"http_only,omitempty"`

	// Whether browsers send the cookie over TLS only: `on`, `off` or `auto`, which is
	// `on` if the request came over TLS. Default: `auto`.
	Secure string `json:"secure,omitempty"`

	// Whether browsers send the cookie with requests from other sites: `strict`, `lax`,
	// `none`, or `off` for no such attribute. Default: `lax`.
	SameSite string `json:"same_site,omitempty"`
}

const (
	switchOn   = "on"
	switchOff  = "off"
	switchAuto = "auto"

	defaultSameSite = "lax"
	sameSiteNone    = "none"
)

// What the attributes of the cookie can be.
var (
	httpOnlyValues = []string{switchOn, switchOff}
	secureValues   = []string{switchOn, switchOff, switchAuto}
	sameSiteValues = []string{"strict", defaultSameSite, sameSiteNone, switchOff}
)

// validate checks the settings. Browsers drop a cookie that contradicts itself.
func (c *StickyCookie) validate() error {
	switch {
	case c.Name == "" || strings.ContainsFunc(c.Name, isNoToken):
		return fmt.Errorf("name: expected letters, digits, '_', '-' and '.', found %s", quoted(c.Name))
	case c.Expires != 0 && time.Duration(c.Expires) < time.Second:
		return fmt.Errorf("expires: expected at least 1s, found %s", time.Duration(c.Expires))
	case !strings.Contains(c.Domain, "{") && strings.ContainsFunc(c.Domain, isNoDomain):
		return fmt.Errorf("domain: expected a domain such as example.com, found %s", quoted(c.Domain))
	case c.Path != "" && (c.Path[0] != '/' || strings.ContainsFunc(c.Path, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(";{}", r) })):
		return fmt.Errorf("path: expected a path that begins with '/', without spaces, semicolons and placeholders, found %s", quoted(c.Path))
	case c.HTTPOnly != "" && !slices.Contains(httpOnlyValues, c.HTTPOnly):
		return fmt.Errorf("http_only: %w", errUnrecognized("value", c.HTTPOnly, httpOnlyValues))
	case c.Secure != "" && !slices.Contains(secureValues, c.Secure):
		return fmt.Errorf("secure: %w", errUnrecognized("value", c.Secure, secureValues))
	case c.SameSite != "" && !slices.Contains(sameSiteValues, c.SameSite):
		return fmt.Errorf("same_site: %w", errUnrecognized("value", c.SameSite, sameSiteValues))
	case c.SameSite == sameSiteNone && c.Secure == switchOff:
		return errors.New("same_site: expected 'secure' with 'none', found 'off'; browsers would drop the cookie")
	case c.Secure == switchOff && (strings.HasPrefix(c.Name, "__Secure-") || strings.HasPrefix(c.Name, "__Host-")):
		return fmt.Errorf("secure: expected 'on' or 'auto' for the prefix of %s, found 'off'; browsers would drop the cookie", quoted(c.Name))
	case strings.HasPrefix(c.Name, "__Host-") && (c.Domain != "" || c.Path != "" && c.Path != "/"):
		return fmt.Errorf("name: expected no domain and the path '/' with %s; browsers would drop the cookie", quoted(c.Name))
	}
	return nil
}

// isNoToken reports whether a character cannot be in the name of a cookie. It is a little
// stricter than RFC 6265.
func isNoToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
}

// isNoDomain reports whether a character cannot be in a domain.
func isNoDomain(r rune) bool { return r == '_' || isNoToken(r) }

// cookieWriter writes the cookie of a group.
type cookieWriter struct {
	name       string
	attributes string // the same for all requests
	domain     string // with placeholders; "" for none, or if it is in attributes
	secure     string
	sameSite   string // what follows "SameSite="; "" for none
}

func newCookieWriter(c *StickyCookie) *cookieWriter {
	w := &cookieWriter{name: c.Name, secure: c.Secure}
	path := c.Path
	if path == "" {
		path = "/"
	}
	w.attributes = "; Path=" + path
	switch {
	case strings.Contains(c.Domain, "{"):
		w.domain = c.Domain
	case c.Domain != "":
		w.attributes += "; Domain=" + c.Domain
	}
	if c.Expires != 0 {
		w.attributes += "; Max-Age=" + strconv.FormatInt(int64(time.Duration(c.Expires)/time.Second), 10)
	}
	if c.HTTPOnly != switchOff {
		w.attributes += "; HttpOnly"
	}
	switch c.SameSite {
	case "strict":
		w.sameSite = "Strict"
	case "", defaultSameSite:
		w.sameSite = "Lax"
	case sameSiteNone:
		w.sameSite = "None"
	}
	return w
}

// text returns the Set-Cookie field for a value.
func (w *cookieWriter) text(r *http.Request, value string, encrypted bool) string {
	text := w.name + "=" + value + w.attributes
	if w.domain != "" {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		// A client can choose this text, such as that of {host}.
		if domain := repl.ReplaceAll(w.domain, ""); domain != "" && !strings.ContainsFunc(domain, isNoDomain) {
			text += "; Domain=" + domain
		}
	}
	secure := w.secure == switchOn || w.secure != switchOff && encrypted
	if secure {
		text += "; Secure"
	}
	if w.sameSite != "" && (secure || w.sameSite != "None") { // without Secure, browsers drop a cookie with None
		text += "; SameSite=" + w.sameSite
	}
	return text
}

// stickyAnswer sets the cookie on the response to a request.
type stickyAnswer struct {
	sessions  *stickySessions
	request   *http.Request
	cookies   []string // Cookie fields of the request; header_up may change them before a retry
	value     string   // for the server of the last attempt; "" for none
	encrypted bool
}

// observesResponses implements responseObserver.
func (g *UpstreamGroup) observesResponses() bool {
	return g.sessions != nil && g.sessions.cookie != nil
}

// observeResponse implements responseObserver.
func (g *UpstreamGroup) observeResponse(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, func()) {
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	state := stateOf(vars)
	if state == nil {
		return w, func() {}
	}
	answer := &stickyAnswer{sessions: g.sessions, request: r, cookies: r.Header["Cookie"], encrypted: isEncrypted(r)}
	before := state.answer // of a proxy_pass around this one
	state.answer = answer
	return serverHook{newHeaderHook(w, func(status int) { answer.setCookie(w.Header(), status) })}, func() { state.answer = before }
}

// setCookie sets the cookie in the header of a server's response. It replaces a cookie of
// the same name.
func (a *stickyAnswer) setCookie(header http.Header, status int) {
	if a.value == "" || status == http.StatusNotModified || status == statusClientClosed || isForSharedCaches(header["Cache-Control"]) {
		return
	}
	name := a.sessions.cookie.name
	others := slices.DeleteFunc(header["Set-Cookie"], func(text string) bool {
		rest, found := strings.CutPrefix(text, name)
		return found && strings.HasPrefix(rest, "=")
	})
	header["Set-Cookie"] = append(others, a.sessions.cookie.text(a.request, a.value, a.encrypted))
}

// isForSharedCaches reports whether Cache-Control lets shared caches store a response,
// even to a request with a password (RFC 9111, section 3.5). They would give the cookie
// of one client to all others.
func isForSharedCaches(fields []string) bool {
	allowed := false
	for _, field := range fields {
		for directive := range strings.SplitSeq(field, ",") {
			name, _, _ := strings.Cut(directive, "=")
			name = strings.Trim(name, " \t")
			switch {
			case strings.EqualFold(name, "no-store"), strings.EqualFold(name, "private") && !strings.Contains(directive, "="):
				return false
			case strings.EqualFold(name, "public"), strings.EqualFold(name, "s-maxage"), strings.EqualFold(name, "must-revalidate"):
				allowed = true
			}
		}
	}
	return allowed
}
