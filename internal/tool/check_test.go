//go:build unix

package tool

import (
	"strings"
	"testing"
)

// TestCheckDoubledDollars checks that a hash copied from a compose file is reported
// with the fix.
func TestCheckDoubledDollars(t *testing.T) {
	const want = "each $ is doubled, as in a compose file; write a single $"
	hashes := []string{
		"$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su",
		"$apr1$abcdefgh$" + strings.Repeat(".", 22),
		"$6$abcdefgh$" + strings.Repeat(".", 86),
	}
	for _, hash := range hashes {
		doubled := strings.ReplaceAll(hash, "$", "$$")
		path := writeFile(t, "bob:"+toolSHA+"\nann:"+doubled+"\n")
		if got := runTool(t, "", "--check", path); !strings.Contains(got.out, want) {
			t.Errorf("got report %q", got.out)
		}
	}
}

// TestCheckAgainstNginx checks that hashes that nginx rejects are listed.
func TestCheckAgainstNginx(t *testing.T) {
	path := writeFile(t, "ann:$1$a b$"+strings.Repeat(".", 22)+"\n"+
		"bob:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9z/FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n"+
		"carl:$apr1$a b$"+strings.Repeat(".", 22)+"\n")
	got := runTool(t, "", "--check", path)
	for _, want := range []string{
		":1: accepted by Caddy, but not by nginx: user ann: the salt contains a space or one of ! * ; \\, which crypt(3) rejects\n",
		":2: accepted by Caddy, but not by nginx: user bob: the last character of the salt has bits that crypt(3) clears\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("got %q, want %q in it", got.out, want)
		}
	}
	if got.code != 0 || strings.Count(got.out, "nginx") != 2 {
		t.Errorf("got %d, %q", got.code, got.out)
	}
	if got := runTool(t, "", "--check", "--json", path); strings.Count(got.out, `"not_in_nginx": "the `) != 2 {
		t.Errorf("got %q", got.out)
	}
}

// TestCheckSchemes checks that hashes with a scheme of Dovecot or LDAP are reported as
// valid, and as unknown to nginx.
func TestCheckSchemes(t *testing.T) {
	path := writeFile(t, "ann:{SHA512-CRYPT}$6$abcdefgh$"+strings.Repeat(".", 86)+"\nbob:{crypt}!$6$abcdefgh$"+strings.Repeat(".", 86)+"\n"+
		"carl:{SHA512-CRYPT}$5$abcdefgh$"+strings.Repeat(".", 43)+"\n")
	got := runTool(t, "", "--check", path)
	for _, want := range []string{
		"users who can log in: 1;",
		"  sha512crypt 5000: 1\n",
		":1: accepted by Caddy, but not by nginx: user ann: a name in braces, as of Dovecot and LDAP, stands before the hash; nginx and Apache read only the hash itself\n",
		":2: locked: user bob\n",
		":3: invalid line (user cannot log in): unknown password hash format: {SHA512-CRYPT} needs a hash of sha512crypt after it\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("got %q, want %q in it", got.out, want)
		}
	}
	if got.code != 0 {
		t.Errorf("got %d", got.code)
	}
}

// TestOddPassword uses a password whose hash by crypt(3) differs between $2a$ and
// $2b$ (see TestOdd2a). The tool verifies it as the server does.
func TestOddPassword(t *testing.T) {
	path := writeFile(t, "ann:$2a$04$......................QH7xM3rqAl9cnSp0xYT9EYpeDP1A.gC\nbob:$2b$04$......................ETcbR41SGeM3odXwXDLU3h2rHHuD8aG\n")
	for user, want := range map[string]ExitCode{"ann": ExitWrong, "bob": 0} {
		if got := runTool(t, "", "-vb", path, user, "\xff\xde@"); got.code != want {
			t.Errorf("%s: got %+v, want exit code %d", user, got, want)
		}
	}
}
