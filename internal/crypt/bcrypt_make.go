package crypt

import (
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/blowfish" //nolint:staticcheck // deprecated for encryption; bcrypt is made of it
)

// MakeBcrypt is like Make for bcrypt. It calls yield before each of the 2^cost rounds,
// which take less than a tenth of a millisecond each. So the caller can pause the
// computation.
func MakeBcrypt(cost int, password []byte, yield func()) (string, error) {
	if err := checkMake(bcryptFormat.Name, cost, password); err != nil {
		return "", err
	}
	if cost == 0 {
		cost = bcryptMaker.defaultCost
	}
	salt := newSalt(16)
	key := append(make([]byte, 0, bcryptMaker.maxPassword+1), password...)
	key = append(key, 0)
	defer clear(key)
	cipher, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		return "", err
	}
	for range 1 << cost {
		yield()
		blowfish.ExpandKey(key, cipher)
		blowfish.ExpandKey(salt, cipher)
	}
	digest := []byte("OrpheanBeholderScryDoubt")
	for block := digest; len(block) > 0; block = block[blowfish.BlockSize:] {
		for range 64 {
			cipher.Encrypt(block, block)
		}
	}
	return fmt.Sprintf("$2y$%02d$%s%s", cost, bcryptEncoding.EncodeToString(salt), bcryptEncoding.EncodeToString(digest[:len(digest)-1])), nil
}

// bcryptEncoding is the base64 of bcrypt.
var bcryptEncoding = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)
