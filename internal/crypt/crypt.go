// Package crypt knows the formats of password hashes in htpasswd files. It checks
// their syntax, verifies passwords, and makes hashes of the formats that Apache's
// htpasswd makes, and of argon2id.
//
// Parse reads a hash and returns its Class, Class.Verify compares a password with
// it, and Make makes a new one.
//
// The package promises:
//
//   - Time and memory of a verification are bounded. Parse refuses a hash that
//     takes more than about a second and 256 MiB, and a password of more than
//     MaxPasswordLen bytes matches nothing.
//   - Every hash of a class takes the same work for passwords of the same length.
//     Digests are compared in constant time.
//   - No hash and no password makes the package panic.
//   - No error holds anything of a hash or a password.
package crypt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// MaxPasswordLen is the length in bytes of the longest password that can match a
// hash. Without a limit the work would grow with what a client sends.
const MaxPasswordLen = 1024

// libcryptMaxPasswordLen is the longest that can match a hash of a format
// whose work grows with the password. It is libcrypt's own limit for all
// (CRYPT_MAX_PASSPHRASE_SIZE, with the closing NUL); htpasswd's is 255.
const libcryptMaxPasswordLen = 511

// ErrUnknownFormat is wrapped by Parse's error when no format claims a hash.
// Such a hash must be refused: it is never to be taken for a plain password.
var ErrUnknownFormat = errors.New("unknown password hash format")

// Format is one kind of password hash.
type Format struct {
	// Name is the format's usual name in lower case, e.g. "sha512crypt".
	Name string
	// Weak tells that hashes of this format should be replaced: guessing is
	// cheap (one unsalted SHA-1) or the format is given up (md5crypt).
	Weak bool

	// prefixes claim a hash for the format.
	prefixes []string
	// parse checks the syntax of a hash that has one of the prefixes and
	// returns what its work depends on. Its error is a fixed text with nothing
	// of the hash in it. Formats that share a prefix return ErrUnknownFormat to
	// pass a hash on to the next one.
	parse func(hash string) (work, error)
	// verify is given only hashes parse accepts, and passwords of at most
	// MaxPasswordLen bytes without NUL.
	verify func(hash string, password []byte) bool
}

// formats are asked in this order, so one without a prefix of its own must
// come last.
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

// Class is all that the work of one verification depends on, except for the
// password that is tried. Every hash of a class takes the same work for passwords
// of the same length. Classes compare with ==.
type Class struct {
	Format *Format
	// Cost is what the hash says of it, such as "10" for bcrypt or
	// "m=65536,t=3,p=4" for argon2id. For sha256crypt and sha512crypt it is
	// the rounds, with the default written out as "5000". It is "" where the
	// cost is fixed.
	Cost string
	// SaltLen is the number of bytes of the salt that are digested with the
	// password. For plain it is the length of the stored password. It is 0 where
	// all salts of the format have one length.
	SaltLen uint16
	// DigestLen is the number of bytes of the digest. It is 0 where all digests
	// of the format and Cost have one length.
	DigestLen uint16
}

// String names the class. No two classes have the same name, and none ever gets
// another: servers of different versions choose by it.
func (c Class) String() string {
	if c.Format == nil {
		return ""
	}
	return fmt.Sprintf("%s cost=%q salt=%d digest=%d", c.Format.Name, c.Cost, c.SaltLen, c.DigestLen)
}

// work is what a hash says of the work that a verification takes: a Class
// without its format. The cost is a substring of the hash or a constant. Beside
// each format stands what its work depends on; TestWorkIsOfTheClass counts it.
//
// With every format the work also depends on the length of the password that is
// tried. The client chooses that, and it is the same for every hash of a class.
type work struct {
	cost               string
	saltLen, digestLen int
}

// Parse checks the whole syntax of hash and returns its class. The error has
// nothing of the hash in it; it wraps ErrUnknownFormat when no format claims
// the hash, and otherwise starts with the format's name.
func Parse(hash string) (Class, error) {
	for _, f := range formats {
		if !f.claims(hash) {
			continue
		}
		w, err := f.parse(hash)
		if errors.Is(err, ErrUnknownFormat) {
			continue
		}
		if err != nil {
			return Class{}, fmt.Errorf("%s: %w", f.Name, err)
		}
		return Class{Format: f, Cost: w.cost, SaltLen: uint16(w.saltLen), DigestLen: uint16(w.digestLen)}, nil //nolint:gosec // at most MaxPasswordLen
	}
	if hash == "" {
		return Class{}, fmt.Errorf("%w: the hash is empty", ErrUnknownFormat)
	}
	return Class{}, fmt.Errorf("%w (a plain-text password is taken behind {PLAIN} only)", ErrUnknownFormat)
}

func (f *Format) claims(hash string) bool {
	for _, p := range f.prefixes {
		if strings.HasPrefix(hash, p) {
			return true
		}
	}
	return false
}

// Verify reports whether password is the one hash was made from. It is false
// for a hash that Parse does not accept with this very class, and for a
// password that is longer than MaxPasswordLen or contains NUL.
func (c Class) Verify(hash string, password []byte) bool {
	// C tools end a password at its first NUL, and bcrypt repeats the password
	// with a NUL after it, so "a\x00a" would match a bcrypt hash of "a".
	if len(password) > MaxPasswordLen || bytes.IndexByte(password, 0) >= 0 {
		return false
	}
	// Parsing again costs nothing beside a digest and makes every slice
	// expression in the verify functions safe.
	if got, err := Parse(hash); err != nil || got != c {
		return false
	}
	return c.Format.verify(hash, password)
}

// alphabet gives a base64 digit's value by its character; noDigit for others.
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
	errSaltChar = errors.New("the salt has a character that is not allowed")
	errSalt     = errors.New("the salt has the wrong length or characters")
	errDigest   = errors.New("the digest has the wrong length or characters")
)

// splitCrypt splits salt$digest as in the crypt(3) formats. The digest must be
// digestLen characters long with only lastBits bits in the last one: an
// implementation compares the text it makes, so no other can ever match.
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

// cryptLen is how many characters n bytes have in the base64 of crypt(3).
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

// decodeCryptNumber returns the number whose digits s has, the lowest first.
// All are of the alphabet of crypt(3).
func decodeCryptNumber(s string) (n int64) {
	for i := range len(s) {
		n |= int64(cryptAlphabet[s[i]]) << (6 * i)
	}
	return n
}
