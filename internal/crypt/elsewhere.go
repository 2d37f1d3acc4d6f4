package crypt

import "strings"

// cryptRefuses are printable characters that the crypt(3) of today's systems
// (libxcrypt) takes in no salt. Older ones did, and so hashes have them.
const cryptRefuses = " !*;\\"

// RefusedByCrypt says why no password matches a hash by the crypt(3) of
// today's systems, though it does here, and "" if it would, or if the format
// is none of crypt(3). nginx leaves these formats to crypt(3), and compares the
// text that it makes. The reason has nothing of the hash in it.
func RefusedByCrypt(hash string) string {
	class, err := Parse(hash)
	if err != nil {
		return ""
	}
	switch class.Format {
	case bcryptFormat:
		// The last character of the salt holds 2 bits. crypt(3) clears the
		// others in the text that it makes.
		const last = bcryptLen - 32
		if bcryptAlphabet[hash[last]]&0xf != 0 {
			return "the last character of the salt has bits that crypt(3) clears"
		}
	case md5cryptFormat, sha256cryptFormat, sha512cryptFormat, scryptFormat:
		if strings.ContainsAny(hash, cryptRefuses) {
			return "the salt has a blank or one of ! * ; \\, which crypt(3) refuses"
		}
	}
	return ""
}
