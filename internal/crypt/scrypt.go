package crypt

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// scryptFormat is scrypt of RFC 7914 in two spellings, that of passlib and the
// PHC string format, and that of crypt(3):
//
//	$scrypt$ln=16,r=8,p=1$salt$digest
//	$7$NRRRRRPPPPP + salt$digest
//
// N is 2 to the power of ln. In the second spelling, N is ln, and R and P are r and
// p, in digits of crypt(3), the lowest first; the salt is not decoded.
//
// The work depends on N, r and p, and on the length of the salt, which is hashed
// once for each 32 bytes of 128*r*p.
var scryptFormat = &Format{
	Name:     "scrypt",
	prefixes: []string{scryptPrefix, scryptCryptPrefix},
	parse: func(hash string) (work, error) {
		var h scryptHash
		err := h.parse(hash)
		return work{cost: h.cost, saltLen: h.saltLen}, err
	},
	verify: func(hash string, password []byte) bool {
		var h scryptHash
		if h.parse(hash) != nil {
			return false
		}
		got, err := scrypt.Key(password, h.salt(), 1<<h.ln, int(h.r), int(h.p), sha256.Size)
		return err == nil && subtle.ConstantTimeCompare(got, h.digest()) == 1
	},
}

const (
	scryptPrefix      = "$scrypt$"
	scryptCryptPrefix = "$7$"

	scryptCryptCostLen   = 1 + 2*scryptCryptNumberLen
	scryptCryptNumberLen = 5

	scryptMaxLn = 24 // above it, N alone exceeds every bound
	// Bounds of N*r*p and of r*p. Each unit of r*p takes at most 384 bytes in
	// addition to N*r, which is negligible. Tools use 8 to 128 for r*p.
	scryptMaxWork  = 1 << 21
	scryptMaxFixed = 1 << 12
)

var (
	errScryptParams = errors.New("the parameters are not written as in ln=16,r=8,p=1")
	errScryptRange  = errors.New("ln, r or p is 0")
	errScryptCrypt  = errors.New("the parameters N, r and p are not 11 characters of ./0-9A-Za-z")
)

type scryptHash struct {
	cost     string
	ln, r, p int64
	saltAndDigest
}

// parse fills h from a hash.
func (h *scryptHash) parse(hash string) error {
	if s, ok := strings.CutPrefix(hash, scryptCryptPrefix); ok {
		return h.parseCrypt(s)
	}
	s := hash[len(scryptPrefix):]
	var params [3]int64
	rest, ok := cutNumbers(s, params[:], "ln=", ",r=", ",p=")
	if !ok {
		return errScryptParams
	}
	h.cost = s[:len(s)-len(rest)-1]
	h.ln, h.r, h.p = params[0], params[1], params[2]
	if err := h.checkCost(); err != nil {
		return err
	}
	if err := h.decode(rest, base64.RawStdEncoding); err != nil {
		return err
	}
	// A shorter digest is the beginning of a longer one, so only one length is accepted.
	if h.digestLen != sha256.Size {
		return errDigest
	}
	return nil
}

// parseCrypt fills h from the text after $7$.
func (h *scryptHash) parseCrypt(s string) error {
	if len(s) < scryptCryptCostLen || !cryptAlphabet.containsAll(s[:scryptCryptCostLen]) {
		return errScryptCrypt
	}
	h.cost = s[:scryptCryptCostLen]
	h.ln = int64(cryptAlphabet[s[0]])
	h.r = decodeCryptNumber(s[1 : 1+scryptCryptNumberLen])
	h.p = decodeCryptNumber(s[1+scryptCryptNumberLen : scryptCryptCostLen])
	if err := h.checkCost(); err != nil {
		return err
	}
	// crypt_gensalt(3) encodes up to 64 bytes, and the encoded text is the salt.
	salt, digest, err := splitCrypt(s[scryptCryptCostLen:], cryptLen(maxSalt), cryptLen(sha256.Size), 4)
	if err != nil {
		return err
	}
	h.saltLen = copy(h.saltBytes[:], salt)
	h.digestLen, _ = decodeCrypt(&h.digestBytes, digest)
	return nil
}

// checkCost limits the memory, most of which is 128*r*N bytes, and the time.
func (h *scryptHash) checkCost() error {
	switch {
	case h.ln < 1 || h.r < 1 || h.p < 1:
		return errScryptRange
	case h.ln > scryptMaxLn || h.r<<h.ln > maxMemory/128:
		return errMemory
	case h.r*h.p > scryptMaxFixed || h.r*h.p<<h.ln > scryptMaxWork:
		return errTime
	}
	return nil
}
