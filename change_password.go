package caddyhtpasswd

import (
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
	"github.com/seed10b5b978/caddy-htpasswd/internal/passwordpolicy"
)

// ChangePassword is a page on which the verified user sets a new password. The page
// changes the user's line in the file that has let the user in. The server needs the
// right to replace this file.
type ChangePassword struct {
	// The path of the page, such as `/account/password`. The handler answers requests for
	// exactly this path. Required.
	Path string `json:"path,omitempty"`

	// The minimum length of new passwords in characters, 8 to 64. Default: 15.
	MinLength int `json:"min_length,omitempty"`
}

// validate returns an error for settings that are not valid.
func (c *ChangePassword) validate() error {
	if c == nil {
		return nil
	}
	if instead := c.pathProblem(); instead != "" {
		return fmt.Errorf("change_password: path: expected %s, found %s%s", pagePath, quotedOrNothing(c.Path), instead)
	}
	if c.MinLength != 0 && passwordpolicy.CheckMinLength(c.MinLength) != nil {
		return fmt.Errorf("change_password: min_length: expected %s, found %d", pageMinLength, c.MinLength)
	}
	return nil
}

// What errors expect.
var (
	pagePath      = "the path of the page, such as /account/password"
	pageMinLength = fmt.Sprintf("a number of characters, %d to %d", passwordpolicy.LowestMinLength, passwordpolicy.HighestMinLength)
)

// quotedOrNothing returns a value of the configuration for an error.
func quotedOrNothing(value string) string {
	if value == "" {
		return foundNothing
	}
	return quoted(value)
}

// pathProblem returns what to write instead of a path that no request can have, ": " and
// a clause. It returns "" if the path is valid.
func (c *ChangePassword) pathProblem() string {
	switch p := c.Path; {
	case p == "" || htfile.HasControl(p):
		return ": write one that begins with '/'"
	case strings.ContainsAny(p, "{}"):
		return ": write it without placeholders"
	case strings.Contains(p, "*"):
		return ": write one path without '*'"
	case strings.ContainsAny(p, "?#"):
		return ": write it without a query or fragment"
	case strings.Contains(p, "%"):
		return ": write the characters themselves instead of '%' and their codes"
	case !strings.HasPrefix(p, "/"):
		return ": write " + quoted("/"+p)
	case path.Clean(p) != p && path.Clean(p)+"/" != p:
		return ": write " + quoted(path.Clean(p))
	}
	return ""
}

// policy returns the rules for new passwords.
func (c *ChangePassword) policy() passwordpolicy.Policy {
	if c.MinLength == 0 {
		return passwordpolicy.Policy{MinLength: passwordpolicy.DefaultMinLength}
	}
	return passwordpolicy.Policy{MinLength: c.MinLength}
}

// isFor reports whether a request is for the page.
func (c *ChangePassword) isFor(r *http.Request) bool { return c != nil && r.URL.Path == c.Path }

// changeResult is the result of a form that the page has received.
type changeResult uint8

const (
	changeFailed        changeResult = iota // an error that the user has not caused
	changeDone                              // the password was changed
	changeOtherOrigin                       // another site may have sent the form
	changeBadForm                           // not a form of the page
	changeWeak                              // the new password is not accepted
	changeWrongPassword                     // the current password is wrong
	changeThrottled                         // a rate limit is exceeded
	changeOverloaded                        // no room in the hash queue
	changeConflict                          // the user's line was changed at the same time
	changeNotWritable                       // the file cannot be replaced
	changeNoFile                            // the user is in no file
	changeResultCount
)

// changeLabels are the values of the label "result" of the metric password_changes_total.
var changeLabels = [changeResultCount]string{
	changeFailed:        "error",
	changeDone:          "changed",
	changeOtherOrigin:   "other_origin",
	changeBadForm:       "bad_form",
	changeWeak:          "new_password_refused",
	changeWrongPassword: "wrong_password",
	changeThrottled:     "throttled",
	changeOverloaded:    "overloaded",
	changeConflict:      "conflict",
	changeNotWritable:   "not_writable",
	changeNoFile:        "no_file",
}
