//go:build unix

package tool

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed10b5b978/caddy-htpasswd/internal/shown"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

// onlyShown fails if a text contains characters that are not escaped.
func onlyShown(t *testing.T, text string) {
	t.Helper()
	if shown.Escape(text) != text || !utf8.ValidString(text) {
		t.Errorf("not escaped: %q", text)
	}
}

// TestToolOutputIsShown checks that no user name and no path controls the terminal.
func TestToolOutputIsShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users\u009b2J\u202e")
	for name, want := range testkit.HarmfulNames {
		must(t, os.WriteFile(path, []byte(name+":"+toolSHA+"\nlocked"+name+":*\nbob:"+toolSHA+"\n"), 0o600))
		got := runTool(t, "", "--list", path)
		if got.out != want+"\nbob\n" {
			t.Errorf("%q: got list %q", name, got.out)
		}
		onlyShown(t, got.err)
		got = runTool(t, "", "--check", path)
		if !strings.Contains(got.out, "user "+want+";") {
			t.Errorf("%q: got report %q", name, got.out)
		}
		onlyShown(t, got.out)

		got = runTool(t, "", "--check", "--json", path)
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
			got := runTool(t, "", args...)
			onlyShown(t, got.out+got.err)
		}
	}
}

// TestToolOutputHasItsLines checks that no path adds a line to the output.
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
		got := runTool(t, "", args...)
		for line := range strings.Lines(got.out + got.err) {
			if strings.HasPrefix(line, "caddy htpasswd: b") || strings.HasPrefix(line, "b") && line != "bob\n" {
				t.Errorf("%q: a name has added the line %q to %q", args, line, got.out+got.err)
			}
		}
	}
}
