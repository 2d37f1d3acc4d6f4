package crypt

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/vectors.txt
var vectorsText string

type vector struct {
	format, cost, password, hash string
}

func vectors(tb testing.TB) []vector {
	tb.Helper()
	var all []vector
	for i, line := range strings.Split(vectorsText, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 4 {
			tb.Fatalf("vectors.txt:%d: %d fields", i+1, len(f))
		}
		password, err := strconv.Unquote(f[2])
		if err != nil {
			tb.Fatalf("vectors.txt:%d: %v", i+1, err)
		}
		all = append(all, vector{f[0], strings.TrimPrefix(f[1], "-"), password, f[3]})
	}
	return all
}

func mustParse(tb testing.TB, hash string) Class {
	tb.Helper()
	c, err := Parse(hash)
	if err != nil {
		tb.Fatalf("Parse(%q): %v", hash, err)
	}
	return c
}

// used returns the number of bytes of a password that a format uses.
func used(format string) int {
	switch format {
	case "bcrypt":
		return 72
	case "descrypt":
		return 8
	default:
		return MaxPasswordLen
	}
}

// altered returns password with one byte changed that the format uses.
func altered(format, password string) []byte {
	b := []byte(password)
	if len(b) == 0 {
		return []byte("x")
	}
	b[min(len(b), used(format))-1] ^= 1
	return b
}

// expensive are the costs at which a hash takes more than 50 ms.
var expensive = map[string][]string{
	"argon2i":     {"m=65536,t=3,p=4", "m=32768,t=4,p=1"},
	"argon2id":    {"m=65536,t=3,p=4", "m=65536,t=3,p=1"},
	"bcrypt":      {"09", "10", "11", "12", "13", "14"},
	"pbkdf2-sha1": {"131000"},
	"scrypt":      {"BU..../....", "ln=16,r=8,p=1"},
	"yescrypt":    {"j9T", "jB5"},
}

func TestVectors(t *testing.T) {
	count := make(map[string]int)
	for _, v := range vectors(t) {
		c := mustParse(t, v.hash)
		if c.Format.Name != v.format || c.Cost != v.cost {
			t.Errorf("Parse(%q) = %s, cost %q; want %s, cost %q",
				v.hash, c.Format.Name, c.Cost, v.format, v.cost)
		}
		if underRace && slices.Contains(expensive[v.format], v.cost) {
			continue
		}
		if !c.Verify(v.hash, []byte(v.password)) {
			t.Errorf("%q does not verify %q", v.hash, v.password)
		}
		if wrong := altered(v.format, v.password); c.Verify(v.hash, wrong) {
			t.Errorf("%q verifies %q", v.hash, wrong)
		}
		count[v.format]++
	}
	for _, f := range formats {
		if count[f.Name] == 0 {
			t.Errorf("no vectors for %s", f.Name)
		}
	}
}

// TestTruncatedAndExtended checks that a truncated hash, or one with an additional
// character, is invalid. {SSHA}, {PLAIN} and Argon2 allow more than one length:
// there such a text may be valid, but does not match the password.
func TestTruncatedAndExtended(t *testing.T) {
	for _, v := range vectors(t) {
		class := mustParse(t, v.hash)
		check := func(hash string) {
			if strings.TrimRight(hash, "=") == strings.TrimRight(v.hash, "=") && v.format == "ssha1" {
				return // {SSHA} with and without padding is the same hash
			}
			c, err := Parse(hash)
			shortArgon2 := strings.HasPrefix(v.format, "argon2") && len(hash)-strings.LastIndexByte(hash, '$') == 23
			if err == nil && c.Format.Name != "ssha1" && c.Format.Name != "plain" && !shortArgon2 {
				t.Errorf("Parse accepts %q, made from %q", hash, v.hash)
			}
			if class.Verify(hash, []byte(v.password)) || err == nil && c.Verify(hash, []byte(v.password)) {
				t.Errorf("%q, made from %q, verifies", hash, v.hash)
			}
		}
		for n := range len(v.hash) {
			check(v.hash[:n])
		}
		for b := range 256 {
			check(v.hash + string([]byte{byte(b)}))
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, v := range vectors(t) {
		if n := testing.AllocsPerRun(10, func() { _, _ = Parse(v.hash) }); n != 0 {
			t.Errorf("Parse(%q): %v allocations", v.hash, n)
		}
	}
}

// TestErrorsDoNotQuoteTheHash checks that no part of the salt or digest reaches a
// log through an error.
func TestErrorsDoNotQuoteTheHash(t *testing.T) {
	for _, v := range vectors(t) {
		body, _ := CutScheme(v.hash)
		body = body[strings.LastIndexAny(body[:max(0, len(body)-20)], "$}")+1:]
		body = strings.TrimPrefix(body, plainPrefix)
		var broken []string
		for n := range len(v.hash) {
			broken = append(broken, v.hash[:n], v.hash[:n]+"!"+v.hash[n:], v.hash[:n]+v.hash[n+1:])
		}
		broken = append(broken, v.hash+"x", " "+v.hash, "$9$"+v.hash, strings.ToUpper(v.hash))
		for _, h := range broken {
			_, err := Parse(h)
			if err == nil {
				continue
			}
			for i := 0; i+6 <= len(body); i++ {
				if strings.Contains(err.Error(), body[i:i+6]) {
					t.Fatalf("the error for %q quotes it: %v", h, err)
				}
			}
		}
	}
}

func TestVerifyWithAnotherClass(t *testing.T) {
	all := vectors(t)
	for _, v := range all {
		for _, o := range all {
			c := mustParse(t, o.hash)
			if c != mustParse(t, v.hash) && c.Verify(v.hash, []byte(v.password)) {
				t.Fatalf("%q verifies with the class %s %q", v.hash, c.Format.Name, c.Cost)
			}
		}
		for _, c := range []Class{{}, {Format: &Format{}}, {Cost: v.cost}} {
			if c.Verify(v.hash, []byte(v.password)) {
				t.Fatalf("%q verifies with a class of no format", v.hash)
			}
		}
	}
}

// TestVerifyRefusesNUL checks that a NUL does not end a password, as it does in C
// programs.
func TestVerifyRefusesNUL(t *testing.T) {
	for _, v := range vectors(t) {
		if v.password != "secret" {
			continue
		}
		c := mustParse(t, v.hash)
		for _, p := range []string{"secret\x00", "secret\x00x", "secret\x00secret", "\x00secret", "\x00"} {
			if c.Verify(v.hash, []byte(p)) {
				t.Errorf("%q verifies %q", v.hash, p)
			}
		}
	}
}

func TestPasswordLength(t *testing.T) {
	for _, v := range seeds(t) {
		c := mustParse(t, v.hash)
		for _, n := range []int{libcryptMaxPasswordLen, libcryptMaxPasswordLen + 1, MaxPasswordLen, MaxPasswordLen + 1, 1 << 20} {
			if c.Verify(v.hash, bytes.Repeat([]byte("p"), n)) {
				t.Errorf("%q verifies a password of %d bytes", v.hash, n)
			}
		}
	}
}

// TestIgnoredBytes checks that bcrypt ignores bytes after the 72nd and DES after the
// 8th, as other implementations do, and that other formats use all bytes.
func TestIgnoredBytes(t *testing.T) {
	seen := make(map[string]int)
	for _, v := range vectors(t) {
		n := min(used(v.format), 199)
		if len(v.password) <= n {
			continue
		}
		seen[v.format]++
		c := mustParse(t, v.hash)
		ignored := n == used(v.format)
		if c.Verify(v.hash, []byte(v.password[:n])) != ignored || c.Verify(v.hash, []byte(v.password[:n]+"other")) != ignored {
			t.Errorf("%q: bytes after the %dth are ignored: %v", v.hash, n, !ignored)
		}
	}
	for _, f := range formats {
		if seen[f.Name] == 0 {
			t.Errorf("no vector of %s with a long password", f.Name)
		}
	}
}

// TestDESIgnoresTheTopBit checks that DES ignores the top bit of each byte, as other
// implementations do.
func TestDESIgnoresTheTopBit(t *testing.T) {
	for _, v := range vectors(t) {
		if v.format != "descrypt" || v.password == "" {
			continue
		}
		p := []byte(v.password)
		p[0] ^= 0x80
		if c := mustParse(t, v.hash); !c.Verify(v.hash, p) {
			t.Errorf("%q: the top bit is used", v.hash)
		}
	}
}

// TestPBKDF2Spellings verifies the PHC spelling of PBKDF2, which no tool here
// creates. It has the same parameters, and may have a shorter digest.
func TestPBKDF2Spellings(t *testing.T) {
	seen := make(map[string]bool)
	for _, v := range vectors(t) {
		if !strings.HasPrefix(v.format, "pbkdf2-") {
			continue
		}
		seen[v.format] = true
		parts := strings.SplitN(strings.ReplaceAll(v.hash, ".", "+"), "$", 4)
		length := map[string]string{"pbkdf2-sha1": "20", "pbkdf2-sha256": "32", "pbkdf2-sha512": "64"}[v.format]
		hash := "$" + parts[1] + "$i=" + parts[2] + ",l=" + length + "$" + parts[3]
		c := mustParse(t, hash)
		if !c.Verify(hash, []byte(v.password)) || c.Verify(hash, altered(v.format, v.password)) {
			t.Errorf("%q does not verify as %q does", hash, v.hash)
		}
		salt, digest, _ := strings.Cut(parts[3], "$")
		raw, err := base64.RawStdEncoding.DecodeString(digest)
		if err != nil {
			t.Fatal(err)
		}
		short := "$" + parts[1] + "$i=" + parts[2] + ",l=16$" + salt + "$" + base64.RawStdEncoding.EncodeToString(raw[:16])
		if c := mustParse(t, short); !c.Verify(short, []byte(v.password)) || c.Verify(short, altered(v.format, v.password)) {
			t.Errorf("%q does not verify as %q does", short, v.hash)
		}
	}
	if len(seen) != 3 {
		t.Errorf("only %v", seen)
	}
}
