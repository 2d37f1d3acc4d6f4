package crypt

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"encoding/binary"
	"hash"
	"math/bits"
)

// yescryptKey returns the digest of password: yescrypt 1.1 by Alexander Peslyak
// (openwall.com/yescrypt), with the flags of crypt(3) and its p, t and g: 1, 0 and
// 0. It is implemented here since maintained libraries take 1.6 times as long. The
// hash function is SHA-256.
func yescryptKey(newHash func() hash.Hash, password, salt []byte, ln, r int64) ([]byte, error) {
	n := 1 << ln
	memory := make([]uint64, 16*int(r)*n)
	pass := func(label string, n int) (key []byte, err error) {
		key = hmacOf(newHash, []byte(label), password)
		b, err := pbkdf2.Key(newHash, string(key), salt, 1, 128*int(r))
		if err != nil {
			return nil, err
		}
		key = yescryptMix(newHash, b, n, memory, [32]byte(b))
		return pbkdf2.Key(newHash, string(key), b, 1, 32)
	}
	if n >= 0x100 && int(r)*n >= 0x20000 {
		var err error
		if password, err = pass("yescrypt-prehash", n>>6); err != nil {
			return nil, err
		}
	}
	key, err := pass("yescrypt", n)
	h := newHash()
	h.Write(hmacOf(newHash, key, []byte("Client Key")))
	return h.Sum(nil), err
}

// yescryptMix is smix with the flags of crypt(3). It mixes b in place, with n blocks
// of memory.
func yescryptMix(newHash func() hash.Hash, b []byte, n int, memory []uint64, key [32]byte) (newKey []byte) {
	boxes := newPwxBoxes(b)
	newKey = hmacOf(newHash, b[len(b)-64:], key[:])

	size := len(b) / 8
	x := make([]uint64, size)
	loadShuffled(x, b)
	number := func() uint32 { return uint32(x[size-8]) } //nolint:gosec // the lower half
	block := func(i uint32) []uint64 { return memory[int(i)*size:][:size] }
	for i := range uint32(n) { //nolint:gosec // parse has bounded it
		copy(block(i), x)
		if i > 1 {
			half := uint32(1) << (bits.Len32(i) - 1)
			xorWords(x, block(number()&(half-1)+i-half))
		}
		boxes.mix(x)
	}
	for range ((n+2)/3 + 1) &^ 1 {
		v := block(number() & uint32(n-1)) //nolint:gosec // see above
		xorWords(x, v)
		copy(v, x)
		boxes.mix(x)
	}
	storeShuffled(b, x)
	return newKey
}

func hmacOf(newHash func() hash.Hash, key, data []byte) []byte {
	h := hmac.New(newHash, key)
	h.Write(data)
	return h.Sum(nil)
}

// pwxBox is an S-box of yescrypt: 256 pairs of words, indexed by 8 bits of another
// word.
type pwxBox [256][2]uint64

// pwxBoxes are the three S-boxes. Two are read while the third is written. Then
// they rotate.
type pwxBoxes struct {
	s0, s1, s2 *pwxBox
	next       uint8 // the pair of s2 to write
}

// pwxRound is a round of pwxform for one of its four lanes.
func pwxRound(x, y uint64, s0, s1 *pwxBox) (uint64, uint64) {
	a, b := &s0[uint8(x>>4)], &s1[uint8(x>>36)]                                                 //nolint:gosec // 8 bits of it
	return ((x>>32)*uint64(uint32(x)) + a[0]) ^ b[0], ((y>>32)*uint64(uint32(y)) + a[1]) ^ b[1] //nolint:gosec // the lower halves
}

// mix is blockmix_pwxform, over all of block.
func (p *pwxBoxes) mix(block []uint64) {
	last := (*[8]uint64)(block[len(block)-8:])
	a0, a1, b0, b1, c0, c1, d0, d1 := last[0], last[1], last[2], last[3], last[4], last[5], last[6], last[7]
	s0, s1, s2, next := p.s0, p.s1, p.s2, p.next
	for rest := block; len(rest) >= 8; rest = rest[8:] {
		in := (*[8]uint64)(rest)
		a0, a1 = pwxRound(a0^in[0], a1^in[1], s0, s1)
		b0, b1 = pwxRound(b0^in[2], b1^in[3], s0, s1)
		c0, c1 = pwxRound(c0^in[4], c1^in[5], s0, s1)
		d0, d1 = pwxRound(d0^in[6], d1^in[7], s0, s1)
		for range 4 {
			a0, a1 = pwxRound(a0, a1, s0, s1)
			s2[next] = [2]uint64{a0, a1}
			b0, b1 = pwxRound(b0, b1, s0, s1)
			s2[next+1] = [2]uint64{b0, b1}
			c0, c1 = pwxRound(c0, c1, s0, s1)
			s2[next+2] = [2]uint64{c0, c1}
			d0, d1 = pwxRound(d0, d1, s0, s1)
			s2[next+3] = [2]uint64{d0, d1}
			next += 4
		}
		a0, a1 = pwxRound(a0, a1, s0, s1)
		b0, b1 = pwxRound(b0, b1, s0, s1)
		c0, c1 = pwxRound(c0, c1, s0, s1)
		d0, d1 = pwxRound(d0, d1, s0, s1)
		*in = [8]uint64{a0, a1, b0, b1, c0, c1, d0, d1}
		s0, s1, s2 = s2, s0, s1
	}
	p.s0, p.s1, p.s2, p.next = s0, s1, s2, next
	salsa20(last, 2)
}

// salsaSteps are the words of each quarter of a double round of Salsa20.
var salsaSteps = [8][4]uint8{
	{0, 4, 8, 12}, {5, 9, 13, 1}, {10, 14, 2, 6}, {15, 3, 7, 11},
	{0, 1, 2, 3}, {5, 6, 7, 4}, {10, 11, 8, 9}, {15, 12, 13, 14},
}

// salsa20 is the core of Salsa20 with the given number of rounds. As everywhere in
// yescrypt, the 32-bit words of a block are in an order that suits SIMD.
func salsa20(block *[8]uint64, rounds int) {
	var x [16]uint32
	for i, v := range block {
		x[i*10%16], x[(i*10+5)%16] = uint32(v), uint32(v>>32) //nolint:gosec // two halves
	}
	for range rounds / 2 {
		for _, s := range &salsaSteps {
			a, b, c, d := s[0]&15, s[1]&15, s[2]&15, s[3]&15
			x[b] ^= bits.RotateLeft32(x[a]+x[d], 7)
			x[c] ^= bits.RotateLeft32(x[b]+x[a], 9)
			x[d] ^= bits.RotateLeft32(x[c]+x[b], 13)
			x[a] ^= bits.RotateLeft32(x[d]+x[c], 18)
		}
	}
	for i, v := range block {
		block[i] = uint64(uint32(v)+x[i*10%16]) | uint64(uint32(v>>32)+x[(i*10+5)%16])<<32 //nolint:gosec // two halves
	}
}

func xorWords(dst, src []uint64) {
	for i, v := range src[:len(dst)] {
		dst[i] ^= v
	}
}

// loadShuffled and storeShuffled convert between bytes and blocks of salsa20.
func loadShuffled(dst []uint64, src []byte) {
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(src[4*(i&^15|i*5&15):])) }
	for i := range dst {
		dst[i] = word(2*i) | word(2*i+1)<<32
	}
}

func storeShuffled(dst []byte, src []uint64) {
	put := func(i int, v uint64) { binary.LittleEndian.PutUint32(dst[4*(i&^15|i*5&15):], uint32(v)) } //nolint:gosec // the lower half
	for i, v := range src {
		put(2*i, v)
		put(2*i+1, v>>32)
	}
}

// newPwxBoxes fills the S-boxes with the states of scrypt's first loop, which begins
// with the first 128 bytes of b. It stores the last state there.
func newPwxBoxes(b []byte) *pwxBoxes {
	var boxes [3]pwxBox
	var x [16]uint64
	loadShuffled(x[:], b)
	for i := range 3 * 256 * 2 / len(x) {
		for j := range len(x) / 2 {
			boxes[i/32][i%32*8+j] = [2]uint64(x[2*j:])
		}
		lo, hi := (*[8]uint64)(x[:8]), (*[8]uint64)(x[8:])
		xorWords(lo[:], hi[:])
		salsa20(lo, 8)
		xorWords(hi[:], lo[:])
		salsa20(hi, 8)
	}
	storeShuffled(b[:128], x[:])
	return &pwxBoxes{s0: &boxes[2], s1: &boxes[1], s2: &boxes[0]}
}
