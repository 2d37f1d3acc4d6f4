package crypt

import "strings"

// cryptRefuses are printable characters that the crypt(3) of current systems
// (libxcrypt) rejects in salts. Older versions accepted them, so hashes with them
// exist.
const cryptRefuses = " !*;\\"

// RefusedByCrypt returns the reason why the crypt(3) of current systems verifies no
// password for a hash that this package verifies. It returns "" if there is no such
// reason, or if the format is not one of crypt(3). nginx uses crypt(3) for these
// formats, and compares its output. A scheme before the hash is such a reason: neither
// nginx nor Apache removes it. The reason contains no part of the hash.
func RefusedByCrypt(hash string) string {
	class, err := Parse(hash)
	if err != nil {
		return ""
	}
	if _, found := CutScheme(hash); found {
		return "a name in braces, as of Dovecot and LDAP, stands before the hash; nginx and Apache read only the hash itself"
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
			return "the salt contains a space or one of ! * ; \\, which crypt(3) rejects"
		}
	}
	return ""
}
