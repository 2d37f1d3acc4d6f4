package crypt

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestMake creates hashes in each format and at the bounds of each cost, and
// verifies a right and a wrong password. The tests of "caddy htpasswd" compare with
// other tools.
func TestMake(t *testing.T) {
	for _, test := range []struct {
		format string
		cost   int
		want   Class
		begin  string
	}{
		{"bcrypt", 0, Class{Format: bcryptFormat, Cost: "10"}, "$2y$10$"},
		{"bcrypt", 4, Class{Format: bcryptFormat, Cost: "04"}, "$2y$04$"},
		{"argon2id", 0, Class{argon2idFormat, "m=65536,t=3,p=4", 16, 32}, "$argon2id$v=19$m=65536,t=3,p=4$"},
		{"sha256crypt", 0, Class{Format: sha256cryptFormat, Cost: "5000", SaltLen: 16}, "$5$"},
		{"sha256crypt", 1000, Class{Format: sha256cryptFormat, Cost: "1000", SaltLen: 16}, "$5$rounds=1000$"},
		{"sha512crypt", 0, Class{Format: sha512cryptFormat, Cost: "5000", SaltLen: 16}, "$6$"},
		{"sha512crypt", 5000, Class{Format: sha512cryptFormat, Cost: "5000", SaltLen: 16}, "$6$"},
		{"sha512crypt", 1_000_000, Class{Format: sha512cryptFormat, Cost: "1000000", SaltLen: 16}, "$6$rounds=1000000$"},
		{"apr1", 0, Class{Format: apr1Format, SaltLen: 8}, "$apr1$"},
		{"descrypt", 0, Class{Format: descryptFormat, Cost: ""}, ""},
		{"sha1", 0, Class{Format: sha1Format, Cost: ""}, "{SHA}"},
		{"plain", 0, Class{Format: plainFormat, SaltLen: 11}, "{PLAIN}"},
	} {
		t.Run(test.format+" "+test.want.Cost, func(t *testing.T) {
			if underRace && (test.want.Cost == "10" || test.want.Cost == "1000000") {
				t.Skip("takes seconds with the race detector, and runs without it")
			}
			password := []byte("pa ss-w\u00f6rd")
			hash, err := Make(test.format, test.cost, password)
			if err != nil {
				t.Fatal(err)
			}
			if class, err := Parse(hash); err != nil || class != test.want || !strings.HasPrefix(hash, test.begin) {
				t.Fatalf("%s: %v, %v", hash, class, err)
			}
			if !test.want.Verify(hash, password) || test.want.Verify(hash, []byte("pa ss")) {
				t.Errorf("%s does not match the password, or matches another one", hash)
			}
			again, err := Make(test.format, test.cost, password)
			if salted := test.format != "sha1" && test.format != "plain"; err != nil || (again != hash) != salted {
				t.Errorf("%s and then %s, %v", hash, again, err)
			}
		})
	}
}

// TestMakeLengths creates hashes of the longest passwords, and of one byte more.
func TestMakeLengths(t *testing.T) {
	for format, longest := range map[string]int{
		"bcrypt": 72, "argon2id": 1024, "sha256crypt": 511, "sha512crypt": 511, "apr1": 511, "descrypt": 1024, "sha1": 1024, "plain": 1024,
	} {
		t.Run(format, func(t *testing.T) {
			cost := map[string]int{"bcrypt": 4, "sha256crypt": 1000, "sha512crypt": 1000}[format]
			password := bytes.Repeat([]byte("a"), longest+1)
			if hash, err := Make(format, cost, password); !errors.Is(err, ErrPasswordTooLong) {
				t.Errorf("%q, %v", hash, err)
			}
			for _, password := range [][]byte{password[:longest], {}} {
				hash, err := Make(format, cost, password)
				if format == "plain" && len(password) == 0 {
					if !errors.Is(err, errPlainLen) {
						t.Error(err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if class, err := Parse(hash); err != nil || !class.Verify(hash, password) {
					t.Errorf("%d bytes: %v, %v", len(password), class, err)
				}
			}
		})
	}
}

func TestMakeRefuses(t *testing.T) {
	for _, test := range []struct {
		name, format string
		cost         int
		password     string
		want         string
	}{
		{"a format that is only verified", "yescrypt", 0, "p", "unknown password hash format, or one that is only verified: 'yescrypt'"},
		{"no format", "", 0, "p", "unknown password hash format, or one that is only verified: ''"},
		{"bcrypt below its range", "bcrypt", 3, "p", "the cost of bcrypt must be between 4 and 14, got 3"},
		{"bcrypt above its range", "bcrypt", 15, "p", "the cost of bcrypt must be between 4 and 14, got 15"},
		{"negative", "bcrypt", -1, "p", "the cost of bcrypt must be between 4 and 14, got -1"},
		{"too few rounds", "sha512crypt", 999, "p", "the cost of sha512crypt must be between 1000 and 1000000, got 999"},
		{"too many rounds", "sha256crypt", 1_000_001, "p", "the cost of sha256crypt must be between 1000 and 1000000, got 1000001"},
		{"a cost where it is fixed", "apr1", 10, "p", "the cost of apr1 is fixed, got 10"},
		{"NUL", "bcrypt", 4, "canary\x00", "the password contains a NUL byte, which no client can send"},
		{"control character in plain text", "plain", 0, "canary\n", errPlainControl.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			if hash, err := Make(test.format, test.cost, []byte(test.password)); err == nil || err.Error() != test.want {
				t.Errorf("%q, %v", hash, err)
			}
		})
	}
}
