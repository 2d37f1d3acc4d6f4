package crypt

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Parts of hashes of "secret", or of the right length and alphabet at least.
const (
	digest22 = "6JQCBm3Ekd7hxkHn5y2rG."
	digest43 = "japDxBfHcSVGcyn00bW518Ndv09CHo6WdVnm01mosE2"
	digest86 = digest43 + digest43
	bcrypt53 = "abcdefghijklmnopqrstuuyvPXIbu7xe6/CED2DzX8z6Si09MlzlW"
)

func TestParseErrors(t *testing.T) {
	tests := []struct{ hash, want string }{
		{"", "is empty"},
		{"secret", "unknown"},
		{"$", "unknown"},
		{"$1", "unknown"},
		{"$2b", "unknown"},
		{"{SHA", "unknown"},
		{"{sha}5en6G6MezRroT3XKqkdPOmY/BfQ=", "unknown"},
		{"{PLAIN}secret", "unknown"},
		{"$2k$05$" + bcrypt53, "unknown"},
		{"$3$$" + digest22, "unknown"},
		{"$md5$salt$" + digest22, "unknown"},
		{"$y$j9T$salt$" + digest43, "unknown"},
		{"rqXexS6ZhobKA", "unknown"},
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
		{"$apr1$sa:t$" + digest22, "salt has"},
		{"$apr1$sa\tt$" + digest22, "salt has"},
		{"$apr1$s\xc3\xa4t$" + digest22, "salt has"},
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
		{"$5$rounds=0$salt$" + digest43, "rounds= is not"},
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
		{"{SSHA}" + strings.Repeat("A", 113), "ssha1: not"},
		{"{SSHA}" + strings.Repeat("A", 114), "ssha1: not"},
		{"{SSHA}" + strings.Repeat("A", 1<<20), "ssha1: not"},
	}
	for _, tt := range tests {
		start := time.Now()
		c, err := Parse(tt.hash)
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("Parse(%.80q) took %v", tt.hash, took)
		}
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
		if unknown := tt.want == "unknown" || tt.hash == ""; errors.Is(err, ErrUnknownFormat) != unknown {
			t.Errorf("Parse(%.80q): ErrUnknownFormat is %v", tt.hash, !unknown)
		}
		for _, f := range formats {
			for _, cost := range []string{"", "04", "5000"} {
				if (Class{f, cost}).Verify(tt.hash, []byte("secret")) {
					t.Errorf("%.80q verifies as %s", tt.hash, f.Name)
				}
			}
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
		{"{SSHA}" + strings.Repeat("A", 28), "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 29) + "A==", "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 30), "ssha1", "", false},
		{"{SSHA}" + strings.Repeat("A", 112), "ssha1", "", false},
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

// Tools that drew the salt's last character from the whole alphabet left bits
// in it that bcrypt does not use.
func TestBcryptUnusedSaltBits(t *testing.T) {
	for _, v := range vectors(t) {
		if !strings.HasPrefix(v.hash, "$2b$04$abcdefghijklmnopqrstuu") {
			continue
		}
		hash := v.hash[:28] + "v" + v.hash[29:]
		if c := mustParse(t, hash); !c.Verify(hash, []byte(v.password)) || c.Verify(hash, altered(v.password)) {
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
