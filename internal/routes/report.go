package routes

import "encoding/json"

// Report is what a walk found, in the order in which requests pass it. Servers
// are walked through in the order in which they were given, each through its
// routes and then through its error routes.
type Report struct {
	Logins    []Login
	EarlyUses []EarlyUse

	// What the file servers hand out, by their root as it is configured, which
	// may have placeholders in it.
	Served map[string][]ServedFiles

	HasLogin        map[string]bool // servers with an htpasswd, by name; also where there only may be one
	HasForwardProxy map[string]bool // servers with a handler forward_proxy, by name
}

// Login is one htpasswd handler.
type Login struct {
	Place
	Config json.RawMessage // of the handler

	// The path that is the only one to be protected, "" for none. It is also "" if
	// other handlers are for that path, too.
	ExactPath string
}

// Place says which requests come to a handler.
type Place struct {
	Server string   // its name
	Hosts  []string // the names of the site, none for any

	// Descriptions of the matchers around the handler, the outermost first. None
	// for all requests.
	Requests []string

	// Descriptions of requests that do not come to the handler, since routes
	// before it answer them. The first eight of each list of routes.
	Except []string

	// No request comes to the handler: one before it answers them all.
	IsUnreached bool

	matchers []string // what Requests describes, as JSON
}

// EarlyUse is a placeholder of the user that is used on the way to an htpasswd.
type EarlyUse struct {
	Placeholder string // with its braces
	Directive   string // that uses it, as it most likely stands in a Caddyfile; "" for a matcher
	Matcher     string // that uses it, "" for a directive
	Login       Place  // of the htpasswd
	Verdict     UseVerdict
}

// UseVerdict says how certain it is that an early use is a mistake.
type UseVerdict int

const (
	// UseMayNameUser is a use before which something may have verified a user, or
	// from which perhaps no request comes to the login.
	UseMayNameUser UseVerdict = iota

	// UseOnOpenPage is a use where nobody is verified, and from where no request
	// comes to the login. The page may be meant to be open.
	UseOnOpenPage

	// UseNeverNamesUser is a use where nobody is verified, and from where requests
	// go on to the login.
	UseNeverNamesUser
)
