package devicecookie

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// The format of a token. The package comment describes it.
const (
	version = 1

	nonceLen = 16
	timeLen  = 4
	userLen  = 8
	macLen   = 16

	nonceAt  = 1
	timeAt   = nonceAt + nonceLen
	userAt   = timeAt + timeLen
	macAt    = userAt + userLen
	tokenLen = macAt + macLen // a multiple of 3, so that each text decodes to another token

	textLen = tokenLen / 3 * 4

	blockLen = aes.BlockSize
	keyLen   = 32
)

// Keys are the keys of tokens. They are immutable. nil stands for no keys.
type Keys struct {
	current, old *key
}

// NewKeys returns the keys for the subkeys of the secret and of the old secret that it
// replaces. Subkeys have 32 random bytes. old is nil if there is none. Without a current
// subkey, the keys are nil.
//
// Tokens that were made with the old secret are accepted, but are to be renewed. The cache
// belongs to one result of NewKeys, so call it once for each secret.
func NewKeys(current, old []byte) *Keys {
	if len(current) == 0 {
		return nil
	}
	k := &Keys{current: newKey(current)}
	if len(old) > 0 {
		k.old = newKey(old)
	}
	return k
}

// all returns the current key, and the old one if there is one.
func (k *Keys) all() []*key {
	if k.old == nil {
		return []*key{k.current}
	}
	return []*key{k.current, k.old}
}

// key has the keys that are derived from one subkey.
type key struct {
	user    []byte
	binding []byte
	time    cipher.Block
}

func newKey(subkey []byte) *key {
	derive := func(label string) []byte {
		derived, err := hkdf.Expand(sha256.New, subkey, label, keyLen)
		if err != nil {
			panic(err) // only for more than 8160 bytes, or an unapproved hash function
		}
		return derived
	}
	block, err := aes.NewCipher(derive("time"))
	if err != nil {
		panic(err) // only for a wrong length of the key
	}
	return &key{user: derive("user"), binding: derive("binding"), time: block}
}

// digest returns the digest of a user name.
func (k *key) digest(user []byte) [userLen]byte {
	mac := hmac.New(sha256.New, k.user)
	mac.Write(user)
	return [userLen]byte(mac.Sum(nil))
}

// bind returns the binding to a user and a hash: the key of the MACs of their tokens.
func (k *key) bind(user []byte, hash string) []byte {
	mac := hmac.New(sha256.New, k.binding)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(user)))
	mac.Write(length[:])
	mac.Write(user)
	mac.Write([]byte(hash))
	return mac.Sum(nil)
}

// sign returns the MAC of a token.
func sign(binding []byte, token *[tokenLen]byte) [macLen]byte {
	mac := hmac.New(sha256.New, binding)
	mac.Write(token[:macAt])
	return [macLen]byte(mac.Sum(nil))
}

// seal returns the text of a token.
func (k *key) seal(o *Owner, issued uint32, nonce Nonce) string {
	var token [tokenLen]byte
	var pad [blockLen]byte
	token[0] = version
	copy(token[nonceAt:], nonce[:])
	binary.BigEndian.PutUint32(token[timeAt:], issued)
	user := k.digest(o.User)
	copy(token[userAt:], user[:])
	k.time.Encrypt(pad[:], nonce[:])
	for i := range macAt - timeAt {
		token[timeAt+i] ^= pad[i]
	}
	mac := sign(k.bind(o.User, o.Hash), &token)
	copy(token[macAt:], mac[:])
	return base64.RawURLEncoding.EncodeToString(token[:])
}

// open returns when a token was issued, and the digest of its user. Both are only random
// bytes if the token was made with another key. pad is overwritten.
func (k *key) open(token *[tokenLen]byte, pad *[blockLen]byte) (issued uint32, user [userLen]byte) {
	k.time.Encrypt(pad[:], token[nonceAt:timeAt])
	for i := range macAt - timeAt {
		pad[i] ^= token[timeAt+i]
	}
	return binary.BigEndian.Uint32(pad[:]), [userLen]byte(pad[timeLen:])
}

// decode decodes the text of a token into v.token, and reports whether it has the format
// of a token of this version.
func (v *verifier) decode(text string) bool {
	if len(text) != textLen {
		return false
	}
	n, err := base64.RawURLEncoding.Decode(v.token[:], []byte(text))
	return err == nil && n == tokenLen && v.token[0] == version // line breaks are skipped, so n can be less
}
