package crypt

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"hash"
	"strconv"
	"strings"

	gocrypt "github.com/go-crypt/x/crypt"
)

// sha256cryptFormat and sha512cryptFormat are the formats of Ulrich Drepper's
// "Unix crypt using SHA-256 and SHA-512", as in crypt(3) and htpasswd -2 and -5:
//
//	$5$salt$digest     $5$rounds=N$salt$digest     (SHA-512: $6$)
//
// A library computes the digest: it agrees with libcrypt for every salt length, and
// takes 0.4 to 1.6 times as long, depending on the processor's SHA instructions.
//
// The work depends on the rounds, written or not, and on the length of the salt,
// which is hashed in two of three rounds. padWork removes another dependency.
var (
	sha256cryptFormat = newSHACrypt("sha256crypt", sha256cryptPrefix, 43, 4, sha256.New)
	sha512cryptFormat = newSHACrypt("sha512crypt", sha512cryptPrefix, 86, 2, sha512.New)
)

// shaCrypt returns the encoded digest of password.
func shaCrypt(newHash func() hash.Hash, password, salt []byte, rounds int) []byte {
	padWork(newHash(), password, salt)
	return gocrypt.KeySHACrypt(newHash, password, salt, rounds)
}

// padWork makes the work independent of password and salt. The algorithm hashes the
// salt 16 times plus the first byte of a digest of password and salt: up to 64
// blocks, which differ between salts. By the difference, users that share a decoy
// could be distinguished. padWork hashes as much as is missing to the maximum.
func padWork(h hash.Hash, password, salt []byte) {
	const least, most = 16, 16 + 255
	n := least + int(shaCryptFirstByte(h, password, salt))
	h.Reset()
	for range most - n {
		h.Write(salt)
	}
	size := h.BlockSize()
	blocks := func(salts int) int { return (salts*len(salt)+size/8)/size + 1 } // including the length at the end
	written := (most - n) * len(salt)
	if blocks(n)+written/size < blocks(most) { // one is missing
		var block [sha512.BlockSize]byte
		h.Write(block[:size-written%size])
	}
}

// shaCryptFirstByte returns the first byte of the algorithm's digest A.
func shaCryptFirstByte(h hash.Hash, password, salt []byte) byte {
	h.Write(password)
	h.Write(salt)
	h.Write(password)
	b := h.Sum(nil)
	h.Reset()
	h.Write(password)
	h.Write(salt)
	for left := len(password); left > 0; left -= len(b) {
		h.Write(b[:min(left, len(b))])
	}
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			h.Write(b)
		} else {
			h.Write(password)
		}
	}
	return h.Sum(nil)[0]
}

const (
	sha256cryptPrefix = "$5$"
	sha512cryptPrefix = "$6$"

	shaCryptMaxSalt       = 16
	shaCryptRoundsPrefix  = "rounds="
	shaCryptDefaultRounds = "5000" // if the hash does not contain rounds=

	shaCryptMinRounds = 1000
	// A million rounds with a short password take less than half a second, or a
	// second without the processor's SHA instructions; SHA-512 with
	// libcryptMaxPasswordLen bytes takes two. The highest default in use is
	// passlib's 656000.
	shaCryptMaxRounds = 1_000_000
)

var (
	errRoundsSyntax = errors.New("rounds= is not followed by a decimal number and $")
	errRoundsRange  = errors.New("the rounds are not in the range 1000 to 1000000")
)

func newSHACrypt(name, prefix string, digestLen, lastBits int, newHash func() hash.Hash) *Format {
	split := func(hash string) (rounds, salt, digest string, err error) {
		rounds, rest, err := cutRounds(hash[len(prefix):])
		if err != nil {
			return "", "", "", err
		}
		salt, digest, err = splitCrypt(rest, shaCryptMaxSalt, digestLen, lastBits)
		return rounds, salt, digest, err
	}
	return &Format{
		Name:     name,
		prefixes: []string{prefix},
		parse: func(hash string) (work, error) {
			rounds, salt, _, err := split(hash)
			return work{cost: rounds, saltLen: len(salt)}, err
		},
		verify: func(hash string, password []byte) bool {
			rounds, salt, digest, err := split(hash)
			if err != nil || len(password) > libcryptMaxPasswordLen {
				return false
			}
			n, err := strconv.Atoi(rounds)
			if err != nil {
				return false
			}
			return subtle.ConstantTimeCompare(shaCrypt(newHash, password, []byte(salt), n), []byte(digest)) == 1
		},
	}
}

func newSHACryptMaker(prefix string, newHash func() hash.Hash) maker {
	defaultRounds, _ := strconv.Atoi(shaCryptDefaultRounds)
	return maker{
		minCost: shaCryptMinRounds, maxCost: shaCryptMaxRounds, defaultCost: defaultRounds,
		maxPassword: libcryptMaxPasswordLen,
		hash: func(password []byte, rounds int) (string, error) {
			setting := prefix
			if rounds != defaultRounds {
				setting += shaCryptRoundsPrefix + strconv.Itoa(rounds) + "$"
			}
			salt := newCryptSalt(shaCryptMaxSalt)
			return setting + salt + "$" + string(shaCrypt(newHash, password, []byte(salt), rounds)), nil
		},
	}
}

// cutRounds cuts "rounds=N$" from the front of s. Implementations of crypt(3) write
// a number that is out of range as the nearest valid one, so they never write such
// a number.
func cutRounds(s string) (rounds, rest string, err error) {
	s, ok := strings.CutPrefix(s, shaCryptRoundsPrefix)
	if !ok {
		return shaCryptDefaultRounds, s, nil
	}
	n, end, ok := cutNumber(s)
	if !ok {
		return "", "", errRoundsSyntax
	}
	rounds = s[:len(s)-len(end)]
	if rest, ok = strings.CutPrefix(end, "$"); !ok {
		return "", "", errRoundsSyntax
	}
	if n < shaCryptMinRounds || n > shaCryptMaxRounds {
		return "", "", errRoundsRange
	}
	return rounds, rest, nil
}
