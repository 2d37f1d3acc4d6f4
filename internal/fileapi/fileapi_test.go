package fileapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/follow"
	"github.com/seed10b5b978/caddy-htpasswd/internal/htfile"
)

const (
	hash1 = "{SHA}AMr9EmGC6KnnwBuy8N/QBJa+ck8="
	hash2 = "{SHA}canaryAAAAAAAAAAAAAAAAAAAAA="
)

var staff = File{Source: Source{SchemeFleet, "staff"}, MaxText: 1000}

func statusOf(t testing.TB, err error) int {
	t.Helper()
	if err == nil {
		return http.StatusOK
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got the error %T, want an *Error: %v", err, err)
	}
	return e.Status
}

func TestSources(t *testing.T) {
	for _, test := range []struct {
		url      string
		isSource bool
		isValid  bool
	}{
		{"fleet://staff", true, true},
		{"storage://a-b_c.D9", true, true},
		{"fleet://" + strings.Repeat("a", 64), true, true},
		{"fleet://" + strings.Repeat("a", 65), true, false},
		{"fleet://", true, false},
		{"fleet://.staff", true, false},
		{"fleet://..", true, false},
		{"fleet://a/b", true, false},
		{"fleet://a\n", true, false},
		{"fleet://ü", true, false},
		{"Fleet://staff", false, false},
		{"/etc/caddy/.htpasswd", false, false},
		{"fleet:/staff", false, false},
		{"", false, false},
	} {
		s, isSource, err := ParseURL(test.url)
		if isSource != test.isSource || (isSource && err == nil) != test.isValid {
			t.Errorf("%q: got source %t and error %v, want source %t, valid %t", test.url, isSource, err, test.isSource, test.isValid)
		}
		if !test.isValid {
			continue
		}
		if s.String() != test.url {
			t.Errorf("got %s, want %s", s, test.url)
		}
		if back, err := ParsePath(s.AdminPath()); err != nil || back != s {
			t.Errorf("%s: got %v and %v, want the source again", s.AdminPath(), back, err)
		}
	}
	for _, path := range []string{Path, Path + "fleet", Path + "fleet/", Path + "fleet/a/b", Path + "http/a", Path + "/fleet/a", Path + "fleet/.a", "/htpasswd/files"} {
		if _, err := ParsePath(path); statusOf(t, err) != http.StatusNotFound {
			t.Errorf("%s: got %v, want an error with status 404", path, err)
		}
	}
}

func TestBodies(t *testing.T) {
	for _, test := range []struct {
		name, body string
		status     int
		want       string // a part of the error
	}{
		{"set", `{"set":{"user":"ann","hash":"` + hash1 + `"}}`, 200, ""},
		{"remove", ` {"remove" : {"user":"ann"} } `, 200, ""},
		{"import", `{"import":{"text":"ann:x\n"}}`, 200, ""},
		{"import that overwrites", `{"import":{"overwrite":true,"text":""}}`, 200, ""},
		{"a character of two escapes", `{"remove":{"user":"\ud83d\ude00 \\ud83d"}}`, 200, ""},
		{"nothing", "", 400, "the body is empty"},
		{"no JSON", "ann:canary", 400, "not one JSON object"},
		{"something after it", `{"remove":{"user":"ann"}} {}`, 400, "not one JSON object"},
		{"null", "null", 400, "expected exactly one of"},
		{"a list", `["canary"]`, 400, "expected exactly one of"},
		{"no change", `{}`, 400, "expected exactly one of"},
		{"two changes", `{"set":{"user":"ann","hash":"canary"},"remove":{"user":"ann"}}`, 400, "expected exactly one of"},
		{"a change twice", `{"remove":{"user":"ann"},"remove":{"user":"bob"}}`, 400, "expected exactly one of"},
		{"an unknown change", `{"canary":{}}`, 400, "expected exactly one of"},
		{"a change in capitals", `{"Remove":{"user":"ann"}}`, 400, "expected exactly one of"},
		{"an unknown field", `{"set":{"user":"ann","hash":"canary","canary":1}}`, 400, "set: expected"},
		{"a field twice", `{"set":{"user":"ann","user":"canary","hash":"canary"}}`, 400, "set: expected"},
		{"a field in capitals", `{"set":{"User":"ann","hash":"canary"}}`, 400, "set: expected"},
		{"a field that is missing", `{"set":{"user":"ann"}}`, 400, "set: expected"},
		{"a number", `{"set":{"user":"ann","hash":1}}`, 400, "set: expected"},
		{"a field that is null", `{"set":{"user":null,"hash":"canary"}}`, 400, "set: expected"},
		{"a change that is null", `{"remove":null}`, 400, "remove: expected"},
		{"a hash with remove", `{"remove":{"user":"ann","hash":"canary"}}`, 400, "remove: expected"},
		{"overwrite as a text", `{"import":{"text":"canary","overwrite":"true"}}`, 400, "import: expected"},
		{"import without a text", `{"import":{"overwrite":true}}`, 400, "import: expected"},
		{"not UTF-8", "{\"remove\":{\"user\":\"a\xff\"}}", 400, "not UTF-8"},
		{"half a character", `{"remove":{"user":"a\ud800"}}`, 400, "no character"},
		{"the other half", `{"remove":{"user":"\udc00a"}}`, 400, "no character"},
		{"two first halves", `{"remove":{"user":"\ud83d\ud83d"}}`, 400, "no character"},
		{"a large change of one user", `{"set":{"user":"ann","hash":"` + strings.Repeat("x", maxSmallBody) + `"}}`, 413, "at most 65536"},
		{"a large import", `{"import":{"text":"` + strings.Repeat("x", maxSmallBody) + `"}}`, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := Decode([]byte(test.body))
			if statusOf(t, err) != test.status || (r == nil) != (err != nil) {
				t.Fatalf("got %v and %v, want status %d", r, err, test.status)
			}
			if err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("got the error '%s', want one with '%s' and nothing of the body", err, test.want)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	set := func(user, hash string) *Request { return &Request{Set: &Set{user, hash}} }
	remove := func(user string) *Request { return &Request{Remove: &Remove{user}} }
	replace := func(text string, overwrite bool) *Request { return &Request{Import: &Import{text, overwrite}} }
	groups := staff
	groups.IsGroups = true
	ann, bob := "ann:"+hash1+"\n", "bob:"+hash2+"\n"
	for _, test := range []struct {
		name    string
		file    File
		request *Request
		text    string
		status  int
		want    string // the new text, or a part of the error
		answer  Answer
	}{
		{"the first user", staff, set("ann", hash1), "", 200, ann, Answer{Result: Added, Users: 1}},
		{"one more user", staff, set("bob", hash2), ann, 200, ann + bob, Answer{Result: Added, Users: 2}},
		{"another hash", staff, set("ann", hash2), ann + bob, 200, "ann:" + hash2 + "\n" + bob, Answer{Result: Updated, Users: 2}},
		{"a user with two lines", staff, set("bob", hash1), bob + bob, 200, "bob:" + hash1 + "\nbob:" + hash1 + "\n", Answer{Result: Updated, Users: 1, Lines: 2}},
		{"a name that is too long", staff, set(strings.Repeat("a", 256), hash1), "", 400, "longer than 255", Answer{}},
		{"a name with a line end", staff, set("a\nb", hash1), "", 400, "control character", Answer{}},
		{"a name with a colon", staff, set("a:b", hash1), "", 400, "':'", Answer{}},
		{"a name that is a comment", staff, remove("#a"), "", 400, "begins with '#'", Answer{}},
		{"no name", staff, remove(""), "", 400, "no user name", Answer{}},
		{"a hash of no format", staff, set("ann", "canary"), "", 400, "unknown password hash format", Answer{}},
		{"no hash", staff, set("ann", ""), "", 400, "the hash is empty", Answer{}},
		{"the mark of a locked account", staff, set("ann", "!"), "", 400, "hash", Answer{}},
		{"a hash with another line", staff, set("ann", hash1+"\nroot:"+hash2), "", 400, "control character", Answer{}},
		{"a hash with a comment", staff, set("ann", hash1+":canary"), "", 400, "colon", Answer{}},
		{"a hash with a space", staff, set("ann", hash1+" "), "", 400, "whitespace", Answer{}},
		{"a user of a page", staff, set("ann", hash1), "<html>\ncanary\n", 409, "not an htpasswd file", Answer{}},
		{"a user of a group file", groups, set("ann", hash1), "", 400, "group file", Answer{}},
		{"more than the text may have", staff, set("ann", hash1), strings.Repeat("#\n", 490) + bob, 413, "at most 1000", Answer{}},
		{"a user of a text that is too large already", staff, remove("bob"), strings.Repeat("#\n", 600) + bob + ann, 200, strings.Repeat("#\n", 600) + ann, Answer{Result: Removed, Users: 1}},

		{"remove", staff, remove("ann"), ann + bob, 200, bob, Answer{Result: Removed, Users: 1}},
		{"remove the last one", staff, remove("ann"), ann, 200, "", Answer{Result: Removed}},
		{"remove nobody", staff, remove("carl"), ann + bob, 200, ann + bob, Answer{Result: NotFound, Users: 2}},
		{"remove from nothing", staff, remove("carl"), "", 200, "", Answer{Result: NotFound}},
		{"remove the last valid line", staff, remove("ann"), ann + "canary\n", 409, "keep the old version", Answer{}},
		{"remove from a group file", groups, remove("ann"), "", 400, "group file", Answer{}},

		{"import", staff, replace(ann+bob, false), "", 200, ann + bob, Answer{Result: Imported, Users: 2}},
		{"import over comments", staff, replace(ann, false), "# none yet\n", 200, ann, Answer{Result: Imported, Users: 1}},
		{"import over users", staff, replace(ann, false), bob, 409, `"overwrite":true`, Answer{}},
		{"overwrite users", staff, replace(ann, true), bob, 200, ann, Answer{Result: Imported, Users: 1}},
		{"overwrite a page", staff, replace(ann, true), "<html>\n", 200, ann, Answer{Result: Imported, Users: 1}},
		{"import no lines", staff, replace("# canary\n", true), bob, 400, "import a comment", Answer{}},
		{"import a page", staff, replace("<html>canary\n", true), bob, 400, "would refuse", Answer{}},
		{"import too much", staff, replace(strings.Repeat(ann, 100), true), "", 413, "at most 1000", Answer{}},
		{"import groups", groups, replace("staff: ann bob\n", false), "", 200, "staff: ann bob\n", Answer{Result: Imported, Users: 2}},
		{"import users as groups", groups, replace("<html>canary\n", false), "", 400, "would refuse", Answer{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			body, err := test.request.JSON()
			if err != nil {
				t.Fatal(err)
			}
			r, err := Decode(body)
			if err != nil {
				t.Fatalf("got %v, want the request that was encoded", err)
			}
			err = r.Check(test.file)
			var edited string
			var answer Answer
			if err == nil {
				edited, answer, err = r.Apply(test.file, test.text)
			}
			if statusOf(t, err) != test.status || answer != test.answer {
				t.Fatalf("got %+v and %v, want status %d and %+v", answer, err, test.status, test.answer)
			}
			if err == nil && edited != test.want {
				t.Errorf("got the text %q, want %q", edited, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("got the error '%s', want one with '%s' and nothing of the texts", err, test.want)
			}
		})
	}
}

func TestTextsThatJSONCannotHold(t *testing.T) {
	for _, r := range []*Request{{Set: &Set{"a\xff", hash1}}, {Set: &Set{"a", "\xff"}}, {Remove: &Remove{"\xff"}}, {Import: &Import{Text: "a\xff:" + hash1}}} {
		if body, err := r.JSON(); !errors.Is(err, ErrNotUTF8) {
			t.Errorf("got %q and %v, want ErrNotUTF8", body, err)
		}
	}
}

// TestLargestText checks that the largest text of any users fits into a body.
func TestLargestText(t *testing.T) {
	var text strings.Builder
	for text.Len() < MaxFleetText-300 {
		fmt.Fprintf(&text, "%s:\t%s\n", strings.Repeat(`"\<>&`, 3), hash1)
	}
	body, err := (&Request{Import: &Import{Text: text.String(), Overwrite: true}}).JSON()
	if err != nil || int64(len(body)) > MaxBody(MaxFleetText) {
		t.Fatalf("got %d bytes and %v, want at most %d", len(body), err, MaxBody(MaxFleetText))
	}
	if r, err := Decode(body); err != nil || r.Import.Text != text.String() {
		t.Errorf("got %v, want the text again", err)
	}
}

// FuzzDecode checks that what Decode accepts is what JSON encodes, and that what Check and
// Apply accept is parsed as intended.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{"set":{"user":"ann","hash":"` + hash1 + `"}}`, `{"remove":{"user":"ann"}}`, `{"import":{"text":"ann:!\n","overwrite":true}}`,
		`{"set":{"user":"a\u0000","hash":"{PLAIN}x"}}`, `{"remove":{"user":"\ud83d\ude00\\"}}`, `{"remove":{"user":"a"},"remove":{}}`, `[]`, `{"a":`,
	} {
		f.Add([]byte(body), "ann:"+hash1+"\nbob:"+hash2+"\n")
	}
	f.Fuzz(func(t *testing.T, body []byte, text string) {
		r, err := Decode(body)
		if err != nil {
			statusOf(t, err)
			return
		}
		again, err := r.JSON()
		if err != nil {
			t.Fatalf("got %v for a request that was decoded", err)
		}
		back, err := Decode(again)
		if len(again) <= maxSmallBody || r.Import != nil {
			if err != nil || fmt.Sprint(back.texts()) != fmt.Sprint(r.texts()) {
				t.Fatalf("got %v and %v, want %v again", back, err, r)
			}
		}
		file := staff
		file.MaxText = follow.MaxFileSize
		if r.Check(file) != nil {
			return
		}
		edited, answer, err := r.Apply(file, text)
		if err != nil {
			statusOf(t, err)
			return
		}
		users, err := htfile.Parse(edited)
		if err != nil {
			t.Fatalf("got a text that a server refuses: %v", err)
		}
		if usable, _ := users.Count(); usable != answer.Users {
			t.Errorf("got %d users in the answer, want %d", answer.Users, usable)
		}
		switch {
		case r.Set != nil:
			if u := users.Find(r.Set.User); u == nil || u.Hash != r.Set.Hash || u.State != htfile.StateUsable {
				t.Errorf("the user does not have the hash")
			}
		case r.Remove != nil:
			if users.Find(r.Remove.User) != nil {
				t.Errorf("the user was not removed")
			}
		}
	})
}
