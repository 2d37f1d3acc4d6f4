package crypt

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// perlCrypt reads lines of a password in hex and a setting, and writes the
// output of crypt(3).
const perlCrypt = `while (<STDIN>) { my ($p, $s) = split; print crypt(pack("H*", $p), $s), "\n" }`

// perlSSHA reads the same lines and writes {SSHA} with the second field as salt.
const perlSSHA = `use Digest::SHA qw(sha1); use MIME::Base64;
while (<STDIN>) { my ($p, $s) = split; print "{SSHA}", encode_base64(sha1(pack("H*", $p) . $s) . $s, ""), "\n" }`

// TestAgainstTools verifies random passwords against hashes made on the spot.
func TestAgainstTools(t *testing.T) {
	tests := []struct {
		format string
		tool   string
		make   func(t *testing.T, passwords [][]byte) []string
	}{
		{"bcrypt", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlCrypt, p, func() string {
				return "$2" + string("aby"[rand.IntN(3)]) + "$04$" + randomSalt(21) + "u"
			})
		}},
		{"bcrypt", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-niBC4") }},
		{"apr1", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-apr1") }},
		{"apr1", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-nim") }},
		{"md5crypt", "openssl", func(t *testing.T, p [][]byte) []string { return openssl(t, p, "-1") }},
		{"md5crypt", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlCrypt, p, func() string { return "$1$" + randomSalt(rand.IntN(9)) + "$" })
		}},
		{"sha256crypt", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlCrypt, p, func() string { return randomSHACrypt("$5$") })
		}},
		{"sha512crypt", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlCrypt, p, func() string { return randomSHACrypt("$6$") })
		}},
		{"sha1", "htpasswd", func(t *testing.T, p [][]byte) []string { return htpasswd(t, p, "-nis") }},
		{"ssha1", "perl", func(t *testing.T, p [][]byte) []string {
			return perlLines(t, perlSSHA, p, func() string { return randomSalt(1 + rand.IntN(64)) })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.format+"/"+tt.tool, func(t *testing.T) {
			if _, err := exec.LookPath(tt.tool); err != nil {
				t.Skipf("%s is not installed", tt.tool)
			}
			passwords := randomPasswords(20)
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
					t.Skipf("%s does not make %s here", tt.tool, tt.format)
				}
				if !c.Verify(hashes[i], p) {
					t.Errorf("%q does not verify %x", hashes[i], p)
				}
				if c.Verify(hashes[i], altered(string(p))) {
					t.Errorf("%q verifies %x with a byte changed", hashes[i], p)
				}
			}
		})
	}
}

// randomPasswords returns n passwords of 1 to 200 bytes, without the ones that
// end a line or a C string.
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

func perlLines(t *testing.T, script string, passwords [][]byte, setting func() string) []string {
	var in bytes.Buffer
	for _, p := range passwords {
		fmt.Fprintf(&in, "%s %s\n", hex.EncodeToString(p), setting())
	}
	return outputLines(t, &in, "perl", "-e", script)
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

func outputLines(t *testing.T, in *bytes.Buffer, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("%s: %v", name, err)
	}
	return strings.Fields(string(out))
}
