package shown

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"/etc/caddy/.htpasswd": "/etc/caddy/.htpasswd",
		"a b":                  "a b",
		"中文":                   "中文",
		"a\ncaddy htpasswd: b": `"a\ncaddy htpasswd: b"`,
		"a\u202eb":             `"a\u202eb"`,
		"a\x9bb":               `"a\x9bb"`,
		`"a"`:                  `"\"a\""`,
	} {
		if got := Text(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

// TestHarmfulNames checks that exactly the names that a terminal would not show as
// they are get quoted.
func TestHarmfulNames(t *testing.T) {
	for text, want := range testkit.HarmfulNames {
		if got := Text(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "alice", "a b", `DOMAIN\bob`, `a"b`, "Zoë", "中文", "עברית", "e\u0301", "🙂", "\ufffd"} {
		if got := Text(text); got != text {
			t.Errorf("%q: got %s, want it as it is", text, got)
		}
	}
	if got, want := Text("a\nb"), `"a\nb"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestArgument checks that a real shell treats the result as one argument, and that a
// terminal shows all of it.
func TestArgument(t *testing.T) {
	shell, err := exec.LookPath("bash") // not every sh supports $'...'
	if err != nil {
		t.Skip("no bash")
	}
	for text, want := range map[string]string{
		"/etc/caddy/.htpasswd": "/etc/caddy/.htpasswd",
		"":                     "",
		"a b":                  "a b",
		"x;touch y;":           "x;touch y;",
		"$(touch y)`touch y`":  "$(touch y)`touch y`",
		"it's":                 "it's",
		`a\b"c`:                `a\b"c`,
		"~root":                "~root",
		"*":                    "*",
		"#a":                   "#a",
		"-rf":                  "./-rf",
		"-r\n'f":               "./-r\n'f",
		"a\nb'c\\d!e":          "a\nb'c\\d!e",
		"\u202e中\x9b1":         "\u202e中\x9b1",
	} {
		argument := Argument(text)
		if Text(argument) != argument {
			t.Errorf("%q: a terminal does not show %q as it is", text, argument)
		}
		out, err := exec.Command(shell, "-c", `printf '%s|' `+argument).Output()
		if err != nil || string(out) != want+"|" {
			t.Errorf("%q: the shell makes %q of %s, want %q: %v", text, out, argument, want+"|", err)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, text, want string }{
		{"an empty text", "", ""},
		{"a short text", "alice", "alice"},
		{"the maximum length", strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"one byte longer", strings.Repeat("a", 65), strings.Repeat("a", 64) + "..."},
		{"bytes that are not characters", strings.Repeat("\x80", 100), `"` + strings.Repeat(`\x80`, 64) + `"...`},
		{"a short text that is quoted", "a\u202eb", `"a\u202eb"`},
	} {
		if got := Short(row.text); got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
		if got := Short([]byte(row.text)); got != row.want {
			t.Errorf("%s, as bytes: got %s, want %s", row.name, got, row.want)
		}
	}
	for _, char := range []string{"ü", "中", "🙂"} { // never truncated within a character
		for i := range 8 {
			text := strings.Repeat("a", i) + strings.Repeat(char, 40)
			got, isCut := strings.CutSuffix(Short(text), "...")
			if !isCut || !strings.HasPrefix(text, got) || len(got) > 64 || len(got) <= 64-len(char) {
				t.Errorf("%d bytes before %s: got %q, want as much of it as fits into 64 bytes", i, char, got)
			}
		}
	}
}

// FuzzShown checks that no text, in any of the forms, controls the terminal or looks
// like another text.
func FuzzShown(f *testing.F) {
	for _, text := range []string{"", "alice", "\"", "a\nb", "\x1b[2J", "\u202e", "\xff\xfe", strings.Repeat("x", 63) + "€", strings.Repeat("\xe2", 70), "-rf", "it's", "\u0085\u2028"} {
		f.Add(text)
	}
	isPrintable := func(text string) bool {
		return utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, got := range map[string]string{"Text": Text(text), "Short": Short(text), "Argument": Argument(text)} {
			if !isPrintable(got) {
				t.Errorf("%s of %q: got %q, want printable characters only", name, text, got)
			}
		}
		if got := Text(text); got != text {
			if before, err := strconv.Unquote(got); err != nil || before != text {
				t.Errorf("Text of %q: got %q, want the text or the text quoted", text, got)
			}
		}
		if got, want := Short([]byte(text)), Short(text); got != want {
			t.Errorf("Short of %q: got %q of bytes, want %q as of a string", text, got, want)
		}
		if cut, isCut := strings.CutSuffix(Short(text), "..."); isCut && len(text) > 64 && len(cut) > 2+4*64 {
			t.Errorf("Short of %q: got %d bytes, want 64 at most, escaped", text, len(cut))
		}
		if !utf8.ValidString(Label(text)) {
			t.Errorf("Label of %q: got %q, want UTF-8", text, Label(text))
		}
		encoded, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		_ = json.Unmarshal(encoded, &want)
		if err := json.Unmarshal([]byte(JSON(string(encoded))), &got); err != nil || got != want || !isPrintable(JSON(string(encoded))) {
			t.Errorf("JSON of %q: got %q (error %v), want %q in printable characters", text, got, err, want)
		}
	})
}
