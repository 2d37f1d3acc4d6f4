package httpfield

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestSame(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"X-User", "X-User", true}, {"X-User", "x-user", true}, {"X-User", "X_USER", true}, {"X-User", "X.User", true}, {"X-User", "X~User", true},
		{"X-User", "X User", true}, {"X-User", "X\x00User", true}, {"X-User", "X\xffUser", true}, {"_", "-", true}, {"", "", true},
		{"X-User", "XUser", false}, {"X-User", "X--User", false}, {"X-User", "X-User-", false}, {"X-User", "X-Uses", false}, {"X-User", "X-User ", false},
		{"X-User", "", false}, {"X-1", "X-2", false}, {"X-1", "X-Q", false}, {"@", "`", true}, {"[", "{", true}, {"K", "\u212a", false},
	} {
		if got := same(row.a, row.b); got != row.want || same(row.b, row.a) != row.want {
			t.Errorf("%q and %q: got %t, want %t in both orders", row.a, row.b, got, row.want)
		}
	}
	for c := range 256 { // a letter is never treated as a separator
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if got := same(string([]byte{byte(c)}), "-"); got == letter {
			t.Errorf("byte %#x: got %t for the same as a separator, want %t", c, got, !letter)
		}
	}
}

func FuzzSame(f *testing.F) {
	for _, name := range []string{"X-User", "x_user", "X.User", "", "\xff\x00", "X-Üser"} {
		f.Add(name, "X-User")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ascii := func(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0 }
		if !ascii(a) || !ascii(b) {
			_ = same(a, b) // must not panic
			return
		}
		if got, want := same(a, b), squash(a) == squash(b); got != want {
			t.Errorf("%q and %q: got %t, want %t", a, b, got, want)
		}
	})
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name             string
		header, expected http.Header
	}{
		{"nothing", http.Header{}, http.Header{}},
		{"no header", nil, nil},
		{"other names", http.Header{"X-Users": {"a"}, "X-Use": {"a"}, "Xuser": {"a"}}, http.Header{"X-Users": {"a"}, "X-Use": {"a"}, "Xuser": {"a"}}},
		{"all spellings", http.Header{"X-User": {"a", "b"}, "x-user": {"a"}, "X_user": {"a"}, "X.User": {"a"}, "x_USER": nil, "Y": {"y"}}, http.Header{"Y": {"y"}}},
		{"Connection names only the field", http.Header{"Connection": {"x-user"}}, http.Header{}},
		{"Connection names it among others", http.Header{"Connection": {"close, X-User"}}, http.Header{}},
		{"Connection has whitespace around it", http.Header{"Connection": {" \tX-User\t "}}, http.Header{}},
		{"Connection has another spelling", http.Header{"Connection": {"X_USER"}}, http.Header{}},
		{"one of two values of Connection names it", http.Header{"Connection": {"Upgrade", ",,X-User,"}}, http.Header{"Connection": {"Upgrade"}}},
		{"Connection names others", http.Header{"Connection": {"Upgrade, X-Users"}}, http.Header{"Connection": {"Upgrade, X-Users"}}},
		{"Connection is empty", http.Header{"Connection": {""}}, http.Header{"Connection": {""}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := row.header["Connection"]
			clone := slices.Clone(before)
			header := row.header
			Remove(header, "X-User")
			if !maps.EqualFunc(header, row.expected, slices.Equal) {
				t.Errorf("got %v, want %v", header, row.expected)
			}
			if !slices.Equal(before, clone) {
				t.Errorf("got values %q, want them unchanged: %q", before, clone)
			}
		})
	}
}

// squash normalizes the name of a field as a careless application does.
func squash(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, strings.ToLower(name))
}

func TestBasicChallenge(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ realm, want string }{
		{"Restricted", "Restricted"}, {"", ""}, {`"`, `\"`}, {`\`, `\\`}, {`\"`, `\\\"`}, {`a", charset="x`, `a\", charset=\"x`},
		{"a\x00b\x01\r\nc\td\x7fe", "abcde"}, {"ü\u2028\xff", "ü\u2028\xff"}, {"trailing\\", `trailing\\`}, {strings.Repeat(`"`, 1000), strings.Repeat(`\"`, 1000)},
	} {
		if got, want := BasicChallenge(row.realm), `Basic realm="`+row.want+`", charset="UTF-8"`; got != want {
			t.Errorf("realm %q: got %q, want %q", row.realm, got, want)
		}
	}
}

func FuzzBasicChallenge(f *testing.F) {
	for _, realm := range []string{"Restricted", `"`, `\`, "a\r\nb", "\x7f", "ü"} {
		f.Add(realm)
	}
	f.Fuzz(func(t *testing.T, realm string) {
		got := BasicChallenge(realm)
		inner, ok := strings.CutPrefix(got, `Basic realm="`)
		inner, ok2 := strings.CutSuffix(inner, `", charset="UTF-8"`)
		if !ok || !ok2 || strings.ContainsFunc(got, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			t.Fatalf("got %q, want a quoted string without control characters", got)
		}
		var unquoted strings.Builder
		for i := 0; i < len(inner); i++ {
			switch inner[i] {
			case '"':
				t.Fatalf("the quoted string ends early: %q", got)
			case '\\':
				if i++; i == len(inner) {
					t.Fatalf("the quoted string does not end: %q", got)
				}
			}
			unquoted.WriteByte(inner[i])
		}
		var want strings.Builder
		for i := range len(realm) {
			if realm[i] >= ' ' && realm[i] != 0x7f {
				want.WriteByte(realm[i])
			}
		}
		if unquoted.String() != want.String() {
			t.Fatalf("realm %q: got %q, want %q without the escapes", realm, got, want.String())
		}
	})
}

func TestIsUsable(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]bool{
		"X-User": true, "Remote-User": true, "x_user": true, "X.User": true, "X": true, "X-WebAuth-User": true,
		"": false, "X User": false, "X-User:": false, "X-User\n": false, "Ünicode": false, "(x)": false,
		"authorization": false, "AUTHORIZATION": false, "Author_ization": true, "host": false, "content-length": false, "Content_Length": false,
		"transfer.encoding": false, "Cookie": false, "Connection": false, "TE": false, "Trailer": false, "x-forwarded-for": false, "X_Forwarded_Proto": false,
	} {
		if got := IsUsable(field); got != want {
			t.Errorf("%q: got %t, want %t", field, got, want)
		}
	}
}
