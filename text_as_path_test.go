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

// TestTextAsPath checks that a value of 'file' that is the text of a password file is
// never shown, however it is written.
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
		"a name with a backslash, SHA":   "CORP\\alice:" + shaSecret1,
		"a name with a slash, a bad one": "corp/alice:$5$canary",
		"a name of one letter":           "a:" + hash,
		"a comment behind the hash":      "alice:" + shaSecret1 + ":first",
		"whitespace before it":           "  alice:" + hash,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTPASSWD_TEST_USERS", text)
			for _, subdirective := range []string{"file {env.HTPASSWD_TEST_USERS}", "file {dir}/users\n\t\tgroup_file {env.HTPASSWD_TEST_USERS}"} {
				s := startServer(t, "")
				must(t, os.WriteFile(filepath.Join(s.dir, "users"), []byte("ann:"+shaSecret1+"\n"), 0o600))
				err := s.reload("https://localhost:{https} {\n\thtpasswd {\n\t\t" + subdirective + "\n\t}\n\trespond ok\n}")
				if err == nil || !strings.Contains(err.Error(), "looks like the text of a password file (not shown here); expected the path") {
					t.Fatalf("got error %v, want one that says it looks like the text of a password file", err)
				}
				for _, secret := range []string{"canary", hash[10:20], shaSecret1, "alice"} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("got %q in the error %v, want nothing of the text", secret, err)
					}
				}
			}
		})
	}
}

// TestNobodyCanLogIn checks that there is one warning about a file with which no user can
// log in.
func TestNobodyCanLogIn(t *testing.T) {
	t.Parallel()
	const empty, locked = "file contains no users", "no user in the file can log in"
	for text, want := range map[string]string{
		"":                                 empty,
		"# nobody\n":                       empty,
		"ann:*\n":                          locked,
		"ann:!\nbob:!" + shaSecret1 + "\n": locked,
		"ann:*\nbob:invalid\n":             locked,
		"ann:*\nbob:" + shaSecret1 + "\n":  "",
		"bob:" + shaSecret1 + "\nann:?\n":  "",
	} {
		core, logs := observer.New(zap.WarnLevel)
		must(t, newUserStore("f").load(text, zap.New(core)))
		var got []string
		for _, line := range logs.All() {
			if line.Message == empty || line.Message == locked {
				got = append(got, line.Message)
			}
		}
		if fmt.Sprint(got) != "["+want+"]" {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
