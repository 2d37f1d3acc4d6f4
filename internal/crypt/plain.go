package crypt

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
)

// plainFormat is {PLAIN} and the password itself, as in nginx. Without the prefix,
// no text is treated as a plain-text password.
//
// The work depends on the length of the stored password, which is hashed.
var plainFormat = &Format{
	Name:     "plain",
	Weak:     true,
	prefixes: []string{plainPrefix},
	parse: func(hash string) (work, error) {
		password := hash[len(plainPrefix):]
		if password == "" || len(password) > MaxPasswordLen {
			return work{}, errPlainLen
		}
		for i := range len(password) {
			if c := password[i]; c < ' ' || c == 0x7f {
				return work{}, errPlainControl
			}
		}
		return work{saltLen: len(password)}, nil
	},
	verify: func(hash string, password []byte) bool {
		// Digests have the same length even if the passwords do not.
		want, got := sha256.Sum256([]byte(hash[len(plainPrefix):])), sha256.Sum256(password)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	},
}

func makePlain(password []byte, _ int) (string, error) {
	hash := plainPrefix + string(password)
	_, err := plainFormat.parse(hash)
	return hash, err
}

const plainPrefix = "{PLAIN}"

var (
	errPlainLen     = errors.New("the password is not 1 to 1024 bytes long")
	errPlainControl = errors.New("the password contains a control character, which no client can send")
)
