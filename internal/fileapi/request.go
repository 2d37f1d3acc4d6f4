package fileapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Request is a change of a file: exactly one of its fields.
type Request struct {
	Set    *Set    `json:"set,omitempty"`
	Remove *Remove `json:"remove,omitempty"`
	Import *Import `json:"import,omitempty"`
}

// Set adds a user, or replaces the hash of a user.
type Set struct {
	User string `json:"user"`
	Hash string `json:"hash"`
}

// Remove removes a user.
type Remove struct {
	User string `json:"user"`
}

// Import replaces the whole text.
type Import struct {
	Text string `json:"text"`
	// Overwrite allows to replace a text that has lines.
	Overwrite bool `json:"overwrite,omitempty"`
}

// Action returns the change in one word, and the user whom it changes, if it is one.
func (r *Request) Action() (action, user string) {
	switch {
	case r.Set != nil:
		return "set", r.Set.User
	case r.Remove != nil:
		return "remove", r.Remove.User
	default:
		return "import", ""
	}
}

// ErrNotUTF8 is the error for a text that JSON cannot hold.
var ErrNotUTF8 = errors.New("the text is not UTF-8")

// JSON returns the request as a body. Texts that are not UTF-8 are an error: JSON would
// change them.
func (r *Request) JSON() ([]byte, error) {
	for _, text := range r.texts() {
		if !utf8.ValidString(text) {
			return nil, ErrNotUTF8
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // which would make a text longer
	err := encoder.Encode(r)
	return b.Bytes(), err
}

func (r *Request) texts() []string {
	switch {
	case r.Set != nil:
		return []string{r.Set.User, r.Set.Hash}
	case r.Remove != nil:
		return []string{r.Remove.User}
	case r.Import != nil:
		return []string{r.Import.Text}
	}
	return nil
}

// MaxBody returns the largest body of a request for a text of at most maxText bytes: each
// byte of an htpasswd file takes two at most, apart from control characters in comments.
func MaxBody(maxText int) int64 { return 2*int64(maxText) + maxSmallBody }

// What a body may contain, for messages.
const (
	expected       = `expected exactly one of {"set":{"user":...,"hash":...}}, {"remove":{"user":...}} and {"import":{"text":...,"overwrite":true}}`
	expectedSet    = `set: expected {"user":"alice","hash":"$2y$..."}`
	expectedRemove = `remove: expected {"user":"alice"}`
	expectedImport = `import: expected {"text":"alice:$2y$...\n"}, with "overwrite":true or without`
)

// Decode decodes a body. Errors are of type *Error.
func Decode(body []byte) (*Request, error) {
	bad := func(format string, args ...any) (*Request, error) {
		return nil, Errorf(http.StatusBadRequest, format, args...)
	}
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return bad("the body is empty; %s", expected)
	case !utf8.Valid(body) || hasLoneSurrogate(body):
		return bad("the body is not UTF-8, or has an escape that is no character; convert the file to UTF-8")
	case !json.Valid(body):
		return bad("the body is not one JSON object; %s", expected)
	}
	var parts map[string]json.RawMessage
	if !unpack(body, &parts) || len(parts) != 1 {
		return bad("%s", expected)
	}
	r := new(Request)
	for name, part := range parts {
		var fields map[string]json.RawMessage
		isObject := unpack(part, &fields)
		switch name {
		case "set":
			r.Set = new(Set)
			if !isObject || !fill(fields, map[string]any{"user": &r.Set.User, "hash": &r.Set.Hash}) {
				return bad("%s", expectedSet)
			}
		case "remove":
			r.Remove = new(Remove)
			if !isObject || !fill(fields, map[string]any{"user": &r.Remove.User}) {
				return bad("%s", expectedRemove)
			}
		case "import":
			r.Import = new(Import)
			if _, ok := fields["overwrite"]; isObject && !ok {
				fields["overwrite"] = json.RawMessage("false")
			}
			if !isObject || !fill(fields, map[string]any{"text": &r.Import.Text, "overwrite": &r.Import.Overwrite}) {
				return bad("%s", expectedImport)
			}
			return r, nil
		default:
			return bad("%s", expected)
		}
	}
	if len(body) > maxSmallBody {
		return nil, Errorf(http.StatusRequestEntityTooLarge, "the body has %d bytes; a change of one user has at most %d", len(body), maxSmallBody)
	}
	return r, nil
}

// unpack decodes an object of valid JSON, of which each name occurs once.
func unpack(text []byte, fields *map[string]json.RawMessage) bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	*fields = make(map[string]json.RawMessage)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return false
		}
		key, _ := name.(string)
		var value json.RawMessage
		if _, isRepeated := (*fields)[key]; isRepeated || len(*fields) > 8 || decoder.Decode(&value) != nil {
			return false
		}
		(*fields)[key] = value
	}
	return true
}

// fill decodes fields into the values with their names. It reports whether all are there,
// no others are, and each is of the type of its value.
func fill(fields map[string]json.RawMessage, values map[string]any) bool {
	if len(fields) != len(values) {
		return false
	}
	for name, value := range values {
		text := fields[name]
		if len(text) == 0 || string(text) == "null" || json.Unmarshal(text, value) != nil {
			return false
		}
	}
	return true
}

// hasLoneSurrogate reports whether a JSON text has an escape of half a character, such as
// \ud800, which a decoder would replace by another character.
func hasLoneSurrogate(text []byte) bool {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 || i+1 >= len(text) {
			return false
		}
		text = text[i:]
		unit, ok := escapedUnit(text)
		switch {
		case !ok:
			text = text[2:]
		case unit < 0xd800 || unit > 0xdfff:
			text = text[6:]
		case unit >= 0xdc00:
			return true
		default:
			if low, ok := escapedUnit(text[6:]); !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			text = text[12:]
		}
	}
}

// escapedUnit returns the number of the escape \uXXXX at the beginning of a text.
func escapedUnit(text []byte) (unit uint64, ok bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' || slices.ContainsFunc(text[2:6], func(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) < 0 }) {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return unit, err == nil
}
