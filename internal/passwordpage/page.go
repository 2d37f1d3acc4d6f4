// Package passwordpage is a web page on which a user sets a new password: the HTML, the
// form that it sends, and the decision whether a page of the same site has sent it. It
// knows neither users nor files.
//
// A handler answers a GET with an empty [Page]. For a POST, it calls [ReadForm], and answers
// with a Page that says what has happened.
//
// The package promises:
//
//   - No password is in a page or an error.
//   - A page works without JavaScript, and with none from elsewhere: its Content Security
//     Policy allows one style sheet, which is part of the page.
//   - No other site can show the page in a frame, and browsers do not store it.
package passwordpage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Page is the content of the page. The zero value, with User and MinLength, is an empty
// form.
type Page struct {
	User      string // the name of the user
	MinLength int    // the minimum length of a password, in characters
	MaxBytes  int    // the maximum length of a password, in bytes

	// Problem says why the password was not changed, in sentences. The problems below are
	// those of one field.
	Problem        string
	CurrentProblem string
	NewProblem     string
	AgainProblem   string

	// IsChanged is set after the change: the page has no form. Delay is how long other
	// servers may accept the old password.
	IsChanged bool
	Delay     time.Duration

	// IsFinal is set if it does not help to send the form again: the page has none.
	IsFinal bool
}

//go:embed page.html
var source string

//go:embed page.css
var style string

var pages = template.Must(template.New("page").Parse(source))

// content is what the template gets.
type content struct {
	Page
	Style template.CSS
}

// HasProblem reports whether the page says that something is wrong.
func (p *Page) HasProblem() bool {
	return p.Problem+p.CurrentProblem+p.NewProblem+p.AgainProblem != ""
}

// Focus returns the name of the field with the first problem, or "".
func (p *Page) Focus() string {
	switch {
	case p.CurrentProblem != "":
		return FieldCurrent
	case p.NewProblem != "":
		return FieldNew
	case p.AgainProblem != "":
		return FieldAgain
	}
	return ""
}

// DelayText returns Delay in words.
func (p *Page) DelayText() string { return Words(p.Delay) }

// Words returns a duration in words, rounded up to seconds or minutes.
func Words(d time.Duration) string {
	n, unit := int((d+time.Second-1)/time.Second), "second"
	if n >= 120 {
		n, unit = (n+59)/60, "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// ShownUser returns the user name as a browser shows it, and sends it back.
func ShownUser(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// html returns the page as HTML.
func (p *Page) html() ([]byte, error) {
	c := content{Page: *p, Style: template.CSS(style)} //nolint:gosec // a constant
	c.User = ShownUser(p.User)
	var b bytes.Buffer
	err := pages.Execute(&b, &c)
	return b.Bytes(), err
}

// contentPolicy allows only the style sheet of the page, and its form.
var contentPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// header is the header of every page. Referrer-Policy is not no-referrer: browsers would
// then send "Origin: null" with the form. Clear-Site-Data is not used: it would remove the
// cookies of the site, too, and the browser asks for the password anyway.
var header = map[string]string{
	"Content-Type":                 "text/html; charset=utf-8",
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      contentPolicy,
	"X-Frame-Options":              "DENY",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "same-origin",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
}

// Write responds with the page. Fields that are already in the header of w, such as
// Retry-After, stay, except for those of every page.
func (p *Page) Write(w http.ResponseWriter, r *http.Request, status int) error {
	text, err := p.html()
	if err != nil {
		return err
	}
	h := w.Header()
	for name, value := range header {
		h.Set(name, value)
	}
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	_, _ = w.Write(text) // the client may have gone
	return nil
}
