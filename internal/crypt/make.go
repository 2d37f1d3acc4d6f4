package crypt

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
)

// ErrPasswordTooLong is wrapped by the error of Make for a password of which some
// bytes would be ignored, or that no hash of the format can match.
var ErrPasswordTooLong = errors.New("the password is too long")

// maker creates hashes of a format.
type maker struct {
	// The cost in the unit of the format: bcrypt's logarithm, or rounds. All are
	// 0 where the cost is fixed.
	minCost, maxCost, defaultCost int
	// maxPassword is the maximum length of a password in bytes.
	maxPassword int
	// hash is called only with costs and passwords within these bounds.
	hash func(password []byte, cost int) (string, error)
}

// Make returns a new hash of password with a random salt. The format is bcrypt,
// argon2id, sha256crypt, sha512crypt, apr1, descrypt (which uses the first 8 bytes
// only), sha1 or plain. Cost 0 is the default: 10 for bcrypt, from 4 to 14; 5000
// rounds for sha256crypt and sha512crypt, from 1000 to 1000000. The cost of other
// formats is fixed. Errors contain no part of the password.
func Make(format string, cost int, password []byte) (string, error) {
	if err := checkMake(format, cost, password); err != nil {
		return "", err
	}
	m := makers[format]
	if cost == 0 {
		cost = m.defaultCost
	}
	return m.hash(password, cost)
}

// checkMake returns the error of Make for these arguments.
func checkMake(format string, cost int, password []byte) error {
	if err := CheckCost(format, cost); err != nil {
		return err
	}
	if limit := makers[format].maxPassword; len(password) > limit {
		return fmt.Errorf("%w: %s accepts at most %d bytes, got %d", ErrPasswordTooLong, format, limit, len(password))
	}
	if bytes.IndexByte(password, 0) >= 0 {
		return errors.New("the password contains a NUL byte, which no client can send")
	}
	return nil
}

// CheckCost returns the error that Make would return for the format and cost.
func CheckCost(format string, cost int) error {
	m, ok := makers[format]
	switch {
	case !ok:
		return fmt.Errorf("%w, or one that is only verified: '%s'", errUnknownFormat, format)
	case cost != 0 && m.maxCost == 0:
		return fmt.Errorf("the cost of %s is fixed, got %d", format, cost)
	case cost != 0 && (cost < m.minCost || cost > m.maxCost):
		return fmt.Errorf("the cost of %s must be between %d and %d, got %d", format, m.minCost, m.maxCost, cost)
	}
	return nil
}

// makers are the formats in which hashes can be created, by name.
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
