//go:build unix

package caddyhtpasswd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// TestTextAsPath: a value of 'file' that is the text of a password file is not
// shown, in whatever way it is written.
func TestTextAsPath(t *testing.T) {
	const hash = "$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su"
	for name, text := range map[string]string{
		"one user":                       "alice:" + hash,
		"one user and a line end":        "alice:" + hash + "\n",
		"two users":                      "alice:" + hash + "\nbob:" + hash,
		"users behind a comment":         "# people\nalice:" + hash,
		"Windows line ends":              "alice:" + hash + "\r\n",
		"a hash with doubled dollars":    "alice:" + strings.ReplaceAll(hash, "$", "$$"),
		"half a hash":                    "alice:" + hash[:30],
		"a hash alone":                   hash,
		"a plain password":               "alice:canary",
		"a plain password, marked so":    "alice:{PLAIN}canary",
		"a name with a slash":            "corp/alice:" + hash,
		"a name with a backslash, SHA":   "CORP\\alice:" + toolSHA,
		"a name with a slash, a bad one": "corp/alice:$5$canary",
		"a name of one letter":           "a:" + hash,
		"a comment behind the hash":      "alice:" + toolSHA + ":first",
		"blanks in front":                "  alice:" + hash,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTPASSWD_TEST_USERS", text)
			for _, subdirective := range []string{"file {env.HTPASSWD_TEST_USERS}", "file {dir}/users\n\t\tgroup_file {env.HTPASSWD_TEST_USERS}"} {
				s := startServer(t, "")
				must(t, os.WriteFile(filepath.Join(s.dir, "users"), []byte("ann:"+toolSHA+"\n"), 0o600))
				err := s.reload("https://localhost:{https} {\n\thtpasswd {\n\t\t" + subdirective + "\n\t}\n\trespond ok\n}")
				if err == nil || !strings.Contains(err.Error(), "looks like the text of a password file (not shown here); expected the path") {
					t.Fatalf("got error %v", err)
				}
				for _, secret := range []string{"canary", hash[10:20], toolSHA, "alice"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("the error shows %q: %v", secret, err)
					}
				}
			}
		})
	}
}

// TestDoubledDollars: who takes a hash out of a compose file is told so, by the
// server and the tool.
func TestDoubledDollars(t *testing.T) {
	const want = "each $ of the hash is doubled, as docker compose wants it in a compose file: write a single $"
	hashes := []string{
		"$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9./FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su",
		"$apr1$abcdefgh$" + strings.Repeat(".", 22),
		"$6$abcdefgh$" + strings.Repeat(".", 86),
	}
	for _, hash := range hashes {
		doubled := strings.ReplaceAll(hash, "$", "$$")
		_, err := parseUsers("ann:" + doubled + "\n")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), hash[6:12]) {
			t.Errorf("got error %v", err)
		}
		path := writeFile(t, "bob:"+toolSHA+"\nann:"+doubled+"\n")
		if got := tool(t, "", "--check", path); !strings.Contains(got.out, want) {
			t.Errorf("got report %q", got.out)
		}
	}
}

// TestNobodyCanLogIn: there is one warning for a file with which nobody can log in.
func TestNobodyCanLogIn(t *testing.T) {
	const empty, locked = "file names no user: nobody in it can log in", "no user in the file can log in"
	for text, want := range map[string]string{
		"":                              empty,
		"# nobody\n":                    empty,
		"ann:*\n":                       locked,
		"ann:!\nbob:!" + toolSHA + "\n": locked,
		"ann:*\nbob:invalid\n":          locked,
		"ann:*\nbob:" + toolSHA + "\n":  "",
		"bob:" + toolSHA + "\nann:?\n":  "",
	} {
		core, logs := observer.New(zap.WarnLevel)
		must(t, newUserStore("f").load(text, zap.New(core)))
		var got []string
		for _, line := range logs.FilterMessageSnippet("can log in").All() {
			got = append(got, line.Message)
		}
		if fmt.Sprint(got) != "["+want+"]" {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestCheckAgainstNginx: hashes that nginx refuses are listed.
func TestCheckAgainstNginx(t *testing.T) {
	path := writeFile(t, "ann:$1$a b$"+strings.Repeat(".", 22)+"\n"+
		"bob:$2y$04$bQ5GWxJ6bzCjZ3Ra1nSg9z/FyxwgOMNCNm2YjVGyXwJdSrNYBZ0Su\n"+
		"carl:$apr1$a b$"+strings.Repeat(".", 22)+"\n")
	got := tool(t, "", "--check", path)
	for _, want := range []string{
		":1: works in Caddy, but not in nginx: user ann: the salt has a blank or one of ! * ; \\, which crypt(3) refuses\n",
		":2: works in Caddy, but not in nginx: user bob: the last character of the salt has bits that crypt(3) clears\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("got %q, want %q in it", got.out, want)
		}
	}
	if got.code != 0 || strings.Count(got.out, "nginx") != 2 {
		t.Errorf("got %d, %q", got.code, got.out)
	}
	if got := tool(t, "", "--check", "--json", path); strings.Count(got.out, `"not_in_nginx": "the `) != 2 {
		t.Errorf("got %q", got.out)
	}
}

// TestOddPassword: crypt(3) makes another hash of this password under $2a$ than
// under $2b$ (see TestOdd2a). The tool verifies as the server does.
func TestOddPassword(t *testing.T) {
	path := writeFile(t, "ann:$2a$04$......................QH7xM3rqAl9cnSp0xYT9EYpeDP1A.gC\nbob:$2b$04$......................ETcbR41SGeM3odXwXDLU3h2rHHuD8aG\n")
	for user, want := range map[string]int{"ann": exitWrong, "bob": 0} {
		if got := tool(t, "", "-vb", path, user, "\xff\xde@"); got.code != want {
			t.Errorf("%s: got %+v, want exit code %d", user, got, want)
		}
	}
}
