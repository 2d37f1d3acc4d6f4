package crypt

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/go-crypt/x/yescrypt"
)

// TestYescryptKey compares with another implementation, with parameters that the
// installed tools do not offer.
func TestYescryptKey(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	randomBytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.IntN(256))
		}
		return b
	}
	n := 100
	if underRace {
		n = 20
	}
	for i := range n {
		ln, r := int64(1+random.IntN(10)), int64(1+random.IntN(48))
		if i%20 == 0 {
			ln, r = 12, 32 // from here on the password is hashed twice
		}
		password, salt := randomBytes(random.IntN(200)), randomBytes(random.IntN(maxSalt+1))
		want, err := yescrypt.Key(password, salt, 1<<ln, int(r), 1, 32)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := yescryptKey(sha256.New, password, salt, ln, r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("N 2^%d, r %d, password %x, salt %x: %x, %v, want %x", ln, r, password, salt, got, err, want)
		}
	}
}
