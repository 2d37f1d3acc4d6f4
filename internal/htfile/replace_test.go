package htfile

import (
	"slices"
	"strings"
	"testing"
)

func TestReplaceHashes(t *testing.T) {
	for _, test := range []struct {
		name, text string
		changes    []Change
		want       string
		made       []bool
	}{
		{"one", "a:1\nu:2\n", []Change{{"u", "2", "N"}}, "a:1\nu:N\n", []bool{true}},
		{"several, in another order", "a:1\nb:2\nc:3", []Change{{"c", "3", "N"}, {"a", "1", "M"}}, "a:M\nb:2\nc:N", []bool{true, true}},
		{"another hash", "a:1\n", []Change{{"a", "2", "N"}}, "a:1\n", []bool{false}},
		{"no such user", "a:1\n", []Change{{"b", "1", "N"}}, "a:1\n", []bool{false}},
		{"locked meanwhile", "a:!1\n", []Change{{"a", "1", "N"}}, "a:!1\n", []bool{false}},
		{"commented out meanwhile", "#a:1\n", []Change{{"a", "1", "N"}}, "#a:1\n", []bool{false}},
		{"comment, whitespace and line ends", "\uFEFF a: 1 :Alice: x\r\n\r\n# a:1\r\nb:2", []Change{{"a", "1", "N"}}, "\uFEFFa:N:Alice: x\r\n\r\n# a:1\r\nb:2", []bool{true}},
		{"the first line decides", "a:2\na:1\n", []Change{{"a", "1", "N"}}, "a:2\na:1\n", []bool{false}},
		{"an invalid first line decides", "a\na:1\n", []Change{{"a", "1", "N"}}, "a\na:1\n", []bool{false}},
		{"later lines with the same hash", "a:1\na:2\na:1:x\n", []Change{{"a", "1", "N"}}, "a:N\na:2\na:N:x\n", []bool{true}},
		{"two changes of a user", "a:1\n", []Change{{"a", "1", "N"}, {"a", "1", "M"}}, "a:N\n", []bool{true, false}},
		{"none", "a:1", nil, "a:1", []bool{}},
		{"empty file", "", []Change{{"a", "1", "N"}}, "", []bool{false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, made := ReplaceHashes(test.text, test.changes); got != test.want || !slices.Equal(made, test.made) {
				t.Errorf("got %q, made %t, want %q, made %t", got, made, test.want, test.made)
			}
		})
	}
}

// FuzzReplaceHashes checks the parsed result: the changed users have the new hash if they
// had the old one, and all other users, and all lines, are as before.
func FuzzReplaceHashes(f *testing.F) {
	f.Add("ann:"+shaSecret1+":x\r\nbob:"+shaSecret1+"\n#\nann:{SHA}\n", "ann", "bob")
	f.Add("\uFEFFa:"+shaSecret1+"\n :\n\x00:"+shaSecret1+"\na:"+shaSecret1, "a", "a")
	f.Fuzz(func(t *testing.T, text, one, two string) {
		const hash = "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="
		var changes []Change
		before, _ := Parse(text)
		for _, name := range []string{one, two} {
			c := Change{Name: name, Old: shaSecret1, New: hash}
			if u := before.Find(name); u != nil && u.State == StateUsable && len(name)%3 > 0 {
				c.Old = u.Hash
			}
			changes = append(changes, c)
		}
		edited, made := ReplaceHashes(text, changes)
		after, _ := Parse(edited)
		if len(after.All) != len(before.All) || strings.Count(edited, "\n") != strings.Count(text, "\n") {
			t.Fatalf("got %d users, want %d", len(after.All), len(before.All))
		}
		for i, u := range before.All {
			got, want := after.All[i], u.Hash
			for j, c := range changes {
				if c.Name == u.Name && (j == 0 || one != two) && made[j] != (u.State == StateUsable && u.Hash == c.Old) {
					t.Errorf("%q: made %t", u.Name, made[j])
				}
				if c.Name == u.Name && made[j] {
					want = hash
				}
			}
			if got.Name != u.Name || got.Hash != want || got.State != u.State {
				t.Errorf("user %q: got the hash %q, state %d, want %q, %d", got.Name, got.Hash, got.State, want, u.State)
			}
		}
		if again, madeAgain := ReplaceHashes(edited, changes); changes[0].Old != hash && (again != edited && changes[1].Old != hash || madeAgain[0]) {
			t.Errorf("a change was made twice: %q", again)
		}
	})
}
