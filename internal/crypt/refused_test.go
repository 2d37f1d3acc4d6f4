package crypt

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestRefusedByCrypt compares with the crypt(3) of the system, with salts of each
// character that Parse accepts.
func TestRefusedByCrypt(t *testing.T) {
	const password = "secret"
	var hashes []string
	add := func(hash string) {
		if c, err := Parse(hash); err == nil && c.Verify(hash, []byte(password)) {
			hashes = append(hashes, hash)
		}
	}
	for c := byte(' '); c <= '~'; c++ {
		salt := "ab" + string(c) + "d"
		digest := md5crypt(md5cryptMagic, salt, []byte(password))
		add(md5cryptMagic + salt + "$" + string(digest[:]))
		add("$5$rounds=1000$" + salt + "$" + string(shaCrypt(sha256.New, []byte(password), []byte(salt), 1000)))
		add("$6$rounds=1000$" + salt + "$" + string(shaCrypt(sha512.New, []byte(password), []byte(salt), 1000)))
	}
	bcryptHash, err := bcryptMaker.hash([]byte(password), 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" {
		add(bcryptHash[:28] + string(c) + bcryptHash[29:])
	}
	if len(hashes) < 3*90+16 {
		t.Errorf("got %d hashes that verify here", len(hashes))
	}
	var in strings.Builder
	for _, hash := range hashes {
		fmt.Fprintf(&in, "%x %x\n", password, hash)
	}
	const script = `while (<STDIN>) { my ($p, $s) = split; print crypt(pack("H*", $p), pack("H*", $s)) // "*", "\n" }`
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("perl is not installed")
	}
	if got := outputLines(t, strings.NewReader(""), "perl", "-e", `print defined crypt("secret", q($6$a!b$)) && crypt("secret", q($6$a!b$)) =~ /^\$6/ ? "accepts" : "rejects", "\n"`); got[0] == "accepts" {
		t.Skip("the crypt(3) of this system is older, and accepts every salt")
	}
	refused := 0
	for i, out := range outputLines(t, strings.NewReader(in.String()), "perl", "-e", script) {
		hash := hashes[i]
		reason := RefusedByCrypt(hash)
		if reason != "" {
			refused++
		}
		if (out == hash) != (reason == "") {
			t.Errorf("%q: crypt(3) returns %q, but the reason is %q", hash, out, reason)
		}
	}
	if want := 3*5 + 15; refused != want {
		t.Errorf("got %d hashes that crypt(3) rejects, want %d", refused, want)
	}
	for _, hash := range []string{"", "?", "{SHA}x", "$apr1$a b$" + strings.Repeat(".", 22), "ab" + strings.Repeat(".", 11)} {
		if reason := RefusedByCrypt(hash); reason != "" {
			t.Errorf("%q: got %q", hash, reason)
		}
	}
}
