package devicecookie

import "strings"

const (
	// MaxTokens is the maximum number of tokens in a new cookie.
	MaxTokens = 4
	// MaxCandidates is the maximum number of tokens that a request is searched for.
	MaxCandidates = 8

	// MinTextLen is the minimum length of a token of any version, in characters.
	MinTextLen = 32
	// MaxTextLen is the maximum length of a token of any version, in characters.
	MaxTextLen = 128
)

// separator is between the tokens of a cookie.
const separator = "."

// maxValueLen is the maximum length of a cookie's value. A longer one has no candidates.
const maxValueLen = MaxTokens*(MaxTextLen+len(separator)) - len(separator)

// Candidates are texts of a request that can be tokens, in the order of the request. They
// refer to its Cookie fields. The zero value has none. [Take] returns them.
type Candidates struct {
	texts  [MaxCandidates]string
	n      int
	looked int // texts looked at, at most MaxCandidates
}

// Len returns the number of candidates.
func (c *Candidates) Len() int { return c.n }

// add adds the texts of a cookie's value.
func (c *Candidates) add(value string) {
	value = trimLeft(trimRight(value))
	if len(value) > maxValueLen {
		value = ""
	}
	for more := true; more && c.looked < MaxCandidates; c.looked++ {
		var text string
		text, value, more = strings.Cut(value, separator)
		if MinTextLen <= len(text) && len(text) <= MaxTextLen {
			c.texts[c.n] = text
			c.n++
		}
	}
}

// pair is where a cookie is in a Cookie field.
type pair struct {
	begin int // after the semicolon before it; with whitespace
	value int
	end   int // at the semicolon after it, or at the end of the field
}

// find returns the first cookie with a name. Its end is -1 if there is none. A field is a
// list of pairs between semicolons; quotation marks have no meaning. Whitespace before a
// name is ignored.
func find(field, name string) pair {
	// Names of many cookies begin with an underscore, so it is not searched for.
	skip := 0
	for skip < len(name)-1 && name[skip] == '_' {
		skip++
	}
	for from := 0; ; {
		i := strings.Index(field[from:], name[skip:])
		if i < 0 {
			return pair{end: -1}
		}
		begin := from + i - skip
		from = begin + len(name) // no cookie can begin before: its name follows a semicolon or whitespace
		if from == len(field) || field[from] != '=' || begin < 0 || field[begin:begin+skip] != name[:skip] {
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

func trimLeft(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

func trimRight(s string) string {
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
