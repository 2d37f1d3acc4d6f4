package crypt

import (
	"errors"
	"fmt"
	"strings"
)

// scheme is a name in braces that Dovecot and LDAP servers write before a hash that
// is complete without it. It selects nothing here, but has to fit the hash. {PLAIN},
// {SHA} and {SSHA} are parts of their formats instead.
type scheme struct {
	name    string // case does not matter
	formats []*Format
}

// schemes are those of "doveadm pw -l", slappasswd(8), slappw-argon2(5), and
// {BCRYPT} of OpenDJ. {MD5} is {MD5-CRYPT} in Dovecot, and another format in LDAP.
var schemes = []scheme{
	{"CRYPT", crypt3Formats},
	{"BLF-CRYPT", []*Format{bcryptFormat}},
	{"BCRYPT", []*Format{bcryptFormat}},
	{"SHA512-CRYPT", []*Format{sha512cryptFormat}},
	{"SHA256-CRYPT", []*Format{sha256cryptFormat}},
	{"MD5-CRYPT", []*Format{md5cryptFormat}},
	{"MD5", []*Format{md5cryptFormat}},
	{"DES-CRYPT", []*Format{descryptFormat}},
	{"ARGON2", []*Format{argon2idFormat, argon2iFormat}},
	{"ARGON2ID", []*Format{argon2idFormat}},
	{"ARGON2I", []*Format{argon2iFormat}},
}

// crypt3Formats are the formats of crypt(3), except for passlib's spelling of scrypt.
var crypt3Formats = []*Format{
	bcryptFormat, scryptFormat, yescryptFormat, sha256cryptFormat, sha512cryptFormat, md5cryptFormat, descryptFormat,
}

// CutScheme removes a scheme of Dovecot or LDAP, such as {CRYPT} or {SHA512-CRYPT},
// from the front of a hash. It reports whether there was one.
func CutScheme(hash string) (bare string, found bool) {
	bare, s := cutScheme(hash)
	return bare, s != nil
}

func cutScheme(hash string) (bare string, s *scheme) {
	if hash == "" || hash[0] != '{' {
		return hash, nil
	}
	name, rest, _ := strings.Cut(hash[1:], "}")
	for i := range schemes {
		if strings.EqualFold(name, schemes[i].name) {
			return rest, &schemes[i]
		}
	}
	return hash, nil
}

// format returns the format of a bare hash, if the scheme allows it. A bare hash
// never begins with a scheme: no format that a scheme allows begins with {.
func (s *scheme) format(bare string) *Format {
	if strings.HasPrefix(bare, scryptPrefix) {
		return nil
	}
	for _, f := range s.formats {
		if f.claims(bare) {
			return f
		}
	}
	return nil
}

// parse checks the syntax of a bare hash.
func (s *scheme) parse(bare string) (Class, error) {
	if f := s.format(bare); f != nil {
		w, err := f.parse(bare)
		if err == nil {
			return f.class(w), nil
		}
		if !errors.Is(err, errUnknownFormat) { // as of DES crypt
			return Class{}, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return Class{}, fmt.Errorf("%w: {%s} needs %s after it", errUnknownFormat, s.name, s.expected())
}

// expected returns which hashes the scheme allows.
func (s *scheme) expected() string {
	switch len(s.formats) {
	case 1:
		return "a hash of " + s.formats[0].Name
	case 2:
		return "a hash of " + s.formats[0].Name + " or " + s.formats[1].Name
	}
	return "a hash of crypt(3), such as $2y$ or $6$"
}
