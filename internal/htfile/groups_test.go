package htfile

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseGroups(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       string
		invalid    int
		problem    string
	}{
		{name: "empty", text: ""},
		{name: "comments", text: "\uFEFF# x\r\n\n"},
		{name: "one", text: "admins: alice bob", want: "alice=admins bob=admins"},
		{name: "no space, more whitespace, CRLF", text: "\uFEFF admins :alice\t bob \r\n", want: "alice=admins bob=admins"},
		{name: "several lines, sorted and once each", text: "z: alice\na: alice bob alice\nz: bob alice\n", want: "alice=a,z bob=a,z"},
		{name: "no members", text: "admins:\n"},
		{name: "colons in names of users", text: "admins: a:b", want: "a:b=admins"},
		{name: "commas do not separate users", text: "admins: alice,bob", want: "alice,bob=admins"},
		{name: "invalid lines", text: "admins\n: alice\na b: alice\na,b: alice\na\tb: alice\na\x00b: alice\nok: alice", want: "alice=ok", invalid: 6},
		{name: "no valid line", text: "admins alice\n", problem: "no valid group: user user ... line (invalid lines: 1); line 1: no colon"},
		{name: "an htpasswd file has no users in common", text: "alice:" + shaSecret1, want: shaSecret1 + "=alice"},
		{name: "a no-break space is part of a name", text: "admins: al\u00a0ice al\u2003ice", want: "al\u00a0ice=admins al\u2003ice=admins"},
		{name: "not UTF-8", text: "admins: \xe9 \xa0x", want: "\xa0x=admins \xe9=admins"},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := ParseGroups(test.text)
			if refused(t, err, test.problem) {
				return
			}
			var all []string
			for _, user := range slices.Sorted(maps.Keys(table.Of)) {
				all = append(all, user+"="+strings.Join(table.Of[user], ","))
			}
			if got := strings.Join(all, " "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
			if table.InvalidCount != test.invalid {
				t.Errorf("got %d invalid lines, want %d", table.InvalidCount, test.invalid)
			}
		})
	}
}

func FuzzParseGroups(f *testing.F) {
	for _, text := range []string{"", "a: b", "a:b c\nb: c\na: c c\n", "\uFEFF a : b\r\n", ":", "a", "a b: c", "# x\n", "\x00: \x00", "a: \u00a0 \xa0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := ParseGroups(text)
		again, _ := ParseGroups(text)
		if !maps.EqualFunc(table.Of, again.Of, slices.Equal) {
			t.Error("parsing again gives another table")
		}
		if (err != nil) != (table.Valid == 0 && table.InvalidCount > 0) {
			t.Errorf("%d valid and %d invalid lines: %v", table.Valid, table.InvalidCount, err)
		}
		for user, groups := range table.Of {
			if user == "" || strings.ContainsAny(user, Whitespace+"\n") || len(groups) == 0 || !strings.Contains(text, user) {
				t.Errorf("%q is in %q", user, groups)
			}
			for i, g := range groups {
				if g == "" || strings.ContainsAny(g, " ,:") || HasControl(g) || i > 0 && g <= groups[i-1] {
					t.Errorf("%q is in %q", user, groups)
				}
			}
		}
	})
}
