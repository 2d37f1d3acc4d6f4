package htfile

import (
	"strings"
	"testing"
)

// TestPathIsNoText checks that paths are not mistaken for the text of a file.
func TestPathIsNoText(t *testing.T) {
	for _, path := range []string{"/etc/caddy/.htpasswd", "users", "dir/a:b", "/srv/{x}", `C:\caddy\users`, "c:/caddy/users", "./a:b", ""} {
		if IsTextNotPath(path) {
			t.Errorf("%q is mistaken for a text", path)
		}
	}
}

// TestTextIsNoPath checks that texts of a file are recognized.
func TestTextIsNoPath(t *testing.T) {
	for _, text := range []string{
		"alice:" + bcrypt4Secret1, "alice:" + shaSecret1 + "\nbob:" + shaSecret1, bcrypt4Secret1, "alice:secret", "corp/alice:" + shaSecret1,
		"corp/alice:$5$x", "corp/alice:{x", "a:" + bcrypt4Secret1, "  alice:x", "#\n",
	} {
		if !IsTextNotPath(text) {
			t.Errorf("%q is mistaken for a path", text)
		}
	}
}

// TestDoubledDollars checks that the error for a hash copied from a compose file
// says how to fix it, and that errors for other hashes do not.
func TestDoubledDollars(t *testing.T) {
	const want = "each $ is doubled, as in a compose file; write a single $"
	hashes := []string{
		"$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su",
		"$apr1$abcdefgh$" + strings.Repeat(".", 22),
		"$6$abcdefgh$" + strings.Repeat(".", 86),
	}
	for _, hash := range hashes {
		_, err := Parse("ann:" + strings.ReplaceAll(hash, "$", "$$") + "\n")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hash[6:12]) {
			t.Errorf("got error %v, want one with %q and without the hash", err, want)
		}
	}
	for _, hash := range []string{"$$", "a$$b", "$$2y$$04$$short", hashes[0] + "$$"} {
		if got := hashHint(hash); got != "" {
			t.Errorf("%q: got hint %q, want none", hash, got)
		}
	}
}
