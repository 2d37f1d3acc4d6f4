package crypt

import (
	"encoding/base64"
	"errors"
	"strings"
)

// Common parts of the formats with numbers and base64: the PHC string format and
// its predecessors.

const (
	// maxMemory is the maximum memory of one verification in bytes.
	maxMemory = 256 << 20

	// maxNumber is the result for any larger number. It is above every bound, and
	// the product of two fits into an int64.
	maxNumber = 1 << 30

	maxSalt = 64 // bytes; tools use 8 to 32
)

// With costs above these bounds, a few requests could occupy all cores or all
// memory.
var (
	errMemory = errors.New("verifying it would take more than 256 MiB of memory; reset this password with lower parameters")
	errTime   = errors.New("verifying it would take longer than about a second; reset this password with lower parameters")
)

// cutNumber cuts a decimal number without leading zeros from the front of s.
func cutNumber(s string) (n int64, rest string, ok bool) {
	i := 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		n = min(n*10+int64(s[i]-'0'), maxNumber)
	}
	if i == 0 || i > 1 && s[0] == '0' {
		return 0, "", false
	}
	return n, s[i:], true
}

// cutNumbers cuts names[0], a number, names[1], a number and so on, and $ from the
// front of s, and stores the numbers in values.
func cutNumbers(s string, values []int64, names ...string) (rest string, ok bool) {
	for i, name := range names {
		if s, ok = strings.CutPrefix(s, name); !ok {
			return "", false
		}
		if values[i], s, ok = cutNumber(s); !ok {
			return "", false
		}
	}
	return strings.CutPrefix(s, "$")
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// maxBase64 is the maximum length for decodeBase64, in characters and in bytes.
const maxBase64 = 128

// decodeBase64 decodes standard base64 into dst and returns the byte count. It
// is strict: no line breaks, unused bits zero, padding complete or, with enc
// base64.RawStdEncoding, absent.
func decodeBase64(dst *[maxBase64]byte, enc *base64.Encoding, s string) (n int, ok bool) {
	// The decoder skips line breaks even in strict mode.
	if len(s) > maxBase64 || strings.ContainsAny(s, "\r\n") {
		return 0, false
	}
	var src [maxBase64]byte
	n, err := enc.Strict().Decode(dst[:], src[:copy(src[:], s)])
	return n, err == nil
}

// saltAndDigest are the two last fields of a hash, in base64.
type saltAndDigest struct {
	saltBytes, digestBytes [maxBase64]byte
	saltLen, digestLen     int
}

func (d *saltAndDigest) salt() []byte   { return d.saltBytes[:d.saltLen] }
func (d *saltAndDigest) digest() []byte { return d.digestBytes[:d.digestLen] }

// decode decodes salt$digest. The caller checks the lengths.
func (d *saltAndDigest) decode(s string, enc *base64.Encoding) error {
	salt, digest, ok := strings.Cut(s, "$")
	if !ok {
		return errNoDigest
	}
	if d.saltLen, ok = decodeBase64(&d.saltBytes, enc, salt); !ok || d.saltLen > maxSalt {
		return errSalt
	}
	if d.digestLen, ok = decodeBase64(&d.digestBytes, enc, digest); !ok {
		return errDigest
	}
	return nil
}
