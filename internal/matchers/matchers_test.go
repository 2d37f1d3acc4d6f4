package matchers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed10b5b978/caddy-htpasswd/internal/matchers"
	"github.com/seed10b5b978/caddy-htpasswd/internal/testkit"
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
	for _, test := range append([]testkit.MatcherCase{
		{Name: "a path that is no list is refused by Caddy", Set: `{"path":1}`, Reach: matchers.ReachLimited},
		{Name: "a not that is no list is refused by Caddy", Set: `{"not":{}}`, Reach: matchers.ReachLimited},
		{Name: "a third-party matcher may match anything", Set: `{"other":{}}`, Reach: matchers.ReachChosen},
	}, testkit.MatcherCases...) {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			if got := setOf(t, test.Set).Reach(false); got != test.Reach {
				t.Errorf("%s: got %v, want %v", test.Set, got, test.Reach)
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

// TestNestedNot checks that the work does not double with each level.
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
		`[{"protocol":"https"}]`:           false, // plain HTTP does not match
		`[{"protocol":"http/1.0+"}]`:       false, // not certain
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
		{`[{"path":["/logo.png"]}]`, "", []string{"/logo.png"}},
		{`[{"path":["/v1.2/"]}]`, "/v1.2/", []string{"/v1.2/"}},
		{`[{"path":["/login.php"]}]`, "/login.php", []string{"/login.php"}},
		{`[{"path":["/LOGIN.PHP"]}]`, "/LOGIN.PHP", []string{"/LOGIN.PHP"}},
		{`[{"path":["/login.php*"]}]`, "", []string{"/login.php*"}},
		{`[{"path":["/login.php","/login.php/*"]}]`, "", []string{"/login.php", "/login.php/*"}},
		{`[{"path":["/Login.php","/login.PHP*"]}]`, "", []string{"/Login.php", "/login.PHP*"}},
		{`[{"path":["/login.php","/admin*"]}]`, "/login.php", []string{"/login.php", "/admin*"}},
		{`[{"path":["/a.php*","/b.php","/c.php"]}]`, "/b.php", []string{"/a.php*", "/b.php", "/c.php"}},
		{`[{"path":["/a.php","*.php/*"]}]`, "", []string{"/a.php", "*.php/*"}},
		{`[{"path":["/a.php"]},{"path":["/b.php"]}]`, "", []string{"/a.php", "/b.php"}},
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

// FuzzSet checks properties of arbitrary sets.
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
