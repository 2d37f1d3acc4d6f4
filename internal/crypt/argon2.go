package crypt

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"

	"golang.org/x/crypto/argon2"
)

// argon2idFormat and argon2iFormat are Argon2 of RFC 9106, version 1.3, in the
// PHC string format, as from the argon2 program and PHP's password_hash:
//
//	$argon2id$v=19$m=65536,t=3,p=4$salt$digest     (Argon2i: $argon2i$)
//
// m is the memory in KiB, t the number of passes, p the number of lanes. Each lane
// uses a core.
//
// The work depends on m, t and p, and on the lengths of salt and digest: the salt
// is hashed with the password, once.
var (
	argon2idFormat = newArgon2("argon2id", argon2.IDKey)
	argon2iFormat  = newArgon2("argon2i", argon2.Key)
)

const (
	argon2Version = "v=19$"

	argon2MaxMemory = maxMemory >> 10
	argon2MaxWork   = 3 << 18 // m times t: three passes over 256 MiB take about a second
	argon2MaxLanes  = 255     // limit of the library
	argon2MinSalt   = 8       // bytes, as in RFC 9106
	argon2SaltLen   = 16      // bytes, of new hashes; as in RFC 9106

	argon2DigestLen      = 32 // bytes; the default of all tools
	argon2ShortDigestLen = 16 // default of argon2-cffi and passlib until 2021
)

var (
	errArgon2Version = errors.New("the version is not 1.3, written v=19")
	errArgon2Params  = errors.New("the parameters are not written as in m=65536,t=3,p=4")
	errArgon2Range   = errors.New("t is 0, or p is not in the range 1 to 255, or m is less than 8 times p")
	errArgon2Salt    = errors.New("the salt is shorter than 8 bytes")
	errArgon2Digest  = errors.New("the digest is not 32 or 16 bytes long")
)

type argon2Hash struct {
	cost   string
	params [3]int64 // m, t, p
	saltAndDigest
}

func newArgon2(name string, key func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte) *Format {
	prefix := "$" + name + "$"
	return &Format{
		Name:     name,
		prefixes: []string{prefix},
		parse: func(hash string) (work, error) {
			var h argon2Hash
			err := h.parse(hash[len(prefix):])
			return work{h.cost, h.saltLen, h.digestLen}, err
		},
		verify: func(hash string, password []byte) bool {
			var h argon2Hash
			if h.parse(hash[len(prefix):]) != nil {
				return false
			}
			got := key(password, h.salt(), uint32(h.params[1]), uint32(h.params[0]), uint8(h.params[2]), //nolint:gosec // parse has bounded them
				uint32(h.digestLen)) //nolint:gosec // at most maxBase64
			return subtle.ConstantTimeCompare(got, h.digest()) == 1
		},
	}
}

// makeArgon2id uses the parameters that RFC 9106 recommends where memory is
// scarce: 64 MiB, three passes.
func makeArgon2id(password []byte, _ int) (string, error) {
	const (
		memory, passes, lanes = 64 << 10, 3, 4
		setting               = "$argon2id$v=19$m=65536,t=3,p=4$"
	)
	salt := newSalt(argon2SaltLen)
	digest := argon2.IDKey(password, salt, passes, memory, lanes, argon2DigestLen)
	encode := base64.RawStdEncoding.EncodeToString
	return setting + encode(salt) + "$" + encode(digest), nil
}

// parse fills h from the text after the prefix.
func (h *argon2Hash) parse(s string) error {
	s, ok := strings.CutPrefix(s, argon2Version)
	if !ok {
		return errArgon2Version
	}
	rest, ok := cutNumbers(s, h.params[:], "m=", ",t=", ",p=")
	if !ok {
		return errArgon2Params
	}
	m, t, p := h.params[0], h.params[1], h.params[2]
	switch {
	case t < 1 || p < 1 || p > argon2MaxLanes || m < 8*p:
		return errArgon2Range
	case m > argon2MaxMemory:
		return errMemory
	case t > argon2MaxWork/m:
		return errTime
	}
	if err := h.decode(rest, base64.RawStdEncoding); err != nil {
		return err
	}
	if h.saltLen < argon2MinSalt {
		return errArgon2Salt
	}
	// The hash does not contain the length of the digest. If any length were
	// accepted, a truncated hash would be valid and never match.
	if h.digestLen != argon2DigestLen && h.digestLen != argon2ShortDigestLen {
		return errArgon2Digest
	}
	h.cost = s[:len(s)-len(rest)-1]
	return nil
}
