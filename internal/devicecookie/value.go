package devicecookie

import "strings"

const (
	// MaxTokens is the maximum number of tokens in a new cookie.
	MaxTokens = 4
	// MaxCandidates is the maximum number of tokens that a request is searched for.
	MaxCandidates = 8

	// MinTextLen and MaxTextLen are the limits for the length of a token, in characters.
	// Later versions of tokens must keep them.
	MinTextLen = 32
	MaxTextLen = 128
)

// separator is between the tokens of a cookie.
const separator = "."

// maxValueLen is the maximum length of a cookie's value. A longer one has no candidates.
const maxValueLen = MaxTokens*(MaxTextLen+len(separator)) - len(separator)

// Candidates are texts in a request that can be tokens, in the order of the request. They
// refer to the Cookie fields that they were found in. The zero value has none.
type Candidates struct {
	texts [MaxCandidates]string
	n     int
}

// Len returns the number of candidates.
func (c *Candidates) Len() int { return c.n }

// Parse returns the candidates in the cookies with a name. fields are the Cookie fields of
// the request. It does not allocate.
//
// A cookie is found if its name is the same byte for byte. The first [MaxCandidates] texts
// between periods are looked at, over all cookies of the name. Those that are too short or
// too long for a token are no candidates. A value that is too long for four tokens counts
// as one text, and is no candidate.
func Parse(fields []string, name string) (c Candidates) {
	looked := 0
	for _, field := range fields {
		for at := 0; ; {
			p := find(field, name, at)
			if p.end < 0 {
				break
			}
			at = p.end
			value := trimSpace(field[p.value:p.end])
			if len(value) > maxValueLen {
				value = ""
			}
			for more := true; more; looked++ {
				if looked == MaxCandidates {
					return c
				}
				var text string
				text, value, more = strings.Cut(value, separator)
				if MinTextLen <= len(text) && len(text) <= MaxTextLen {
					c.texts[c.n] = text
					c.n++
				}
			}
		}
	}
	return c
}

// pair is where a cookie is in a Cookie field.
type pair struct {
	begin int // after the semicolon before it; with whitespace
	value int
	end   int // at the semicolon after it, or at the end of the field
}

// find returns the first cookie with a name that begins at a position or later. Its end is
// -1 if there is none. A field is a list of pairs between semicolons; quotation marks have
// no meaning. Whitespace before a name is ignored.
func find(field, name string, from int) pair {
	for {
		i := strings.Index(field[from:], name)
		if i < 0 {
			return pair{end: -1}
		}
		begin := from + i
		from = begin + len(name) // names have no whitespace or semicolon, so no other can begin before
		if from == len(field) || field[from] != '=' {
			continue
		}
		for begin > 0 && isSpace(field[begin-1]) {
			begin--
		}
		if begin > 0 && field[begin-1] != ';' {
			continue
		}
		end := len(field)
		if i := strings.IndexByte(field[from:], ';'); i >= 0 {
			end = from + i
		}
		return pair{begin, from + 1, end}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func trimSpace(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// isBase64URL reports whether a text has only characters of base64url.
func isBase64URL(text string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
