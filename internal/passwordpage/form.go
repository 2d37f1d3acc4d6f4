package passwordpage

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The names of the form's fields.
const (
	FieldUser    = "username"
	FieldCurrent = "current_password"
	FieldNew     = "new_password"
	FieldAgain   = "new_password_again"
)

const (
	// MaxBody is the maximum length of a form in bytes. Three passwords of 1,024 bytes
	// and a user name of 255, all of them percent-encoded, have less.
	MaxBody = 16 << 10

	// readTimeout is how long a client may take to send the form.
	readTimeout = 10 * time.Second
)

// Form is what a user has sent. The passwords have the bytes that the browser sent, which
// are those that its prompt sends: UTF-8, unless a program has sent the form.
type Form struct {
	User    string // "" if the field is missing
	Current string
	New     string
	Again   string
}

// The errors of ReadForm. None of them quotes what a client sent.
var (
	ErrFormType  = errors.New("the form is not of the type application/x-www-form-urlencoded in UTF-8")
	ErrFormSize  = errors.New("the form is too large")
	ErrFormField = errors.New("the form is not complete, or has a field twice")
	ErrFormRead  = errors.New("the form was not received completely, or not in time")
)

// StatusOf returns the status for an error of ReadForm.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, ErrOtherOrigin):
		return http.StatusForbidden
	case errors.Is(err, ErrFormType):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, ErrFormSize):
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// ReadForm reads the form of a POST. It refuses a form that was not sent by a page of the
// origin own (see CheckOrigin), and one of another type, before it reads any of it. It
// reads at most MaxBody bytes, and for at most ten seconds. Each password must be there
// exactly once. Other fields are ignored. The query of the URL is not read.
func ReadForm(w http.ResponseWriter, r *http.Request, own Origin) (Form, error) {
	controller := http.NewResponseController(w)
	// Also for a form that is refused: the server reads the rest of it before it responds.
	// Without support for deadlines, the server's own timeouts apply.
	_ = controller.SetReadDeadline(time.Now().Add(readTimeout))
	if err := CheckOrigin(r.Header, own); err != nil {
		return Form{}, err
	}
	if !isForm(r.Header["Content-Type"], r.Header["Content-Encoding"]) {
		return Form{}, ErrFormType
	}
	if r.ContentLength > MaxBody {
		return Form{}, ErrFormSize
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	defer clear(text)
	if _, isTooLarge := errors.AsType[*http.MaxBytesError](err); isTooLarge {
		return Form{}, ErrFormSize
	}
	if err != nil {
		return Form{}, ErrFormRead
	}
	_ = controller.SetReadDeadline(time.Time{}) // otherwise the server would take the client for gone
	return parseForm(string(text))
}

// isForm reports whether the values of the two fields are those of a form of a page in
// UTF-8.
func isForm(types, encodings []string) bool {
	if len(types) != 1 || len(encodings) > 0 {
		return false
	}
	kind, parameters, err := mime.ParseMediaType(types[0])
	charset, hasCharset := parameters["charset"]
	return err == nil && kind == "application/x-www-form-urlencoded" && (!hasCharset || strings.EqualFold(charset, "utf-8"))
}

func parseForm(text string) (Form, error) {
	values, err := url.ParseQuery(text)
	if err != nil || len(values[FieldUser]) > 1 {
		return Form{}, ErrFormField
	}
	for _, name := range []string{FieldCurrent, FieldNew, FieldAgain} {
		if len(values[name]) != 1 {
			return Form{}, ErrFormField
		}
	}
	return Form{values.Get(FieldUser), values.Get(FieldCurrent), values.Get(FieldNew), values.Get(FieldAgain)}, nil
}
