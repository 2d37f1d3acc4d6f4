package crypt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// seeds returns a few hashes of each format and cost, without the slow ones.
func seeds(tb testing.TB) []vector {
	count := make(map[string]int)
	return slices.DeleteFunc(vectors(tb), func(v vector) bool {
		count[v.format+v.cost]++
		return count[v.format+v.cost] > 2 || isSlow(mustParse(tb, v.hash), v.hash)
	})
}

func FuzzParse(f *testing.F) {
	for _, v := range seeds(f) {
		f.Add(v.hash)
		f.Add(v.hash[:len(v.hash)-1])
	}
	f.Add("")
	f.Add("secret")
	f.Add("$2x$05$" + bcrypt53)
	f.Add("{CRYPT}{CRYPT}$6$salt$" + digest86)
	f.Add("{crypt}")
	f.Add("{SHA512-CRYPT}$5$salt$" + digest43)
	f.Add("{SHA512-CRYPT.B64}JDYk")
	f.Add("$5$rounds=4294967295$salt$" + digest43)
	for _, hash := range mostExpensive {
		f.Add(hash)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		c, err := Parse(hash)
		if err != nil {
			if c != (Class{}) {
				t.Error("a class with an error")
			}
			if len(err.Error()) > 120 {
				t.Error("the error is too long for a fixed text")
			}
			bare, _ := CutScheme(hash)
			known := slices.ContainsFunc(formats, func(f *Format) bool { return f != descryptFormat && f.claims(bare) })
			if !known && !errors.Is(err, errUnknownFormat) {
				t.Errorf("no format has its prefix, and the error is %v", err)
			}
			return
		}
		if !slices.Contains(formats, c.Format) {
			t.Error("a class of no format")
		}
		if c.Cost != "" && c.Cost != shaCryptDefaultRounds && !strings.Contains(hash, c.Cost) {
			t.Errorf("cost %q is not from the hash", c.Cost)
		}
		if again, err := Parse(strings.Clone(hash)); err != nil || again != c {
			t.Error("parsing again gives another class")
		}
		if bare, found := CutScheme(hash); found {
			if without, err := Parse(bare); err != nil || without != c {
				t.Error("the hash without the scheme has another class")
			}
		}
	})
}

func FuzzVerifyBcrypt(f *testing.F)   { fuzzVerify(f, bcryptFormat) }
func FuzzVerifyArgon2(f *testing.F)   { fuzzVerify(f, argon2idFormat, argon2iFormat) }
func FuzzVerifyScrypt(f *testing.F)   { fuzzVerify(f, scryptFormat) }
func FuzzVerifyYescrypt(f *testing.F) { fuzzVerify(f, yescryptFormat) }
func FuzzVerifySHACrypt(f *testing.F) { fuzzVerify(f, sha256cryptFormat, sha512cryptFormat) }
func FuzzVerifyPBKDF2(f *testing.F) {
	fuzzVerify(f, pbkdf2SHA256Format, pbkdf2SHA512Format, pbkdf2SHA1Format)
}
func FuzzVerifyMD5Crypt(f *testing.F) { fuzzVerify(f, apr1Format, md5cryptFormat) }
func FuzzVerifySHA1(f *testing.F)     { fuzzVerify(f, sha1Format, ssha1Format) }
func FuzzVerifyPlain(f *testing.F)    { fuzzVerify(f, plainFormat) }
func FuzzVerifyDES(f *testing.F)      { fuzzVerify(f, descryptFormat) }

// fuzzVerify starts from hashes of the formats.
func fuzzVerify(f *testing.F, formats ...*Format) {
	for _, v := range seeds(f) {
		if !slices.Contains(formats, mustParse(f, v.hash).Format) {
			continue
		}
		f.Add(v.hash, []byte(v.password))
		f.Add(v.hash[:len(v.hash)-1], []byte(v.password))
		f.Add(v.hash, []byte(v.password+"\x00x"))
	}
	f.Fuzz(checkVerify)
}

// checkVerify checks properties of any hash and any password.
func checkVerify(t *testing.T, hash string, password []byte) {
	c, err := Parse(hash)
	if err != nil {
		for _, format := range formats {
			for _, cost := range []string{"", "05", "1000", shaCryptDefaultRounds} {
				if (Class{Format: format, Cost: cost}).Verify(hash, password) {
					t.Errorf("a hash that does not parse verifies as %s", format.Name)
				}
			}
		}
		return
	}
	if isSlow(c, hash) {
		t.Skip("too slow")
	}
	if !c.Verify(hash, password) {
		return
	}
	// A password without its last byte never matches, unless the format ignores
	// that byte. DES treats a NUL within its 8 bytes like a missing byte.
	if n := len(password); n > 0 && n <= used(c.Format.Name) && c.Verify(hash, password[:n-1]) &&
		(c.Format != descryptFormat || password[n-1]&0x7f != 0) {
		t.Error("a shortened password matches, too")
	}
}

// isSlow reports whether a hash is too expensive for fuzzing.
func isSlow(c Class, hash string) bool {
	hash, _ = CutScheme(hash)
	switch c.Format {
	case bcryptFormat:
		return c.Cost > bcryptMinCost
	case argon2idFormat, argon2iFormat:
		var h argon2Hash
		return h.parse(hash[len(c.Format.prefixes[0]):]) != nil || h.params[0]*h.params[1] > 256
	case scryptFormat:
		var h scryptHash
		return h.parse(hash) != nil || h.r*h.p<<h.ln > 1<<12
	case yescryptFormat:
		var h yescryptHash
		return h.parse(hash[len(yescryptPrefix):]) != nil || h.r<<h.ln > 1<<10
	default:
		rounds, _, _ := strings.Cut(strings.TrimPrefix(c.Cost, "i="), ",")
		return len(rounds) > 4
	}
}
