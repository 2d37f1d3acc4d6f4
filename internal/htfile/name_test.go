package htfile

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, test := range []struct{ name, want string }{
		{"alice", ""}, {"al ice", ""}, {"a#b", ""}, {"Zo\u00eb", ""}, {"\xe9", ""}, {strings.Repeat("n", MaxUserLen), ""},
		{strings.Repeat("n", MaxUserLen+1), "longer than 255 bytes"},
		{"", "no user name"},
		{"a:b", "contains ':'"},
		{"a\nb", "control character"}, {"a\x7f", "control character"}, {"\ta", "control character"},
		{"#a", "begins with '#'"}, {" a", "whitespace"}, {" #a", "whitespace"}, {"\uFEFFa", "byte order mark"},
		{"a ", "ends with a space"}, {" ", "no user name"},
	} {
		err := CheckName(test.name)
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got error %v, want one with %q", test.name, err, test.want)
		}
		if errors.Is(err, ErrNameTooLong) != (len(test.name) > MaxUserLen) {
			t.Errorf("%q: got error %v", test.name, err)
		}
		if err == nil {
			if users, err := Parse(test.name + ":" + shaSecret1); err != nil || users.Find(test.name) == nil {
				t.Errorf("%q: the name passes, but is not parsed: %v", test.name, err)
			}
		}
	}
}
