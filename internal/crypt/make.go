package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
)

// ErrPasswordTooLong is wrapped by Make's error for a password of which not
// all would count, or that no hash of the format can match.
var ErrPasswordTooLong = errors.New("the password is too long")

// maker is how hashes of a format are made.
type maker struct {
	// The cost in whatever the format counts: bcrypt's logarithm, or rounds.
	// All are 0 where it is fixed.
	minCost, maxCost, usualCost int
	// maxPassword is how many bytes a password can have.
	maxPassword int
	// hash is given only costs and passwords within these bounds.
	hash func(password []byte, cost int) (string, error)
}

// Make returns a new hash of password, with a random salt, in the format of
// that name. Cost 0 is the usual one: 10 for bcrypt, from 4 to 14; 5000 rounds
// for sha256crypt and sha512crypt, from 1000 to 1000000; others have one
// cost. It makes bcrypt, argon2id, sha256crypt, sha512crypt, apr1, descrypt
// (of which the first 8 bytes count), sha1 and plain; others are only read.
// The errors have nothing of the password in them.
func Make(format string, cost int, password []byte) (string, error) {
	if err := CheckCost(format, cost); err != nil {
		return "", err
	}
	m := makers[format]
	if cost == 0 {
		cost = m.usualCost
	}
	if len(password) > m.maxPassword {
		return "", fmt.Errorf("%w: for %s it can have %d bytes, and has %d", ErrPasswordTooLong, format, m.maxPassword, len(password))
	}
	if bytes.IndexByte(password, 0) >= 0 {
		return "", errors.New("the password has a NUL in it, which no client can send")
	}
	return m.hash(password, cost)
}

// CheckCost returns what Make would say of the cost.
func CheckCost(format string, cost int) error {
	m, ok := makers[format]
	switch {
	case !ok:
		return fmt.Errorf("%w: no hashes of it are made", ErrUnknownFormat)
	case cost != 0 && (cost < m.minCost || cost > m.maxCost):
		return fmt.Errorf("the cost is out of range: for %s it is from %d to %d", format, m.minCost, m.maxCost)
	}
	return nil
}

// makers are the formats of which hashes are made, by name.
var makers = map[string]maker{
	bcryptFormat.Name:      bcryptMaker,
	argon2idFormat.Name:    {maxPassword: MaxPasswordLen, hash: makeArgon2id},
	sha256cryptFormat.Name: newSHACryptMaker(sha256cryptPrefix, sha256.New),
	sha512cryptFormat.Name: newSHACryptMaker(sha512cryptPrefix, sha512.New),
	apr1Format.Name:        {maxPassword: libcryptMaxPasswordLen, hash: makeAPR1},
	descryptFormat.Name:    {maxPassword: MaxPasswordLen, hash: makeDES},
	sha1Format.Name:        {maxPassword: MaxPasswordLen, hash: makeSHA1},
	plainFormat.Name:       {maxPassword: MaxPasswordLen, hash: makePlain},
}

// newCryptSalt returns n random characters of the base64 of crypt(3).
func newCryptSalt(n int) string {
	salt := newSalt(n)
	for i, b := range salt {
		salt[i] = cryptDigits[b&0x3f]
	}
	return string(salt)
}

// newSalt returns n random bytes.
func newSalt(n int) []byte {
	salt := make([]byte, n)
	_, _ = rand.Read(salt) // never fails
	return salt
}
