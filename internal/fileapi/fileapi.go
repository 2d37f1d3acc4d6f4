// Package fileapi is the protocol by which the command "caddy htpasswd" asks a running
// Caddy to change a password file that is not on disk: POST /htpasswd/files/... of the
// admin API. It has no I/O of its own.
//
// The command makes a [Request] and encodes it with [Request.JSON]. The server decodes it
// with [Decode], and applies it to the text of the file with [Request.Apply].
//
// It promises:
//
//   - A body that is not exactly one known change is an error: unknown, repeated and
//     misspelled fields, and anything after it, are refused.
//   - A new text has the line or the users that were asked for, as a server parses them.
//   - No error contains any part of a hash or of a text.
package fileapi

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Path is the path of the endpoint. The scheme, a slash and the name of a file follow.
const Path = "/htpasswd/files/"

// Schemes of the URLs of files.
const (
	SchemeFleet   = "fleet"
	SchemeStorage = "storage"
)

const (
	// MaxFleetText is the largest text of a file of a fleet in bytes.
	MaxFleetText = 4 << 20

	// maxSmallBody is the largest body of a request that has no text.
	maxSmallBody = 64 << 10
)

// Source is a file that is not on disk: fleet://staff, for example.
type Source struct{ Scheme, Name string }

// String returns the URL, as in the configuration.
func (s Source) String() string { return s.Scheme + "://" + s.Name }

// AdminPath returns the path of its endpoint.
func (s Source) AdminPath() string { return Path + s.Scheme + "/" + s.Name }

var validName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

// errSource is the error for a URL that is no source. It does not repeat the URL.
var errSource = errors.New("expected fleet:// or storage:// and a name of 1 to 64 letters, digits, '.', '_' and '-', not beginning with '.', such as fleet://staff")

// IsURL reports whether a name is a URL, of whatever scheme, and not a path.
func IsURL(name string) bool {
	scheme, _, found := strings.Cut(name, "://")
	return found && scheme != "" && strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") == ""
}

// IsName reports whether a text is a valid name of a file.
func IsName(text string) bool { return validName.MatchString(text) }

// ParseURL returns the source with a URL. isSource is false for a path of a file on disk.
func ParseURL(url string) (s Source, isSource bool, err error) {
	scheme, name, found := strings.Cut(url, "://")
	if !found || scheme != SchemeFleet && scheme != SchemeStorage {
		return Source{}, false, nil
	}
	if !IsName(name) {
		return Source{}, true, errSource
	}
	return Source{scheme, name}, true, nil
}

// ParsePath returns the source of a request's path.
func ParsePath(path string) (Source, error) {
	scheme, name, _ := strings.Cut(strings.TrimPrefix(path, Path), "/")
	s, isSource, err := ParseURL(scheme + "://" + name)
	if !isSource || err != nil {
		return Source{}, Errorf(http.StatusNotFound, "expected the path %s<scheme>/<name>, where the scheme is fleet or storage, and the name has 1 to 64 letters, digits, '.', '_' and '-', and does not begin with '.'", Path)
	}
	return s, nil
}

// Error is an error with the status of the answer.
type Error struct {
	Status int
	text   string
}

// Error says what to write instead. It contains no part of a hash or of a text.
func (e *Error) Error() string { return e.text }

// Errorf returns an Error.
func Errorf(status int, format string, args ...any) *Error {
	return &Error{status, fmt.Sprintf(format, args...)}
}

// Answer is the answer to a change that was made.
type Answer struct {
	Result Result `json:"result"`
	// Users is how many users can log in now, or how many are in a group.
	Users int `json:"users"`
	// Lines is the number of lines that the user had, if it was more than one.
	Lines int `json:"lines,omitempty"`
}

// Result is the result of a change in one word.
type Result string

// Results of changes.
const (
	Added    Result = "added"     // the user is new
	Updated  Result = "updated"   // the user had a line before
	Removed  Result = "removed"   // the user has no line any more
	NotFound Result = "not_found" // there is no such user to remove; nothing has changed
	Imported Result = "imported"  // the text is the new one
)
