package shown

import (
	"os/exec"
	"testing"

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

// TestHarmfulNames: what a terminal would not show as it is is quoted, and
// nothing else.
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

// TestArgument: a real shell takes what Argument returns as one argument, and
// a terminal shows all of it.
func TestArgument(t *testing.T) {
	shell, err := exec.LookPath("bash") // $'...' is not known to each sh
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
