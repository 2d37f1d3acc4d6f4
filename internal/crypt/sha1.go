package crypt

import (
	"crypto/sha1" //nolint:gosec // the formats are defined by SHA-1
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"
)

// sha1Format is {SHA} and the base64 of the password's SHA-1, from LDAP
// servers (the schemes of RFC 2307's userPassword) and htpasswd -s.
//
// The work is always the same.
var sha1Format = &Format{
	Name:     "sha1",
	Weak:     true,
	prefixes: []string{sha1Prefix},
	parse: func(hash string) (work, error) {
		var raw [maxBase64]byte
		if _, ok := decodeSHA1(&raw, hash); !ok {
			return work{}, errSHA1
		}
		return work{}, nil
	},
	verify: func(hash string, password []byte) bool {
		var raw [maxBase64]byte
		digest, ok := decodeSHA1(&raw, hash)
		got := sha1.Sum(password) //nolint:gosec // see the import
		return ok && subtle.ConstantTimeCompare(got[:], digest) == 1
	},
}

// ssha1Format is {SSHA} and the base64 of SHA-1(password, salt) followed by
// the salt, from LDAP servers (slappasswd). The padding is optional.
//
// The work depends on the length of the salt, which is hashed with the password.
var ssha1Format = &Format{
	Name:     "ssha1",
	prefixes: []string{ssha1Prefix},
	parse: func(hash string) (work, error) {
		var raw [maxBase64]byte
		_, salt, ok := decodeSSHA1(&raw, hash)
		if !ok {
			return work{}, errSSHA1
		}
		return work{saltLen: len(salt)}, nil
	},
	verify: func(hash string, password []byte) bool {
		var raw [maxBase64]byte
		digest, salt, ok := decodeSSHA1(&raw, hash)
		if !ok {
			return false
		}
		var buf [MaxPasswordLen + ssha1MaxSalt]byte
		got := sha1.Sum(append(append(buf[:0], password...), salt...)) //nolint:gosec // see the import
		return subtle.ConstantTimeCompare(got[:], digest) == 1
	},
}

const (
	sha1Prefix  = "{SHA}"
	ssha1Prefix = "{SSHA}"

	sha1Base64Len = 28
	ssha1MaxSalt  = 64 // bytes; tools use 4 to 16
	ssha1MinSalt  = 4  // so that most truncated hashes are invalid
)

var (
	errSHA1  = errors.New("not the base64 of a 20-byte digest")
	errSSHA1 = errors.New("not the base64 of a 20-byte digest and a salt of 4 to 64 bytes")
)

func makeSHA1(password []byte, _ int) (string, error) {
	digest := sha1.Sum(password) //nolint:gosec // see the import
	return sha1Prefix + base64.StdEncoding.EncodeToString(digest[:]), nil
}

func decodeSHA1(raw *[maxBase64]byte, hash string) (digest []byte, ok bool) {
	s := hash[len(sha1Prefix):]
	n, ok := decodeBase64(raw, base64.StdEncoding, s)
	if !ok || len(s) != sha1Base64Len || n != sha1.Size {
		return nil, false
	}
	return raw[:n], true
}

func decodeSSHA1(raw *[maxBase64]byte, hash string) (digest, salt []byte, ok bool) {
	s := hash[len(ssha1Prefix):]
	enc := base64.RawStdEncoding
	if strings.HasSuffix(s, "=") {
		enc = base64.StdEncoding
	}
	n, ok := decodeBase64(raw, enc, s)
	if !ok || n < sha1.Size+ssha1MinSalt || n > sha1.Size+ssha1MaxSalt {
		return nil, nil, false
	}
	return raw[:sha1.Size], raw[sha1.Size:n], true
}
