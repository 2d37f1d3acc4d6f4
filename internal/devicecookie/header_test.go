package devicecookie

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// fieldsOf returns the Cookie fields of a header between "|", or "-" if it has none.
func fieldsOf(h http.Header) string {
	if fields, found := h["Cookie"]; found {
		return strings.Join(fields, "|")
	}
	return "-"
}

func TestTake(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long=cookie; ", 40) + "last=1"
	longer := strings.Repeat("long=cookie; ", 400) + "last=1"
	for _, row := range []struct{ name, before, want string }{ // N is the name, and "|" is between fields
		{"alone", "N=1", "-"},
		{"alone, with whitespace", " N=1 ; ", "-"},
		{"only semicolons remain", ";; N=1;;", "-"},
		{"no value", "N=", "-"},
		{"first", "N=1; a=2", "a=2"},
		{"first of three", "N=1; a=2; b=3", "a=2; b=3"},
		{"second of three", "a=2; N=1; b=3", "a=2; b=3"},
		{"last", "a=2; N=1", "a=2"},
		{"no whitespace", "a=2;N=1;b=3", "a=2;b=3"},
		{"odd whitespace", " a=2 ;\t N=1  ;  b=3 ", " a=2 ;  b=3 "},
		{"odd whitespace after the first", "N=1;\t b = 3 ", "b = 3 "},
		{"a semicolon at the end", "a=2; N=1;", "a=2;"},
		{"empty pairs", "a=2;; N=1;; b=3", "a=2;;; b=3"},
		{"twice", "N=1; N=2", "-"},
		{"twice with another between", "N=1; a=2; N=3", "a=2"},
		{"twice between others", "a=2; N=1; N=3; b=3", "a=2; b=3"},
		{"a hundred", "a=2; " + strings.Repeat("N=1; ", 100) + "b=3", "a=2; b=3"},
		{"a malformed value", "a=2; N=\"x y\",ä\xff=\\; b=3", "a=2; b=3"},
		{"8 kB", "a=2; N=" + strings.Repeat("x", 8192) + "; b=3", "a=2; b=3"},
		{"a quotation mark", `a="x; N=1; y"`, `a="x; y"`},
		{"values with equals signs", "a=N=1; N=a=2; b==", "a=N=1; b=="},
		{"no equals sign", "N; a=2", "N; a=2"},
		{"whitespace before the equals sign", "N =1; a=2", "N =1; a=2"},
		{"longer names", "xN=1; Nx=2; N.=3", "xN=1; Nx=2; N.=3"},
		{"other case", strings.ToLower(name) + "=1; " + strings.ToUpper(name) + "=2", strings.ToLower(name) + "=1; " + strings.ToUpper(name) + "=2"},
		{"other cookies only", "a=2; b=3", "a=2; b=3"},
		{"no cookies", "-", "-"},
		{"an empty field", "", ""},
		{"an empty field beside it", "|N=1", ""},
		{"an empty field after it", "N=1|| ;", "| ;"},
		{"a field of its own", "a=2|N=1|b=3", "a=2|b=3"},
		{"the only one of two fields", "N=1|N=2", "-"},
		{"two fields that both have it", "a=2; N=1|N=2; b=3", "a=2|b=3"},
		{"two fields, not in the first", " a=2;|N=2; b=3", " a=2;|b=3"},
		{"crumbs of HTTP/2", "a=2|N=1", "a=2"},
		{"other cookies that are long", "a=2; N=1; " + long, "a=2; " + long},
		{"other cookies that are longer", "a=2; N=1; " + longer, "a=2; " + longer},
		{"long cookies on both sides", longer + "; N=1; " + longer, longer + "; " + longer},
	} {
		before, want := strings.ReplaceAll(row.before, "N", name), strings.ReplaceAll(row.want, "N", name)
		h := http.Header{"Accept": {"N"}}
		if before != "-" {
			h["Cookie"] = strings.Split(before, "|")
		}
		shallow := maps.Clone(h)
		_, removed := Take(h, name)
		if got := fieldsOf(h); got != want || removed != (before != want) {
			t.Errorf("%s: got %v and %.300q, want %.300q", row.name, removed, got, want)
		}
		if got := fieldsOf(shallow); got != before {
			t.Errorf("%s: got %.300q in a shallow copy", row.name, got)
		}
		if c, found := Take(h, name); c.Len() > 0 || found {
			t.Errorf("%s: got another cookie to remove", row.name)
		}
	}
}

// TestRemoveSharesNothing checks that appending to the fields leaves the text alone, and
// that each length of text is kept, at the limits of the sizes, too.
func TestTakeSharesNothing(t *testing.T) {
	t.Parallel()
	for n := range 2200 {
		want := "a=" + strings.Repeat("x", n) + "; b=3"
		h := http.Header{"Cookie": {"a=" + strings.Repeat("x", n) + "; " + name + "=1; b=3"}}
		Take(h, name)
		fields := h["Cookie"]
		other := append(fields, "c=4")
		other[0] = "d=5"
		if len(fields) != 1 || fields[0] != want {
			t.Fatalf("%d: got %q", n, fields)
		}
	}
}

// removeModel is what Take leaves of one field, in other words, and whether it leaves it.
func removeModel(field, name string) (rest string, kept bool) {
	pairs := strings.Split(field, ";")
	is := func(pair string) bool { return strings.HasPrefix(strings.TrimLeft(pair, " \t"), name+"=") }
	others := slices.DeleteFunc(slices.Clone(pairs), is)
	switch {
	case len(others) == len(pairs):
		return field, true
	case strings.Trim(strings.Join(others, ""), " \t") == "":
		return "", false
	case is(pairs[0]):
		others[0] = strings.TrimLeft(others[0], " \t")
	}
	return strings.Join(others, ";"), true
}

// FuzzTake compares Take with a model, and checks that nothing is left to take.
func FuzzTake(f *testing.F) {
	const name = "_n"
	for _, seed := range []string{"", "_n=1", "a=2; _n=1; b=3", " _n=1;;\t_n=2 ;_n; __n=3; _n =4", "_n=_n=n;_n=", ";_n=;", "a=\"; _n=1\"", "_n=1|_n=2|a=3", "a=1|_n=2", "|_n=1", "n=1;xn=2;_n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields := strings.Split(text, "|")
		h := http.Header{"Cookie": slices.Clone(fields)}
		_, found := Take(h, name)
		var want []string
		for _, field := range fields {
			if rest, kept := removeModel(field, name); kept {
				want = append(want, rest)
			}
		}
		if got := h["Cookie"]; !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", fields, got, want)
		}
		if found == slices.Equal(fields, want) {
			t.Errorf("%q: got %v", fields, found)
		}
		if _, found := Take(h, name); found {
			t.Errorf("%q: got another cookie", fields)
		}
		// The standard library reads the other cookies alike, before and after.
		others := func(fields []string) (all []string) {
			for _, c := range (&http.Request{Header: http.Header{"Cookie": fields}}).Cookies() {
				if c.Name != name {
					all = append(all, c.String())
				}
			}
			return all
		}
		if before, after := others(fields), others(h["Cookie"]); !slices.Equal(before, after) {
			t.Errorf("%q: got other cookies %q, want %q", fields, after, before)
		}
	})
}

// FuzzCandidates compares the candidates with a model.
func FuzzCandidates(f *testing.F) {
	const name = "_n"
	text := strings.Repeat("t", MinTextLen)
	for _, seed := range []string{"", "_n=" + text, "a=2; _n= " + text + "." + text + " ;b=3", "_n=1|_n=" + text, "_n=........." + text, "__n=" + text + ";_n =" + text + ";n=" + text} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields := strings.Split(text, "|")
		var want []string
		looked := 0
		for _, field := range fields {
			for pair := range strings.SplitSeq(field, ";") {
				value, found := strings.CutPrefix(strings.TrimLeft(pair, " \t"), name+"=")
				if !found {
					continue
				}
				value = strings.Trim(value, " \t")
				if len(value) > maxValueLen {
					value = ""
				}
				for text := range strings.SplitSeq(value, ".") {
					if looked++; looked <= MaxCandidates && len(text) >= MinTextLen && len(text) <= MaxTextLen {
						want = append(want, text)
					}
				}
			}
		}
		if c, _ := Take(http.Header{"Cookie": fields}, name); !slices.Equal(c.texts[:c.n], want) {
			t.Errorf("%q: got %q, want %q", fields, c.texts[:c.n], want)
		}
	})
}

func TestSetCookie(t *testing.T) {
	t.Parallel()
	value := keysA.Issue(parsed(strings.Repeat("."+token(keysA, bob, 1), 4)[1:]), alice, start)
	text := SetCookie(name, value, life+time.Millisecond)
	if want := name + "=" + value + "; Path=/; Max-Age=7776000; HttpOnly; Secure; SameSite=Lax"; text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	cookie, err := http.ParseSetCookie(text)
	if err != nil || cookie.Valid() != nil {
		t.Fatal(err, cookie)
	}
	cookie.Raw = ""
	want := http.Cookie{Name: name, Value: value, Path: "/", MaxAge: 7776000, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	if got, want := fmt.Sprintf("%+v", *cookie), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	long := strings.Repeat("t", MaxTextLen)
	if n := len(SetCookie(strings.Repeat("n", MaxNameLen), strings.Repeat("."+long, MaxTokens)[1:], 1<<62)); n > 1024 {
		t.Errorf("got %d bytes, want at most 1024", n)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name           string
		is, isPrefixed bool
	}{
		{name, true, true},
		{"__Host-x", true, true},
		{"__Host-", true, false},
		{"__host-x", true, false},
		{"__HOST-x", true, false},
		{"__Secure-x", true, false},
		{"x__Host-x", true, false},
		{"device", true, false},
		{"a!#$%&'*+-.^_`|~9", true, false},
		{strings.Repeat("n", MaxNameLen), true, false},
		{strings.Repeat("n", MaxNameLen+1), false, false},
		{"", false, false},
		{"a b", false, false},
		{"a=b", false, false},
		{"a;b", false, false},
		{"a,b", false, false},
		{"a\tb", false, false},
		{"a\r\nb", false, false},
		{"a\x00", false, false},
		{"a\x7f", false, false},
		{"ä", false, false},
		{`"a"`, false, false},
		{"{env.NAME}", false, false},
		{"$Path[0]@(x)", false, false},
	} {
		if got := IsName(row.name); got != row.is {
			t.Errorf("IsName(%q): got %v, want %v", row.name, got, row.is)
		}
		if got := IsHostPrefixed(row.name); got != row.isPrefixed {
			t.Errorf("IsHostPrefixed(%q): got %v, want %v", row.name, got, row.isPrefixed)
		}
		if valid := (&http.Cookie{Name: row.name}).Valid() == nil; row.is && !valid {
			t.Errorf("%q: the standard library refuses the name", row.name)
		}
	}
}
