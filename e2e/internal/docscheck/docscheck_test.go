package docscheck

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSentences(t *testing.T) {
	for name, tc := range map[string]struct {
		page string
		want []string // line, words, and '*' for prose, of each sentence
	}{
		"two sentences in a paragraph":       {"One two. Three\nfour five.\n", []string{"1 2*", "1 3*"}},
		"a paragraph without a full stop":    {"One two\n\nthree\n", []string{"1 2*", "3 1*"}},
		"a question and a quote":             {"Is 'it?' One (two.) **Three.** Four\n", []string{"1 2*", "1 2*", "1 1*", "1 1*"}},
		"abbreviations":                      {"Some, e.g. nginx, i.e. (cf. this), at 3 a.m. too.\n", []string{"1 10*"}},
		"a version and a name":               {"Go 1.26 of example.com works.\n", []string{"1 5*"}},
		"a sentence that begins small":       {"It runs. nginx does.\n", []string{"1 2*", "1 2*"}},
		"a heading and its paragraph":        {"# One two\nthree\n", []string{"1 2", "2 1*"}},
		"list items, tight":                  {"- one two\n- three. Four\n", []string{"1 2*", "2 1*", "2 1*"}},
		"list items, loose":                  {"1. one\n\n2. two\n   three\n", []string{"1 1*", "3 2*"}},
		"cells of a table":                   {"| a b | c |\n|---|:-:|\n| d. E | f |\n", []string{"1 2", "1 1", "3 1", "3 1", "3 1"}},
		"a pipe in a cell's code":            {"| a |\n|---|\n| `b \\| c` d |\n", []string{"1 1", "3 2"}},
		"code is one word and ends nothing":  {"Run `a b. C` and `d.` now.\n", []string{"1 5*"}},
		"code across lines":                  {"Run `a\nb` now.\n", []string{"1 3*"}},
		"a full stop behind code":            {"Run `a`. Then `b`.\n", []string{"1 2*", "1 2*"}},
		"a code block":                       {"One:\n\n```console\na. b. c\n```\n\n    indented. Code\n", []string{"1 1*"}},
		"a code block in a list":             {"- one\n\n  ```\n  two. Three\n  ```\n", []string{"1 1*"}},
		"an address is no text":              {"See [one two](https://example.com/a.md 'A title. Two') now.\n", []string{"1 4*"}},
		"addresses are a word each":          {"See <https://example.com/a.b> and https://example.com/c.d too.\n", []string{"1 5*"}},
		"a link by reference":                {"See [one][a].\n\n[a]: https://example.com 'four five six'\n", []string{"1 2*"}},
		"an image":                           {"One ![two three](a.svg) four.\n", []string{"1 2", "1 2*"}},
		"dashes and arrows are no words":     {"One – two -> three.\n", []string{"1 3*"}},
		"HTML is not measured":               {"<details>\n<summary>One two</summary>\n</details>\n\nThree<br>four.\n", []string{"5 2*"}},
		"a quotation":                        {"> One two.\n> Three.\n", []string{"1 2*", "2 1*"}},
		"a list within a list":               {"- one\n  - two three\n", []string{"1 1*", "2 2*"}},
		"only punctuation":                   {"...\n\n| | |\n|---|---|\n", nil},
		"the front matter of nothing":        {"", nil},
		"a sentence that ends with dots":     {"One... Two.\n", []string{"1 1*", "1 1*"}},
		"a colon and a semicolon end none":   {"One: two; three.\n", []string{"1 3*"}},
		"a hyphenated word is one":           {"A well-known name.\n", []string{"1 3*"}},
		"words of a task list":               {"- [ ] one two\n", []string{"1 2*"}},
		"a full stop within a link":          {"See [one. Two](a.md).\n", []string{"1 2*", "1 1*"}},
		"emphasis within a word's full stop": {"*One.* Two.\n", []string{"1 1*", "1 1*"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range parse("page.md", []byte(tc.page)).Sentences {
				prose := ""
				if s.Prose {
					prose = "*"
				}
				got = append(got, fmt.Sprintf("%d %d%s", s.Line, s.Words, prose))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	words := func(n int) string { return strings.TrimSpace(strings.Repeat("word ", n)) + ".\n\n" }
	for name, tc := range map[string]struct {
		page, text string
		want       []string
	}{
		"a README at its limits":     {"README.md", strings.Repeat(words(18), 100) + strings.Repeat("\n", 60), nil},
		"a README of a line more":    {"README.md", strings.Repeat("\n", 261), []string{"1: 261 lines, want at most 260"}},
		"a README of a word more":    {"README.md", strings.Repeat(words(18), 100) + "word\n", []string{"1: 1801 words, want at most 1800"}},
		"another page may be longer": {"docs/a.md", strings.Repeat(words(18), 200), nil},
		"code counts as words":       {"README.md", "```\n" + strings.Repeat("word\n", 250) + strings.Repeat("word ", 1549) + "\n```\n", []string{"1: 1801 words, want at most 1800"}},
		"an average at its limit":    {"docs/a.md", words(10) + words(30), nil},
		"an average above":           {"docs/a.md", words(10) + words(31), []string{"1: sentences have 20.5 words on average, want at most 20"}},
		"headings do not lower it":   {"docs/a.md", "# One\n\n" + words(10) + words(31), []string{"1: sentences have 20.5 words on average, want at most 20"}},
		"a sentence at its limit":    {"docs/a.md", words(5) + words(35), nil},
		"a sentence above": {"docs/a.md", words(5) + words(36),
			[]string{"1: sentences have 20.5 words on average, want at most 20", "3: sentence of 36 words, want at most 35: " + strings.TrimSpace(words(36))}},
		"a cell above": {"docs/a.md", "| a |\n|---|\n| " + strings.TrimSpace(words(36)) + " |\n",
			[]string{"3: sentence of 36 words, want at most 35: " + strings.TrimSpace(words(36))}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, fault := range parse(tc.page, []byte(tc.text)).lengths() {
				got = append(got, strings.TrimPrefix(fault.String(), tc.page+":"))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// repository writes files, and returns the directory that they are in.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLinks(t *testing.T) {
	const headings = "# One `two`: three-four_5!\n\n## Same\n\n## Same\n\n### Straße & é\n\n## A [link](b.md) here\n\n<a id=\"own\"></a>\n\n```\n# not a heading\n```\n\nSet\n===\n"
	for name, tc := range map[string]struct {
		text string // of docs/a.md
		want string // a part of the one fault
	}{
		"a file":                              {"[b](b.md)", ""},
		"a file in a directory above":         {"[r](../README.md)", ""},
		"a directory":                         {"[e](../examples/office)", ""},
		"a file of the root, as GitHub does":  {"[r](/README.md)", ""},
		"another site":                        {"[x](https://example.com/none) [m](mailto:a@example.com)", ""},
		"no such file":                        {"[b](c.md)", "1: broken link c.md: no file docs/c.md"},
		"no such file, on the second line":    {"one\n[b](c.md)", "2: broken link c.md"},
		"no such file in a table":             {"| a |\n|---|\n| [b](c.md) |", "3: broken link c.md"},
		"an image":                            {"![b](b.svg)", "broken link b.svg: no file docs/b.svg"},
		"an image within a link":              {"[![b](b.svg)](b.md)", "broken link b.svg"},
		"an image of HTML":                    {"<img src=\"b.svg\">", "broken link b.svg"},
		"a link of inline HTML":               {"One <a href='c.md'>two</a>", "broken link c.md"},
		"a link by reference":                 {"[b][x]\n\n[x]: c.md", "broken link c.md"},
		"no link in a code block":             {"```\n[b](c.md)\n```", ""},
		"no link in a code span":              {"`[b](c.md)`", ""},
		"out of the repository":               {"[b](../../c.md)", "it leads out of the repository"},
		"a heading of the same page":          {"# X y\n\n[b](#x-y)", ""},
		"no such heading of the same page":    {"# X y\n\n[b](#x)", "no heading #x in docs/a.md"},
		"a heading with code and punctuation": {"[b](b.md#one-two-three-four_5)", ""},
		"the first of two headings":           {"[b](b.md#same)", ""},
		"the second of two headings":          {"[b](b.md#same-1)", ""},
		"a third that is not there":           {"[b](b.md#same-2)", "no heading #same-2 in docs/b.md"},
		"letters beyond ASCII":                {"[b](b.md#straße--é)", ""},
		"a heading with a link":               {"[b](b.md#a-link-here)", ""},
		"a heading underlined":                {"[b](b.md#set)", ""},
		"an anchor of HTML":                   {"[b](b.md#own)", ""},
		"what only looks like a heading":      {"[b](b.md#not-a-heading)", "no heading"},
		"an anchor is in lower case":          {"[b](b.md#Same)", "no heading"},
		"a line of a file":                    {"[e](../examples/office/Caddyfile#L1)", ""},
		"a heading of what is no page":        {"[e](../examples/office/Caddyfile#top)", "not a page"},
		"an escaped name":                     {"[b](b%2Emd)", ""},
		"an example named in code":            {"`examples/office/Caddyfile` `examples/office` `examples/`", ""},
		"an example that is not there":        {"one\n`examples/home/Caddyfile`", "2: broken link /examples/home/Caddyfile: no file examples/home/Caddyfile"},
		"a page named in code":                {"`docs/c.md`", "no file docs/c.md"},
	} {
		t.Run(name, func(t *testing.T) {
			root := repository(t, map[string]string{
				"docs/README.md":            "[a](a.md) [b](b.md#same)\n",
				"docs/a.md":                 tc.text + "\n",
				"docs/b.md":                 headings,
				"README.md":                 "",
				"examples/office/Caddyfile": "",
			})
			_, faults, err := Check(root, []string{"docs/a.md"})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tc.want == "" && len(faults) > 0:
				t.Errorf("got %q, want none", faults)
			case tc.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].String(), tc.want)):
				t.Errorf("got %q, want one with %q", faults, tc.want)
			}
		})
	}
}

func TestPages(t *testing.T) {
	root := repository(t, map[string]string{
		"README.md": "", "CONTRIBUTING.md": "", "SECURITY.md": "",
		"docs/README.md":      "[a](a.md)\n",
		"docs/a.md":           "",
		"docs/reference/b.md": "",
		"docs/picture.svg":    "",
		"examples/README.md":  "",
	})
	names, err := Pages(root)
	want := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/README.md", "docs/a.md", "docs/reference/b.md"}
	if !slices.Equal(names, want) || err != nil {
		t.Fatalf("got %q %v, want %q", names, err, want)
	}
	pages, faults, err := Check(root, names)
	if len(pages) != 6 || err != nil {
		t.Errorf("got %d pages, %v, want 6", len(pages), err)
	}
	wantFaults := []string{"CHANGELOG.md:1: no such page", "docs/README.md:1: no link to docs/reference/b.md"}
	if got := texts(faults); !slices.Equal(got, wantFaults) {
		t.Errorf("got %q, want %q", got, wantFaults)
	}
	var table strings.Builder
	if err := WriteTable(&table, pages[:1]); err != nil {
		t.Error(err)
	}
	if got, want := strings.Fields(table.String()), strings.Fields("lines words sentences average longest page 0 0 0 0.0 0 README.md"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func texts(faults []Fault) []string {
	var all []string
	for _, fault := range faults {
		all = append(all, fault.String())
	}
	return all
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"a log-in failed":                       "x:1: 'log-in': write login",
		"one\ntwo Log-Ins":                      "x:2: 'Log-Ins': write login",
		"caddy_htpasswd_budgets_used_up_total":  "x:1: 'budgets': write limit x:1: 'used_up': write exceeded",
		"is in\n// force":                       "x:1: 'in // force': write active",
		"# in\n# force":                         "x:1: 'in # force': write active",
		"bad_lines and bad lines":               "x:1: 'bad_lines': write invalid line x:1: 'bad lines': write invalid line",
		"amend, recommend, commended":           "",
		"mend, mended.":                         "x:1: 'mend': write fix x:1: 'mended': write fix",
		"unknown clients are recognized":        "",
		"a blank line, a blank field":           "",
		"a blank in a name":                     "x:1: 'blank': write whitespace",
		"goes on working":                       "x:1: 'goes on working': write continue",
		"it goes on":                            "",
		"begin force":                           "",
		"in forced":                             "",
		"log in, login, logging in":             "",
		"catalog-in":                            "",
		"it is the dearest":                     "x:1: 'dearest': write most expensive",
		"whoever, whomever":                     "x:1: 'whoever': write users who, clients that x:1: 'whomever': write users who, clients that",
		"the version loaded before":             "x:1: 'version loaded before': write previous version",
		"a known client, somebody who attacks.": "x:1: 'known client': write recognized client x:1: 'somebody who attacks': write attacker",
	} {
		if got := strings.Join(texts(findWords("x", text, 1)), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestDialect(t *testing.T) {
	const code = "// Package p is in\n// force.\npackage p\n\nimport _ \"budget\"\n\n" +
		"var folder = \"a \" +\n\t\"budget was used \" + folder + \" up; used \" +\n\t\"up\" // anew\n\n" +
		"type t struct {\n\tF int `json:\"bad_lines\"`\n}\n\nvar raw = `one\nmend`\n\nvar n = f(folder == \"fold\" + \"er\")\n"
	root := repository(t, map[string]string{
		"a.go":                          code,
		"a_test.go":                     "package p\n\n// TestFolder makes a folder.\n",
		"internal/b/b.go":               "package b\n\n/*\nwhoever\n*/\n",
		"e2e/internal/docscheck/x.go":   "package docscheck // mend\n",
		"build/c.go":                    "package c // mend\n",
		"examples/Caddyfile":            "# a folder\n",
		"examples/p/r.yml":              "# mend\n",
		"examples/p/.htpasswd":          "mend:x\n",
		"Makefile":                      "# anew\n",
		".ci/run":                       "# calm\n",
		".github/workflows/test.yml":    "# by turns\n",
		"docs/a.md":                     "mend\n",
		"e2e/testdata/prometheus/x.yml": "mend\n",
	})
	want := []string{
		".github/workflows/test.yml:1: 'by turns'", "Makefile:1: 'anew'",
		"a.go:1: 'in // force'", "a.go:7: 'budget'", "a.go:7: 'used up'", "a.go:9: 'anew'", "a.go:12: 'bad_lines'", "a.go:16: 'mend'", "a.go:18: 'folder'",
		"examples/Caddyfile:1: 'folder'", "examples/p/r.yml:1: 'mend'", "internal/b/b.go:4: 'whoever'",
	}
	for _, tests := range []bool{false, true} {
		faults, err := Dialect(root, tests)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, fault := range faults {
			text, _, _ := strings.Cut(fault.String(), ": write")
			got = append(got, text)
		}
		want := slices.Clone(want)
		if tests {
			want = slices.Insert(want, 9, "a_test.go:3: 'folder'")
		}
		if !slices.Equal(got, want) {
			t.Errorf("tests %v: got\n%s\nwant\n%s", tests, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
