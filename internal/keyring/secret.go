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

// Secret is a random text that only the servers of a fleet know. fmt, JSON and zap
// print "(secret)" instead of it.
type Secret string

// MinSecretLen is the minimum length of a secret in characters.
const MinSecretLen = 32

// Purpose is the purpose of a subkey. Its text is an input of the key, so it never
// changes and is never reused. The package comment says how to add one.
type Purpose string

const (
	// DecoysPurpose is for choosing the hash that is computed for an unknown user.
	DecoysPurpose Purpose = "decoys"
	// StickyPurpose is for naming an upstream server in a cookie.
	StickyPurpose Purpose = "sticky cookies"
	// DevicesPurpose is for the tokens of device cookies.
	DevicesPurpose Purpose = "device cookies"
	// FleetCountersPurpose is for the keys of failed logins that a fleet counts together.
	FleetCountersPurpose Purpose = "fleet counters"
	// FleetEventsPurpose is for sealing the events that the servers of a fleet send.
	FleetEventsPurpose Purpose = "fleet events"
	// FleetFilesPurpose is for sealing the password files that a fleet shares.
	FleetFilesPurpose Purpose = "fleet files"
	// FleetMarksPurpose is for the marks of recognized clients that a fleet shares.
	FleetMarksPurpose Purpose = "fleet marks"
)

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
		panic(err) // only for more than 8160 bytes, or an unapproved hash function
	}
	return key
}

// Check returns an error for a secret of less than [MinSecretLen] characters. The
// error contains no part of the secret.
func (s Secret) Check() error {
	if n := utf8.RuneCountInString(string(s)); n < MinSecretLen {
		return fmt.Errorf("expected at least %d characters, found %d; create one with: openssl rand -base64 32", MinSecretLen, n)
	}
	return nil
}

// String returns "(secret)".
func (Secret) String() string { return "(secret)" }

// Format implements [fmt.Formatter] with the text of String. Otherwise verbs such as
// %d would print the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns the text of String. It keeps the secret out of JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
