package matchers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
)

func Example() {
	var sets matchers.Sets
	_ = json.Unmarshal([]byte(`[{"path":["/public/*"],"method":["GET"]},{"header":{"X-Token":["secret"]}}]`), &sets)
	for _, set := range sets {
		fmt.Println(set, "-", set.Reach(false))
	}
	fmt.Println(sets.MatchEverything())
	// Output:
	// method GET and path /public/* - ReachLimited
	// header X-Token - ReachChosen
	// false
}

func setOf(t *testing.T, text string) (set matchers.Set) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &set); err != nil {
		t.Fatal(err)
	}
	return set
}

func setsOf(t *testing.T, text string) (sets matchers.Sets) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &sets); err != nil {
		t.Fatal(err)
	}
	return sets
}

func TestReach(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, set string
		want      matchers.Reach
	}{
		{"encrypted requests are all that can log in", `{"protocol":"https"}`, matchers.ReachEverything},
		{"requests that are not encrypted are the client's choice", `{"protocol":"http"}`, matchers.ReachChosen},
		{"all versions of HTTP", `{"protocol":"http/1.0+"}`, matchers.ReachEverything},
		{"one version of HTTP", `{"protocol":"http/2"}`, matchers.ReachChosen},
		{"gRPC", `{"protocol":"grpc"}`, matchers.ReachChosen},
		{"regular expression of anything", `{"path_regexp":{"pattern":".*"}}`, matchers.ReachEverything},
		{"regular expression of a slash", `{"path_regexp":{"pattern":"^/"}}`, matchers.ReachEverything},
		{"regular expression from begin to end", `{"path_regexp":{"pattern":"^/(.*)$"}}`, matchers.ReachEverything},
		{"regular expression of one character", `{"path_regexp":{"pattern":"."}}`, matchers.ReachEverything},
		{"regular expression of several", `{"path_regexp":{"pattern":"^.+$"}}`, matchers.ReachEverything},
		{"empty regular expression", `{"path_regexp":{"pattern":""}}`, matchers.ReachEverything},
		{"regular expression with a choice of nothing", `{"path_regexp":{"pattern":"^(/x|)"}}`, matchers.ReachEverything},
		{"regular expression of the home page", `{"path_regexp":{"pattern":"^/$"}}`, matchers.ReachLimited},
		{"regular expression of a directory", `{"path_regexp":{"pattern":"^/public/"}}`, matchers.ReachLimited},
		{"regular expression of files", `{"path_regexp":{"pattern":"\\.(css|js)$"}}`, matchers.ReachLimited},
		{"regular expression of one name and all below", `{"path_regexp":{"pattern":"^/public(/.*)?$"}}`, matchers.ReachLimited},
		{"expression that is true", `{"expression":"true"}`, matchers.ReachEverything},
		{"expression that is true, as an object", `{"expression":{"expr":"(true)","name":"x"}}`, matchers.ReachEverything},
		{"expression about a header", `{"expression":"{http.request.header.X} == 'y'"}`, matchers.ReachChosen},
		{"expression about a path", `{"expression":"path('/public/*')"}`, matchers.ReachLimited},
		{"expression about a method", `{"expression":"{http.request.method} == 'GET'"}`, matchers.ReachLimited},
		{"expression about a certificate", `{"expression":"{http.request.tls.client.subject} != null"}`, matchers.ReachLimited},
		{"not nothing", `{"not":[]}`, matchers.ReachEverything},
		{"not a path", `{"not":[{"path":["/admin/*"]}]}`, matchers.ReachLimited},
		{"not a header", `{"not":[{"header":{"X":["y"]}}]}`, matchers.ReachChosen},
		{"not a path with a header", `{"not":[{"header":{"X":["y"]},"path":["/admin/*"]}]}`, matchers.ReachChosen},
		{"neither a path nor a header", `{"not":[{"header":{"X":["y"]}},{"path":["/admin/*"]}]}`, matchers.ReachLimited},
		{"not a path of an empty list", `{"not":[{"path":[]}]}`, matchers.ReachEverything},
		{"not unencrypted", `{"not":[{"protocol":"http"}]}`, matchers.ReachEverything},
		{"not not everything", `{"not":[{"not":[{"path":["/*"]}]}]}`, matchers.ReachLimited},
		{"every path", `{"path":["/x","*"]}`, matchers.ReachEverything},
		{"every path, twice", `{"path":["**"]}`, matchers.ReachEverything},
		{"every path with a method", `{"path":["/*"],"method":["GET"]}`, matchers.ReachLimited},
		{"every path with a header", `{"path":["/*"],"header":{"X":["y"]}}`, matchers.ReachChosen},
		{"path with a header", `{"path":["/x/*"],"header":{"X":["y"]}}`, matchers.ReachLimited},
		{"path", `{"path":["/public/*"]}`, matchers.ReachLimited},
		{"methods", `{"method":["GET","HEAD"]}`, matchers.ReachLimited},
		{"header", `{"header":{"X":["y"]}}`, matchers.ReachChosen},
		{"no header in particular", `{"header":{}}`, matchers.ReachEverything},
		{"no expression for a header", `{"header_regexp":{}}`, matchers.ReachEverything},
		{"query", `{"query":{"token":["x"]}}`, matchers.ReachChosen},
		{"all addresses", `{"remote_ip":{"ranges":["0.0.0.0/0","::/0"]}}`, matchers.ReachEverything},
		{"all addresses of clients", `{"client_ip":{"ranges":["::/0","0.0.0.0/0"]}}`, matchers.ReachEverything},
		{"all addresses of IPv4", `{"remote_ip":{"ranges":["0.0.0.0/0"]}}`, matchers.ReachChosen},
		{"addresses", `{"remote_ip":{"ranges":["192.0.2.0/24"]}}`, matchers.ReachLimited},
		{"names of hosts limit", `{"host":["other.example"]}`, matchers.ReachLimited},
		{"variable", `{"vars":{"x":["y"]}}`, matchers.ReachChosen},
		{"existing file", `{"file":{}}`, matchers.ReachChosen},
		{"nothing", `{}`, matchers.ReachEverything},
		{"a path that is no list is refused by Caddy", `{"path":1}`, matchers.ReachLimited},
		{"a not that is no list is refused by Caddy", `{"not":{}}`, matchers.ReachLimited},
		{"a matcher of somebody else may match anything", `{"other":{}}`, matchers.ReachChosen},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := setOf(t, test.set).Reach(false); got != test.want {
				t.Errorf("%s: got %v, want %v", test.set, got, test.want)
			}
		})
	}
}

func TestReachWherePlainHTTPIsAllowed(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]matchers.Reach{
		`{"protocol":"https"}`:          matchers.ReachChosen,
		`{"not":[{"protocol":"http"}]}`: matchers.ReachChosen,
		`{"protocol":"http/1.0+"}`:      matchers.ReachEverything,
		`{"path":["/*"]}`:               matchers.ReachEverything,
	} {
		if got := setOf(t, set).Reach(true); got != want {
			t.Errorf("%s: got %v, want %v", set, got, want)
		}
	}
}

// TestNestedNot has more levels than could be looked at if each took twice the
// time of the one in it.
func TestNestedNot(t *testing.T) {
	t.Parallel()
	const levels = 200
	set := setOf(t, strings.Repeat(`{"not":[`, levels)+`{"path":["/*"]}`+strings.Repeat(`]}`, levels))
	if got := set.Reach(false); got == matchers.ReachEverything {
		t.Errorf("got %v for a not of a not ..., want less: no such set is known to match everything", got)
	}
}

func TestMatchEverything(t *testing.T) {
	t.Parallel()
	for sets, want := range map[string]bool{
		`[]`:                               true,
		`[{}]`:                             true,
		`[{"path":["/*"]}]`:                true,
		`[{"path":["/a"]},{"path":["*"]}]`: true,
		`[{"path":["/a"]}]`:                false,
		`[{"protocol":"https"}]`:           false, // plain HTTP is left
		`[{"protocol":"http/1.0+"}]`:       false, // not worth a closer look
	} {
		if got := setsOf(t, sets).MatchEverything(); got != want {
			t.Errorf("%s: got %t, want %t", sets, got, want)
		}
	}
}

func TestAreOfSite(t *testing.T) {
	t.Parallel()
	for sets, want := range map[string]bool{
		`[{"host":["a"]}]`:                true,
		`[{"host":["a"],"path":["/a"]}]`:  false,
		`[{"host":["a"]},{"host":["b"]}]`: false,
		`[{"path":["/a"]}]`:               false,
		`[]`:                              false,
	} {
		if got := setsOf(t, sets).AreOfSite(); got != want {
			t.Errorf("%s: got %t, want %t", sets, got, want)
		}
	}
}

func TestHostsAreTakenOutOfACopy(t *testing.T) {
	t.Parallel()
	set := setOf(t, `{"host":["a","b"],"path":["/*"]}`)
	if got := set.WithoutHosts().Reach(false); got != matchers.ReachEverything {
		t.Errorf("without hosts: got %v, want ReachEverything", got)
	}
	if got, want := set.Hosts(), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sets, exact string
		paths       []string
	}{
		{`[{"path":["/a"]}]`, "/a", []string{"/a"}},
		{`[{"path":["/a/"]}]`, "/a/", []string{"/a/"}},
		{`[{"path":["/a","/b*"]},{"path":["/c"]}]`, "", []string{"/a", "/b*", "/c"}},
		{`[{"path":["/a*"]}]`, "", []string{"/a*"}},
		{`[{"path":["/login.php"]}]`, "", []string{"/login.php"}},
		{`[{"path":["/a"]},{"method":["GET"]}]`, "", nil},
		{`[{"path":[]}]`, "", nil},
		{`[]`, "", nil},
	} {
		sets := setsOf(t, test.sets)
		if got := sets.Paths(); !slices.Equal(got, test.paths) {
			t.Errorf("%s: got paths %q, want %q", test.sets, got, test.paths)
		}
		if got := sets.ExactPath(); got != test.exact {
			t.Errorf("%s: got exact path %q, want %q", test.sets, got, test.exact)
		}
	}
}

func TestDescription(t *testing.T) {
	t.Parallel()
	for sets, want := range map[string]string{
		`[]`: "",
		`[{"path":["/a","/b"],"method":["GET"]},{"remote_ip":{"ranges":["192.0.2.1"]}}]`: "method GET and path /a /b or remote_ip 192.0.2.1",
		`[{"path_regexp":{"name":"x","pattern":"^/a"},"host":["a"]}]`:                    "host a and path_regexp ^/a",
		`[{"not":[{"path":["/a"]},{"protocol":"http"}]}]`:                                "not (path /a or protocol http)",
		`[{"header":{"X":["secret"]},"header_regexp":{"Y":{"pattern":"secret"}}}]`:       "header X and header_regexp Y",
		`[{"query":{"b":["secret"],"a":["secret"]},"expression":"'secret'"}]`:            "expression and query a b",
		`[{"path":1,"header":1,"not":1}]`:                                                "header and not () and path",
	} {
		if got := setsOf(t, sets).String(); got != want {
			t.Errorf("%s: got %q, want %q", sets, got, want)
		}
	}
}

func TestLongDescriptionIsCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, pad := range []string{"", "x", "xx"} {
		text, _ := json.Marshal([]string{"/" + pad + strings.Repeat("€", 400)})
		got := matchers.Set{"path": text}.String()
		if !strings.HasSuffix(got, "€...") || len(got) > 503 {
			t.Errorf("got %d bytes that end with %q, want at most 503, with whole characters", len(got), got[len(got)-6:])
		}
	}
}

// FuzzSet judges sets that nobody would write.
func FuzzSet(f *testing.F) {
	for _, text := range []string{
		`{"path":["/*"],"not":[{"protocol":"http"},{"header":{}}]}`,
		`{"path_regexp":{"pattern":"^(/x|)(a{0,3})+$"},"remote_ip":{"ranges":["::/0"]}}`,
		`{"expression":{"expr":"path('/x')"},"host":["a"],"method":[]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var set matchers.Set
		if json.Unmarshal(text, &set) != nil {
			return
		}
		_, _ = set.Reach(false), matchers.Sets{set}.Paths()
		if set.Reach(true) == matchers.ReachEverything && set.Reach(false) != matchers.ReachEverything {
			t.Errorf("%s: matches everything, but not every request that can log in", text)
		}
		_, _, _ = set.String(), matchers.Sets{set}.ExactPath(), matchers.Sets{set}.MatchEverything()
	})
}
