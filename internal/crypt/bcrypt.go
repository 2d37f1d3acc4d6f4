package crypt

import (
	"errors"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// bcryptFormat is bcrypt as in OpenBSD, crypt_blowfish and htpasswd -B:
//
//	$2y$NN$ + 22 characters of salt + 31 characters of digest
//
// $2a$, $2b$ and $2y$ are the same algorithm. Bytes after the 72nd of a password
// are ignored, as by every other implementation. (With $2a$, crypt_blowfish
// computes different hashes for a few passwords that contain the byte 0xff, which is
// not valid UTF-8. These do not match here.)
//
// The work depends on the cost alone: every salt has 16 bytes, and every
// password is repeated to 72.
var bcryptFormat = &Format{
	Name:     "bcrypt",
	prefixes: []string{"$2a$", "$2b$", "$2y$", "$2x$", "$2$"},
	parse:    parseBcrypt,
	verify: func(hash string, password []byte) bool {
		return bcrypt.CompareHashAndPassword([]byte(hash), password) == nil
	},
}

const (
	bcryptLen = 60

	// 14 takes about a second on one core, and each step doubles it. With a
	// higher cost, a few requests could occupy all cores.
	bcryptMinCost = "04"
	bcryptMaxCost = "14"
)

// bcryptMaker rejects passwords of which bytes would be ignored.
var bcryptMaker = maker{
	minCost: 4, maxCost: 14, defaultCost: 10,
	maxPassword: 72,
	hash: func(password []byte, cost int) (string, error) {
		hash, err := bcrypt.GenerateFromPassword(password, cost)
		if err != nil {
			return "", err
		}
		return "$2y$" + string(hash[4:]), nil // as htpasswd writes it, for servers that accept no other
	},
}

var bcryptAlphabet = newAlphabet("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")

var (
	errBcrypt2x    = errors.New("$2x$ marks hashes of a faulty implementation; reset this password")
	errBcrypt2     = errors.New("$2$ is an obsolete variant; reset this password")
	errBcryptLen   = errors.New("the hash is not 60 characters long")
	errBcryptCost  = errors.New("the cost is not two digits between $ and $")
	errBcryptRange = errors.New("the cost is not in the range 04 to 14")
	errBcryptChars = errors.New("the salt or digest contains an invalid character")
)

func parseBcrypt(hash string) (work, error) {
	switch {
	case strings.HasPrefix(hash, "$2x$"):
		return work{}, errBcrypt2x
	case strings.HasPrefix(hash, "$2$"):
		return work{}, errBcrypt2
	case len(hash) != bcryptLen:
		return work{}, errBcryptLen
	}
	cost, rest := hash[4:6], hash[7:]
	if !isDigit(cost[0]) || !isDigit(cost[1]) || hash[6] != '$' {
		return work{}, errBcryptCost
	}
	if cost < bcryptMinCost || cost > bcryptMaxCost {
		return work{}, errBcryptRange
	}
	// The last character of the digest holds 4 bits. No implementation sets
	// more. Of the salt's last character 2 bits are used. The others are not
	// checked: some old tools set them, and bcrypt verifies such hashes.
	if !bcryptAlphabet.containsAll(rest) || bcryptAlphabet[rest[len(rest)-1]]&3 != 0 {
		return work{}, errBcryptChars
	}
	return work{cost: cost}, nil
}
