package devicecookie

import (
	"net/http"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// hostPrefix is the prefix of names for which browsers require Secure, Path=/ and no
// Domain.
const hostPrefix = "__Host-"

// MaxNameLen is the maximum length of a name in characters.
const MaxNameLen = 128

// IsName reports whether a cookie can have a name: it is a token (RFC 6265, section 4.1.1)
// of at most [MaxNameLen] characters.
func IsName(name string) bool {
	if name == "" || len(name) > MaxNameLen {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return true
}

// IsHostPrefixed reports whether a name has the prefix __Host-. Then no other host, not
// even a subdomain or the parent domain, can set such a cookie for this one. All browsers
// know this spelling; some know others.
func IsHostPrefixed(name string) bool {
	return len(name) > len(hostPrefix) && strings.HasPrefix(name, hostPrefix)
}

// SetCookie returns the Set-Cookie field for a value of [Keys.Issue]. The name must be one
// for which [IsName] is true. Fractions of a second are ignored.
func SetCookie(name, value string, maxAge time.Duration) string {
	return name + "=" + value + "; Path=/; Max-Age=" + strconv.FormatInt(int64(maxAge/time.Second), 10) +
		"; HttpOnly; Secure; SameSite=Lax"
}

// Remove removes all cookies with a name from the header of a request, also if their values
// are malformed, and reports whether there was one.
//
// The rest stays byte for byte, in its order:
//
//   - With a cookie, the semicolon before it is removed, and the whitespace between both. If
//     the cookie is the first, the semicolon after it is removed instead, and the whitespace
//     that follows.
//   - A Cookie field of which only semicolons and whitespace remain is removed. If no field
//     remains, the header has no Cookie.
//   - A name without "=", and one with whitespace before "=", are another cookie. Browsers
//     send neither for a cookie with the name.
//
// HTTP/2 and HTTP/3 clients can send one field for each cookie. It does not matter whether
// the server has joined them. Remove replaces the slice of fields instead of changing it, so
// a shallow copy of the header keeps the cookies. Without such a cookie, it does not
// allocate.
func Remove(h http.Header, name string) bool {
	fields := h["Cookie"]
	for i, field := range fields {
		p := find(field, name, 0)
		if p.end < 0 {
			continue
		}
		head, tail := cut(field, p)
		if len(fields) == 1 && find(tail, name, 0).end < 0 {
			if isEmpty(head) && isEmpty(tail) {
				delete(h, "Cookie")
			} else {
				h["Cookie"] = joined(head, tail)
			}
			return true
		}
		rest := append(make([]string, 0, len(fields)), fields[:i]...)
		for _, field := range fields[i:] {
			if field, found := without(field, name); !found || !isEmpty(field) {
				rest = append(rest, field)
			}
		}
		if len(rest) == 0 {
			delete(h, "Cookie")
		} else {
			h["Cookie"] = rest
		}
		return true
	}
	return false
}

// isEmpty reports whether a field has only semicolons and whitespace.
func isEmpty(field string) bool { return strings.Trim(field, "; \t") == "" }

// cut returns what is before and after a cookie when it has been removed from a field.
func cut(field string, p pair) (head, tail string) {
	switch {
	case p.begin > 0:
		return field[:p.begin-1], field[p.end:]
	case p.end == len(field):
		return "", ""
	}
	return "", strings.TrimLeft(field[p.end+1:], " \t")
}

// without returns a field without the cookies with a name, and whether there was one.
func without(field, name string) (rest string, found bool) {
	for p := find(field, name, 0); p.end >= 0; p = find(field, name, 0) {
		head, tail := cut(field, p)
		field, found = head+tail, true
	}
	return field, found
}

// joined returns a slice with the text head+tail. It allocates once, so both are in one
// object unless the text is long.
func joined(head, tail string) []string {
	switch n := len(head) + len(tail); {
	case head == "":
		return []string{tail}
	case tail == "":
		return []string{head}
	case n <= len(field128{}.text):
		f := new(field128)
		return join(f.fields[:], f.text[:], head, tail)
	case n <= len(field512{}.text):
		f := new(field512)
		return join(f.fields[:], f.text[:], head, tail)
	case n <= len(field2048{}.text):
		f := new(field2048)
		return join(f.fields[:], f.text[:], head, tail)
	}
	return []string{head + tail}
}

// A slice of one string, and the text of the string.
type (
	field128 struct {
		fields [1]string
		text   [128 - unsafe.Sizeof("")]byte
	}
	field512 struct {
		fields [1]string
		text   [512 - unsafe.Sizeof("")]byte
	}
	field2048 struct {
		fields [1]string
		text   [2048 - unsafe.Sizeof("")]byte
	}
)

// join sets the only string of fields to head+tail, which is written to text.
func join(fields []string, text []byte, head, tail string) []string {
	n := copy(text, head)
	n += copy(text[n:], tail)
	fields[0] = unsafe.String(&text[0], n) //nolint:gosec // text is not changed any more
	return fields
}
