// Package caddyhtpasswd implements HTTP Basic authentication against htpasswd
// files for the Caddy web server, as nginx does with auth_basic and
// auth_basic_user_file. It reads passwords over TLS only, caches those that it has
// verified, and reloads files when they change. It also has named upstream groups.
//
// A request begins at Handler.ServeHTTP, a changed file at internal/follow.
// docs/architecture.md shows the way of both.
package caddyhtpasswd

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
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

// Handler lets a request pass if it brings the name and password of a user in
// an htpasswd file (HTTP Basic authentication, RFC 7617).
//
// Passwords are asked for, and read, over encrypted connections only. A
// verified password is not hashed again until the user's line in the file
// changes. A file that changes takes effect without a reload of the
// configuration. If a new version cannot be loaded, the previous one stays active.
//
// For requests that pass with a password, these placeholders are set; for
// exempt ones they are empty:
//
// Placeholder | Description
// ------------|-------------
// `{http.auth.user.id}` | The name of the user
// `{http.auth.user.groups}` | Where there are group files: the groups the user is in, sorted, with commas between them
type Handler struct {
	// The htpasswd files. The first one that names the user decides. Required.
	// Relative paths begin at the working directory. Global placeholders such
	// as `{env.*}` are allowed.
	Files []string `json:"files,omitempty"`

	// Apache group files, with lines such as `admins: alice bob`. Default: none.
	GroupFiles []string `json:"group_files,omitempty"`

	// The name of the protected area, which browsers show when they ask for the
	// password. Placeholders are allowed. Default: `Restricted`.
	Realm string `json:"realm,omitempty"`

	// Who may pass. Default: every user in the files.
	Require *Require `json:"require,omitempty"`

	// Requests that pass without a password: those that match any of these
	// matcher sets. Default: none.
	ExemptRaw caddyhttp.RawMatcherSets `json:"exempt,omitempty" caddy:"namespace=http.matchers"`

	// The request header field that passes the user's name to the upstream. What
	// a client sends under that name is removed. Default: none.
	UserHeader string `json:"user_header,omitempty"`

	// Whether to pass the Authorization header on. By default Basic credentials
	// are removed from the request: the upstream has no use for the password.
	KeepAuthorization bool `json:"keep_authorization,omitempty"`

	// Whether to accept passwords over connections that are not encrypted, where
	// anyone on the way can read them. Default: false.
	AllowHTTP bool `json:"allow_http,omitempty"`

	// How long a verified password is cached. Default: until the line of its user
	// changes.
	Cache *Cache `json:"cache,omitempty"`

	users     userStores
	names     []string // of the files in users, for their decoys
	groups    groupStores
	acquired  []any // keys in the pool of sources
	exempt    caddyhttp.MatcherSets
	cache     cachePolicy
	shared    *shared
	guard     *guard // of shared
	challenge string // where the realm has no placeholders
	warnOfXFF func() // once
	answer    errorAnswer
	logger    *zap.Logger
}

// Cache says how long a verified password is cached. What is cached is a keyed
// digest of the password, in memory only.
type Cache struct {
	// Whether to compute the hash at every request. This is slow: with the usual
	// hashes a processor core manages some tens or hundreds of requests a second.
	Off bool `json:"off,omitempty"`

	// How long to cache a password. Default: until the line of its user changes.
	MaxAge caddy.Duration `json:"max_age,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.htpasswd",
		New: func() caddy.Module { return new(Handler) },
	}
}

const defaultRealm = "Restricted"

// Provision checks the settings and reads the files.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.shared = h.shared.orProcess()
	h.guard = h.shared.guard
	h.logger, h.answer = ctx.Logger(), newErrorAnswer(ctx, h.guard)
	h.warnOfXFF = sync.OnceFunc(func() {
		h.logger.Warn("trusted_proxies without trusted_proxies_strict; clients can forge the address that failed logins are counted by")
	})
	app, err := ctx.App(appName) // has to run, configured or not
	if err != nil {
		return err
	}
	if err := h.Validate(); err != nil {
		return err
	}
	h.provisionSettings()
	if err := h.provisionExempt(ctx); err != nil {
		return err
	}
	if err := h.provisionFiles(); err != nil {
		return err
	}
	h.warnOfNobody()
	return app.(*App).checkSites(ctx)
}

// Validate refuses settings that make no sense. It looks at nothing else, so
// Provision calls it, too, before it reads a file.
func (h *Handler) Validate() error {
	switch q, c := h.Require, h.Cache; {
	case len(h.Files) == 0:
		return errors.New("files: expected at least one password file, found none")
	case htfile.HasControl(h.Realm):
		return errors.New("realm: expected a text, found control characters")
	case h.UserHeader != "" && !httpfield.IsUsable(h.UserHeader):
		return fmt.Errorf("user_header: %w", errUserHeader(h.UserHeader))
	case q != nil && len(q.Users)+len(q.Groups) == 0:
		return errors.New("require: expected users or groups, found neither")
	case q != nil && len(q.Groups) > 0 && len(h.GroupFiles) == 0:
		return errors.New("require: groups: expected group_files that say who is in them, found none")
	case c != nil && c.Off && c.MaxAge != 0:
		return errors.New("cache: expected either 'off' or a max_age, found both")
	case c != nil && c.MaxAge < 0:
		return fmt.Errorf("cache: max_age: expected a duration above zero, found %s", time.Duration(c.MaxAge))
	}
	return nil
}

// errUserHeader is the error for a field that is not usable.
func errUserHeader(field string) error {
	return fmt.Errorf("expected the name of a header field such as X-User, found %s, which is not valid or is reserved", quoted(field))
}

// provisionSettings fills in the defaults of valid settings.
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

// provisionFiles reads all files, also those that are in use already: a reload of
// the configuration must not accept a broken one.
func (h *Handler) provisionFiles() error {
	for _, name := range h.Files {
		file, err := acquire(&h.shared.sources, name, newUserStore, h.logger)
		h.toRelease(file.key)
		if err != nil {
			return fmt.Errorf("file %w%s", err, howToCreate(err))
		}
		file.store.name.add(file.name)
		h.users, h.names = append(h.users, file.store), append(h.names, file.name)
	}
	h.users.warnOfShadowed(h.logger)
	for _, name := range h.GroupFiles {
		file, err := acquire(&h.shared.sources, name, newGroupStore, h.logger)
		h.toRelease(file.key)
		if err != nil {
			return fmt.Errorf("group_file %w", err)
		}
		h.groups = append(h.groups, file.store)
	}
	return nil
}

// toRelease notes what Cleanup has to release.
func (h *Handler) toRelease(key any) {
	if key != nil {
		h.acquired = append(h.acquired, key)
	}
}

// Cleanup releases the files.
func (h *Handler) Cleanup() error {
	for i, name := range h.names {
		h.users[i].name.remove(name)
	}
	h.names = nil
	var errs []error
	for _, key := range h.acquired {
		_, err := h.shared.sources.pool.Delete(key)
		errs = append(errs, err)
	}
	h.acquired = nil
	return errors.Join(errs...)
}

// ServeHTTP lets the request pass to next, or answers why it may not.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	exempt, err := h.isExempt(r)
	values := r.Header[headerAuthorization]
	sent := takeCredentials(r, values)
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
		h.identifyNobody(r) // the routes that handle errors may ask, too
	}
	if err != nil {
		return h.answer.write(w, r, err)
	}
	if h.KeepAuthorization {
		httpfield.Set(r.Header, headerAuthorization, values)
	}
	return next.ServeHTTP(w, r)
}

// isExempt reports whether the request passes without a password.
func (h *Handler) isExempt(r *http.Request) (bool, error) {
	if len(h.exempt) == 0 {
		return false, nil // where there are no matchers, Caddy takes everything for a match
	}
	return h.exempt.AnyMatchWithError(r)
}

// authenticate returns no error if, and only if, the request may pass. Then
// the request says who the user is.
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
	from := origin{sent.clientIP(), r.Host}
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
		sent.userHeader = h.UserHeader
	}
	return resultPassed, nil
}

var (
	errNotEncrypted = errors.New("the connection is not encrypted: use https, or set allow_http to accept passwords that anyone on the way can read")
	errAmbiguous    = errors.New("more than one Authorization header")
	errUnauthorized = errors.New("not authenticated") // no reason: handle_errors may show it
	errNotMatched   = errors.New("cannot tell whether the request is exempt")
	errNotRequired  = errors.New("user not authorized")
)

// unauthorized asks for a password.
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
		return resultClientClosed, caddyhttp.Error(statusClientClosed, err) // nobody is there to read it
	}
	h.logError(from.ip, "password check failed", err)
	return resultUnchecked, caddyhttp.Error(http.StatusInternalServerError, err)
}

// retryAfter is the value of a Retry-After header, in whole seconds (RFC 9110,
// section 10.2.3).
func retryAfter(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
