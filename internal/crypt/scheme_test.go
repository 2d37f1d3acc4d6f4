package crypt

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestSchemes checks each scheme with a hash of each format and spelling: either the
// hash has the class that it has alone, or it is invalid.
func TestSchemes(t *testing.T) {
	bare := map[string]string{
		"$2y$": "$2y$04$" + bcrypt53, "$2a$": "$2a$04$" + bcrypt53, "$2b$": "$2b$04$" + bcrypt53,
		"$7$": "$7$/6..../....salt$" + digest43, "$y$": "$y$j75$$" + digest43,
		"$6$": "$6$salt$" + digest86[:85] + ".", "$6$rounds=": "$6$rounds=1000$salt$" + digest86[:85] + ".",
		"$5$": "$5$salt$" + digest43, "$1$": "$1$salt$" + digest22, "des": "rqXexS6ZhobKA",
		"argon2id": "$argon2id$v=19$m=8,t=1,p=1$" + argonEnd, "argon2i": "$argon2i$v=19$m=8,t=1,p=1$" + argonEnd,
		"apr1": "$apr1$salt$" + digest22, "$scrypt$": "$scrypt$ln=1,r=1,p=1$" + argonEnd, "pbkdf2": "$pbkdf2-sha256$1$AA$" + argonDigest,
		"{SHA}": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "{SSHA}": "{SSHA}" + strings.Repeat("A", 32), "{PLAIN}": "{PLAIN}secret", "plain": "secret",
		"": "", "{CRYPT}": "{CRYPT}$6$salt$" + digest86[:85] + ".",
	}
	const crypt3 = "$2y$ $2a$ $2b$ $7$ $y$ $6$ $6$rounds= $5$ $1$ des"
	for name, allowed := range map[string]string{
		"CRYPT": crypt3, "crypt": crypt3, "CrYpT": crypt3,
		"BLF-CRYPT": "$2y$ $2a$ $2b$", "BCRYPT": "$2y$ $2a$ $2b$", "bcrypt": "$2y$ $2a$ $2b$",
		"SHA512-CRYPT": "$6$ $6$rounds=", "sha512-crypt": "$6$ $6$rounds=", "SHA256-CRYPT": "$5$",
		"MD5-CRYPT": "$1$", "MD5": "$1$", "DES-CRYPT": "des",
		"ARGON2": "argon2id argon2i", "ARGON2ID": "argon2id", "argon2id": "argon2id", "ARGON2I": "argon2i",
		// Unknown ones.
		"": "", " CRYPT": "", "CRYPT ": "", "CRYPT.B64": "", "SHA512-CRYPT.HEX": "", "SHA512": "", "SMD5": "", "SSHA512": "", "PBKDF2": "",
		"PBKDF2-SHA256": "", "CLEAR": "", "plain": "", "sha": "", "SCRAM-SHA-256": "", "X-CRYPT": "", "CRYPTſ": "", "Cᴿypt": "",
	} {
		for kind, hash := range bare {
			class, err := Parse("{" + name + "}" + hash)
			want, _ := Parse(hash)
			if !contains(allowed, kind) {
				if err == nil || class != (Class{}) {
					t.Errorf("{%s} before %s: got %s", name, kind, class)
				} else if !errors.Is(err, errUnknownFormat) {
					t.Errorf("{%s} before %s: %v", name, kind, err)
				}
				continue
			}
			if err != nil || class != want {
				t.Errorf("{%s} before %s: got %s and %v, want %s", name, kind, class, err, want)
			}
		}
	}
}

// TestSchemesPage checks that docs/reference/password-files.md lists each scheme.
func TestSchemesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/password-files.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := tableWithColumn(string(page), "before the hash")
	for i := range schemes {
		if name := "`{" + schemes[i].name + "}`"; !slices.ContainsFunc(slices.Collect(maps.Keys(rows)), func(cell string) bool {
			return slices.Contains(strings.Split(cell, ", "), name)
		}) {
			t.Errorf("no row has %s", name)
		}
	}
	if len(rows) != 6 {
		t.Errorf("got %d rows", len(rows))
	}
}

func contains(words, word string) bool {
	return word != "" && strings.Contains(" "+words+" ", " "+word+" ")
}

// TestSchemeErrors checks that a broken hash has the error that it has alone, and that
// the error for a hash that does not fit says what fits.
func TestSchemeErrors(t *testing.T) {
	for hash, want := range map[string]string{
		"{CRYPT}$2y$15$" + bcrypt53:                 "bcrypt: the cost is not in the range 04 to 14",
		"{CRYPT}$2x$10$" + bcrypt53:                 errBcrypt2x.Error(),
		"{BLF-CRYPT}$2y$10$short":                   "bcrypt: the hash is not 60 characters long",
		"{CRYPT}$6$rounds=1000001$salt$" + digest86: "the rounds are not in the range 1000 to 1000000",
		"{CRYPT}{PLAIN}secret":                      "unknown password hash format: {CRYPT} needs a hash of crypt(3), such as $2y$ or $6$ after it",
		"{crypt}secret":                             "{CRYPT} needs a hash of crypt(3)",
		"{sha512-crypt}$5$salt$" + digest43:         "unknown password hash format: {SHA512-CRYPT} needs a hash of sha512crypt after it",
		"{MD5}AMr9EmGC6KnnwBuy8N/QBJa+ck8=":         "{MD5} needs a hash of md5crypt after it",
		"{ARGON2}$argon2d$v=19$m=8,t=1,p=1$x":       "{ARGON2} needs a hash of argon2id or argon2i after it",
	} {
		if _, err := Parse(hash); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want '%s'", hash, err, want)
		}
	}
}

// TestSchemeIsNoPartOfThePassword checks that a scheme changes no verification.
func TestSchemeIsNoPartOfThePassword(t *testing.T) {
	for _, v := range seeds(t) {
		bare, found := CutScheme(v.hash)
		if !found {
			continue
		}
		class := mustParse(t, bare)
		for _, hash := range []string{bare, v.hash} {
			if !class.Verify(hash, []byte(v.password)) || class.Verify(hash, []byte(v.hash)) || class.Verify(hash, []byte(bare)) {
				t.Errorf("%s does not verify its password only", hash)
			}
		}
		for i := 1; i < len(v.hash)-len(bare); i++ { // a scheme with a byte less
			broken := v.hash[:i] + v.hash[i+1:]
			if c, err := Parse(broken); err == nil && !strings.Contains(broken, "{MD5") && !strings.Contains(broken, "{ARGON2") {
				t.Errorf("%s is %s", broken, c)
			}
		}
	}
}

func TestRefusedByCryptForSchemes(t *testing.T) {
	for _, v := range vectors(t) {
		reason := RefusedByCrypt(v.hash)
		if _, found := CutScheme(v.hash); found && !strings.Contains(reason, "braces") {
			t.Errorf("%s: got '%s'", v.hash, reason)
		}
	}
}
