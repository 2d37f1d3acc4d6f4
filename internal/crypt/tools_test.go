package crypt

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// perlCrypt reads lines of a password in hex and a setting, and prints the output
// of crypt(3).
const perlCrypt = `while (<STDIN>) { my ($p, $s) = split; print crypt(pack("H*", $p), $s), "\n" }`

// perlSSHA reads the same lines, and prints {SSHA} with the second field as salt.
const perlSSHA = `use Digest::SHA qw(sha1); use MIME::Base64;
while (<STDIN>) { my ($p, $s) = split; print "{SSHA}", encode_base64(sha1(pack("H*", $p) . $s) . $s, ""), "\n" }`

// passlibHash reads passwords in hex, and prints the hashes of passlib that a Python
// expression creates.
const passlibHash = `import sys, random, passlib.hash as h
for p in map(bytes.fromhex, sys.stdin): print((%s).hash(p))`

// hashesPerTool returns the number of passwords for each tool. For each format, at
// least one tool hashes as many.
func hashesPerTool() int {
	if underRace {
		return 20
	}
	return 200
}

// TestAgainstTools verifies random passwords against hashes of other tools.
func TestAgainstTools(t *testing.T) {
	crypt := func(setting func() string) func(*testing.T, [][]byte) []string {
		return func(t *testing.T, p [][]byte) []string { return perlLines(t, perlCrypt, p, setting) }
	}
	passlib := func(expression string) func(*testing.T, [][]byte) []string {
		return func(t *testing.T, p [][]byte) []string {
			return outputLines(t, strings.NewReader(hexLines(p)), python(t), "-c", fmt.Sprintf(passlibHash, expression))
		}
	}
	tests := []struct {
		format string
		tool   string
		make   func(t *testing.T, passwords [][]byte) []string
	}{
		{"bcrypt", "perl", crypt(func() string {
			return "$2" + string("aby"[rand.IntN(3)]) + "$04$" + randomSalt(21) + "u"
		})},
		{"bcrypt", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-niBC4") }},
		{"argon2id", "argon2", func(t *testing.T, p [][]byte) []string { return argon2Program(t, p, "-id") }},
		{"argon2id", "python3", passlib(`h.argon2.using(type="ID", rounds=random.randint(1, 3), memory_cost=random.randint(32, 99), parallelism=random.randint(1, 4))`)},
		{"argon2i", "argon2", func(t *testing.T, p [][]byte) []string { return argon2Program(t, p, "-i") }},
		{"argon2i", "python3", passlib(`h.argon2.using(type="I", rounds=random.randint(1, 3), memory_cost=random.randint(32, 99), parallelism=random.randint(1, 4))`)},
		{"scrypt", "python3", passlib(`h.scrypt.using(rounds=random.randint(1, 9), block_size=random.randint(1, 9), parallelism=random.randint(1, 3))`)},
		{"scrypt", "perl", crypt(func() string {
			return "$7$" + randomDigit(2, 9) + randomDigit(1, 9) + "...." + randomDigit(1, 3) + "...." + randomSalt(rand.IntN(87)) + "$"
		})},
		{"yescrypt", "perl", crypt(func() string {
			return "$y$j" + randomDigit(1, 9) + randomDigit(0, 40) + "$" + randomSalt(4*rand.IntN(21)) + "$"
		})},
		{"sha256crypt", "perl", crypt(func() string { return randomSHACrypt("$5$") })},
		{"sha256crypt", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-5") }},
		{"sha512crypt", "perl", crypt(func() string { return randomSHACrypt("$6$") })},
		{"sha512crypt", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-6") }},
		{"pbkdf2-sha256", "python3", passlib(`h.pbkdf2_sha256.using(rounds=random.randint(1, 999), salt_size=random.randint(1, 64))`)},
		{"pbkdf2-sha512", "python3", passlib(`h.pbkdf2_sha512.using(rounds=random.randint(1, 999), salt_size=random.randint(1, 64))`)},
		{"pbkdf2-sha1", "python3", passlib(`h.pbkdf2_sha1.using(rounds=random.randint(1, 999), salt_size=random.randint(1, 64))`)},
		{"apr1", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-apr1") }},
		{"apr1", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-nim") }},
		{"ssha1", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlSSHA, p, func() string { return randomSalt(4 + rand.IntN(61)) })
		}},
		{"ssha1", "python3", passlib(`h.ldap_salted_sha1.using(salt_size=random.randint(4, 16))`)},
		{"md5crypt", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-1") }},
		{"md5crypt", "perl", crypt(func() string { return "$1$" + randomSalt(rand.IntN(9)) + "$" })},
		{"sha1", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-nis") }},
		{"sha1", "python3", passlib(`h.ldap_sha1`)},
		{"descrypt", "perl", crypt(func() string { return randomSalt(2) })},
		{"plain", "htpasswd", plainHtpasswd},
		{"bcrypt", "python3", passlib(`h.ldap_bcrypt.using(rounds=4)`)},
		{"sha512crypt", "python3", passlib(`h.ldap_sha512_crypt.using(rounds=random.randint(1000, 1999))`)},
		{"sha256crypt", "python3", passlib(`h.ldap_sha256_crypt.using(rounds=random.randint(1000, 1999))`)},
		{"md5crypt", "python3", passlib(`h.ldap_md5_crypt`)},
		{"descrypt", "python3", passlib(`h.ldap_des_crypt`)},
		{"descrypt", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-nid") }},
	}
	tested := make(map[string]bool)
	for _, tt := range tests {
		tested[tt.format] = true
	}
	for _, f := range formats {
		if !tested[f.Name] {
			t.Errorf("no tool for %s", f.Name)
		}
	}
	for _, tt := range tests {
		t.Run(tt.format+"/"+tt.tool, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(tt.tool); err != nil {
				t.Skipf("%s is not installed", tt.tool)
			}
			passwords := randomPasswords(hashesPerTool())
			hashes := tt.make(t, passwords)
			if len(hashes) != len(passwords) {
				t.Fatalf("%d hashes for %d passwords", len(hashes), len(passwords))
			}
			for i, p := range passwords {
				c, err := Parse(hashes[i])
				if err != nil {
					t.Fatalf("password %x: Parse(%q): %v", p, hashes[i], err)
				}
				if c.Format.Name != tt.format {
					t.Skipf("%s does not create %s hashes here", tt.tool, tt.format)
				}
				if want := !strings.HasPrefix(hashes[i], "$2a$") || !isOdd2a(p); c.Verify(hashes[i], p) != want {
					t.Errorf("%q verifies %x: %v", hashes[i], p, !want)
				}
				if c.Verify(hashes[i], altered(tt.format, string(p))) {
					t.Errorf("%q verifies %x with a byte changed", hashes[i], p)
				}
			}
		})
	}
}

// isOdd2a reports whether crypt_blowfish computes a different hash for a password
// with $2a$ (see bcryptFormat). For such a password, the implementation that extends
// the sign of bytes, which $2x$ marks, computes the right key, although there is a
// byte from 0x80 on that is not the first in its word.
func isOdd2a(password []byte) bool {
	key, at, odd := append(slices.Clone(password), 0), 0, false
	for range 18 {
		var right, faulty uint32
		for j := range 4 {
			b := key[at%len(key)]
			at++
			right = right<<8 | uint32(b)
			faulty = faulty<<8 | uint32(int8(b)) //nolint:gosec // this is the fault
			odd = odd || j > 0 && b >= 0x80
		}
		if right != faulty {
			return false
		}
	}
	return odd
}

// TestOdd2a verifies such a password with its hashes by perl's crypt:
// perl -e 'print crypt("\xff\xde@", "\$2a\$04\$......................")', and likewise with \$2b\$.
func TestOdd2a(t *testing.T) {
	const odd = "\xff\xde@"
	for hash, want := range map[string]bool{
		"$2a$04$......................QH7xM3rqAl9cnSp0xYT9EYpeDP1A.gC": false,
		"$2b$04$......................ETcbR41SGeM3odXwXDLU3h2rHHuD8aG": true,
	} {
		c, err := Parse(hash)
		if err != nil || c.Verify(hash, []byte(odd)) != want || !isOdd2a([]byte(odd)) {
			t.Errorf("%s: %v, want %v", hash, err, want)
		}
	}
	for _, password := range []string{"", "a", "\xffa", "a\xff", "gr\xfcn", "\xc3\xbf"} {
		if isOdd2a([]byte(password)) {
			t.Errorf("%q is not odd", password)
		}
	}
}

// randomPasswords returns n passwords of 1 to 200 bytes, without line ends and NUL.
func randomPasswords(n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		p := make([]byte, 1+rand.IntN([]int{8, 32, 200}[i%3]))
		for j := range p {
			for p[j] == 0 || p[j] == '\n' || p[j] == '\r' {
				p[j] = byte(rand.IntN(256))
			}
		}
		all[i] = p
	}
	return all
}

func randomSalt(n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(cryptDigits[rand.IntN(len(cryptDigits))])
	}
	return b.String()
}

func randomSHACrypt(prefix string) string {
	rounds := ""
	if rand.IntN(2) == 0 {
		rounds = fmt.Sprintf("rounds=%d$", 1000+rand.IntN(2000))
	}
	return prefix + rounds + randomSalt(rand.IntN(17)) + "$"
}

// randomDigit returns a digit of crypt(3) with a value from low to high.
func randomDigit(low, high int) string {
	return cryptDigits[low+rand.IntN(high-low+1):][:1]
}

func perlLines(t *testing.T, script string, passwords [][]byte, setting func() string) []string {
	var in bytes.Buffer
	for _, p := range passwords {
		fmt.Fprintf(&in, "%s %s\n", hex.EncodeToString(p), setting())
	}
	return outputLines(t, &in, "perl", "-e", script)
}

func hexLines(passwords [][]byte) string {
	var lines strings.Builder
	for _, p := range passwords {
		fmt.Fprintln(&lines, hex.EncodeToString(p))
	}
	return lines.String()
}

// argon2Program truncates passwords to 127 bytes, the limit of the program.
func argon2Program(t *testing.T, passwords [][]byte, flag string) []string {
	var hashes []string
	for i, p := range passwords {
		passwords[i] = p[:min(len(p), 127)]
		lanes := 1 + rand.IntN(4)
		hashes = append(hashes, outputLines(t, bytes.NewReader(passwords[i]), "argon2", randomSalt(8+rand.IntN(9)), flag, "-e",
			"-t", fmt.Sprint(1+rand.IntN(3)), "-k", fmt.Sprint(8*lanes+rand.IntN(64)), "-p", fmt.Sprint(lanes))...)
	}
	return hashes
}

func openssl(t *testing.T, passwords [][]byte, flag string) []string {
	return outputLines(t, bytes.NewBuffer(bytes.Join(passwords, []byte("\n"))), "openssl", "passwd", flag, "-stdin")
}

func htpasswd(t *testing.T, passwords [][]byte, flags string) []string {
	var hashes []string
	for _, p := range passwords {
		// -C4 keeps bcrypt quick; it must be the last of the joined flags.
		for _, line := range outputLines(t, bytes.NewBuffer(p), "htpasswd", flags, "u") {
			hashes = append(hashes, strings.TrimPrefix(line, "u:"))
		}
	}
	return hashes
}

// plainHtpasswd replaces control characters in the passwords, which the format does
// not allow.
func plainHtpasswd(t *testing.T, passwords [][]byte) []string {
	for _, p := range passwords {
		for i, c := range p {
			if c < ' ' || c == 0x7f {
				p[i] = 'x'
			}
		}
	}
	hashes := htpasswd(t, passwords, "-nip")
	for i := range hashes {
		hashes[i] = plainPrefix + hashes[i]
	}
	return hashes
}

func outputLines(t *testing.T, in io.Reader, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("%s: %v", name, err)
	}
	return strings.FieldsFunc(string(out), func(c rune) bool { return c == '\n' })
}

// python is a Python that has passlib: on Debian the system's, which need not
// be the first on the path.
func python(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import passlib.hash, argon2").Run() == nil {
			return name
		}
	}
	tb.Skip("python3 with passlib and argon2-cffi is not installed")
	return ""
}
