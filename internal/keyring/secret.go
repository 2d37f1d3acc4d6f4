package keyring

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"unicode/utf8"
)

// Secret is a random text that the servers of a fleet share, and nobody else knows.
// fmt, JSON and zap show "(secret)" in its place.
type Secret string

// MinSecretLen is the least number of characters of a secret.
const MinSecretLen = 32

// Purpose is what a subkey is for. Its text is a part of the key, and so is never
// changed, nor used again for anything else. See the package for how to add one.
type Purpose string

// DecoysPurpose is the choice of the hash that is computed for an unknown user.
const DecoysPurpose Purpose = "decoys"

// subkeyLen is the length of subkeys in bytes.
const subkeyLen = 32

// NewSecret returns a secret of 32 random bytes.
func NewSecret() Secret {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	return Secret(base64.RawURLEncoding.EncodeToString(random))
}

// Subkey derives the key for a purpose: 32 bytes of HKDF-SHA-256 (RFC 5869), without
// salt, with the name of the program and the purpose as the info.
func (s Secret) Subkey(p Purpose) []byte {
	key, err := hkdf.Key(sha256.New, []byte(s), nil, "caddy-htpasswd "+string(p), subkeyLen)
	if err != nil {
		panic(err) // with more than 8160 bytes, or a hash function that is not approved
	}
	return key
}

// Check returns an error for a secret of less than [MinSecretLen] characters. The
// error has nothing of the secret in it.
func (s Secret) Check() error {
	if n := utf8.RuneCountInString(string(s)); n < MinSecretLen {
		return fmt.Errorf("expected at least %d characters, found %d; create one with: openssl rand -base64 32", MinSecretLen, n)
	}
	return nil
}

// String returns a text that says only that there is a secret.
func (Secret) String() string { return "(secret)" }

// Format implements [fmt.Formatter] with the text of String, for each verb but %p: %d would
// show the secret otherwise.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns the text of String. It keeps the secret out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
