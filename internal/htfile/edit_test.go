package htfile

import (
	"strings"
	"testing"
)

// TestEdit edits texts of which everything else has to stay as it is.
func TestEdit(t *testing.T) {
	const hash = "{SHA}x"
	for _, test := range []struct {
		name, text string
		hash       string // "" to remove the user
		want       string
		found      int
	}{
		{"empty", "", hash, "u:{SHA}x\n", 0},
		{"no line end", "a:b", hash, "a:b\nu:{SHA}x\n", 0},
		{"CRLF", "a:b\r\nc:d", hash, "a:b\r\nc:d\r\nu:{SHA}x\r\n", 0},
		{"CRLF in its line", "a:b\r\nu:d\r\n", hash, "a:b\r\nu:{SHA}x\r\n", 1},
		{"mixed line ends stay", "a:b\nu:d\r\nc:d\n\r\n", hash, "a:b\nu:{SHA}x\r\nc:d\n\r\n", 1},
		{"byte order mark", "\uFEFFu:b\n", hash, "\uFEFFu:{SHA}x\n", 1},
		{"byte order mark alone", "\uFEFF", hash, "\uFEFFu:{SHA}x\n", 0},
		{"byte order mark, removed", "\uFEFFu:b\nc:d\n", "", "\uFEFFc:d\n", 1},
		{"whitespace around", "  u:b  \n", hash, "u:{SHA}x\n", 1},
		{"comment", "u:b:c:d \n", hash, "u:{SHA}x:c:d\n", 1},
		{"a comment that names the user", "#u:b\n# u:b", hash, "#u:b\n# u:b\nu:{SHA}x\n", 0},
		{"other users", "uu:b\nU:b\n:u\nu\x00:b\n", hash, "uu:b\nU:b\n:u\nu\x00:b\nu:{SHA}x\n", 0},
		{"bytes of no meaning", "a:b\n\xff\x00\n\n\n# \t\r\n", hash, "a:b\n\xff\x00\n\n\n# \t\r\nu:{SHA}x\n", 0},
		{"all lines of the user", "u:a\nb:c\nu:b:2", hash, "u:{SHA}x\nb:c\nu:{SHA}x:2", 2},
		{"all are removed, or the second would win", "u:a\nb:c\nu:b:2", "", "b:c\n", 2},
		{"no colon", "u\n", hash, "u:{SHA}x\n", 1},
		{"no colon, removed", "u", "", "", 1},
		{"a line that is too long loses its comment", "u:a:" + strings.Repeat("c", MaxLineLen) + "\n", hash, "u:{SHA}x\n", 1},
		{"no such user to remove", "a:b", "", "a:b", 0},
		{"a comment that would make the line too long", "u:a:" + strings.Repeat("c", MaxLineLen-4) + "\n", hash, "u:{SHA}x\n", 1},
		{"a comment that just fits", "u:a:" + strings.Repeat("c", MaxLineLen-9) + "\n", hash, "u:{SHA}x:" + strings.Repeat("c", MaxLineLen-9) + "\n", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, found := SetUser(test.text, "u", test.hash)
			if test.hash == "" {
				got, found = RemoveUser(test.text, "u")
			}
			if got != test.want || found != test.found {
				t.Errorf("got %q, with %d lines found, want %q, with %d", got, found, test.want, test.found)
			}
		})
	}
}

// FuzzEdit checks that an edit changes the parsed result for that user only.
func FuzzEdit(f *testing.F) {
	f.Add("# people\nann:{SHA}old:first\nbob:"+shaSecret1+"\nlocked:*\nbroken:?\n", "bob")
	f.Add("\uFEFFu:b\r\n#u:x\nu\nv:{SHA}x", "u")
	f.Add("u:a:"+strings.Repeat("c", MaxLineLen), "u")
	f.Fuzz(func(t *testing.T, text, name string) {
		if CheckName(name) != nil {
			return
		}
		before, _ := Parse(text)
		check := func(edited string, state State, there bool) {
			t.Helper()
			after, _ := Parse(edited)
			if e := after.Find(name); (e != nil) != there || there && (e.State != state || e.Hash != shaSecret1) {
				t.Fatalf("%q is now %q", text, edited)
			}
			others := len(before.All)
			if before.Find(name) != nil {
				others--
			}
			for i := range before.All {
				if e := &before.All[i]; e.Name != name {
					if now := after.Find(e.Name); now == nil || now.Hash != e.Hash || now.State != e.State {
						t.Fatalf("%q: %q is now %q", e.Name, text, edited)
					}
				}
			}
			if there {
				others++
			}
			if len(after.All) != others {
				t.Fatalf("%q: a new user in %q", text, edited)
			}
		}
		edited, _ := SetUser(text, name, shaSecret1)
		check(edited, StateUsable, true)
		edited, _ = RemoveUser(text, name)
		check(edited, StateInvalid, false)
	})
}
