package crypt

import (
	"crypto/subtle"
	"math/bits"
)

// descryptFormat is the traditional crypt(3) of UNIX, htpasswd -d: 25 rounds
// of DES over a block of zeros, with two characters of salt:
//
//	SS + 11 characters of digest
//
// Only the lower 7 bits of the first 8 bytes of a password are used. The format has
// no prefix, so a text that is not 13 characters of its alphabet has an unknown
// format.
//
// The work is always the same.
var descryptFormat = &Format{
	Name:     "descrypt",
	Weak:     true,
	prefixes: []string{""},
	parse:    parseDES,
	verify: func(hash string, password []byte) bool {
		got := descrypt(hash[:descryptSaltLen], password)
		return subtle.ConstantTimeCompare(got[:], []byte(hash[descryptSaltLen:])) == 1
	},
}

const (
	descryptSaltLen   = 2
	descryptDigestLen = 11
	descryptRounds    = 25
	descryptMaxUsed   = 8 // bytes of a password
)

func parseDES(hash string) (work, error) {
	// The last character holds 4 bits; the lowest two are never set.
	if len(hash) != descryptSaltLen+descryptDigestLen || !cryptAlphabet.containsAll(hash) ||
		cryptAlphabet[hash[len(hash)-1]]&3 != 0 {
		return work{}, errUnknownFormat
	}
	return work{}, nil
}

// makeDES returns a hash of the first descryptMaxUsed bytes of password.
func makeDES(password []byte, _ int) (string, error) {
	salt := newCryptSalt(descryptSaltLen)
	digest := descrypt(salt, password)
	return salt + string(digest[:]), nil
}

// The tables of the Data Encryption Standard (FIPS 46-3). They number bits from
// 1, the topmost one. Its E is not among them: see desBlock.
var (
	desPC1 = [...]byte{
		57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18,
		10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
		63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22,
		14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
	}
	desPC2 = [...]byte{
		14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10,
		23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
		41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48,
		44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
	}
	desKeyShifts = [...]int{1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1}
	desP         = [...]byte{
		16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
		2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
	}
	desFP = [...]byte{
		40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31,
		38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45, 13, 53, 21, 61, 29,
		36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27,
		34, 2, 42, 10, 50, 18, 58, 26, 33, 1, 41, 9, 49, 17, 57, 25,
	}
	desS = [8][64]byte{
		{
			14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7,
			0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
			4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0,
			15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
		}, {
			15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10,
			3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
			0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15,
			13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
		}, {
			10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8,
			13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
			13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7,
			1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
		}, {
			7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15,
			13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
			10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4,
			3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
		}, {
			2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9,
			14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
			4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14,
			11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
		}, {
			12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11,
			10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
			9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6,
			4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
		}, {
			4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1,
			13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
			1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2,
			6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
		}, {
			13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7,
			1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
			7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8,
			2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
		},
	}
)

// sixes is 48 bits as eight groups of six bits, each in its own byte: groups 0, 2,
// 4 and 6 in the upper half and 1, 3, 5 and 7 in the lower half. This is the order
// of the rotations in desBlock.
type sixes uint64

func newSixes(v uint64) (s sixes) {
	for group := range 8 {
		six := sixes(v>>(42-6*group)) & 0x3f
		s |= six << (56 - 32*(group&1) - 8*(group>>1))
	}
	return s
}

// desKeySchedule has the round keys for each key bit. The round keys of a key are
// the XOR of those of its bits, since they are made by permutations only. desSP has
// the outputs of each S-box, after the permutation P.
var (
	desKeySchedule = makeDESKeySchedule()
	desSP          = makeDESSP()
)

func makeDESKeySchedule() (schedule [64][16]sixes) {
	const half = 28
	for bit := range schedule {
		cd := permute(1<<bit, 64, desPC1[:])
		c, d := cd>>half, cd&(1<<half-1)
		for round, shift := range desKeyShifts {
			c = (c<<shift | c>>(half-shift)) & (1<<half - 1)
			d = (d<<shift | d>>(half-shift)) & (1<<half - 1)
			schedule[bit][round] = newSixes(permute(c<<half|d, 2*half, desPC2[:]))
		}
	}
	return schedule
}

func makeDESSP() (sp [8][64]uint32) {
	for box := range sp {
		for six := range sp[box] {
			row, column := six>>4&2|six&1, six>>1&15
			out := uint64(desS[box][row*16+column]) << (28 - 4*box)
			sp[box][six] = uint32(permute(out, 32, desP[:])) //nolint:gosec // P has 32 bits
		}
	}
	return sp
}

// permute returns the bits of v that table names, the first one topmost.
func permute(v uint64, width int, table []byte) (out uint64) {
	for _, bit := range table {
		out = out<<1 | v>>(width-int(bit))&1
	}
	return out
}

// descrypt returns the encoded digest of password.
func descrypt(salt string, password []byte) (digest [descryptDigestLen]byte) {
	var keys [16]sixes
	for i, c := range password[:min(len(password), descryptMaxUsed)] {
		for bit := range 7 {
			mask := -sixes(c >> bit & 1)
			// The 7 bits are the upper ones of a byte of the key.
			for round, key := range &desKeySchedule[56-8*i+bit+1] {
				keys[round] ^= key & mask
			}
		}
	}
	// Each of the 12 bits of the salt, from the lowest, swaps a bit of the
	// expanded half block, from the topmost, with the one 24 places below it.
	swapEven := uint32(bits.Reverse8(cryptAlphabet[salt[0]]) >> 2)
	swapOdd := uint32(bits.Reverse8(cryptAlphabet[salt[1]]) >> 2)

	// The initial and final permutations cancel out between two rounds, and do
	// not change a block of zeros.
	var l, r uint32
	for range descryptRounds {
		l, r = desBlock(l, r, &keys, swapEven<<8, swapOdd<<8)
	}
	sum := permute(uint64(l)<<32|uint64(r), 64, desFP[:])
	for i := range descryptDigestLen - 1 {
		digest[i] = cryptDigits[sum>>(58-6*i)&0x3f]
	}
	digest[descryptDigestLen-1] = cryptDigits[sum<<2&0x3f]
	return digest
}

// desBlock encrypts one block, without the initial and final permutations.
// swapEven and swapOdd have the salt's bits where groups 0 and 2, and 1 and 3,
// are after a shift by 16.
func desBlock(l, r uint32, keys *[16]sixes, swapEven, swapOdd uint32) (uint32, uint32) {
	const groups = 0x3f3f3f3f
	for _, key := range keys {
		// E repeats the bits at the edges of groups of four; a rotation brings
		// every other group of six to the lower end of a byte.
		even := bits.RotateLeft32(r, 29) & groups
		odd := bits.RotateLeft32(r, 1) & groups
		swap := (even ^ even>>16) & swapEven
		even ^= swap ^ swap<<16 ^ uint32(key>>32)
		swap = (odd ^ odd>>16) & swapOdd
		odd ^= swap ^ swap<<16 ^ uint32(key) //nolint:gosec // the lower half
		f := desSP[0][even>>24&0x3f] ^ desSP[2][even>>16&0x3f] ^ desSP[4][even>>8&0x3f] ^ desSP[6][even&0x3f] ^
			desSP[1][odd>>24&0x3f] ^ desSP[3][odd>>16&0x3f] ^ desSP[5][odd>>8&0x3f] ^ desSP[7][odd&0x3f]
		l, r = r, l^f
	}
	return r, l
}
