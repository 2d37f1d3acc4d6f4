package crypt

import (
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // one of the formats is defined by SHA-1
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"hash"
)

// The PBKDF2 formats are PBKDF2-HMAC of RFC 8018 in two spellings, that of
// passlib and the PHC string format:
//
//	$pbkdf2-sha256$29000$salt$digest
//	$pbkdf2-sha256$i=29000,l=32$salt$digest     (SHA-512: $pbkdf2-sha512$, SHA-1: $pbkdf2$)
//
// In the first, the base64 has . instead of +. The maximum number of iterations
// takes about half a second, or a second without the processor's SHA instructions.
//
// The work depends on the hash function, the iterations, the length of the digest,
// which is part of the cost, and the length of the salt, which is hashed once for
// each block of the digest.
var (
	pbkdf2SHA1Format   = newPBKDF2("pbkdf2-sha1", "$pbkdf2$", sha1.Size, 4_000_000, sha1.New)
	pbkdf2SHA256Format = newPBKDF2("pbkdf2-sha256", "$pbkdf2-sha256$", sha256.Size, 4_000_000, sha256.New)
	pbkdf2SHA512Format = newPBKDF2("pbkdf2-sha512", "$pbkdf2-sha512$", sha512.Size, 2_000_000, sha512.New)
)

const (
	pbkdf2MinDigest = 16 // bytes
	pbkdf2MaxDigest = 64
)

var (
	errPBKDF2Length     = errors.New("l is not in the range 16 to 64")
	errPBKDF2Iterations = errors.New("the iterations are not written as in 29000 or i=29000,l=32, or are 0")
	errPBKDF2Salt       = errors.New("the salt is empty")
)

// passlibBase64 is passlib's variant of base64.
var passlibBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding)

type pbkdf2Hash struct {
	cost       string
	iterations int64
	saltAndDigest
}

func newPBKDF2(name, prefix string, digestLen int, maxIterations int64, newHash func() hash.Hash) *Format {
	return &Format{
		Name:     name,
		prefixes: []string{prefix},
		parse: func(hash string) (work, error) {
			var h pbkdf2Hash
			err := h.parse(hash[len(prefix):], digestLen, maxIterations)
			return work{cost: h.cost, saltLen: h.saltLen}, err
		},
		verify: func(hash string, password []byte) bool {
			var h pbkdf2Hash
			if h.parse(hash[len(prefix):], digestLen, maxIterations) != nil {
				return false
			}
			got, err := pbkdf2.Key(newHash, string(password), h.salt(), int(h.iterations), h.digestLen)
			return err == nil && subtle.ConstantTimeCompare(got, h.digest()) == 1
		},
	}
}

// parse fills h from the text after the prefix.
func (h *pbkdf2Hash) parse(s string, digestLen int, maxIterations int64) error {
	enc := base64.RawStdEncoding
	var params [2]int64 // iterations and bytes of the digest
	rest, ok := cutNumbers(s, params[:], "i=", ",l=")
	if !ok {
		enc = passlibBase64
		params[1] = int64(digestLen)
		rest, ok = cutNumbers(s, params[:], "")
	}
	if !ok || params[0] < 1 {
		return errPBKDF2Iterations
	}
	length := params[1]
	if length < pbkdf2MinDigest || length > pbkdf2MaxDigest {
		return errPBKDF2Length
	}
	h.iterations = params[0]
	// Each further digestLen bytes take all the iterations again.
	blocks := (length + int64(digestLen) - 1) / int64(digestLen)
	if h.iterations*blocks > maxIterations {
		return errTime
	}
	h.cost = s[:len(s)-len(rest)-1]
	if err := h.decode(rest, enc); err != nil {
		return err
	}
	// A shorter digest is the beginning of a longer one, so the length must be
	// the written one, or that of the hash function.
	switch {
	case h.saltLen == 0:
		return errPBKDF2Salt
	case int64(h.digestLen) != length:
		return errDigest
	}
	return nil
}
