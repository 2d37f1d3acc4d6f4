package crypt

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Parts of hashes of "secret", or of the right length and alphabet at least.
const (
	digest22 = "6JQCBm3Ekd7hxkHn5y2rG."
	digest43 = "japDxBfHcSVGcyn00bW518Ndv09CHo6WdVnm01mosE2"
	digest86 = digest43 + digest43

	argonDigest = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA"
	argonEnd    = "c29tZXNhbHQ$" + argonDigest
	pbkdf2End   = "c2FsdA$" + argonDigest

	bcrypt53 = "abcdefghijklmnopqrstuuyvPXIbu7xe6/CED2DzX8z6Si09MlzlW"
)

var parseErrors = []struct{ hash, want string }{
	{"", "is empty"},
	{"secret", "unknown"},
	{"$", "unknown"},
	{"$1", "unknown"},
	{"$2b", "unknown"},
	{"{SHA", "unknown"},
	{"{sha}5en6G6MezRroT3XKqkdPOmY/BfQ=", "unknown"},
	{"{plain}secret", "unknown"},
	{"$2k$05$" + bcrypt53, "unknown"},
	{"$3$$" + digest22, "unknown"},
	{"$md5$salt$" + digest22, "unknown"},
	{"$gy$j9T$salt$" + digest43, "unknown"},
	{"$argon2d$v=19$m=64,t=1,p=1$" + argonEnd, "unknown"},
	{"$scrypt", "unknown"},
	{"$pbkdf2-sha1$1000$" + pbkdf2End, "unknown"},
	{"{PLAIN", "unknown"},
	{"*0", "unknown"},
	{"!", "unknown"},

	{"$2x$05$" + bcrypt53, "bcrypt: $2x$"},
	{"$2$05$" + bcrypt53, "bcrypt: $2$"},
	{"$2b$5$" + bcrypt53, "60 characters"},
	{"$2b$5$x" + bcrypt53, "two digits"},
	{"$2b$005$" + bcrypt53, "60 characters"},
	{"$2b$-4$" + bcrypt53, "two digits"},
	{"$2b$+4$" + bcrypt53, "two digits"},
	{"$2b$ 4$" + bcrypt53, "two digits"},
	{"$2b$055" + bcrypt53, "two digits"},
	{"$2b$00$" + bcrypt53, "range"},
	{"$2b$03$" + bcrypt53, "range"},
	{"$2b$15$" + bcrypt53, "range"},
	{"$2b$31$" + bcrypt53, "range"},
	{"$2b$99$" + bcrypt53, "range"},
	{"$2b$05$" + bcrypt53[:52], "60 characters"},
	{"$2b$05$" + bcrypt53 + "x", "60 characters"},
	{"$2b$05$" + bcrypt53 + "\n", "60 characters"},
	{"$2b$05$!" + bcrypt53[1:], "character"},
	{"$2b$05$" + bcrypt53[:30] + "=" + bcrypt53[31:], "character"},
	{"$2b$05$" + bcrypt53[:30] + "\xff" + bcrypt53[31:], "character"},
	{"$2b$05$" + bcrypt53[:52] + "X", "character"},

	{"$apr1$", "no $"},
	{"$apr1$saltsalt", "no $"},
	{"$apr1$saltsalt9$" + digest22, "salt is too long"},
	{"$apr1$sa:t$" + digest22, "salt contains"},
	{"$apr1$sa\tt$" + digest22, "salt contains"},
	{"$apr1$s\xc3\xa4t$" + digest22, "salt contains"},
	{"$apr1$salt$" + digest22[:21], "digest"},
	{"$apr1$salt$" + digest22 + ".", "digest"},
	{"$apr1$salt$" + digest22 + "$", "digest"},
	{"$apr1$salt$" + digest22[:20] + "+.", "digest"},
	{"$apr1$salt$" + digest22[:21] + "2", "digest"},
	{"$apr1$salt$$" + digest22, "digest"},
	{"$1$saltsalt9$" + digest22, "salt is too long"},
	{"$1$salt$" + digest22[:21], "digest"},

	{"$5$salt$" + digest22, "digest"},
	{"$5$salt$" + digest86, "digest"},
	{"$5$salt$" + digest43[:42] + "E", "digest"},
	{"$6$salt$" + digest43, "digest"},
	{"$6$salt$" + digest86[:85] + "0$", "digest"},
	{"$6$salt$" + digest86[:85] + "3", "digest"},
	{"$5$0123456789abcdefg$" + digest43, "salt is too long"},
	{"$5$rounds=1000", "rounds= is not"},
	{"$5$rounds=$" + digest43, "rounds= is not"},
	{"$5$rounds=$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=0$salt$" + digest43, "range"},
	{"$5$rounds=0100$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=05000$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=+5000$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=-5000$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=5000 $salt$" + digest43, "rounds= is not"},
	{"$5$rounds=5e3$salt$" + digest43, "rounds= is not"},
	{"$5$rounds=10$salt$" + digest43, "range"},
	{"$5$rounds=999$salt$" + digest43, "range"},
	{"$5$rounds=1000001$salt$" + digest43, "range"},
	{"$5$rounds=999999999$salt$" + digest43, "range"},
	{"$6$rounds=4294967295$salt$" + digest86, "range"},
	{"$6$rounds=18446744073709556616$salt$" + digest86, "range"},
	{"$6$rounds=5000$rounds=5000$" + digest86[:85], "digest"},
	{"$6$rounds=5000$" + digest86, "no $"},

	{"{SHA}", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfR=", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ==", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQa", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/Bw==", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY_BfQ=", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqk\nPOmY/BfQ=", "sha1: not"},
	{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n", "sha1: not"},
	{"{SSHA}", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQa=", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQaa=", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQab===", "ssha1: not"},
	{"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ\na", "ssha1: not"},
	{"{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx", "ssha1: not"},
	{"{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYW", "ssha1: not"},
	{"{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYQ==", "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 28), "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 31), "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 31) + "=", "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 113), "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 114), "ssha1: not"},
	{"{SSHA}" + strings.Repeat("A", 1<<20), "ssha1: not"},

	{"rqXexS6ZhobK", "unknown"},
	{"rqXexS6ZhobKAA", "unknown"},
	{"rqXexS6ZhobKB", "unknown"}, // a bit more in the last character than DES has
	{"rqXexS6ZhobKC", "unknown"},
	{"rqXexS6Zhob-A", "unknown"},
	{"*qXexS6ZhobKA", "unknown"},
	{"r\xffXexS6ZhobKA", "unknown"},
	{"_J9..rasmBYk8r9AiWNc", "unknown"}, // extended DES

	{"$argon2id$", "version"},
	{"$argon2id$v=16$m=64,t=1,p=1$" + argonEnd, "version"},
	{"$argon2i$m=64,t=1,p=1$" + argonEnd, "argon2i: the version"},
	{"$argon2id$v=19$", "not written"},
	{"$argon2id$v=19$m=64,t=1$" + argonEnd, "not written"},
	{"$argon2id$v=19$t=1,m=64,p=1$" + argonEnd, "not written"},
	{"$argon2id$v=19$m=64,t=1,p=1,keyid=aGk$" + argonEnd, "not written"},
	{"$argon2id$v=19$m=064,t=1,p=1$" + argonEnd, "not written"},
	{"$argon2id$v=19$m=64,t=-1,p=1$" + argonEnd, "not written"},
	{"$argon2id$v=19$m=64,t=1,p=$" + argonEnd, "not written"},
	{"$argon2id$v=19$m=64,t=1,p=1" + argonEnd, "not written"},
	{"$argon2id$v=19$m=64,t=0,p=1$" + argonEnd, "t is 0"},
	{"$argon2id$v=19$m=64,t=1,p=0$" + argonEnd, "p is not"},
	{"$argon2id$v=19$m=65536,t=1,p=256$" + argonEnd, "p is not"},
	{"$argon2id$v=19$m=65536,t=1,p=4294967297$" + argonEnd, "p is not"},
	{"$argon2id$v=19$m=0,t=1,p=1$" + argonEnd, "m is less"},
	{"$argon2id$v=19$m=31,t=1,p=4$" + argonEnd, "m is less"},
	{"$argon2id$v=19$m=262145,t=1,p=4$" + argonEnd, "memory"},
	{"$argon2id$v=19$m=4194304,t=1,p=1$" + argonEnd, "memory"}, // 4 GiB
	{"$argon2id$v=19$m=18446744073709551680,t=1,p=1$" + argonEnd, "memory"},
	{"$argon2id$v=19$m=64,t=4294967297,p=1$" + argonEnd, "longer"},
	{"$argon2id$v=19$m=8,t=98305,p=1$" + argonEnd, "longer"},
	{"$argon2id$v=19$m=262144,t=4,p=1$" + argonEnd, "longer"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ", "no $"},
	{"$argon2id$v=19$m=64,t=1,p=1$$" + argonDigest, "salt"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbA$" + argonDigest, "salt"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHR$" + argonDigest, "salt"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ=$" + argonDigest, "salt"},
	{"$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("A", 87) + "$" + argonDigest, "salt"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$", "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAA", "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 32), "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonDigest[:42] + "B", "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonDigest + "=", "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + argonDigest + "$", "digest"},
	{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 1<<20), "digest"},

	{"$scrypt$", "not written"},
	{"$scrypt$ln=4,r=8$" + argonEnd, "not written"},
	{"$scrypt$n=4,r=8,p=1$" + argonEnd, "not written"},
	{"$scrypt$ln=04,r=8,p=1$" + argonEnd, "not written"},
	{"$scrypt$ln=0,r=8,p=1$" + argonEnd, "is 0"},
	{"$scrypt$ln=4,r=0,p=1$" + argonEnd, "is 0"},
	{"$scrypt$ln=4,r=8,p=0$" + argonEnd, "is 0"},
	{"$scrypt$ln=19,r=8,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=18,r=9,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=64,r=8,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=62,r=4,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=63,r=1,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=18446744073709551620,r=8,p=1$" + argonEnd, "memory"},
	{"$scrypt$ln=1,r=4294967297,p=4294967297$" + argonEnd, "memory"},
	{"$scrypt$ln=24,r=1099511627776,p=1099511627776$" + argonEnd, "memory"}, // products that overflow
	{"$scrypt$ln=24,r=1,p=1099511627776$" + argonEnd, "memory"},
	{"$scrypt$ln=20,r=2,p=1099511627776$" + argonEnd, "longer"},
	{"$scrypt$ln=1,r=1,p=4097$" + argonEnd, "longer"},
	{"$scrypt$ln=1,r=4097,p=1$" + argonEnd, "longer"},
	{"$scrypt$ln=17,r=8,p=3$" + argonEnd, "longer"},
	{"$scrypt$ln=4,r=8,p=1$" + argonDigest, "no $"},
	{"$scrypt$ln=4,r=8,p=1$c29tZXNhbHR$" + argonDigest, "salt"},
	{"$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$" + argonDigest[:22], "digest"},
	{"$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$" + argonDigest + "AAAA", "digest"},
	{"$scrypt$ln=4,r=8,p=1$c29tZXNhbHQ$", "digest"},

	{"$7$", "11 characters"},
	{"$7$86..../...", "11 characters"},
	{"$7$86....$....salt$" + digest43, "11 characters"},
	{"$7$101$abcdefghijkl$" + digest86, "11 characters"}, // Mosquitto's
	{"$7$.6..../....salt$" + digest43, "is 0"},
	{"$7$8...../....salt$" + digest43, "is 0"},
	{"$7$86.........salt$" + digest43, "is 0"},
	{"$7$z6..../....salt$" + digest43, "memory"},
	{"$7$8zzzzzzzzzzsalt$" + digest43, "memory"},
	{"$7$MzzzzzzzzzzSalt$" + digest43, "memory"},
	{"$7$EV..../....salt$" + digest43, "memory"}, // 2^16 times 33
	{"$7$I6..../....salt$" + digest43, "memory"}, // 2^20 times 8
	{"$7$F6....1....salt$" + digest43, "longer"},
	{"$7$86..../....salt", "no $"},
	{"$7$86..../....sa\tlt$" + digest43, "salt"},
	{"$7$86..../...." + strings.Repeat("s", 87) + "$" + digest43, "salt"},
	{"$7$86..../....salt$" + digest43[:42], "digest"},
	{"$7$86..../....salt$" + digest43[:42] + "E", "digest"},

	{"$y$", "j9T"},
	{"$y$j9T", "j9T"},
	{"$y$j9Tsalt$" + digest43, "j9T"},
	{"$y$j9", "j9T"},
	{"$y$k9T$salt$" + digest43, "j9T"},
	{"$y$.9T$salt$" + digest43, "j9T"},
	{"$y$j\xffT$salt$" + digest43, "j9T"},
	{"$y$j9k$salt$" + digest43, "j9T"}, // numbers of two digits
	{"$y$jk.T$salt$" + digest43, "j9T"},
	{"$y$j9T.$salt$" + digest43, "j9T"},
	{"$y$jFT$salt$" + digest43, "memory"}, // 1 GiB
	{"$y$jjj$salt$" + digest43, "memory"},
	{"$y$jEE$salt$" + digest43, "memory"}, // 17 times 2^17
	{"$y$jET$salt$" + digest43, "memory"},
	{"$y$jk.$salt$" + digest43, "j9T"},
	{"$y$jI5$salt$" + digest43, "memory"},
	{"$y$j9T$" + digest43, "no $"},
	{"$y$j9T$salt0$" + digest43, "salt"},
	{"$y$j9T$sz$" + digest43, "salt"},
	{"$y$j9T$salt.$" + digest43, "salt"},
	{"$y$j9T$sa-t$" + digest43, "salt"},
	{"$y$j9T$" + strings.Repeat(".", 87) + "$" + digest43, "salt"},
	{"$y$j9T$salt$" + digest43[:42], "digest"},
	{"$y$j9T$salt$" + digest43 + ".", "digest"},
	{"$y$j9T$salt$" + digest43[:42] + "E", "digest"},

	{"$pbkdf2-sha256$", "iterations"},
	{"$pbkdf2-sha256$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$0$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$01000$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$-1$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$1e3$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$i=1000$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$i=0,l=32$" + pbkdf2End, "iterations"},
	{"$pbkdf2-sha256$4000001$" + pbkdf2End, "longer"},
	{"$pbkdf2-sha256$18446744073709551617$" + pbkdf2End, "longer"},
	{"$pbkdf2-sha512$2000001$" + pbkdf2End, "longer"},
	{"$pbkdf2$4294967297$" + pbkdf2End, "longer"},
	{"$pbkdf2-sha256$1000$" + argonDigest, "no $"},
	{"$pbkdf2-sha256$1000$$" + argonDigest, "salt"},
	{"$pbkdf2-sha256$1000$c2Fsd+$" + argonDigest, "salt"},
	{"$pbkdf2-sha256$1000$c2FsdA==$" + argonDigest, "salt"},
	{"$pbkdf2-sha256$1000$c2FsdA$" + argonDigest[:42], "digest"},
	{"$pbkdf2-sha256$1000$c2FsdA$" + argonDigest[:22], "digest"},
	{"$pbkdf2-sha256$1000$c2FsdA$" + argonDigest + "=", "digest"},
	{"$pbkdf2-sha256$i=1000,l=32$c2FsdA$" + argonDigest[:22], "digest"},
	{"$pbkdf2-sha256$i=1000,l=16$c2FsdA$" + argonDigest, "digest"},
	{"$pbkdf2-sha256$i=1000,l=15$c2FsdA$AQIDBAUGBwgJCgsMDQ4P", "l is not"},
	{"$pbkdf2-sha256$i=1000,l=65$c2FsdA$" + strings.Repeat("A", 87), "l is not"},
	{"$pbkdf2-sha256$i=1000,l=4294967328$" + pbkdf2End, "l is not"},
	{"$pbkdf2$i=2000001,l=32$" + pbkdf2End, "longer"},
	{"$pbkdf2-sha256$i=1000,l=31$c2FsdA$" + argonDigest, "digest"},
	{"$pbkdf2-sha512$1000$c2FsdA$" + argonDigest, "digest"},
	{"$pbkdf2$1000$c2FsdA$" + argonDigest, "digest"},

	{"{PLAIN}", "1 to 1024"},
	{"{PLAIN}" + strings.Repeat("p", MaxPasswordLen+1), "1 to 1024"},
	{"{PLAIN}secret\x00", "control"},
	{"{PLAIN}sec\tret", "control"},
	{"{PLAIN}\x7f", "control"},
}

func TestParseErrors(t *testing.T) {
	for _, tt := range parseErrors {
		c, err := Parse(tt.hash)
		if err == nil {
			t.Errorf("Parse(%.80q) = %s", tt.hash, c.Format.Name)
			continue
		}
		if c != (Class{}) {
			t.Errorf("Parse(%.80q): a class with an error", tt.hash)
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Parse(%.80q): %v; want %q in it", tt.hash, err, tt.want)
		}
		if unknown := tt.want == "unknown" || tt.hash == ""; errors.Is(err, errUnknownFormat) != unknown {
			t.Errorf("Parse(%.80q): errUnknownFormat is %v", tt.hash, !unknown)
		}
		for _, f := range formats {
			for _, cost := range []string{"", "04", "5000"} {
				if (Class{Format: f, Cost: cost}).Verify(tt.hash, []byte("secret")) {
					t.Errorf("%.80q verifies as %s", tt.hash, f.Name)
				}
			}
		}
	}
}

// TestParseErrorsAreCheap checks that Parse rejects an invalid hash without work in
// proportion to its cost or length. The quickest of five runs counts, which other
// processes do not slow down.
func TestParseErrorsAreCheap(t *testing.T) {
	for _, tt := range parseErrors {
		quickest, allocated := time.Hour, uint64(math.MaxUint64)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, _ = Parse(tt.hash)
			quickest = min(quickest, time.Since(start))
			runtime.ReadMemStats(&after)
			allocated = min(allocated, after.TotalAlloc-before.TotalAlloc)
		}
		if quickest > 10*time.Millisecond || allocated > 1<<10 {
			t.Errorf("Parse(%.80q) took %v and %d bytes", tt.hash, quickest, allocated)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	tests := []struct {
		hash, name, cost string
		weak             bool
	}{
		{"$2a$04$" + bcrypt53, "bcrypt", "04", false},
		{"$2b$09$" + bcrypt53, "bcrypt", "09", false},
		{"$2y$14$" + bcrypt53, "bcrypt", "14", false},
		{"$apr1$$" + digest22, "apr1", "", false},
		{"$apr1$ !~;sal.$" + digest22, "apr1", "", false},
		{"$1$$" + digest22, "md5crypt", "", true},
		{"$5$$" + digest43, "sha256crypt", "5000", false},
		{"$5$rounds=1000$$" + digest43, "sha256crypt", "1000", false},
		{"$5$rounds$" + digest43, "sha256crypt", "5000", false},
		{"$6$rounds=5000$0123456789abcdef$" + digest86[:85] + ".", "sha512crypt", "5000", false},
		{"$6$rounds=1000000$x$" + digest86[:85] + "1", "sha512crypt", "1000000", false},
		{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "sha1", "", true},
		{"{SSHA}" + strings.Repeat("A", 32), "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 33) + "A==", "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 34), "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 112), "ssha1", "", false},
		{"rqXexS6ZhobKA", "descrypt", "", true},
		{"$argon2id$v=19$m=262144,t=3,p=255$" + argonEnd, "argon2id", "m=262144,t=3,p=255", false},
		{"$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$" + argonDigest[:21] + "A", "argon2i", "m=8,t=1,p=1", false},
		{"$argon2id$v=19$m=8,t=98304,p=1$" + strings.Repeat("A", 86) + "$" + argonDigest, "argon2id", "m=8,t=98304,p=1", false},
		{"$scrypt$ln=1,r=1,p=1$$" + argonDigest, "scrypt", "ln=1,r=1,p=1", false},
		{"$scrypt$ln=18,r=8,p=1$" + argonEnd, "scrypt", "ln=18,r=8,p=1", false},
		{"$scrypt$ln=4,r=1,p=4096$" + argonEnd, "scrypt", "ln=4,r=1,p=4096", false},
		{"$7$EU..../....salt$" + digest43, "scrypt", "EU..../....", false}, // the third most expensive setting of crypt(3)
		{"$7$/6..../....$" + digest43, "scrypt", "/6..../....", false},
		{"$7$CU..../...." + strings.Repeat("~", 86) + "$" + digest43, "scrypt", "CU..../....", false},
		{"$y$j9T$$" + digest43, "yescrypt", "j9T", false},
		{"$y$jDT$" + strings.Repeat("z", 85) + "1$" + digest43, "yescrypt", "jDT", false},
		{"$pbkdf2-sha256$1$AA$" + argonDigest, "pbkdf2-sha256", "1", false},
		{"$pbkdf2-sha256$29000$" + strings.Repeat(".", 85) + "A$" + argonDigest, "pbkdf2-sha256", "29000", false},
		{"$pbkdf2-sha256$i=4000000,l=32$+/AA$" + argonDigest, "pbkdf2-sha256", "i=4000000,l=32", false},
		{"$pbkdf2-sha512$2000000$c2FsdA$" + strings.Repeat("A", 86), "pbkdf2-sha512", "2000000", false},
		{"$pbkdf2-sha512$i=210000,l=32$" + pbkdf2End, "pbkdf2-sha512", "i=210000,l=32", false},
		{"$pbkdf2$i=2000000,l=32$" + pbkdf2End, "pbkdf2-sha1", "i=2000000,l=32", false},
		{"$pbkdf2$1000$c2FsdA$" + strings.Repeat("A", 27), "pbkdf2-sha1", "1000", false},
		{"{PLAIN}!", "plain", "", true},
		{"{PLAIN}" + strings.Repeat("p", MaxPasswordLen), "plain", "", true},
		{"{PLAIN}{PLAIN}", "plain", "", true},
	}
	for _, tt := range tests {
		c, err := Parse(tt.hash)
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.hash, err)
			continue
		}
		if c.Format.Name != tt.name || c.Cost != tt.cost || c.Format.Weak != tt.weak {
			t.Errorf("Parse(%q) = %s, cost %q, weak %v", tt.hash, c.Format.Name, c.Cost, c.Format.Weak)
		}
	}
	if mustParse(t, tests[6].hash) != mustParse(t, strings.Replace(tests[6].hash, "$5$", "$5$rounds=5000$", 1)) {
		t.Error("the default rounds written out make another class")
	}
}

// TestBcryptUnusedSaltBits verifies hashes of tools that set bits in the last
// character of the salt that bcrypt does not use.
func TestBcryptUnusedSaltBits(t *testing.T) {
	for _, v := range vectors(t) {
		if !strings.HasPrefix(v.hash, "$2b$04$abcdefghijklmnopqrstuu") {
			continue
		}
		hash := v.hash[:28] + "v" + v.hash[29:]
		if c := mustParse(t, hash); !c.Verify(hash, []byte(v.password)) || c.Verify(hash, altered(v.format, v.password)) {
			t.Errorf("%q does not verify as %q does", hash, v.hash)
		}
	}
}

func TestFormats(t *testing.T) {
	names := make(map[string]bool)
	for _, f := range formats {
		if f.Name == "" || names[f.Name] || f.parse == nil || f.verify == nil || len(f.prefixes) == 0 {
			t.Errorf("format %q is incomplete or listed twice", f.Name)
		}
		names[f.Name] = true
	}
}
