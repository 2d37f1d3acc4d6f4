// Package siphash implements SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash of
// 64 bits for short inputs, whose values cannot be predicted without the key.
package siphash

// KeyLen is the length of a key in bytes.
const KeyLen = 16

// Key is a secret key. It is immutable, and safe for concurrent use.
type Key struct{ k0, k1 uint64 }

// NewKey returns the key with the given bytes.
func NewKey(key [KeyLen]byte) *Key { panic("TODO") }

// Sum returns the hash of a text.
func (k *Key) Sum(text []byte) uint64 { panic("TODO") }

// SumString is Sum for a string. It does not allocate.
func (k *Key) SumString(text string) uint64 { panic("TODO") }
