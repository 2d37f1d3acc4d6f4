package crypt

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestNeedsRehash(t *testing.T) {
	const cost = 10
	want := map[string]func(cost string) bool{
		"bcrypt":        func(cost string) bool { return cost < "10" },
		"sha256crypt":   func(cost string) bool { return len(cost) == 4 && cost <= "5000" },
		"sha512crypt":   func(cost string) bool { return len(cost) == 4 && cost <= "5000" },
		"argon2id":      never,
		"argon2i":       never,
		"scrypt":        never,
		"yescrypt":      never,
		"pbkdf2-sha256": never,
		"pbkdf2-sha512": never,
		"pbkdf2-sha1":   never,
		"apr1":          always,
		"ssha1":         always,
		"md5crypt":      always,
		"sha1":          always,
		"plain":         always,
		"descrypt":      always,
	}
	if len(want) != len(formats) {
		t.Errorf("%d formats are listed here, want %d", len(want), len(formats))
	}
	for _, v := range vectors(t) {
		class := mustParse(t, v.hash)
		if got := class.NeedsRehash(cost); got != want[v.format](v.cost) {
			t.Errorf("%s: got %v, want %v", class, got, !got)
		}
	}
}

// TestNeedsRehashBounds checks the costs next to the bounds.
func TestNeedsRehashBounds(t *testing.T) {
	for _, test := range []struct {
		hash       string
		bcryptCost int
		want       bool
	}{
		{"$2y$09$" + bcrypt53, 10, true},
		{"$2y$10$" + bcrypt53, 10, false},
		{"$2a$11$" + bcrypt53, 10, false},
		{"$2y$09$" + bcrypt53, 9, false},
		{"$2y$13$" + bcrypt53, 14, true},
		{"$2y$04$" + bcrypt53, 4, false},
		{"$2y$04$" + bcrypt53, 0, false},
		{"$5$s$" + digest43, 4, true},
		{"$5$rounds=1000$s$" + digest43, 4, true},
		{"$5$rounds=5000$s$" + digest43, 14, true},
		{"$5$rounds=5001$s$" + digest43, 14, false},
		{"$5$rounds=10000$s$" + digest43, 14, false},
		{"$6$rounds=4999$s$" + digest86[:85] + ".", 14, true},
		{"$6$rounds=656000$s$" + digest86[:85] + ".", 14, false},
		{"$pbkdf2-sha256$1$AA$" + argonDigest, 14, false},
	} {
		if got := mustParse(t, test.hash).NeedsRehash(test.bcryptCost); got != test.want {
			t.Errorf("%s, bcrypt cost %d: got %v", mustParse(t, test.hash), test.bcryptCost, got)
		}
	}
	if (Class{}).NeedsRehash(10) {
		t.Error("the zero class needs a rehash")
	}
}

// TestRehashColumn compares the column of docs/reference/password-files.md with
// NeedsRehash.
func TestRehashColumn(t *testing.T) {
	const page, column = "../../docs/reference/password-files.md", "`rehash` replaces it"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rows := tableWithColumn(string(text), column)
	formatsOf := map[string]string{
		"bcrypt": "bcrypt", "Argon2id, Argon2i": "argon2id argon2i", "scrypt": "scrypt", "yescrypt": "yescrypt",
		"SHA-512 crypt": "sha512crypt", "SHA-256 crypt": "sha256crypt", "PBKDF2": "pbkdf2-sha256 pbkdf2-sha512 pbkdf2-sha1",
		"apr1": "apr1", "salted SHA-1": "ssha1", "md5crypt": "md5crypt", "SHA-1": "sha1", "DES crypt": "descrypt", "plain text": "plain",
	}
	seen := 0
	for name, got := range rows {
		for format := range strings.FieldsSeq(formatsOf[name]) {
			seen++
			if want := rehashText(t, format); got != want {
				t.Errorf("row %s: the column says '%s', want '%s'", name, got, want)
			}
		}
	}
	if seen != len(formats) {
		t.Errorf("%s has rows for %d formats with this column, want %d", page, seen, len(formats))
	}
}

// rehashText returns the text of the column for a format, from NeedsRehash.
func rehashText(t *testing.T, name string) string {
	i := slices.IndexFunc(formats, func(f *Format) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no format %s", name)
	}
	needs := func(cost string, bcryptCost int) bool {
		return Class{Format: formats[i], Cost: cost}.NeedsRehash(bcryptCost)
	}
	for rounds := 1000; rounds < 1_000_000; rounds++ { // the format has rounds if only some are replaced
		if text := fmt.Sprint(rounds); needs(text, 10) && !needs(fmt.Sprint(rounds+1), 10) {
			return fmt.Sprintf("up to %d,%03d rounds", rounds/1000, rounds%1000)
		}
	}
	switch {
	case needs("09", 10) && !needs("10", 10) && needs("10", 11):
		return "below its cost"
	case needs("", 10):
		return "yes"
	}
	return "no"
}

// tableWithColumn returns the cells of a column of a Markdown table, by the first
// cell of their rows.
func tableWithColumn(text, column string) map[string]string {
	cells := func(line string) []string {
		all := strings.Split(strings.Trim(line, "|"), "|")
		for i := range all {
			all[i] = strings.TrimSpace(all[i])
		}
		return all
	}
	rows := make(map[string]string)
	at := -1
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case !strings.HasPrefix(line, "|"):
			at = -1
		case at < 0:
			at = slices.Index(cells(line), column)
		case !strings.HasPrefix(line, "|---") && at < len(cells(line)):
			rows[cells(line)[0]] = cells(line)[at]
		}
	}
	return rows
}

func always(string) bool { return true }
func never(string) bool  { return false }
