package passwordpage

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

func TestCheckOrigin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, own, origin, site string // "-" for no field
		want                    error
	}{
		{"both", "https://example.com", "https://example.com", "same-origin", nil},
		{"Origin alone", "https://example.com", "https://example.com", "-", nil},
		{"Sec-Fetch-Site alone", "https://example.com", "-", "same-origin", nil},
		{"neither", "https://example.com", "-", "-", errNoOrigin},
		{"another case", "https://Example.COM", "HTTPS://eXample.com", "-", nil},
		{"the default port of https", "https://example.com:443", "https://example.com", "-", nil},
		{"the default port of http", "http://example.com", "http://example.com:80", "-", nil},
		{"the default port of another scheme", "https://example.com:80", "https://example.com", "-", errOrigin},
		{"another port", "https://example.com:8443", "https://example.com:8443", "-", nil},
		{"a missing port", "https://example.com:8443", "https://example.com", "-", errOrigin},
		{"another scheme", "https://example.com", "http://example.com", "-", errOrigin},
		{"another scheme of the same port", "https://example.com:8443", "http://example.com:8443", "-", errOrigin},
		{"a subdomain", "https://example.com", "https://a.example.com", "-", errOrigin},
		{"a longer name", "https://example.com", "https://example.com.evil.example", "-", errOrigin},
		{"IPv4", "https://192.0.2.1", "https://192.0.2.1", "-", nil},
		{"IPv6", "https://[2001:db8::1]", "https://[2001:db8::1]", "-", nil},
		{"IPv6 with a port", "https://[::1]:8443", "https://[::1]:8443", "-", nil},
		{"IPv6 in another spelling", "https://[2001:DB8:0:0::1]:443", "https://[2001:db8::1]", "-", nil},
		{"IPv6 without brackets", "https://2001:db8::1", "https://2001:db8::1", "-", errOrigin},
		{"a name in brackets", "https://[example.com]", "https://[example.com]", "-", errOrigin},
		{"a zone", "https://[fe80::1%25eth0]", "https://[fe80::1%25eth0]", "-", errOrigin},
		{"null", "https://example.com", "null", "-", errOrigin},
		{"null of the same origin", "https://example.com", "null", "same-origin", errOrigin},
		{"empty", "https://example.com", "", "-", errOrigin},
		{"empty, and no Host", "https://", "https://", "-", errOrigin},
		{"a path", "https://example.com", "https://example.com/", "-", errOrigin},
		{"a user", "https://example.com", "https://example.com@evil.example", "-", errOrigin},
		{"a list", "https://example.com", "https://example.com https://evil.example", "-", errOrigin},
		{"another scheme than the web's", "ftp://example.com", "ftp://example.com", "-", errOrigin},
		{"a port that is no number", "https://example.com:x", "https://example.com:x", "-", errOrigin},
		{"same-site", "https://example.com", "https://example.com", "same-site", errSite},
		{"cross-site", "https://example.com", "https://example.com", "cross-site", errSite},
		{"none", "https://example.com", "https://example.com", "none", errSite},
		{"a word that is unknown", "https://example.com", "https://example.com", "x", errSite},
		{"an empty word", "https://example.com", "https://example.com", "", errSite},
		{"a list of words", "https://example.com", "https://example.com", "same-origin, same-origin", errSite},
		{"another origin, and same-origin", "https://example.com", "https://evil.example", "same-origin", errOrigin},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := make(http.Header)
			for name, value := range map[string]string{"Origin": test.origin, "Sec-Fetch-Site": test.site} {
				if value != "-" {
					header.Set(name, value)
				}
			}
			scheme, host, _ := strings.Cut(test.own, "://")
			err := CheckOrigin(header, Origin{scheme, host})
			if !errors.Is(err, test.want) || err == nil && test.want != nil {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil && !errors.Is(err, ErrOtherOrigin) {
				t.Errorf("%v is not ErrOtherOrigin", err)
			}
		})
	}
}

func TestTwoOrigins(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Origin", "Sec-Fetch-Site"} {
		header := http.Header{"Origin": {"https://example.com"}, "Sec-Fetch-Site": {"same-origin"}}
		header.Add(name, header.Get(name))
		if err := CheckOrigin(header, Origin{"https", "example.com"}); !errors.Is(err, errManyOrigins) {
			t.Errorf("two values of %s: got %v, want %v", name, err, errManyOrigins)
		}
	}
}

// FuzzCheckOrigin compares the decision with a simpler one: what is accepted has the same
// scheme, name and port, as a client of the standard library would use them.
func FuzzCheckOrigin(f *testing.F) {
	f.Add("https", "example.com:443", "https://EXAMPLE.com", "")
	f.Add("http", "[::1]:80", "http://[0::1]", "same-origin")
	f.Add("https", "example.com", "null", "same-origin")
	f.Add("https", "a@b", "https://a@b", "")
	f.Fuzz(func(t *testing.T, scheme, host, origin, site string) {
		header := http.Header{"Origin": {origin}}
		if site != "" {
			header.Set("Sec-Fetch-Site", site)
		}
		if CheckOrigin(header, Origin{scheme, host}) != nil {
			return
		}
		if site != "" && site != "same-origin" {
			t.Fatalf("accepted %q", site)
		}
		u, err := url.Parse(origin)
		if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Host == "" {
			t.Fatalf("accepted %q", origin)
		}
		own, err := url.Parse(strings.ToLower(scheme) + "://" + host)
		if err != nil {
			t.Fatalf("accepted %q for %q", origin, host)
		}
		port := func(u *url.URL) string {
			if u.Port() != "" {
				return u.Port()
			}
			return defaultPorts[u.Scheme]
		}
		if u.Scheme != own.Scheme || port(u) != port(own) || !strings.EqualFold(u.Hostname(), own.Hostname()) && !strings.Contains(host, ":") {
			t.Fatalf("accepted %q for %s://%s", origin, scheme, host)
		}
	})
}

// read reads a form that a page of the site has sent.
func read(body io.Reader, types ...string) (Form, error) {
	r := httptest.NewRequest("POST", "https://example.com/?new_password=q", body)
	r.Header["Content-Type"] = types
	r.Header.Set("Origin", "https://example.com")
	return ReadForm(httptest.NewRecorder(), r, Origin{"https", "example.com"})
}

const formType = "application/x-www-form-urlencoded"

func TestReadForm(t *testing.T) {
	t.Parallel()
	const rest = "&new_password=n&new_password_again=a"
	for _, test := range []struct {
		name, body string
		want       Form
		err        error
	}{
		{"in order", "current_password=c" + rest, Form{"", "c", "n", "a"}, nil},
		{"with a user and another field", "x=1&x=2&username=u&current_password=c" + rest, Form{"u", "c", "n", "a"}, nil},
		{"empty", "current_password=&new_password=&new_password_again=", Form{}, nil},
		{"without values", "current_password&new_password&new_password_again", Form{}, nil},
		{"encoded", "current_password=%C3%A4+%2B%26%3D%00%ff" + rest, Form{"", "ä +&=\x00\xff", "n", "a"}, nil},
		{"raw bytes", "current_password=\xff" + rest, Form{"", "\xff", "n", "a"}, nil},
		{"nothing", "", Form{}, ErrFormField},
		{"a field is missing", rest, Form{}, ErrFormField},
		{"a field in upper case", "Current_password=c" + rest, Form{}, ErrFormField},
		{"a field in an array", "current_password[]=c" + rest, Form{}, ErrFormField},
		{"a field twice", "current_password=c&current_password=c" + rest, Form{}, ErrFormField},
		{"the user twice", "username=u&username=u&current_password=c" + rest, Form{}, ErrFormField},
		{"a semicolon", "x=1;current_password=c" + rest, Form{}, ErrFormField},
		{"a broken escape", "current_password=%g0" + rest, Form{}, ErrFormField},
		{"a broken escape in another field", "x=%g0&current_password=c" + rest, Form{}, ErrFormField},
		{"as long as allowed", "current_password=" + strings.Repeat("c", MaxBody-17-len(rest)) + rest, Form{"", strings.Repeat("c", MaxBody-17-len(rest)), "n", "a"}, nil},
		{"one byte more", "current_password=" + strings.Repeat("c", MaxBody-16-len(rest)) + rest, Form{}, ErrFormSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			for kind, body := range map[string]io.Reader{"with a length": strings.NewReader(test.body), "without": io.MultiReader(strings.NewReader(test.body))} {
				got, err := read(body, formType)
				if got != test.want || !errors.Is(err, test.err) {
					t.Errorf("%s: got %+v and %v, want %+v and %v", kind, got, err, test.want, test.err)
				}
			}
		})
	}
}

func TestLongestPasswordsFit(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("%FF", 1024)
	body := "username=" + strings.Repeat("%FF", 255) + "&current_password=" + longest + "&new_password=" + longest + "&new_password_again=" + longest
	if _, err := read(strings.NewReader(body), formType); err != nil {
		t.Errorf("%d bytes: %v", len(body), err)
	}
}

// TestNothingIsReadOfARefusedForm reads no byte of a form that is refused by its header.
func TestNothingIsReadOfARefusedForm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, field string
		values      []string
		length      int64
		want        error
	}{
		{"another origin", "Origin", []string{"https://evil.example"}, 10, ErrOtherOrigin},
		{"no type", "Content-Type", nil, 10, ErrFormType},
		{"another type", "Content-Type", []string{"text/plain"}, 10, ErrFormType},
		{"two types", "Content-Type", []string{formType, formType}, 10, ErrFormType},
		{"a type that cannot be parsed", "Content-Type", []string{formType + "; charset"}, 10, ErrFormType},
		{"another charset", "Content-Type", []string{formType + "; charset=utf-16"}, 10, ErrFormType},
		{"an encoding", "Content-Encoding", []string{"identity"}, 10, ErrFormType},
		{"too long", "X", nil, MaxBody + 1, ErrFormSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := &noBody{t}
			r := httptest.NewRequest("POST", "https://example.com/", body)
			r.ContentLength = test.length
			r.Header = http.Header{"Content-Type": {formType}, "Origin": {"https://example.com"}}
			r.Header[test.field] = test.values
			if _, err := ReadForm(httptest.NewRecorder(), r, Origin{"https", "example.com"}); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// noBody is a body that must not be read.
type noBody struct{ t *testing.T }

func (b *noBody) Read([]byte) (int, error) {
	b.t.Error("the form was read")
	return 0, io.EOF
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		errNoOrigin: 403, errOrigin: 403, errSite: 403, errManyOrigins: 403,
		ErrFormType: 415, ErrFormSize: 413, ErrFormField: 400, ErrFormRead: 400,
	} {
		if got := StatusOf(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
	if _, err := read(io.MultiReader(strings.NewReader("a"), errorReader{}), formType); !errors.Is(err, ErrFormRead) {
		t.Errorf("a connection that breaks: got %v, want %v", err, ErrFormRead)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// FuzzReadForm reads arbitrary bodies and content types. What is accepted has each field
// once, and no error contains anything of the form.
func FuzzReadForm(f *testing.F) {
	f.Add("current_password=c&new_password=n&new_password_again=a", formType)
	f.Add("current_password=%ff&new_password=%00&new_password_again=+", formType+"; charset=utf-8")
	f.Add("current_password=c;new_password=n", "multipart/form-data; boundary=x")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		form, err := read(strings.NewReader(body), contentType)
		if err != nil {
			if !slices.Contains([]error{ErrFormType, ErrFormSize, ErrFormField}, err) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if len(body) > MaxBody || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(contentType)), formType) {
			t.Fatalf("accepted %d bytes of %q", len(body), contentType)
		}
		counts := make(map[string]int)
		for part := range strings.SplitSeq(body, "&") {
			name, value, _ := strings.Cut(part, "=")
			name, _ = url.QueryUnescape(name)
			counts[name]++
			value, _ = url.QueryUnescape(value)
			want := map[string]string{FieldUser: form.User, FieldCurrent: form.Current, FieldNew: form.New, FieldAgain: form.Again}
			if is, ok := want[name]; ok && is != value {
				t.Fatalf("%s is %q, want %q", name, is, value)
			}
		}
		for _, name := range []string{FieldCurrent, FieldNew, FieldAgain} {
			if counts[name] != 1 {
				t.Fatalf("%s is there %d times", name, counts[name])
			}
		}
	})
}

// examples are pages of all kinds.
func examples() map[string]Page {
	all := map[string]Page{
		"form":       {},
		"problem":    {Problem: "Something is wrong."},
		"final":      {Problem: "Something is wrong.", IsFinal: true},
		"current":    {CurrentProblem: "This is wrong."},
		"new":        {NewProblem: "This is wrong."},
		"again":      {AgainProblem: "This is wrong."},
		"everything": {Problem: "Something is wrong.", CurrentProblem: "This is wrong.", NewProblem: "This is wrong.", AgainProblem: "This is wrong."},
		"changed":    {IsChanged: true, Delay: 5 * time.Second},
	}
	for name, page := range all {
		page.User, page.MinLength, page.MaxBytes = `<b>"al&ice"`+"\xff", 15, 72
		all[name] = page
	}
	return all
}

// elements returns the elements of a page, in order.
func elements(t *testing.T, text string) (all []*html.Node) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}

// TestAccessibility checks every kind of page: language, title, one heading, a label for
// each field, texts that belong to a field, and where the focus is.
func TestAccessibility(t *testing.T) {
	t.Parallel()
	for name, page := range examples() {
		t.Run(name, func(t *testing.T) {
			text, err := page.html()
			if err != nil {
				t.Fatal(err)
			}
			ids, labels, focused := make(map[string]*html.Node), make(map[string]bool), []*html.Node{}
			all := elements(t, string(text))
			headings, language, isScalable := 0, "", false
			for _, e := range all {
				if id := attribute(e, "id"); id != "" {
					if ids[id] != nil {
						t.Errorf("the id %s is there twice", id)
					}
					ids[id] = e
				}
				switch e.Data {
				case "html":
					language = attribute(e, "lang")
				case "h1":
					headings++
				case "label":
					labels[attribute(e, "for")] = true
				case "meta":
					isScalable = isScalable || attribute(e, "content") == "width=device-width, initial-scale=1"
				case "script", "img", "link", "iframe":
					t.Errorf("the page has an element %s", e.Data)
				}
				if has(e, "autofocus") {
					focused = append(focused, e)
				}
				if has(e, "onclick") || has(e, "onsubmit") || has(e, "style") {
					t.Errorf("%s has a script or a style of its own", e.Data)
				}
			}
			if language != "en" || headings != 1 || !isScalable {
				t.Errorf("language %q, %d main headings, scalable: %t", language, headings, isScalable)
			}
			problems := map[string]string{FieldCurrent: page.CurrentProblem, FieldNew: page.NewProblem, FieldAgain: page.AgainProblem}
			fields := 0
			for _, e := range all {
				if e.Data != "input" {
					continue
				}
				fields++
				id := attribute(e, "id")
				if !labels[id] || attribute(e, "name") != id || attribute(e, "autocomplete") == "" || attribute(e, "value") != "" && id != FieldUser {
					t.Errorf("the field %s has no label, another name, a value, or nothing for password managers", id)
				}
				described := strings.Fields(attribute(e, "aria-describedby"))
				for _, other := range described {
					if ids[other] == nil {
						t.Errorf("the field %s is described by %s, which is not there", id, other)
					}
				}
				if isWrong := problems[id] != ""; isWrong != (attribute(e, "aria-invalid") == "true") || isWrong != slices.Contains(described, id+"_problem") {
					t.Errorf("the field %s does not say whether it is wrong", id)
				}
			}
			if want := 4; fields != want && !page.IsChanged && !page.IsFinal || fields > 0 && (page.IsChanged || page.IsFinal) {
				t.Errorf("got %d fields, want %d or none", fields, want)
			}
			want := page.Focus()
			switch {
			case page.IsChanged:
				want = "changed"
			case want == "" && page.Problem != "":
				want = "problem"
			}
			if want == "" && len(focused) > 0 || want != "" && (len(focused) != 1 || attribute(focused[0], "id") != want) {
				t.Errorf("got %d elements with the focus, want %q", len(focused), want)
			}
			if isMarked := strings.Contains(string(text), "<title>Error: "); isMarked != (page.HasProblem() && !page.IsChanged) {
				t.Error("the title does not say whether there is an error")
			}
			if strings.Contains(string(text), "<b>") || !strings.Contains(string(text), "&lt;b&gt;") && (fields > 0 || page.IsChanged) {
				t.Error("the user name is not escaped")
			}
		})
	}
}

// TestStyleIsAllowed compares the style sheet in the page with the hash in the policy.
func TestStyleIsAllowed(t *testing.T) {
	t.Parallel()
	for name, page := range examples() {
		w := httptest.NewRecorder()
		if err := page.Write(w, httptest.NewRequest("GET", "/", nil), 200); err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(w.Body.String(), -1)
		if len(found) != 1 {
			t.Fatalf("%s: got %d style sheets, want 1", name, len(found))
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(w.Header().Get("Content-Security-Policy"), want) {
			t.Errorf("%s: the policy does not contain %s", name, want)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 seconds", 1: "1 second", time.Second: "1 second", 1100 * time.Millisecond: "2 seconds", 5 * time.Second: "5 seconds",
		119 * time.Second: "119 seconds", 2 * time.Minute: "2 minutes", 121 * time.Second: "3 minutes", time.Hour: "60 minutes",
	} {
		if got := Words(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}
