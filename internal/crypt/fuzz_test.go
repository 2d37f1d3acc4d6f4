package crypt

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// seeds returns a few hashes of each format.
func seeds(tb testing.TB) []vector {
	count := make(map[string]int)
	return slices.DeleteFunc(vectors(tb), func(v vector) bool {
		count[v.format+v.cost]++
		return count[v.format+v.cost] > 2
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
	f.Add("$5$rounds=4294967295$salt$" + digest43)
	f.Fuzz(func(t *testing.T, hash string) {
		c, err := Parse(hash)
		if err != nil {
			if c != (Class{}) {
				t.Error("a class with an error")
			}
			if len(err.Error()) > 120 {
				t.Error("the error is too long for a fixed text")
			}
			known := slices.ContainsFunc(formats, func(f *Format) bool { return f.claims(hash) })
			if !known && !errors.Is(err, ErrUnknownFormat) {
				t.Errorf("no format claims it, and the error is %v", err)
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
			t.Error("another class the second time")
		}
	})
}

func FuzzVerify(f *testing.F) {
	for _, v := range seeds(f) {
		f.Add(v.hash, []byte(v.password))
		f.Add(v.hash[:len(v.hash)-1], []byte(v.password))
		f.Add(v.hash, []byte(v.password+"\x00x"))
	}
	f.Fuzz(func(t *testing.T, hash string, password []byte) {
		c, err := Parse(hash)
		if err != nil {
			for _, format := range formats {
				for _, cost := range []string{"", "05", "1000", shaCryptDefaultRounds} {
					if (Class{format, cost}).Verify(hash, password) {
						t.Errorf("a hash that does not parse verifies as %s", format.Name)
					}
				}
			}
			return
		}
		if c.Format == bcryptFormat && c.Cost > "04" || len(c.Cost) > 4 {
			t.Skip("too slow")
		}
		if !c.Verify(hash, password) {
			return
		}
		// One byte less never matches, but for what bcrypt ignores.
		if n := len(password); n > 0 && n <= 72 && c.Verify(hash, password[:n-1]) {
			t.Error("a shortened password verifies too")
		}
	})
}
