package crypt

import (
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// perlBench hashes "secret" with crypt(3) for a quarter of a second, and prints the
// nanoseconds per hash.
const perlBench = `use Time::HiRes "time"; my ($n, $t) = (0, time);
do { crypt("secret", $ARGV[0]); $n++ } while time - $t < 0.25;
print +(time - $t) / $n * 1e9`

// pythonBench does the same with hashlib, which is OpenSSL, and argon2-cffi,
// which is the reference implementation.
const pythonBench = `import sys, time, passlib.hash as h
kind, secret = getattr(h, sys.argv[1]), sys.argv[2]
n, t = 0, time.perf_counter()
while n == 0 or time.perf_counter() - t < 0.25: kind.verify("secret", secret); n += 1
print((time.perf_counter() - t) / n * 1e9)`

// BenchmarkVerify measures each format at the default cost of its tools.
// "reference-ns/op" is the time of libcrypt, OpenSSL or the reference implementation
// of Argon2 on this machine, and "ratio" is our time divided by it.
func BenchmarkVerify(b *testing.B) {
	tests := []struct{ name, cost, reference string }{
		{"bcrypt", "05", "crypt"},
		{"bcrypt", "10", "crypt"},
		{"argon2id", "m=65536,t=3,p=4", "argon2"},
		{"argon2i", "m=65536,t=3,p=4", "argon2"},
		{"scrypt", "ln=16,r=8,p=1", "scrypt"},
		{"scrypt", "BU..../....", "crypt"},
		{"yescrypt", "j9T", "crypt"},
		{"sha256crypt", "5000", "crypt"},
		{"sha512crypt", "5000", "crypt"},
		{"pbkdf2-sha256", "29000", "pbkdf2_sha256"},
		{"pbkdf2-sha512", "25000", "pbkdf2_sha512"},
		{"pbkdf2-sha1", "131000", "pbkdf2_sha1"},
		{"apr1", "", ""},
		{"ssha1", "", ""},
		{"md5crypt", "", "crypt"},
		{"sha1", "", ""},
		{"plain", "", ""},
		{"descrypt", "", "crypt"},
	}
	all := vectors(b)
	for _, tt := range tests {
		b.Run(strings.TrimSuffix(tt.name+"/"+tt.cost, "/"), func(b *testing.B) {
			for _, v := range all {
				if v.password == "secret" && v.format == tt.name && v.cost == tt.cost {
					benchmarkVerify(b, v, tt.reference)
					return
				}
			}
			b.Fatal("no vector")
		})
	}
}

func benchmarkVerify(b *testing.B, v vector, reference string) {
	b.ReportAllocs()
	c, password := mustParse(b, v.hash), []byte(v.password)
	for b.Loop() {
		if !c.Verify(v.hash, password) {
			b.Fatal("does not verify")
		}
	}
	ours := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	var cmd *exec.Cmd
	switch reference {
	case "":
		return
	case "crypt":
		cmd = exec.Command("perl", "-e", perlBench, v.hash)
	default:
		cmd = exec.Command(python(b), "-c", pythonBench, reference, v.hash)
	}
	out, err := cmd.Output()
	if err != nil {
		b.Logf("%s: %v", cmd.Path, err)
		return
	}
	theirs, err := strconv.ParseFloat(string(bytes.TrimSpace(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(theirs, "reference-ns/op")
	b.ReportMetric(ours/theirs, "ratio")
}

// BenchmarkMostExpensive measures the most expensive verifications: hashes of the
// highest accepted costs, and the longest passwords.
func BenchmarkMostExpensive(b *testing.B) {
	for _, hash := range mostExpensive {
		c := mustParse(b, hash)
		b.Run(c.Format.Name+"/"+c.Cost, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Verify(hash, bytes.Repeat([]byte("p"), 72))
			}
		})
		if !strings.HasPrefix(c.Format.Name, "sha") {
			continue
		}
		b.Run(c.Format.Name+"/"+c.Cost+"/long", func(b *testing.B) {
			for b.Loop() {
				c.Verify(hash, bytes.Repeat([]byte("p"), libcryptMaxPasswordLen))
			}
		})
	}
}

// mostExpensive are hashes at the bounds of what Parse accepts. For formats with more
// than one parameter there is one for each corner.
var mostExpensive = []string{
	"$2b$14$" + bcrypt53,
	"$argon2id$v=19$m=262144,t=3,p=1$" + argonEnd,
	"$argon2id$v=19$m=262144,t=3,p=255$" + argonEnd,
	"$argon2id$v=19$m=8,t=98304,p=1$" + argonEnd,
	"$argon2id$v=19$m=2040,t=385,p=255$" + argonEnd,
	"$argon2i$v=19$m=262144,t=3,p=1$" + argonEnd,
	"$argon2i$v=19$m=8,t=98304,p=1$" + argonEnd,
	"$scrypt$ln=18,r=8,p=1$" + argonEnd,
	"$scrypt$ln=10,r=8,p=256$" + argonEnd,
	"$scrypt$ln=21,r=1,p=1$" + argonEnd,
	"$scrypt$ln=9,r=4096,p=1$" + argonEnd,
	"$scrypt$ln=9,r=1,p=4096$" + argonEnd,
	"$y$jDT$salt$" + digest43,
	"$y$jI.$salt$" + digest43,
	"$5$rounds=1000000$saltsaltsaltsalt$" + digest43,
	"$6$rounds=1000000$saltsaltsaltsalt$" + digest86[:85] + ".",
	"$pbkdf2-sha256$4000000$" + pbkdf2End,
	"$pbkdf2-sha512$2000000$c2FsdA$" + strings.Repeat("A", 86),
	"$pbkdf2$4000000$c2FsdA$" + strings.Repeat("A", 27),
}

func BenchmarkParse(b *testing.B) {
	done := make(map[string]bool)
	for _, v := range vectors(b) {
		if done[v.format] {
			continue
		}
		done[v.format] = true
		b.Run(v.format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(v.hash); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
