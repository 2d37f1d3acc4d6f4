package crypt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestMakeBcrypt compares the hashes with those of another implementation.
func TestMakeBcrypt(t *testing.T) {
	for _, password := range []string{"", "a", "pässword", "secret", strings.Repeat("x", 71), strings.Repeat("y", 72)} {
		for _, cost := range []int{4, 5} {
			rounds := 0
			hash, err := MakeBcrypt(cost, []byte(password), func() { rounds++ })
			if err != nil || rounds != 1<<cost {
				t.Fatalf("%q: got error %v after %d rounds, want %d", password, err, rounds, 1<<cost)
			}
			class := mustParse(t, hash)
			if want := fmt.Sprintf("$2y$%02d$", cost); !strings.HasPrefix(hash, want) || class.Format.Name != "bcrypt" {
				t.Errorf("%q: got %.8s..., want %s", password, hash, want)
			}
			if !class.Verify(hash, []byte(password)) || class.Verify(hash, altered("bcrypt", password)) {
				t.Errorf("%q: the hash is not that of the password", password)
			}
			if again, _ := MakeBcrypt(cost, []byte(password), func() {}); again == hash {
				t.Error("the salt is not random")
			}
		}
	}
	if hash, err := MakeBcrypt(0, []byte("a"), func() {}); err != nil || !strings.HasPrefix(hash, "$2y$10$") {
		t.Errorf("the default cost: got %.8s, %v", hash, err)
	}
	if _, err := MakeBcrypt(10, []byte(strings.Repeat("x", 73)), nil); !errors.Is(err, ErrPasswordTooLong) {
		t.Errorf("73 bytes: got %v", err)
	}
	for _, cost := range []int{3, 15} {
		if _, err := MakeBcrypt(cost, nil, nil); err == nil {
			t.Errorf("cost %d: got no error", cost)
		}
	}
	if _, err := MakeBcrypt(4, []byte("a\x00"), nil); err == nil {
		t.Error("NUL: got no error")
	}
}
