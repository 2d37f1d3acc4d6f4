// Package caddyhtpasswd is a plugin for the Caddy web server that implements HTTP Basic
// authentication against htpasswd files, as nginx does with auth_basic and
// auth_basic_user_file. By default it accepts passwords only over TLS. It caches verified
// passwords, and reloads files when they change. It also provides named upstream groups,
// like nginx's upstream.
//
// The package exports Caddy modules and their settings. The subcommand "caddy htpasswd"
// creates, edits and checks htpasswd files. A request enters at [Handler.ServeHTTP], and
// docs/architecture.md shows what happens to it.
package caddyhtpasswd

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/httpfield"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler implements HTTP Basic authentication (RFC 7617) against htpasswd files. A
// request passes if it has the name and the password of a user in one of the files.
//
// By default, passwords are requested and accepted only over encrypted connections. A
// verified password is cached, and not hashed again until the user's line changes. A
// changed file takes effect without a reload of the configuration. If a new version of
// a file cannot be loaded, the previous version stays active.
//
// The responses to refused requests are: 401 without valid credentials, 403 for a user
// who is not authorized and for a request over plain HTTP, 400 for more than one
// Authorization header, 429 while a limit on failed logins is exceeded, and 503 if the
// hash queue is overloaded.
//
// These placeholders are set after a login, and are empty for requests that need no
// password:
//
//   - `{http.auth.user.id}` is the user name;
//   - `{http.auth.user.groups}` is a list of the user's groups in the group files, sorted
//     and separated by commas.
type Handler struct {
	// The paths of the htpasswd files, at least one. If a user is in several files, the
	// first file takes precedence. Relative paths are relative to the working directory.
	// Global placeholders such as `{env.*}` are allowed. A file that does not exist or
	// has no valid line is an error; an empty file is valid. A path with `*`, `?` or `[`
	// is a pattern for several files. Required, unless there are `sources`.
	Files []string `json:"files,omitempty"`

	// The sources of users, in order of precedence: files and texts. Cannot be used
	// together with `files`, which is short for sources that are all files.
	Sources []Source `json:"sources,omitempty"`

	// The paths of Apache group files, with lines such as `admins: alice bob`.
	// Default: none.
	GroupFiles []string `json:"group_files,omitempty"`

	// The realm (RFC 7617, section 2), which browsers may show when they ask for the
	// password. Placeholders are allowed, control characters are not. Default:
	// `Restricted`.
	Realm string `json:"realm,omitempty"`

	// The users who are authorized. Default: every user in the files.
	Require *Require `json:"require,omitempty"`

	// The requests that need no password: those that match any of these matcher sets. A
	// matcher set that certainly matches every request is an error. Default: none.
	ExemptRaw caddyhttp.RawMatcherSets `json:"exempt,omitempty" caddy:"namespace=http.matchers"`

	// The request header that passes the user name to the upstream, such as `X-User`. A
	// header of that name from the client is removed. Default: none.
	UserHeader string `json:"user_header,omitempty"`

	// Whether to pass Basic credentials in the Authorization header to the upstream.
	// Default: false, which removes them from the request.
	KeepAuthorization bool `json:"keep_authorization,omitempty"`

	// Whether to accept passwords over connections that are not encrypted, where anyone
	// on the network path can read them. Default: false, which answers such requests
	// with status 403.
	AllowHTTP bool `json:"allow_http,omitempty"`

	// How verified passwords are cached. Default: each until its user's line changes.
	Cache *Cache `json:"cache,omitempty"`

	// Whether weak hashes in the files are replaced by bcrypt, each after a login with
	// its password. The server must be able to replace the files. Default: none is
	// replaced.
	Rehash *Rehash `json:"rehash,omitempty"`

	// The page on which users change their passwords. Default: none.
	ChangePassword *ChangePassword `json:"change_password,omitempty"`

	// Whether browsers that have logged in get a signed cookie, with which others cannot
	// stop their next logins. Default: none is issued or accepted.
	DeviceCookie *DeviceCookie `json:"device_cookie,omitempty"`

	users      userSources
	rehashed   rehashedStores
	groups     groupStores
	releases   []func() error // what Cleanup has to release
	exempt     caddyhttp.MatcherSets
	cache      cachePolicy
	rehashCost int // 0: weak hashes stay
	device     deviceSettings
	shared     *shared
	app        *App
	ctx        caddy.Context
	guard      *guard // of shared
	challenge  string // "" if the realm has placeholders
	warnOfXFF  func() // logs only the first time
	answer     errorAnswer
	logger     *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.htpasswd",
		New: func() caddy.Module { return new(Handler) },
	}
}

const defaultRealm = "Restricted"

// Provision checks the settings and loads the files.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.shared = h.shared.orProcess()
	h.guard = h.shared.guard
	h.logger, h.answer = ctx.Logger(), newErrorAnswer(ctx, h.guard)
	h.warnOfXFF = sync.OnceFunc(func() {
		h.logger.Warn("trusted_proxies without trusted_proxies_strict; clients can forge the address that failed logins are counted by",
			zap.String("fix", "add trusted_proxies_strict to the global option servers"))
	})
	app, err := ctx.App(appName) // the app must run, even if it is not configured
	if err != nil {
		return err
	}
	h.app, h.ctx = app.(*App), ctx
	if err := h.Validate(); err != nil {
		return err
	}
	h.provisionSettings()
	if err := h.provisionExempt(ctx); err != nil {
		return err
	}
	if err := h.provisionSources(func(text string) string { return h.app.label(ctx, text) }); err != nil {
		return err
	}
	h.provisionRehash()
	h.warnOfNobody()
	return h.app.checkSites(ctx)
}

// Validate ensures that the settings are valid. It reads no file, so Provision also
// calls it, before it loads the files.
func (h *Handler) Validate() error {
	if err := h.validateSources(); err != nil {
		return err
	}
	switch q, c := h.Require, h.Cache; {
	case htfile.HasControl(h.Realm):
		return errors.New("realm: expected a text, found control characters")
	case h.UserHeader != "" && !httpfield.IsUsable(h.UserHeader):
		return fmt.Errorf("user_header: %w", errUserHeader(h.UserHeader))
	case q != nil && len(q.Users)+len(q.Groups) == 0:
		return errors.New("require: expected users or groups, found neither")
	case q != nil && len(q.Groups) > 0 && len(h.GroupFiles) == 0:
		return errors.New("require: groups: expected group_files that define the groups, found none")
	case c != nil && c.Off && c.MaxAge != 0:
		return errors.New("cache: expected either 'off' or a max_age, found both")
	case c != nil && c.MaxAge < 0:
		return fmt.Errorf("cache: max_age: expected a duration above zero, found %s", time.Duration(c.MaxAge))
	}
	return cmp.Or(h.Rehash.validate(), h.ChangePassword.validate(), h.DeviceCookie.validate())
}

// provisionSettings sets the defaults of valid settings.
func (h *Handler) provisionSettings() {
	if h.Realm == "" {
		h.Realm = defaultRealm
	}
	if !strings.Contains(h.Realm, "{") {
		h.challenge = httpfield.BasicChallenge(h.Realm)
	}
	if h.UserHeader != "" {
		h.UserHeader = http.CanonicalHeaderKey(h.UserHeader)
	}
	h.provisionDevice()
	h.cache = cachePolicy{now: time.Now}
	if h.Cache != nil {
		h.cache.off, h.cache.maxAge = h.Cache.Off, time.Duration(h.Cache.MaxAge)
	}
}

func (h *Handler) provisionExempt(ctx caddy.Context) error {
	if err := h.checkExempt(); err != nil {
		return err
	}
	sets, err := ctx.LoadModule(h, "ExemptRaw")
	if err != nil {
		return fmt.Errorf("exempt: %w", err)
	}
	return h.exempt.FromInterface(sets)
}

// Cleanup releases the sources.
func (h *Handler) Cleanup() error {
	var errs []error
	for _, release := range slices.Backward(h.releases) {
		errs = append(errs, release())
	}
	h.releases = nil
	return errors.Join(errs...)
}

// ServeHTTP passes the request to next, or responds that the request is refused.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	exempt, err := h.isExempt(r)
	values := r.Header[headerAuthorization]
	sent := takeCredentials(r, values, h.device.name)
	h.removeForged(r, sent)
	decided := resultExempt
	switch {
	case err != nil:
		decided = resultUnchecked
		h.logError(sent.clientIP(), "exempt matcher failed", err)
		err = caddyhttp.Error(http.StatusInternalServerError, errNotMatched)
	case !exempt:
		decided, err = h.authenticate(w, r, sent)
	}
	h.guard.results[decided].Add(1)
	if decided != resultPassed {
		h.identifyNobody(r) // for the error routes, too
	}
	if err != nil {
		sent.devices.refuse()
		return h.answer.write(w, r, err)
	}
	if decided == resultPassed && h.ChangePassword.isFor(r) {
		return h.servePasswordPage(w, r, sent)
	}
	if decided == resultPassed && h.device.name != "" {
		w = h.issueDevice(w, r, sent)
	}
	if h.KeepAuthorization {
		httpfield.Set(r.Header, headerAuthorization, values)
	}
	return next.ServeHTTP(w, r)
}

// isExempt reports whether the request needs no password.
func (h *Handler) isExempt(r *http.Request) (bool, error) {
	if len(h.exempt) == 0 {
		return false, nil // to Caddy, an empty list matches everything
	}
	return h.exempt.AnyMatchWithError(r)
}

// authenticate returns no error if, and only if, the request may pass. The request then
// identifies the user.
func (h *Handler) authenticate(w http.ResponseWriter, r *http.Request, sent *sentAuthorization) (result, error) {
	if !h.AllowHTTP && !isEncrypted(r) {
		h.logNotEncrypted(sent.clientIP(), r)
		return resultNotEncrypted, caddyhttp.Error(http.StatusForbidden, errNotEncrypted)
	}
	if len(sent.values) > 1 {
		h.logAmbiguous(sent.clientIP(), r)
		return resultAmbiguous, caddyhttp.Error(http.StatusBadRequest, errAmbiguous)
	}
	if len(sent.values) == 0 || !isBasic(sent.values[0]) {
		return resultNoCredentials, h.unauthorized(w, r) // not a failed login
	}
	c := parseCredentials(sent.values[0])
	defer c.release()
	from := origin{sent.clientIP(), r.Host, sent.devices.of(h.device.name)}
	v, err := h.check(r.Context(), from, c)
	if err != nil {
		return h.unchecked(w, r, from, c.user, err)
	}
	if v.result != resultPassed {
		if v.isCheap() {
			h.guard.awaitRefusal(r.Context())
		}
		return v.result, h.unauthorized(w, r)
	}
	name := v.user.(string)
	groups := h.groups.of(name)
	if !h.Require.admits(name, groups) && len(h.groups) > 0 {
		awaitCurrent(r.Context(), h.groups)
		groups = h.groups.of(name)
	}
	if !h.Require.admits(name, groups) {
		h.logRefusal(cheapLines, from, c.user, "login failed", zap.String("reason", resultReasons[resultForbidden]))
		return resultForbidden, caddyhttp.Error(http.StatusForbidden, errNotRequired)
	}
	h.identify(r, v.user, groups)
	if h.UserHeader != "" {
		sent.userHeader = &h.UserHeader
	}
	return resultPassed, nil
}

var (
	errNotEncrypted = errors.New("the connection is not encrypted: use HTTPS, or set allow_http to accept passwords that anyone on the network path can read")
	errAmbiguous    = errors.New("more than one Authorization header")
	errUnauthorized = errors.New("not authenticated") // without a reason, because handle_errors may show it
	errNotMatched   = errors.New("cannot tell whether the request is exempt")
	errNotRequired  = errors.New("user not authorized")
)

// unauthorized sets the challenge and returns the error for status 401.
func (h *Handler) unauthorized(w http.ResponseWriter, r *http.Request) error {
	if mayForgeAddress(r) {
		h.warnOfXFF()
	}
	value := h.challenge
	if value == "" {
		repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
		value = httpfield.BasicChallenge(repl.ReplaceAll(h.Realm, ""))
	}
	w.Header()[headerChallenge] = []string{value}
	return caddyhttp.Error(http.StatusUnauthorized, errUnauthorized)
}

// unchecked answers a login whose password was not checked to the end: whether it
// is right is not known.
func (h *Handler) unchecked(w http.ResponseWriter, r *http.Request, from origin, user []byte, err error) (result, error) {
	if refusal, ok := errors.AsType[*throttledError](err); ok {
		h.guard.awaitRefusal(r.Context())
		w.Header()[headerRetryAfter] = []string{retryAfter(refusal.wait)}
		return resultThrottled, caddyhttp.Error(http.StatusTooManyRequests, err)
	}
	if errors.Is(err, errOverloaded) {
		h.logRefusal(overloadedLines, from, user, "hash queue overloaded; responding 503")
		h.guard.awaitRefusal(r.Context())
		w.Header()[headerRetryAfter] = []string{retryAfter(maxWait)}
		return resultOverloaded, caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	if r.Context().Err() != nil {
		return resultClientClosed, caddyhttp.Error(statusClientClosed, err)
	}
	h.logError(from.ip, "password check failed", err)
	return resultUnchecked, caddyhttp.Error(http.StatusInternalServerError, err)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
