package crypt

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
)

// yescryptFormat is yescrypt as in crypt(3), the default for the passwords of many
// Linux distributions:
//
//	$y$jNR$salt$digest
//
// j stands for the only flags in use. N is the logarithm of N less 1, and R is r
// less 1, as digits of crypt(3).
//
// The work depends on N and r, and on the length of the salt, which is hashed once
// for each 32 bytes of 128*r, and twice for large N.
var yescryptFormat = newYescrypt(sha256.New)

func newYescrypt(newHash func() hash.Hash) *Format {
	return &Format{
		Name:     "yescrypt",
		prefixes: []string{yescryptPrefix},
		parse: func(hash string) (work, error) {
			var h yescryptHash
			err := h.parse(hash[len(yescryptPrefix):])
			return work{cost: h.cost, saltLen: h.saltLen}, err
		},
		verify: func(hash string, password []byte) bool {
			var h yescryptHash
			if h.parse(hash[len(yescryptPrefix):]) != nil {
				return false
			}
			got, err := yescryptKey(newHash, password, h.salt(), h.ln, h.r)
			return err == nil && subtle.ConstantTimeCompare(got, h.digest()) == 1
		},
	}
}

const (
	yescryptPrefix  = "$y$"
	yescryptCostLen = 3
	yescryptFlags   = 'j'

	// Higher digits begin numbers of more than one character.
	yescryptOneDigit = 48
)

var errYescryptParams = errors.New("the parameters are not j and two characters of ./0-9A-Za-j, as in j9T")

type yescryptHash struct {
	cost  string
	ln, r int64
	saltAndDigest
}

// parse fills h from the text after the prefix.
func (h *yescryptHash) parse(s string) error {
	if len(s) <= yescryptCostLen || s[0] != yescryptFlags || s[yescryptCostLen] != '$' ||
		cryptAlphabet[s[1]] >= yescryptOneDigit || cryptAlphabet[s[2]] >= yescryptOneDigit {
		return errYescryptParams
	}
	h.cost = s[:yescryptCostLen]
	h.ln, h.r = int64(cryptAlphabet[s[1]])+1, int64(cryptAlphabet[s[2]])+1
	// The memory limits the time, too: 256 MiB take about a second.
	if h.r<<h.ln > maxMemory/128 {
		return errMemory
	}
	salt, digest, err := splitCrypt(s[yescryptCostLen+1:], cryptLen(maxSalt), cryptLen(sha256.Size), 4)
	if err != nil {
		return err
	}
	var ok bool
	if h.saltLen, ok = decodeCrypt(&h.saltBytes, salt); !ok {
		return errSalt
	}
	h.digestLen, _ = decodeCrypt(&h.digestBytes, digest)
	return nil
}
