//go:build unix

package caddyhtpasswd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
)

// harmfulNames are user names that drive a terminal, or don't show as what
// they are, and how they are shown.
var harmfulNames = map[string]string{
	"a\u0085b":            `"a\u0085b"`,            // next line
	"a\u009b31mb":         `"a\u009b31mb"`,         // begins a control sequence, as ESC [
	"a\u0090b":            `"a\u0090b"`,            // begins a control string
	"a\u202eb":            `"a\u202eb"`,            // right to left
	"a\u202ab":            `"a\u202ab"`,            // embedded
	"a\u2066b\u2069":      `"a\u2066b\u2069"`,      // isolated
	"a\u200e\u200fb":      `"a\u200e\u200fb"`,      // marks of a direction
	"a\u061cb":            `"a\u061cb"`,            // one more
	"a\u200bb":            `"a\u200bb"`,            // no width
	"a\u2028b":            `"a\u2028b"`,            // line separator
	"a\u00a0b":            `"a\u00a0b"`,            // looks like a blank
	"\U000e0041b":         `"\U000e0041b"`,         // a tag, in two UTF-16 units
	"a\xffb":              `"a\xffb"`,              // no UTF-8
	"a\xc2":               `"a\xc2"`,               // half a character
	"a\x9b31mb":           `"a\x9b31mb"`,           // the same in ISO 8859-1
	`"a\u202eb"`:          `"\"a\\u202eb\""`,       // as if it were one of the above
	"a\u202eb\u202c\\\"c": `"a\u202eb\u202c\\\"c"`, // and others
}

func TestPrintable(t *testing.T) {
	for text, want := range harmfulNames {
		if got := shown.Text(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "alice", "a b", `DOMAIN\bob`, `a"b`, "Zoë", "中文", "עברית", "e\u0301", "🙂", "\ufffd"} {
		if got := shown.Text(text); got != text {
			t.Errorf("%q: got %s, want it as it is", text, got)
		}
	}
	if got, want := shown.Text("a\nb"), `"a\nb"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// onlyShown fails unless a terminal shows all of a text as it is.
func onlyShown(t *testing.T, text string) {
	t.Helper()
	if shown.Escape(text) != text || !utf8.ValidString(text) {
		t.Errorf("not escaped: %q", text)
	}
}

// TestToolOutputIsShown: no name in a file, nor the file's own, drives the
// terminal.
func TestToolOutputIsShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users\u009b2J\u202e")
	for name, want := range harmfulNames {
		must(t, os.WriteFile(path, []byte(name+":"+toolSHA+"\nlocked"+name+":*\nbob:"+toolSHA+"\n"), 0o600))
		got := tool(t, "", "--list", path)
		if got.out != want+"\nbob\n" {
			t.Errorf("%q: got list %q", name, got.out)
		}
		onlyShown(t, got.err)
		got = tool(t, "", "--check", path)
		if !strings.Contains(got.out, "user "+want+";") {
			t.Errorf("%q: got report %q", name, got.out)
		}
		onlyShown(t, got.out)

		got = tool(t, "", "--check", "--json", path)
		onlyShown(t, got.out)
		var report struct {
			Files []struct {
				Path  string
				Users []struct{ Name string }
			}
		}
		must(t, json.Unmarshal([]byte(got.out), &report))
		if !utf8.ValidString(name) {
			name = want
		}
		if f := report.Files[0]; f.Path != path || f.Users[0].Name != name {
			t.Errorf("got path %q and user %q, want %q and %q", f.Path, f.Users[0].Name, path, name)
		}
		for _, args := range [][]string{{"-D", path, "nobody\u202e"}, {"-vb", path, "nobody\u202e", "pw"}, {"-bs", path, "new\u009b", "pw"}, {"-D", path, "new\u009b"}, {"-b", path + "\u202e", "ann", "pw"}} {
			got := tool(t, "", args...)
			onlyShown(t, got.out+got.err)
		}
	}
}

// TestToolOutputHasItsLines: no name of a file adds a line to what the tool says.
func TestToolOutputHasItsLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a\ncaddy htpasswd: b")
	must(t, os.Mkdir(dir, 0o700))
	link := filepath.Join(filepath.Dir(dir), "link")
	must(t, os.Symlink(dir, link))
	path := filepath.Join(dir, "users")
	must(t, os.WriteFile(path, []byte("bob:"+toolSHA+"\nbroken:?\nbob:?\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "page"), []byte("page"), 0o600))
	linked := filepath.Join(dir, "linked")
	must(t, os.WriteFile(linked, []byte("bob:"+toolSHA+"\n"), 0o600))
	must(t, os.Link(linked, linked+"2"))
	for _, args := range [][]string{
		{"--list", path}, {"--list", path + "\nb"}, {"--list", dir + "/page"},
		{"--check", dir + "/page"}, {"--check", path + "\nb"},
		{"-vb", path + "\nb", "bob", "pw"}, {"-vb", dir + "/page", "bob", "pw"}, {"-vb", path, "broken", "pw"},
		{"-bs", path + "\nb", "ann", "pw"}, {"-bs", link + "/linked", "ann", "pw"}, {"-bs", dir, "ann", "pw"}, {"-bs", path + "/f", "ann", "pw"},
		{"-bs", dir + "/none/f", "ann", "pw"}, {"-bs", dir + "/page", "ann", "pw"}, {"-D", path + "\nb", "ann"},
		{"-cbs", dir + "/new", "ann", "pw"}, {"-cbs", path, "ann", "pw"}, {"-\n"},
	} {
		got := tool(t, "", args...)
		for line := range strings.Lines(got.out + got.err) {
			if strings.HasPrefix(line, "caddy htpasswd: b") || strings.HasPrefix(line, "b") && line != "bob\n" {
				t.Errorf("%q: a name has added the line %q to %q", args, line, got.out+got.err)
			}
		}
	}
}

// TestLoggedNameIsShown: neither does a name that a client sends, in the log.
func TestLoggedNameIsShown(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	logger := zap.New(core)
	for name, want := range harmfulNames {
		logger.Warn("", zap.String("user", shown.Short(name)))
		if got := logs.TakeAll()[0].ContextMap()["user"]; got != want {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
	}
	for i := range 8 {
		name := strings.Repeat("a", i) + strings.Repeat("🙂", 30)
		got, rest := strings.CutSuffix(shown.Short(name), "...")
		if !rest || !strings.HasPrefix(name, got) || len(got) > 64 || len(got) < 60 {
			t.Errorf("got %q", fmt.Sprint(got))
		}
	}
	if got := shown.Short(strings.Repeat("\x80", 100)); got != `"`+strings.Repeat(`\x80`, 64)+`"...` {
		t.Errorf("got %q", got)
	}
}
