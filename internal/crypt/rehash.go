package crypt

import "strconv"

// NeedsRehash reports whether hashes of the class are to be replaced by bcrypt
// hashes of a cost, once the password is known. These are the formats that are
// cheaper to guess: DES crypt, {PLAIN}, {SHA}, {SSHA}, md5crypt, apr1, SHA crypt
// with its default of 5,000 rounds or fewer, and bcrypt below that cost. Hashes
// of Argon2, scrypt, yescrypt and PBKDF2 are never replaced.
//
// It is not the same as Weak, which warns of formats that no file should have
// any more.
func (c Class) NeedsRehash(bcryptCost int) bool {
	switch c.Format {
	case descryptFormat, plainFormat, sha1Format, ssha1Format, md5cryptFormat, apr1Format:
		return true
	case sha256cryptFormat, sha512cryptFormat:
		return c.costBelow(shaCryptRehashRounds + 1)
	case bcryptFormat:
		return c.costBelow(bcryptCost)
	}
	return false
}

// shaCryptRehashRounds is the highest number of rounds that is replaced: the
// default of SHA crypt.
const shaCryptRehashRounds = 5000

// costBelow compares a cost that is a number.
func (c Class) costBelow(n int) bool {
	cost, err := strconv.Atoi(c.Cost)
	return err == nil && cost < n
}
