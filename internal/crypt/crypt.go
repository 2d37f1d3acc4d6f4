// Package crypt implements the formats of password hashes in htpasswd files. It
// checks their syntax, verifies passwords, and creates hashes in the formats of
// Apache's htpasswd and in argon2id.
//
// Parse parses a hash and returns its Class, Class.Verify verifies a password, and
// Make creates a new hash.
//
// The package promises:
//
//   - Time and memory of a verification are bounded. Parse rejects a hash that
//     takes more than about a second or 256 MiB. A password of more than
//     MaxPasswordLen bytes never matches.
//   - All hashes of a class take the same work for passwords of the same length.
//     Digests are compared in constant time.
//   - No hash and no password makes the package panic.
//   - No error contains any part of a hash or a password.
package crypt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// MaxPasswordLen is the length in bytes of the longest password that can match a
// hash. Without a limit, the work would grow with the length that a client sends.
const MaxPasswordLen = 1024

// libcryptMaxPasswordLen is the limit for formats whose work grows with the
// password. It is libcrypt's limit for all formats (CRYPT_MAX_PASSPHRASE_SIZE,
// including the NUL). The limit of htpasswd is 255.
const libcryptMaxPasswordLen = 511

// errUnknownFormat is wrapped by errors for a hash of no known format.
// Such a hash must never be treated as a plain-text password.
var errUnknownFormat = errors.New("unknown password hash format")

// Format is one kind of password hash.
type Format struct {
	// Name is the format's usual name in lower case, e.g. "sha512crypt".
	Name string
	// Weak reports whether hashes of this format should be replaced: guessing is
	// cheap (one unsalted SHA-1), or the format is deprecated (md5crypt).
	Weak bool

	// prefixes are the prefixes of hashes of the format.
	prefixes []string
	// parse checks the syntax of a hash with one of the prefixes, and returns
	// what its work depends on. Its error is a constant text without any part of
	// the hash. Formats that share a prefix return errUnknownFormat to pass a
	// hash on to the next one.
	parse func(hash string) (work, error)
	// verify is called only with hashes that parse accepts, and with passwords of
	// at most MaxPasswordLen bytes without NUL.
	verify func(hash string, password []byte) bool
}

// formats are tried in this order, so the one without a prefix is the last.
var formats = []*Format{
	bcryptFormat,
	argon2idFormat,
	argon2iFormat,
	scryptFormat,
	yescryptFormat,
	sha256cryptFormat,
	sha512cryptFormat,
	pbkdf2SHA256Format,
	pbkdf2SHA512Format,
	pbkdf2SHA1Format,
	apr1Format,
	ssha1Format,
	md5cryptFormat,
	sha1Format,
	plainFormat,
	descryptFormat,
}

// Class is everything that the work of one verification depends on, except for
// the password. All hashes of a class take the same work for passwords of the same
// length. Classes are compared with ==.
type Class struct {
	Format *Format
	// Cost is the cost as the hash contains it, such as "10" for bcrypt or
	// "m=65536,t=3,p=4" for argon2id. For sha256crypt and sha512crypt it is the
	// number of rounds; the default is written as "5000". It is "" where the cost
	// is fixed.
	Cost string
	// SaltLen is the number of bytes of the salt that are hashed with the
	// password. For plain it is the length of the stored password. It is 0 where
	// all salts of the format have the same length.
	SaltLen uint16
	// DigestLen is the number of bytes of the digest. It is 0 where all digests
	// of the format and Cost have the same length.
	DigestLen uint16
}

// String returns a unique name of the class. Names never change: servers that run
// different versions of this program have to agree on them.
func (c Class) String() string {
	if c.Format == nil {
		return ""
	}
	return fmt.Sprintf("%s cost=%q salt=%d digest=%d", c.Format.Name, c.Cost, c.SaltLen, c.DigestLen)
}

// work is a Class without its format. The cost is a substring of the hash or a
// constant. The comment of each format says what its work depends on, and
// TestWorkIsOfTheClass counts it.
//
// With every format the work also depends on the length of the password. The client
// chooses it, and it is the same for all hashes of a class.
type work struct {
	cost               string
	saltLen, digestLen int
}

// Parse checks the syntax of hash and returns its class. The error contains no part
// of the hash. Unless the format is unknown, it starts with the name of the format.
//
// A scheme of Dovecot or LDAP can stand before a hash: see CutScheme. The class is
// that of the hash without it, and the work as well.
func Parse(hash string) (Class, error) {
	if bare, s := cutScheme(hash); s != nil {
		return s.parse(bare)
	}
	for _, f := range formats {
		if !f.claims(hash) {
			continue
		}
		w, err := f.parse(hash)
		if errors.Is(err, errUnknownFormat) {
			continue
		}
		if err != nil {
			return Class{}, fmt.Errorf("%s: %w", f.Name, err)
		}
		return f.class(w), nil
	}
	if hash == "" {
		return Class{}, fmt.Errorf("%w: the hash is empty", errUnknownFormat)
	}
	return Class{}, fmt.Errorf("%w (a plain-text password needs the prefix {PLAIN})", errUnknownFormat)
}

func (f *Format) class(w work) Class {
	return Class{Format: f, Cost: w.cost, SaltLen: uint16(w.saltLen), DigestLen: uint16(w.digestLen)} //nolint:gosec // at most MaxPasswordLen
}

func (f *Format) claims(hash string) bool {
	for _, p := range f.prefixes {
		if strings.HasPrefix(hash, p) {
			return true
		}
	}
	return false
}

// Verify reports whether password matches hash. It returns false for a hash for
// which Parse does not return this class, and for a password that is longer than
// MaxPasswordLen or contains NUL.
func (c Class) Verify(hash string, password []byte) bool {
	// C programs end a password at its first NUL, and bcrypt repeats the password
	// with a NUL after it, so "a\x00a" would match a bcrypt hash of "a".
	if len(password) > MaxPasswordLen || bytes.IndexByte(password, 0) >= 0 {
		return false
	}
	// Parsing again is cheap compared with hashing, and makes every slice
	// expression in the verify functions safe.
	if got, err := Parse(hash); err != nil || got != c {
		return false
	}
	bare, _ := CutScheme(hash)
	return c.Format.verify(bare, password)
}

// alphabet maps characters to the values of base64 digits, and others to noDigit.
type alphabet [256]byte

const noDigit = 0xff

func newAlphabet(digits string) *alphabet {
	var a alphabet
	for i := range a {
		a[i] = noDigit
	}
	value := byte(0)
	for i := range len(digits) {
		a[digits[i]] = value
		value++
	}
	return &a
}

func (a *alphabet) containsAll(s string) bool {
	for i := range len(s) {
		if a[s[i]] == noDigit {
			return false
		}
	}
	return true
}

const cryptDigits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// cryptAlphabet is the base64 of crypt(3), which is little-endian: the last
// character of a digest holds the topmost bits.
var cryptAlphabet = newAlphabet(cryptDigits)

var (
	errNoDigest = errors.New("no $ between salt and digest")
	errSaltLen  = errors.New("the salt is too long")
	errSaltChar = errors.New("the salt contains an invalid character")
	errSalt     = errors.New("the salt has the wrong length or an invalid character")
	errDigest   = errors.New("the digest has the wrong length or an invalid character")
)

// splitCrypt splits salt$digest as in the crypt(3) formats. The digest must be
// digestLen characters long, with only lastBits bits in the last one: crypt(3)
// implementations compare texts, so no other digest can match.
func splitCrypt(s string, maxSalt, digestLen, lastBits int) (salt, digest string, err error) {
	salt, digest, ok := strings.Cut(s, "$")
	if !ok {
		return "", "", errNoDigest
	}
	if len(salt) > maxSalt {
		return "", "", errSaltLen
	}
	for i := range len(salt) {
		if c := salt[i]; c < ' ' || c > '~' || c == ':' {
			return "", "", errSaltChar
		}
	}
	if len(digest) != digestLen || !cryptAlphabet.containsAll(digest) ||
		cryptAlphabet[digest[digestLen-1]]>>lastBits != 0 {
		return "", "", errDigest
	}
	return salt, digest, nil
}

// cryptLen returns the number of characters of n bytes in the base64 of crypt(3).
func cryptLen(n int) int { return (n*8 + 5) / 6 }

// decodeCrypt decodes the base64 of crypt(3) into dst, four characters to three
// bytes, the lowest bits first. It is strict: unused bits are zero.
func decodeCrypt(dst *[maxBase64]byte, s string) (n int, ok bool) {
	if len(s) > maxBase64 || !cryptAlphabet.containsAll(s) {
		return 0, false
	}
	for ; s != ""; s = s[min(4, len(s)):] {
		value, size := uint32(0), 0
		for ; size < min(4, len(s)); size++ {
			value |= uint32(cryptAlphabet[s[size]]) << (6 * size)
		}
		for left := size * 6; left >= 8; left -= 8 {
			dst[n] = byte(value)
			n++
			value >>= 8
		}
		if size == 1 || value != 0 {
			return 0, false
		}
	}
	return n, true
}

// decodeCryptNumber decodes a number whose digits are in s, the lowest first. All
// characters must be of the alphabet of crypt(3).
func decodeCryptNumber(s string) (n int64) {
	for i := range len(s) {
		n |= int64(cryptAlphabet[s[i]]) << (6 * i)
	}
	return n
}
