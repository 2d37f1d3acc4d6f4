package routes

import "encoding/json"

// Report is the result of [Walk], in the order in which requests pass the handlers.
// Servers are in the given order; the routes of a server come before its error routes.
type Report struct {
	Logins    []Login
	EarlyUses []EarlyUse

	// Served are the files that file servers serve, by the configured root, which
	// may contain placeholders.
	Served map[string][]ServedFiles

	HasLogin        map[string]bool // servers that have, or may have, an htpasswd handler, by name
	HasForwardProxy map[string]bool // servers with a forward_proxy handler, by name
}

// Login is an htpasswd handler.
type Login struct {
	Place
	Config json.RawMessage // of the handler

	// ExactPath is a path that the handler protects without the paths below it, see
	// [matchers.Sets.ExactPath]. It is "" if there is none, or if other handlers are
	// for the same path.
	ExactPath string

	// Paths are path patterns of which a request that reaches the handler matches one.
	// None means that the path can be any, or is not known.
	Paths []string
}

// Place describes which requests reach a handler.
type Place struct {
	Server string   // name of the server
	Hosts  []string // host names of the site; none for any host

	// Requests are descriptions of the matchers around the handler, the outermost
	// first. None means all requests.
	Requests []string

	// Except are descriptions of requests that do not reach the handler, since
	// earlier routes answer them: at most eight of each list of routes.
	Except []string

	// IsUnreached reports whether no request reaches the handler, since an
	// earlier handler answers all of them.
	IsUnreached bool

	matchers []string // the matchers of Requests as JSON
}

// EarlyUse is a use of a placeholder of the user before an htpasswd handler.
type EarlyUse struct {
	Placeholder string // with braces
	Directive   string // the Caddyfile directive that most likely uses it; "" for a matcher
	Matcher     string // the matcher that uses it; "" for a directive
	Login       Place  // of the htpasswd handler
	Verdict     UseVerdict
}

// UseVerdict tells how certain it is that an early use is a mistake.
type UseVerdict int

const (
	// UseMayNameUser means that an earlier handler may have verified a user, or
	// that requests may not reach the htpasswd handler.
	UseMayNameUser UseVerdict = iota

	// UseOnOpenPage means that no user is verified, and that no request goes on to
	// the htpasswd handler. The page may be meant to be public.
	UseOnOpenPage

	// UseNeverNamesUser means that no user is verified, and that requests go on to
	// the htpasswd handler.
	UseNeverNamesUser
)
