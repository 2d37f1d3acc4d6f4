package crypt

import (
	"crypto/md5" //nolint:gosec // the formats are defined by MD5
	"crypto/subtle"
)

// apr1Format is Apache's variant of md5crypt (apr_md5.c), htpasswd's default
// for decades and so not counted as weak: $apr1$salt$digest. It differs from
// md5crypt by the magic string alone.
//
// The work depends on the length of the salt, which is hashed in two of three
// rounds. The same is true of md5crypt.
var apr1Format = newMD5Crypt("apr1", apr1Magic, false)

// md5cryptFormat is Poul-Henning Kamp's md5crypt of FreeBSD's crypt(3):
// $1$salt$digest. The author declared it no longer safe in 2012.
var md5cryptFormat = newMD5Crypt("md5crypt", md5cryptMagic, true)

const (
	apr1Magic     = "$apr1$"
	md5cryptMagic = "$1$"

	md5cryptMaxSalt   = 8
	md5cryptDigestLen = 22
	md5cryptLastBits  = 2
	md5cryptRounds    = 1000

	// The input of a round is at most the password twice, the salt and a digest.
	// The input of the first digest also has a magic string and a byte per bit of
	// the password's length, but the salt only once.
	md5cryptMaxInput = 2*libcryptMaxPasswordLen + md5cryptMaxSalt + md5.Size + len(apr1Magic)
)

func newMD5Crypt(name, magic string, weak bool) *Format {
	split := func(hash string) (salt, digest string, err error) {
		return splitCrypt(hash[len(magic):], md5cryptMaxSalt, md5cryptDigestLen, md5cryptLastBits)
	}
	return &Format{
		Name:     name,
		Weak:     weak,
		prefixes: []string{magic},
		parse: func(hash string) (work, error) {
			salt, _, err := split(hash)
			return work{saltLen: len(salt)}, err
		},
		verify: func(hash string, password []byte) bool {
			salt, digest, err := split(hash)
			if err != nil || len(password) > libcryptMaxPasswordLen {
				return false
			}
			got := md5crypt(magic, salt, password)
			return subtle.ConstantTimeCompare(got[:], []byte(digest)) == 1
		},
	}
}

func makeAPR1(password []byte, _ int) (string, error) {
	salt := newCryptSalt(md5cryptMaxSalt)
	digest := md5crypt(apr1Magic, salt, password)
	return apr1Magic + salt + "$" + string(digest[:]), nil
}

// md5crypt returns the encoded digest of password. Each MD5 input is built in a
// buffer on the stack, which saves an allocation per round.
func md5crypt(magic, salt string, password []byte) [md5cryptDigestLen]byte {
	var buf [md5cryptMaxInput]byte

	in := append(buf[:0], password...)
	in = append(in, salt...)
	in = append(in, password...)
	sum := md5.Sum(in) //nolint:gosec // see the import

	in = append(buf[:0], password...)
	in = append(in, magic...)
	in = append(in, salt...)
	for left := len(password); left > 0; left -= md5.Size {
		in = append(in, sum[:min(left, md5.Size)]...)
	}
	// The first implementation wrote a cleared buffer here by mistake, and all
	// others have to do the same: a NUL for each 1 bit of the length, and the
	// first byte of the password for each 0 bit.
	for n := len(password); n > 0; n >>= 1 {
		if n&1 == 1 {
			in = append(in, 0)
		} else {
			in = append(in, password[0])
		}
	}
	sum = md5.Sum(in) //nolint:gosec // see the import

	for i := range md5cryptRounds {
		odd := i&1 == 1
		in = buf[:0]
		if odd {
			in = append(in, password...)
		} else {
			in = append(in, sum[:]...)
		}
		if i%3 != 0 {
			in = append(in, salt...)
		}
		if i%7 != 0 {
			in = append(in, password...)
		}
		if odd {
			in = append(in, sum[:]...)
		} else {
			in = append(in, password...)
		}
		sum = md5.Sum(in) //nolint:gosec // see the import
	}
	return encodeMD5Crypt(&sum)
}

// encodeMD5Crypt encodes the digest as five groups of three bytes, in the order of
// md5crypt, and the last byte.
func encodeMD5Crypt(sum *[md5.Size]byte) (out [md5cryptDigestLen]byte) {
	order := [...][3]byte{{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}}
	for i, o := range order {
		put64(out[i*4:i*4+4], uint32(sum[o[0]])<<16|uint32(sum[o[1]])<<8|uint32(sum[o[2]]))
	}
	put64(out[20:], uint32(sum[11]))
	return out
}

// put64 fills dst with the base64 digits of v, the lowest bits first.
func put64(dst []byte, v uint32) {
	for i := range dst {
		dst[i] = cryptDigits[v&0x3f]
		v >>= 6
	}
}
