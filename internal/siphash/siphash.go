// Package siphash implements SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast
// short-input PRF", 2012): a keyed hash of 64 bits for short inputs, whose values cannot
// be predicted without the key. Unlike hash/maphash, its values are the same in all
// processes that have the key.
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// KeyLen is the length of a key in bytes.
const KeyLen = 16

// Key is a secret key. It is immutable, and safe for concurrent use.
type Key struct{ k0, k1 uint64 }

// NewKey returns the key with the given bytes.
func NewKey(key [KeyLen]byte) *Key {
	return &Key{binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])}
}

// Sum returns the hash of a text. It does not allocate.
func (k *Key) Sum(text []byte) uint64 {
	s := state{
		k.k0 ^ 0x736f6d6570736575, // the constants of the paper
		k.k1 ^ 0x646f72616e646f6d,
		k.k0 ^ 0x6c7967656e657261,
		k.k1 ^ 0x7465646279746573,
	}
	n := uint64(len(text))
	for ; len(text) >= 8; text = text[8:] {
		s = s.compress(binary.LittleEndian.Uint64(text))
	}
	var last [8]byte // the rest of the text, and the length modulo 256
	copy(last[:], text)
	s = s.compress(binary.LittleEndian.Uint64(last[:]) | n<<56)
	s.v2 ^= 0xff
	s = s.round().round().round().round()
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

// SumString is Sum for a string. The compiler knows that Sum does not change the text, so
// nothing is copied.
func (k *Key) SumString(text string) uint64 { return k.Sum([]byte(text)) }

// state is passed by value, so that it stays in registers.
type state struct{ v0, v1, v2, v3 uint64 }

func (s state) compress(word uint64) state {
	s.v3 ^= word
	s = s.round().round()
	s.v0 ^= word
	return s
}

func (s state) round() state {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
	return s
}
