package crypt

import (
	"encoding/base64"
	"errors"
	"strings"
)

// What the formats with numbers and base64 in them have in common: those of
// the PHC string format and the ones that came before it.

const (
	// maxMemory is how many bytes one verification may use.
	maxMemory = 256 << 20

	// maxNumber stands for any larger number. It is above every bound, and the
	// product of two fits into an int64.
	maxNumber = 1 << 30

	maxSalt = 64 // bytes; tools use 8 to 32
)

// Costs above these bounds would let a few requests hold every core or all
// memory.
var (
	errMemory = errors.New("one check would take more than 256 MiB of memory; set the password again with lower parameters")
	errTime   = errors.New("one check would take longer than about a second; set the password again with lower parameters")
)

// cutNumber takes a decimal number without leading zeros off the front of s.
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

// cutNumbers takes names[0], a number, names[1], a number and so on, and $ off
// the front of s, and puts the numbers into values.
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

// maxBase64 bounds what decodeBase64 takes, in characters and in bytes.
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

// decode takes s apart, which is salt$digest. The lengths are left to check.
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
