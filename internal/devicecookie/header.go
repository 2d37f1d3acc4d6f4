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

// Take removes all cookies with a name from the header of a request, also if their values
// are malformed. It returns the candidates in them, and whether there was such a cookie.
//
// A cookie is found if its name is the same byte for byte. The first [MaxCandidates] texts
// between periods are looked at, over all cookies of the name. Those that are too short or
// too long for a token are no candidates. A value that is too long for four tokens counts
// as one text, and is no candidate.
//
// The rest of the header stays byte for byte, in its order:
//
//   - With a cookie, the semicolon before it is removed, and the whitespace between both. If
//     the cookie is the first, the semicolon after it is removed instead, and the whitespace
//     that follows.
//   - If only semicolons and whitespace remain of the Cookie field, it is removed. If no
//     field remains, the header has no Cookie.
//   - A name without "=", and one with whitespace before "=", are another cookie. Browsers
//     send neither for a cookie with the name.
//
// HTTP/2 and HTTP/3 clients can send one field for each cookie. It does not matter whether
// the server has joined them. Take replaces the slice of fields instead of changing it, so a
// shallow copy of the header keeps the cookies. It allocates nothing if no cookie has the
// name, and once if one has.
func Take(h http.Header, name string) (c Candidates, found bool) {
	fields := h["Cookie"]
	var rest []string // after the first cookie with the name
	for i, field := range fields {
		head, tail, ok := c.take(field, name)
		if ok && !found && len(fields) > 1 {
			rest = append(make([]string, 0, len(fields)), fields[:i]...)
		}
		found = found || ok
		switch {
		case !found, ok && isEmpty(head) && isEmpty(tail):
		case len(fields) == 1:
			rest = joined(head, tail)
		default:
			rest = append(rest, head+tail)
		}
	}
	switch {
	case !found:
	case len(rest) == 0:
		delete(h, "Cookie")
	default:
		h["Cookie"] = rest
	}
	return c, found
}

// take adds the candidates in a field. It returns head+tail, which is the field without
// the cookies with the name, and whether there was one.
func (c *Candidates) take(field, name string) (head, tail string, found bool) {
	p := find(field, name)
	if p.end < 0 {
		return field, "", false
	}
	c.add(field[p.value:p.end])
	head, tail = cut(field, p)
	if p = find(tail, name); p.end < 0 {
		return head, tail, true
	}
	var b strings.Builder
	b.WriteString(head)
	for ; p.end >= 0; p = find(tail, name) {
		c.add(tail[p.value:p.end])
		head, tail = cut(tail, p)
		b.WriteString(head)
	}
	return b.String(), tail, true
}

// cut returns what is before and after a cookie when it has been removed from a field.
func cut(field string, p pair) (head, tail string) {
	switch {
	case p.begin > 0:
		return field[:p.begin-1], field[p.end:]
	case p.end == len(field):
		return "", ""
	}
	return "", trimLeft(field[p.end+1:])
}

// isEmpty reports whether a field has only semicolons and whitespace.
func isEmpty(field string) bool {
	for i := range len(field) {
		if c := field[i]; c != ';' && !isSpace(c) {
			return false
		}
	}
	return true
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
